"""One refresh for all callers, at a provider that ends the grant if a refresh token is used twice."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import requests
from werkzeug.wrappers import Response

from pywry_auth.flow.authorization_code import begin, complete
from pywry_auth.models import OAuthTokenSet
from pywry_auth.native.session_manager import SessionManager
from pywry_auth.providers.oidc import GenericOIDCProvider
from pywry_auth.state.tokens import TokenStore
from pywry_auth.testing.identity_provider import DEFAULT_CLIENTS, IdentityProvider
from tests.backends.threads import together
from tests.peers.postgres_server import PostgresServer
from tests.peers.redis_server import RedisServer
from tests.peers.web_server import Visitor, WebServer, children_of, settings_for
from tests.person import Person, parameters_of
from tests.refresh_worker import Worker, digest, open_store

_EXPIRIES = 20 if os.environ.get("SOAK") else 3
_STORM = 1000 if os.environ.get("SOAK") else 200
_STORES = ["sqlite", "redis", "postgres"]
_TWO_STORES = _STORES if os.environ.get("SOAK") else ["sqlite", "redis"]
_ONE_STORE = _STORES if os.environ.get("SOAK") else ["redis"]
"""The stores of tests in which they do not differ."""
_PROCESSES = 4
_WORKERS = 4
_THREADS = 8
_SECONDS = 30
_SETTLED = 5  # seconds after a refresh in which another one is unnecessary
_USER = "user-alice"
_SECRET = "the secret that all workers share"
_GONE = {"TokenRefreshError", "TokenExpiredError"}


@dataclass
class Place:
    """A store that processes share.

    Args:
        kind: ``sqlite``, ``redis`` or ``postgres``.
        where: Path or URL.
    """

    kind: str
    where: str

    @property
    def settings(self) -> dict[str, str]:
        """The settings that select the store for a site."""
        name = "SQLITE_PATH" if self.kind == "sqlite" else f"{self.kind.upper()}_URL"
        return {"STATE_BACKEND": self.kind, name: self.where, "TOKEN_SECRET": _SECRET}


@pytest.fixture(params=_TWO_STORES)
def place(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    redis_server: RedisServer,
    postgres_server: PostgresServer,
) -> Place:
    redis_server.client.flushall()
    postgres_server.clear()
    where = {
        "sqlite": str(tmp_path / "state.sqlite3"),
        "redis": redis_server.url,
        "postgres": postgres_server.url,
    }
    return Place(request.param, where[request.param])


@pytest.fixture
def store(place: Place) -> Iterator[TokenStore]:
    store = open_store(place.kind, place.where)
    yield store
    store.close()


def _expire(store: TokenStore) -> OAuthTokenSet:
    """Make the stored access token expired for all readers."""
    tokens = store.load(_USER)
    assert tokens is not None
    assert tokens.expires_in is not None
    old = replace(tokens, issued_at=time.time() - tokens.expires_in - 1)
    store.replace(_USER, old, tokens)
    return old


@dataclass
class Desk:
    """Programs of one user, at a provider that can be delayed.

    Args:
        idp: The provider.
        place: The store of the programs.
        store: The same store, for the test.
        held: Replacements for the next requests to the token endpoint.
    """

    idp: IdentityProvider
    place: Place
    store: TokenStore
    held: list[Callable[[Any, dict[str, Any], Any], Any]] = field(default_factory=list)

    def sign_in(self) -> None:
        """Let alice sign in with one of the programs."""
        provider = GenericOIDCProvider(DEFAULT_CLIENTS[0].client_id, issuer_url=self.idp.issuer)
        request = begin(provider, "http://127.0.0.1:1/callback")
        result = complete(provider, request, parameters_of(Person().authorize(request.url)))
        self.store.save(result.user_id, result.tokens)
        provider.close()

    @property
    def calls(self) -> int:
        """The number of requests to the token endpoint."""
        return self.idp.calls["token"]

    def token(self) -> str:
        """Return the digest of the stored access token."""
        tokens = self.store.load(_USER)
        assert tokens is not None
        return digest(tokens.access_token)

    def middleware(self, app: Any) -> Any:
        """Treat a request to the token endpoint by the next replacement, if there is one."""

        def serve(environ: dict[str, Any], start_response: Any) -> Any:
            if environ["PATH_INFO"] == "/token" and self.held:
                return self.held.pop(0)(app, environ, start_response)
            return app(environ, start_response)

        return serve


@pytest.fixture
def desk(place: Place, store: TokenStore) -> Iterator[Desk]:
    with IdentityProvider(signing_algorithm="ES256") as idp:
        desk = Desk(idp, place, store)
        desk.sign_in()
        idp.wrap(desk.middleware)
        yield desk


@pytest.fixture
def workers(desk: Desk) -> Iterator[Callable[[str], list[Worker]]]:
    """Starts the processes, with ``usual`` or ``short`` locks."""
    with ExitStack() as running:

        def start(lock: str) -> list[Worker]:
            arguments = (desk.place.kind, desk.place.where, desk.idp.issuer, DEFAULT_CLIENTS[0].client_id)
            started = [running.enter_context(Worker(*arguments, lock)) for _ in range(_PROCESSES)]
            for worker in started:
                worker.ready()
            return started

        yield start


def _ask_all(workers: list[Worker], all_ask: threading.Event | None = None) -> list[list[str]]:
    for worker in workers:
        worker.go()
    for worker in workers:
        worker.asking()
    if all_ask is not None:
        all_ask.set()
    return [worker.got() for worker in workers]


def test_threads_make_one_call_for_each_expiry(desk: Desk) -> None:
    """All threads get the same token. [N6]"""
    provider = GenericOIDCProvider(DEFAULT_CLIENTS[0].client_id, issuer_url=desk.idp.issuer)
    session = SessionManager(provider, desk.store, _USER)
    for _ in range(_EXPIRIES):
        old, before = _expire(desk.store), desk.calls
        got = set(together(_THREADS, lambda number: session.get_access_token()))
        assert desk.calls - before == 1
        assert len(got) == 1
        assert got != {old.access_token}
    provider.close()


@pytest.mark.parametrize("place", _STORES, indirect=True)
def test_processes_make_one_call_for_each_expiry(desk: Desk, workers: Callable[[str], list[Worker]]) -> None:
    """There are 4 processes with 8 threads each. [N6]"""
    processes = workers("usual")
    seen = set()
    for _ in range(_EXPIRIES):
        _expire(desk.store)
        before = desk.calls
        got = _ask_all(processes)
        assert desk.calls - before == 1
        assert got == [[desk.token()] * _THREADS] * _PROCESSES
        seen.add(desk.token())
    assert len(seen) == _EXPIRIES
    print(
        f"{_EXPIRIES} expiries, {_PROCESSES} processes x {_THREADS} threads on {desk.place.kind}: 1 call each"
    )


@pytest.mark.parametrize("place", _ONE_STORE, indirect=True)
def test_a_provider_that_answers_late_is_called_once(
    desk: Desk, workers: Callable[[str], list[Worker]]
) -> None:
    all_ask = threading.Event()

    def late(app: Any, environ: dict[str, Any], start_response: Any) -> Any:
        assert all_ask.wait(_SECONDS)
        return app(environ, start_response)

    desk.held.append(late)
    processes = workers("usual")
    _expire(desk.store)
    before = desk.calls
    got = _ask_all(processes, all_ask)
    assert got == [[desk.token()] * _THREADS] * _PROCESSES
    assert desk.calls - before == 1


@pytest.mark.parametrize("place", _ONE_STORE, indirect=True)
def test_a_provider_that_fails_costs_no_grant(desk: Desk, workers: Callable[[str], list[Worker]]) -> None:
    """Waiting callers get the error without a call of their own. Later the same grant works for all."""
    all_ask = threading.Event()

    def fail(app: Any, environ: dict[str, Any], start_response: Any) -> Any:
        assert all_ask.wait(_SECONDS)
        return Response("busy", 500)(environ, start_response)

    desk.held += [fail] * _PROCESSES
    processes = workers("usual")
    old, before = _expire(desk.store), desk.calls
    assert _ask_all(processes, all_ask) == [["TokenError"] * _THREADS] * _PROCESSES
    failed = desk.calls - before
    assert 1 <= failed <= _PROCESSES
    assert desk.store.load(_USER) == old
    desk.held.clear()
    assert _ask_all(processes) == [[desk.token()] * _THREADS] * _PROCESSES
    assert desk.calls - before == failed + 1


@pytest.mark.parametrize("place", _ONE_STORE, indirect=True)
def test_a_response_lost_after_the_rotation_costs_one_sign_in_and_no_loop(
    desk: Desk, workers: Callable[[str], list[Worker]]
) -> None:
    """The new tokens are lost and the old ones are invalid, which one more call reveals."""

    def rotate_and_break_off(app: Any, environ: dict[str, Any], start_response: Any) -> Any:
        _rotate(app, environ)
        environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
        return []

    desk.held.append(rotate_and_break_off)
    processes = workers("usual")
    _expire(desk.store)
    before = desk.calls
    errors: list[str] = []
    while desk.store.exists(_USER):
        assert len(errors) <= 2 * _PROCESSES * _THREADS, "the calls do not end"
        errors += [error for got in _ask_all(processes) for error in got]
    assert set(errors) == {"TokenError", "TokenRefreshError"} | set(errors) & _GONE
    assert desk.calls - before == 2
    assert {error for got in _ask_all(processes) for error in got} == {"TokenExpiredError"}
    assert desk.calls - before == 2
    desk.sign_in()
    assert _ask_all(processes) == [[desk.token()] * _THREADS] * _PROCESSES


def _rotate(app: Any, environ: dict[str, Any]) -> None:
    """Let the provider rotate the tokens, and discard its response."""
    for _ in app(environ, lambda status, headers, error=None: None):
        pass


@pytest.mark.parametrize("place", _ONE_STORE, indirect=True)
@pytest.mark.parametrize("rotated", [False, True], ids=["before", "after"])
def test_a_killed_process_delays_the_others_only_until_its_lock_expires(
    desk: Desk, workers: Callable[[str], list[Worker]], rotated: bool
) -> None:
    """SIGKILL arrives during the call: before the provider rotates the tokens, or after."""
    reached, killed = threading.Event(), threading.Event()

    def hang(app: Any, environ: dict[str, Any], start_response: Any) -> Any:
        if rotated:
            _rotate(app, environ)
        reached.set()
        assert killed.wait(_SECONDS)
        return Response("unread", 503)(environ, start_response)

    desk.held.append(hang)
    holder, *others = workers("short")
    _expire(desk.store)
    before = desk.calls
    holder.go()
    holder.asking()
    assert reached.wait(_SECONDS)
    for worker in others:
        worker.go()
    for worker in others:
        worker.asking()
    holder.process.kill()
    holder.process.wait()
    killed.set()
    got = [worker.got() for worker in others]
    assert desk.calls - before == 2
    if rotated:
        errors = [error for each in got for error in each]
        assert set(errors) <= _GONE
        assert errors.count("TokenRefreshError") >= 1
        assert {error for each in _ask_all(others) for error in each} == {"TokenExpiredError"}
        assert desk.calls - before == 2
        desk.sign_in()
    assert _ask_all(others) == [[desk.token()] * _THREADS] * (_PROCESSES - 1)


# behind gunicorn


@dataclass
class Site:
    """A site with several workers, where alice is signed in."""

    server: WebServer
    idp: IdentityProvider
    store: TokenStore
    visitor: Visitor
    hold: list[Callable[[Any, dict[str, Any], Any], Any]]

    def token(self, number: int = 0) -> tuple[int, str]:
        """Request the view that needs the user's token, over a connection of its own."""
        answer = self.visitor.get("/token", Accept="application/json")
        return answer.status_code, answer.text

    def refresh(self, number: int = 0) -> tuple[int, float | None]:
        """Request a refresh over a connection of its own."""
        answer = self.visitor.post("/auth/refresh", Accept="application/json")
        return answer.status_code, answer.json().get("expires_at")

    def refresh_patiently(self, number: int = 0) -> tuple[int, float | None]:
        """Request a refresh, and again while the site answers that it is busy.

        On a machine with too few processors, a call may take longer than the others wait.
        """
        status, expires_at = self.refresh(number)
        for _ in range(10):
            if status != 503:
                break
            time.sleep(0.5)
            status, expires_at = self.refresh(number)
        return status, expires_at


