"""Logins while gunicorn reloads or ends."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from pywry_auth.testing.identity_provider import IdentityProvider
from tests.faults import Faults
from tests.peers.web_server import Visitor, WebServer, children_of, settings_for
from tests.waiting import eventually

_SECRET = "the secret that all workers share"


@dataclass
class Site:
    """A site under gunicorn's usual settings, which load it before the fork.

    Args:
        server: The server.
        settings: Its settings.
        faults: Those of the provider.
    """

    server: WebServer
    settings: Mapping[str, str]
    faults: Faults

    def reload(self) -> None:
        """Let new workers replace the present ones, and wait for the new ones."""
        before = set(children_of(self.server.process.pid))
        self.server.process.send_signal(signal.SIGHUP)
        self.server.wait_for("Hang up")
        assert eventually(lambda: bool(set(children_of(self.server.process.pid)) - before))

    @contextmanager
    def callback_in_flight(self, visitor: Visitor) -> Iterator[Future[requests.Response]]:
        """Finish a login whose exchange of the code lasts until the end of the block."""
        reached, goes_on = threading.Event(), threading.Event()

        def wait(path: str) -> None:
            if path == "/token":
                reached.set()
                assert goes_on.wait(30)

        callback = visitor.authorize(visitor.begin())
        self.faults.before = wait
        try:
            with ThreadPoolExecutor(1) as pool:
                answer = pool.submit(visitor.get, callback)
                assert reached.wait(30)
                try:
                    yield answer
                finally:
                    goes_on.set()
        finally:
            self.faults.before = lambda path: None


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A site with two workers."""
    server, faults = WebServer("--workers", "2"), Faults()
    choice = {"STATE_BACKEND": "sqlite", "SQLITE_PATH": str(tmp_path / "state"), "TOKEN_SECRET": _SECRET}
    with IdentityProvider(clients=[server.client()], signing_algorithm="ES256") as idp:
        idp.wrap(faults.around)
        settings = settings_for(idp.issuer, **choice)
        with server.running(settings):
            yield Site(server, settings, faults)


def test_neither_a_reload_nor_the_end_of_a_server_interrupts_a_login(site: Site) -> None:
    """Between its two requests, and while the worker waits for the provider. [S8]

    The sessions are in the store, for the next server.
    """
    between, during, last = (Visitor(site.server.url) for _ in range(3))
    begun = between.begin()
    with site.callback_in_flight(during) as answer:
        site.reload()
        assert not answer.done()
    assert answer.result(30).status_code == 303
    assert between.get(between.authorize(begun)).status_code == 303
    assert (between.user, during.user) == ("user-alice", "user-alice")
    with site.callback_in_flight(last) as answer:
        site.server.process.terminate()
        site.server.wait_for("Handling signal: term")
    assert answer.result(30).status_code == 303
    assert site.server.process.wait(30) == 0
    following = WebServer("--workers", "1")
    with following.running(site.settings):
        for earlier in (between, during, last):
            visitor = Visitor(following.url)
            visitor.cookies = earlier.cookies
            assert visitor.user == "user-alice"
