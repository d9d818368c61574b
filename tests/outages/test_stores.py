"""A site whose store fails in turn in all ways that the documentation names."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from pywry_auth.testing.identity_provider import IdentityProvider, User
from tests.outages.places import Fault, Place, PostgresPlace, RedisPlace, SQLitePlace
from tests.peers.web_server import Visitor, WebServer, children_of, settings_for
from tests.person import Person
from tests.waiting import eventually

_SECRET = "the secret that all workers share"
_STORES = {
    "redis": ("down", "silent", "full", "read-only", "cut off in mid-answer"),
    "postgres": ("down", "silent", "full", "read-only", "cut off in mid-answer"),
    "sqlite": ("down", "full", "read-only", "damaged"),
}
_SLOW = ("slow, within the time limit", "too slow")
_MORE = {"redis": _SLOW, "postgres": _SLOW, "sqlite": ("silent",)}  # under SOAK
_USERS = ("stays", "leaves", "left", "returns")


@dataclass
class Site:
    """A site with one worker, its store and its provider."""

    server: WebServer
    place: Place
    idp: IdentityProvider

    def visitor(self, name: str = "stays") -> Visitor:
        """Return a browser of one of the users."""
        return Visitor(self.server.url, Person(name, "password"))

    def signed_in(self, name: str) -> Visitor:
        """Return a browser where a user is signed in."""
        visitor = self.visitor(name)
        visitor.sign_in()
        return visitor

    def reload(self) -> None:
        """Replace the workers."""
        (before,) = children_of(self.server.process.pid)
        self.server.process.send_signal(signal.SIGHUP)
        self.server.wait_for(f"Worker exiting (pid: {before})")
        assert eventually(lambda: before not in children_of(self.server.process.pid))

    def readiness(self, fails: bool) -> requests.Response:
        """Return the site's own answer, which may be a second late."""
        answers: list[requests.Response] = []

        def ask() -> bool:
            answers.append(self.visitor().get("/auth/ready"))
            return (answers[-1].status_code == 503) is fails

        eventually(ask)
        return answers[-1]


@pytest.fixture(scope="module", params=_STORES)
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site on each store."""
    users = [User(name, "password", {"sub": name}) for name in _USERS]
    with ExitStack() as stack:
        servers: list[WebServer] = []
        place: Place = stack.enter_context(_place(request.param, tmp_path_factory.mktemp("s"), servers))
        server = WebServer("--workers", "1", "--threads", "12", prefix=place.prefix)
        servers.append(server)
        idp = stack.enter_context(
            IdentityProvider(clients=[server.client()], users=users, signing_algorithm="ES256")
        )
        choice = {**place.settings, "TOKEN_SECRET": _SECRET, "PROVIDER_CALLS_AT_ONCE": "12"}
        stack.enter_context(server.running(settings_for(idp.issuer, **choice)))
        yield Site(server, place, idp)


def _place(store: str, folder: Path, servers: list[WebServer]) -> AbstractContextManager[Place]:
    if store == "redis":
        return RedisPlace(folder)
    if store == "postgres":
        return PostgresPlace()
    return SQLitePlace(lambda: children_of(servers[0].process.pid))


def _faults(store: str) -> tuple[str, ...]:
    return _STORES[store] + (_MORE.get(store, ()) if os.environ.get("SOAK") else ())


def test_a_failing_store_signs_no_user_in_or_out(site: Site, request: pytest.FixtureRequest) -> None:
    """Each request that needs it gets 503 in time, and all works again without a restart. [P15, T28, S8]

    A sign-out that was refused can be repeated.
    """
    left = site.signed_in("left")
    assert left.post("/auth/logout").status_code == 303
    for name in _faults(request.node.callspec.params["site"]):
        _fail(site, name, site.place.faults[name], left)
    assert "Traceback" not in site.server.output()


def _fail(site: Site, name: str, fault: Fault, left: Visitor) -> None:
    stays, also, leaves = (site.signed_in(user) for user in ("stays", "stays", "leaves"))
    returns = site.visitor("returns")
    callback = returns.authorize(returns.begin())
    kept, read = stays.cookies.get_dict(), len(site.server.output())
    began = time.monotonic()
    with fault.during():
        if fault.reloads:
            site.reload()
        workers = children_of(site.server.process.pid)
        answers = _at_once(
            {
                "stranger": lambda: site.visitor().get("/"),
                "account": lambda: _read(stays, "/account"),
                "status": lambda: _read(stays, "/auth/status", Accept="application/json"),
                "signed out": lambda: left.get("/account"),
                "login": lambda: site.visitor().get("/auth/login"),
                "callback": lambda: returns.get(callback),
                "logout": lambda: leaves.post("/auth/logout"),
                "logout of one of two": lambda: also.post("/auth/logout"),
                "ready": lambda: site.readiness(not fault.writes),
            }
        )
        _check(name, fault, answers)
    assert stays.cookies.get_dict() == kept
    print(f"{name}: {time.monotonic() - began:.1f} s")
    _check_after(site, name, stays, leaves, left)
    assert children_of(site.server.process.pid) == workers, "no worker was restarted"
    assert fault.log in site.server.output()[read:], (name, site.server.output()[read:])


def _read(visitor: Visitor, path: str, **headers: str) -> requests.Response:
    """Ask for a page, and again if it was refused: a failed write may have ended the store's connection."""
    answer = visitor.get(path, **headers)
    return visitor.get(path, **headers) if answer.status_code == 503 else answer


def _at_once(asked: dict[str, Callable[[], requests.Response]]) -> dict[str, requests.Response]:
    with ThreadPoolExecutor(len(asked)) as pool:
        waiting = {name: pool.submit(ask) for name, ask in asked.items()}
        return {name: each.result(30) for name, each in waiting.items()}


def _check(name: str, fault: Fault, answers: dict[str, requests.Response]) -> None:
    seen = {asked: answer.status_code for asked, answer in answers.items()}
    no = 503
    reads = 200 if fault.reads else no
    assert seen == {
        "stranger": 200,
        "account": reads,
        "status": reads,
        "signed out": 302,
        "login": 302 if fault.writes else no,
        "callback": 303 if fault.writes else no,
        "logout": 303 if fault.writes else no,
        "logout of one of two": 303 if fault.removes else no,  # the tokens stay
        "ready": 200 if fault.writes else no,
    }, name
    for asked, answer in answers.items():
        took = answer.elapsed.total_seconds()
        assert took < fault.seconds, (name, asked, took)
        if answer.status_code == no:
            assert int(answer.headers["Retry-After"]) > 0
            assert "Set-Cookie" not in answer.headers, (name, asked)
            assert answer.headers["Cache-Control"] == "no-store"
            for secret in ("127.0.0.1", "sqlite", "redis", "postgres"):
                assert secret not in answer.text.lower(), (name, asked)


def _check_after(site: Site, name: str, stays: Visitor, leaves: Visitor, left: Visitor) -> None:
    assert site.readiness(fails=False).status_code == 200, name
    assert stays.user == "stays", name
    assert left.user is None, name
    assert leaves.user in ("leaves", None), name
    assert leaves.post("/auth/logout").status_code == 303, name
    assert leaves.user is None, name
    assert site.signed_in("returns").user == "returns", name
