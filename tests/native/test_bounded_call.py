"""A login ends at its deadline and when it is cancelled, whatever call is under way. [S5, T43]"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import copy_context
from dataclasses import dataclass, replace
from typing import Any

import pytest
import requests

from pywry_auth.app import PyWry
from pywry_auth.exceptions import AuthenticationError, AuthFlowCancelled, AuthFlowTimeout
from pywry_auth.models import AuthFlowResult, OAuthTokenSet
from pywry_auth.native.bounded_call import Bounds, must_end
from pywry_auth.native.flow_manager import AuthFlowManager
from pywry_auth.native.session_manager import SessionManager
from pywry_auth.providers.oidc import GenericOIDCProvider
from pywry_auth.single_flight import SingleFlight
from pywry_auth.state.token_stores import MemoryTokenStore
from pywry_auth.testing.identity_provider import DEFAULT_CLIENTS, IdentityProvider
from tests.faults import Faults
from tests.native.sockets import PATIENCE, Running
from tests.person import Person
from tests.waiting import await_threads

_USER = "user-alice"
_AT_ONCE = 0.3  # seconds
_DISCOVERY = "/.well-known/openid-configuration"


class _Visitor(Person):
    """A user whose browser may find that the program has stopped to listen."""

    def bring(self, callback: str) -> None:
        with suppress(requests.RequestException):
            super().bring(callback)

    def wait(self) -> None:
        if self._thread is not None:
            self._thread.join(PATIENCE)


class _Store(MemoryTokenStore):
    """A store whose next write waits for a lock."""

    def __init__(self) -> None:
        super().__init__()
        self.held: threading.Event | None = None
        self.reached = threading.Event()

    def save(self, key: str, tokens: OAuthTokenSet, **more: Any) -> bool:
        self.reached.set()
        if self.held is not None:
            self.held.wait(PATIENCE)
        return super().save(key, tokens, **more)


@dataclass
class _Desk:
    """A program at a provider of its own, and calls that hang."""

    idp: IdentityProvider
    faults: Faults
    app: PyWry
    store: _Store
    people: list[_Visitor]

    def login(self, **more: Any) -> AuthFlowResult:
        self.people.append(_Visitor())
        return self.app.login(show_window=self.people[-1].open, notify=lambda message: None, **more)

    @contextmanager
    def hang(self, path: str) -> Iterator[threading.Event]:
        """Let calls to a path hang during the block; the event tells that one does."""
        reached, over = threading.Event(), threading.Event()

        def wait(at: str) -> None:
            if at == path:
                reached.set()
                over.wait(PATIENCE)

        self.faults.before = wait
        try:
            yield reached
        finally:
            self.faults.before = lambda path: None
            over.set()

    def settle(self) -> None:
        """Wait until no thread of a login is left."""
        for visitor in self.people:
            visitor.wait()
        await_threads("pywry-auth-call", "pywry-auth-guard", seconds=PATIENCE)

    def live_grants(self) -> int:
        return len([grant for grant in self.idp.grants() if grant.live])


@pytest.fixture
def desk() -> Iterator[_Desk]:
    with IdentityProvider(signing_algorithm="ES256") as idp:
        provider = GenericOIDCProvider(DEFAULT_CLIENTS[0].client_id, issuer_url=idp.issuer)
        store = _Store()
        app = PyWry(provider=provider, token_store=store)
        desk = _Desk(idp, Faults(idp), app, store, [])
        yield desk
        desk.settle()
        app.close()
        provider.close()


def _ends_at_once(desk: _Desk, login: Running[AuthFlowResult], reached: threading.Event) -> None:
    assert reached.wait(PATIENCE)
    began = time.monotonic()
    desk.app.cancel()
    cancelled = time.monotonic()
    with pytest.raises(AuthFlowCancelled):
        login.result()
    assert cancelled - began < _AT_ONCE
    assert time.monotonic() - cancelled < _AT_ONCE


@pytest.mark.parametrize("path", [_DISCOVERY, "/token", "/jwks", "/userinfo"])
def test_cancel_waits_for_no_call_and_late_tokens_are_revoked(desk: _Desk, path: str) -> None:
    """The call hangs until the test is over. [L2]"""
    with desk.hang(path) as reached:
        _ends_at_once(desk, Running(desk.login), reached)
    desk.settle()
    assert desk.live_grants() == 0
    assert desk.store.list_keys() == []
    assert desk.login().user_id == _USER  # the next login is not disturbed
    assert desk.live_grants() == 1


@pytest.mark.parametrize("path", [_DISCOVERY, "/token", "/userinfo"])
def test_the_time_limit_holds_for_calls_to_the_provider(desk: _Desk, path: str) -> None:
    """The error names the time that the login had. [L2]"""
    began = time.monotonic()
    with desk.hang(path), pytest.raises(AuthFlowTimeout, match=r"within 0\.4 seconds") as caught:
        desk.login(timeout=0.4)
    assert 0.4 <= time.monotonic() - began < 0.4 + _AT_ONCE
    assert caught.value.timeout == 0.4
    desk.settle()
    assert desk.live_grants() == 0


@pytest.mark.parametrize("mode", ["silent", "browser"])
def test_a_refresh_that_outlives_its_login_is_stored(desk: _Desk, mode: str) -> None:
    """A rotated refresh token must not be lost: it belongs to the user, not to the login."""
    old = desk.login().tokens
    desk.store.replace(_USER, replace(old, issued_at=time.time() - 9999), old)
    with desk.hang("/token") as reached:
        _ends_at_once(desk, Running(lambda: desk.login(mode=mode)), reached)
    desk.settle()
    fresh = desk.store.load(_USER)
    assert fresh is not None
    assert fresh.refresh_token != old.refresh_token
    assert desk.login(mode="silent").tokens == fresh


def test_cancel_does_not_wait_for_the_revocation_after_a_failure(desk: _Desk) -> None:
    desk.faults.answers["/userinfo"] = (200, "application/json", b'{"sub": "another"}')
    with desk.hang("/revoke") as reached:
        _ends_at_once(desk, Running(desk.login), reached)
    desk.settle()
    assert desk.live_grants() == 0


def test_a_store_that_hangs_delays_no_end_and_keeps_no_tokens(desk: _Desk) -> None:
    desk.store.held = threading.Event()
    login = Running(desk.login)
    _ends_at_once(desk, login, desk.store.reached)
    desk.store.held.set()
    desk.settle()
    assert desk.live_grants() == 0
    assert desk.store.list_keys() == []


def test_tokens_that_only_a_session_manager_stores_are_removed_too(desk: _Desk) -> None:
    desk.store.held = threading.Event()
    provider = GenericOIDCProvider(DEFAULT_CLIENTS[0].client_id, issuer_url=desk.idp.issuer)
    session = SessionManager(provider, desk.store, _USER)
    manager = AuthFlowManager(provider, session_manager=session, notify=lambda message: None)
    desk.people.append(_Visitor())
    login = Running(lambda: manager.run_native(desk.people[-1].open))
    assert desk.store.reached.wait(PATIENCE)
    manager.cancel()
    with pytest.raises(AuthFlowCancelled):
        login.result()
    desk.store.held.set()
    desk.settle()
    session.close()
    assert (desk.live_grants(), desk.store.list_keys()) == (0, [])


def test_no_moment_of_a_cancellation_leaves_a_grant_without_an_owner(desk: _Desk) -> None:
    """The login is cancelled at each of the provider's calls in turn."""
    for moment in range(1, 9):
        calls: list[str] = []

        def note(path: str, calls: list[str] = calls, moment: int = moment) -> None:
            calls.append(path)
            if len(calls) == moment:
                desk.app.cancel()

        desk.faults.before = note
        with suppress(AuthFlowCancelled):
            desk.login(force=True)
        desk.settle()
        desk.faults.before = lambda path: None
        stored = desk.store.load(_USER)
        live = [grant for grant in desk.idp.grants() if grant.live]
        assert len(live) == (stored is not None), moment
        desk.app.logout()


