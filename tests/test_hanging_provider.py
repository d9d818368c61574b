"""gunicorn at a provider that hangs: other requests keep their speed, and bursts of logins succeed. [T44]"""

from __future__ import annotations

import http.client
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from pywry_auth.testing.identity_provider import IdentityProvider, User
from tests.faults import Faults
from tests.peers.web_server import Visitor, WebServer, settings_for
from tests.person import Person

_WORKERS, _THREADS = 2, 8
_LOGINS = 40  # more than the slots; a wait must not reach its limit on a slow machine
_CALLBACKS = 30
_TIMEOUT = 5.0  # seconds allowed for a call to the provider
_NOISE = 0.05  # seconds: a shorter time counts as usual on a busy machine
_SECONDS = 30


@dataclass
class Site:
    """A site, its provider, and the provider's faults."""

    server: WebServer
    faults: Faults
    most_at_once: int = 0
    hanging: int = 0
    changed: threading.Lock = field(default_factory=threading.Lock)  # guards the two members above

    def visitor(self, number: int) -> Visitor:
        """Return a browser for one of the site's users."""
        return Visitor(self.server.url, Person(f"user{number}", "password"))

    def status(self) -> float:
        """Ask whether a user is signed in, and return the seconds until the answer."""
        began = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=_SECONDS)
        try:
            connection.request("GET", "/auth/status")
            assert connection.getresponse().status == 200
        finally:
            connection.close()
        return time.monotonic() - began

    @contextmanager
    def hang(self) -> Iterator[None]:
        """Let the token endpoint say nothing during the block."""
        over = threading.Event()

        def say_nothing(path: str) -> None:
            if path != "/token":
                return
            with self.changed:
                self.hanging += 1
                self.most_at_once = max(self.most_at_once, self.hanging)
            over.wait(_SECONDS)
            with self.changed:
                self.hanging -= 1

        self.faults.before = say_nothing
        try:
            yield
        finally:
            self.faults.before = lambda path: None
            over.set()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The site with 2 workers of 8 threads."""
    server, faults = WebServer("--workers", str(_WORKERS), "--threads", str(_THREADS)), Faults()
    users = [User(f"user{number}", "password", {"sub": f"id-{number}"}) for number in range(_LOGINS)]
    with IdentityProvider(clients=[server.client()], users=users, signing_algorithm="ES256") as idp:
        idp.wrap(faults.around)
        path = tmp_path_factory.mktemp("state") / "state.sqlite3"
        choice = {
            "STATE_BACKEND": "sqlite",
            "SQLITE_PATH": str(path),
            "TOKEN_SECRET": "a long secret of the tests that hang",
        }
        settings = settings_for(idp.issuer, **choice)
        with server.running(settings | {"PYWRY_OAUTH2__HTTP_TIMEOUT_SECONDS": str(_TIMEOUT)}):
            yield Site(server, faults)


def test_no_login_of_a_burst_fails(site: Site) -> None:
    """All visitors come at once, to workers without a history. [T44]"""

    def sign_in(number: int) -> int:
        visitor = site.visitor(number)
        return visitor.get(visitor.authorize(visitor.begin())).status_code

    with ThreadPoolExecutor(_LOGINS) as pool:
        assert Counter(pool.map(sign_in, range(_LOGINS))) == {303: _LOGINS}


def test_other_requests_keep_their_speed_while_the_provider_hangs(site: Site) -> None:
    """Thirty callbacks come at once, and other visitors are measured from that moment. [T44]"""
    visitors = [site.visitor(number) for number in range(_CALLBACKS)]
    for visitor in visitors[:12]:
        visitor.sign_in()
    callbacks = [visitor.authorize(visitor.begin()) for visitor in visitors]
    usual = _times(site, 1.5)
    with site.hang(), ThreadPoolExecutor(_CALLBACKS) as pool:
        answers = [pool.submit(visitor.get, url) for visitor, url in zip(visitors, callbacks, strict=True)]
        seconds = _times(site, _TIMEOUT - 1)
        statuses = Counter(answer.result(_SECONDS).status_code for answer in answers)
    figures = f"p99 {_p99(usual):.4f} s before, {_p99(seconds):.4f} s while it hangs; {statuses}"
    print(f"{len(usual)} and {len(seconds)} requests: {figures}")
    assert _p99(seconds) <= max(2 * _p99(usual), _NOISE), figures
    assert set(statuses) == {502, 503}
    assert statuses[502] <= site.most_at_once <= _WORKERS * _THREADS // 2
    refused = [answer.result() for answer in answers if answer.result().status_code == 503]
    assert {refusal.headers["Retry-After"] for refusal in refused} == {"5"}


def _times(site: Site, seconds: float) -> list[float]:
    """Return the times of four visitors who ask again and again for so many seconds."""
    ends = time.monotonic() + seconds

    def visit(_: int) -> list[float]:
        times = []
        while time.monotonic() < ends:
            times.append(site.status())
        return times

    with ThreadPoolExecutor(4) as pool:
        return [each for times in pool.map(visit, range(4)) for each in times]


def _p99(times: list[float]) -> float:
    return sorted(times)[int(len(times) * 0.99)]