@pytest.fixture
def http_timeout() -> str:
    """Seconds for a call to the provider, more than a busy machine needs."""
    return "10"


@pytest.fixture
def site(place: Place, store: TokenStore, http_timeout: str) -> Iterator[Site]:
    options = ("--workers", str(_WORKERS), "--threads", str(_THREADS))
    server = WebServer(*options, app="tests.peers.token_wsgi:app")
    settings = {
        "PYWRY_OAUTH2__HTTP_TIMEOUT_SECONDS": http_timeout,
        "PYWRY_DEPLOY__REFRESH_RATE_LIMIT": "1000/minute",
    }
    with IdentityProvider(clients=[server.client()], signing_algorithm="ES256") as idp:
        hold: list[Callable[[Any, dict[str, Any], Any], Any]] = []
        desk = Desk(idp, place, store, hold)
        with server.running(settings_for(idp.issuer, **place.settings) | settings):
            visitor = Visitor(server.url)
            visitor.sign_in()
            idp.wrap(desk.middleware)
            yield Site(server, idp, store, visitor, hold)


@pytest.mark.parametrize("place", _ONE_STORE, indirect=True)
def test_workers_make_one_call_for_each_expiry(site: Site, place: Place) -> None:
    """There are 4 workers with 8 threads, and 32 requests at once over new connections. [P10]

    At the end, the requests are those of a view that needs the token, instead of ``/auth/refresh``.
    """
    at_once = _WORKERS * _THREADS
    for _ in range(_EXPIRIES):
        _expire(site.store)
        before = site.idp.calls["token"]
        answers = together(at_once, site.refresh_patiently)
        assert [status for status, _ in answers] == [200] * at_once
        assert len({expires_at for _, expires_at in answers}) == 1
        assert site.idp.calls["token"] - before == 1
    old = _expire(site.store)
    tokens = together(at_once, site.token)
    assert site.idp.calls["token"] - before == 2
    (fresh,) = set(tokens)
    assert fresh[0] == 200
    assert fresh[1] != digest(old.access_token)
    print(f"{_EXPIRIES} expiries, {_WORKERS} workers x {_THREADS} threads on {place.kind}: 1 call each")