def test_a_thread_that_joins_a_login_has_its_own_time_limit(desk: _Desk) -> None:
    with desk.hang(_DISCOVERY) as reached:
        first = Running(desk.login)
        assert reached.wait(PATIENCE)
        with pytest.raises(AuthFlowTimeout):
            desk.login(timeout=0.1)
        desk.app.cancel()
        with pytest.raises(AuthFlowCancelled):
            first.result()


def test_a_result_that_comes_too_late_is_undone() -> None:
    bounds, release, undone = Bounds(60), threading.Event(), threading.Event()

    def work() -> str:
        must_end()
        bounds.cancel()
        release.wait(PATIENCE)
        return "late"

    with pytest.raises(AuthFlowCancelled):
        bounds.run(work, lambda result: undone.set() if result == "late" else None)
    guard = next(thread for thread in threading.enumerate() if thread.name == "pywry-auth-guard")
    assert not guard.daemon  # the process lives until the work is undone
    assert not undone.is_set()
    release.set()
    guard.join(PATIENCE)
    assert undone.is_set()


def test_work_whose_caller_has_its_result_may_join_that_callers_next_run() -> None:
    """For example, a task that a listener of an event scheduled with the context of the work."""
    flight, bounds, began, go_on = (
        SingleFlight[str](AuthenticationError),
        Bounds(60),
        threading.Event(),
        threading.Event(),
    )
    context = bounds.run(copy_context)

    def lead() -> str:
        began.set()
        assert go_on.wait(PATIENCE)
        return "shared"

    def join() -> str:
        assert began.wait(PATIENCE)
        threading.Timer(0.05, go_on.set).start()
        return context.run(flight.run, lambda: "own")

    later = Running(join)
    assert flight.run(lead) == later.result() == "shared"


def test_work_that_would_wait_for_its_own_login_is_an_error() -> None:
    """For example, a listener of an event that calls ``login()``. [L11]"""
    flight, bounds = SingleFlight[None](AuthenticationError), Bounds(60)
    with pytest.raises(AuthenticationError, match="wait for itself"):
        flight.run(lambda: bounds.run(lambda: flight.run(lambda: None)))


def test_work_that_fails_without_a_thread_of_its_own_does_not_end_the_login(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_thread(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    def refuse() -> None:
        raise AuthenticationError("refused")

    bounds = Bounds(60)
    with monkeypatch.context() as few:
        few.setattr(threading.Thread, "start", no_thread)
        with pytest.raises(AuthenticationError, match="refused"):
            bounds.run(refuse)
        assert bounds.run(lambda: "next") == "next"
