"""Metrics of a site with four workers: the figures are those of all workers."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from pywry_auth.deploy.metrics_folder import FOLDER
from pywry_auth.testing.identity_provider import IdentityProvider, User
from tests.deploy.test_metrics_views import TOKEN, figures
from tests.peers.web_server import Visitor, WebServer, children_of, settings_for
from tests.person import Person
from tests.waiting import eventually

_LOGINS = 200 if os.environ.get("SOAK") else 20
_WORKERS = 4
_SECRET = "the secret that all workers share"


@dataclass
class Site:
    """A site under test."""

    server: WebServer

    def visitor(self, number: int) -> Visitor:
        """Return a browser for one of the site's users."""
        return Visitor(self.server.url, Person(f"user{number}", "password"))

    def scrape(self) -> requests.Response:
        """Ask one of the workers for the metrics."""
        headers = {"Authorization": f"Bearer {TOKEN}", "Connection": "close"}
        return requests.get(f"{self.server.url}/auth/metrics", headers=headers, timeout=30)

    def logins(self) -> float:
        """Return the number of sign-ins according to one worker."""
        answer = self.scrape()
        assert answer.status_code == 200, answer.text
        return figures(answer.text)["pywry_auth_logins_total", "oidc"]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """The site with four workers, which load the application before the fork."""
    (folder := tmp_path / "metrics").mkdir()
    places = {"STATE_BACKEND": "sqlite", "SQLITE_PATH": str(tmp_path / "state.sqlite3")}
    choice = {"TOKEN_SECRET": _SECRET, "PROVIDER_CALLS_AT_ONCE": "8", "METRICS_TOKEN": TOKEN}
    users = [User(f"user{number}", "password", {"sub": f"id-{number}"}) for number in range(_LOGINS)]
    server = WebServer("--workers", str(_WORKERS), "--threads", "8")
    with (
        IdentityProvider(clients=[server.client()], users=users, signing_algorithm="ES256") as idp,
        server.running({**settings_for(idp.issuer, **places, **choice), FOLDER: str(folder)}),
    ):
        yield Site(server)


def sign_in_all(site: Site) -> set[str]:
    """Sign all users in at once, and return the workers that finished it."""

    def sign_in(number: int) -> str:
        return site.visitor(number).sign_in().headers["X-Worker"]

    with ThreadPoolExecutor(8) as pool:
        return set(pool.map(sign_in, range(_LOGINS)))


def test_every_worker_knows_the_figures_of_all_workers(site: Site) -> None:
    """Killed and replaced workers take nothing away, and no sign-in counts twice. [S8]"""
    workers = sign_in_all(site)
    assert len(workers) > 1
    assert {site.logins() for _ in range(8)} == {_LOGINS}
    for worker in workers:
        os.kill(int(worker), signal.SIGKILL)
    assert {site.logins() for _ in range(8)} == {_LOGINS}
    before = set(children_of(site.server.process.pid))
    site.server.process.send_signal(signal.SIGHUP)
    assert eventually(lambda: before.isdisjoint(children_of(site.server.process.pid)), 30)
    assert site.logins() == _LOGINS
    site.visitor(0).sign_in()
    assert {site.logins() for _ in range(8)} == {_LOGINS + 1}
    text = site.scrape().text
    for secret in ("user1", "id-1", TOKEN, _SECRET, "state="):
        assert secret not in text
    assert "Traceback" not in site.server.output()