@pytest.mark.parametrize("place", _ONE_STORE, indirect=True)
@pytest.mark.parametrize("view", ["refresh", "token"] if os.environ.get("SOAK") else ["refresh"])
def test_a_storm_of_requests_for_one_expired_token_makes_one_call(
    site: Site, place: Place, view: str
) -> None:
    """Each waits for the result of the first, and none fails. [T44, T65]

    A request to ``/auth/refresh`` that arrives 5 s later is one of its own.
    """
    _expire(site.store)
    before, begun = site.idp.calls["token"], time.monotonic()
    seconds: list[float] = []

    def ask(number: int) -> int:
        asked = time.monotonic()
        status, _ = site.token(number) if view == "token" else site.refresh(number)
        seconds.append(time.monotonic() - asked)
        return status

    with ThreadPoolExecutor(_WORKERS * _THREADS) as visitors:
        statuses = Counter(visitors.map(ask, range(_STORM)))
    assert statuses == {200: _STORM}
    calls, total = site.idp.calls["token"] - before, time.monotonic() - begun
    assert 1 <= calls <= (1 if view == "token" else 1 + total / _SETTLED)
    p50, p99 = (sorted(seconds)[int(share * _STORM)] for share in (0.5, 0.99))
    times = f"p50 {p50:.2f} s, p99 {p99:.2f} s, all in {total:.1f} s"
    print(f"{_STORM} requests for {view} on {place.kind}: {calls} call(s), {times}")


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)  # the lock is the same one on Redis
@pytest.mark.parametrize("http_timeout", ["1"])
def test_workers_killed_during_a_refresh_sign_no_user_out(site: Site) -> None:
    """Their lock expires 10 s after its last renewal."""
    reached, killed = threading.Event(), threading.Event()

    def hang(app: Any, environ: dict[str, Any], start_response: Any) -> Any:
        reached.set()
        assert killed.wait(_SECONDS)
        return Response("unread", 503)(environ, start_response)

    site.hold.append(hang)
    _expire(site.store)
    before = site.idp.calls["token"]
    with ThreadPoolExecutor(1) as pool:
        in_vain = pool.submit(site.refresh)
        assert reached.wait(_SECONDS)
        for worker in children_of(site.server.process.pid):
            os.kill(worker, signal.SIGKILL)
        killed.set()
        assert isinstance(in_vain.exception(_SECONDS), requests.ConnectionError)
    ends = time.monotonic() + _SECONDS
    statuses: set[int] = set()
    while time.monotonic() < ends:
        statuses = {status for status, _ in together(_THREADS, site.refresh)}
        assert statuses <= {200, 503}, "the requests that cannot wait that long are told to try again"
        if statuses == {200}:
            break
    assert statuses == {200}
    assert site.idp.calls["token"] - before == 2
