"""SessionManager without a network: stored tokens, and many callers at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any

import pytest

from pywry_auth.backends.base import Backend
from pywry_auth.backends.lease import Lease, UnlimitedLease
from pywry_auth.exceptions import (
    AuthenticationError,
    AuthFlowCancelled,
    StoreUnavailable,
    TokenError,
    TokenExpiredError,
    TokenRefreshError,
)
from pywry_auth.models import OAuthTokenSet
from pywry_auth.native.session_manager import SessionManager
from pywry_auth.state.token_record import StoredTokens
from pywry_auth.state.token_stores import MemoryTokenStore
from pywry_auth.state.tokens import TokenStore
from tests.backends.threads import together
from tests.native.stub_provider import StubProvider, refused, unreachable
from tests.native.timers import Clock
from tests.waiting import count_waiters

_SECONDS = 20


pytestmark = pytest.mark.usefixtures("timers")  # no timer rings by itself


@pytest.fixture
def manager(provider: StubProvider, store: MemoryTokenStore, clock: Clock) -> Callable[..., SessionManager]:
    def make(**more: Any) -> SessionManager:
        return SessionManager(provider, store, "alice", clock=clock, **more)

    return make


def _stored(store: TokenStore, provider: StubProvider, **changed: Any) -> OAuthTokenSet:
    tokens = replace(provider.grant(), **changed)
    store.save("alice", tokens)
    return tokens


def test_a_logout_removes_the_tokens_before_it_calls_the_provider(
    provider: StubProvider, store: MemoryTokenStore, manager: Callable[..., SessionManager]
) -> None:
    """A program that ends while it waits for the provider is signed out all the same."""
    kept: list[OAuthTokenSet | None] = []

    def look(token: str) -> bool:
        kept.append(store.load("alice"))
        return True

    provider.request_revocation = look  # type: ignore[method-assign]
    _stored(store, provider)
    session = manager()
    session.initialize()
    assert session.logout() is True
    assert kept == [None, None]


def test_a_logout_revokes_tokens_that_another_process_just_refreshed(
    provider: StubProvider, store: MemoryTokenStore, manager: Callable[..., SessionManager]
) -> None:
    """Otherwise those tokens would have no owner, and be valid until they expire."""
    session, find = manager(), store.find
    _stored(store, provider)

    def overtaken(key: str) -> StoredTokens | None:
        store.find = find  # type: ignore[method-assign]
        seen = find(key)
        store.save("alice", provider.refresh_tokens("refresh.alice.0"))
        return seen

    store.find = overtaken  # type: ignore[method-assign]
    assert session.logout() is True
    assert set(provider.revoked) == {"access.alice.1", "refresh.alice.1"}
    assert not store.exists("alice")


# initialize


def test_without_tokens_the_user_must_sign_in(manager: Callable[..., SessionManager]) -> None:
    assert manager().initialize() is None


def test_tokens_that_are_due_are_refreshed_at_the_start(
    manager: Callable[..., SessionManager], store: MemoryTokenStore, provider: StubProvider, clock: Clock
) -> None:
    _stored(store, provider)
    clock.pass_(3599)
    tokens = manager().initialize()
    assert tokens is not None
    assert tokens.access_token == "access.alice.1"
    assert tokens == store.load("alice")
    assert provider.calls == 1


@pytest.mark.parametrize(("passed", "silent"), [(3599, True), (3601, False)])
def test_tokens_without_a_refresh_token_are_used_until_they_expire(
    manager: Callable[..., SessionManager],
    store: MemoryTokenStore,
    provider: StubProvider,
    clock: Clock,
    passed: float,
    silent: bool,
) -> None:
    tokens = _stored(store, provider, refresh_token=None)
    clock.pass_(passed)
    assert manager().initialize() == (tokens if silent else None)
    assert provider.calls == 0


@pytest.mark.parametrize("passed", [3599, 3601])
def test_initialize_removes_refused_tokens_without_a_new_sign_in(
    manager: Callable[..., SessionManager],
    store: MemoryTokenStore,
    provider: StubProvider,
    clock: Clock,
    passed: float,
) -> None:
    """The caller gets None, and can sign the user in."""
    _stored(store, provider)
    clock.pass_(passed)
    provider.fault = refused()
    asked: list[int] = []
    assert manager(on_reauth_required=lambda: asked.append(1)).initialize() is None
    assert not store.exists("alice")
    assert asked == []


def test_during_an_outage_valid_tokens_are_used_and_expired_ones_are_kept(
    manager: Callable[..., SessionManager], store: MemoryTokenStore, provider: StubProvider, clock: Clock
) -> None:
    tokens = _stored(store, provider)
    provider.fault = unreachable()
    clock.pass_(3599)
    assert manager().initialize() == tokens
    clock.pass_(2)
    with pytest.raises(TokenError) as caught:
        manager().initialize()
    assert type(caught.value) is TokenError
    assert store.load("alice") == tokens
    provider.fault, provider.spent = None, []
    assert manager().get_access_token() == "access.alice.1"


# Tokens of another client


@pytest.mark.parametrize(
    "others", [{"client_id": "other"}, {"issuer": "https://other.example.com"}, {"client_id": ""}]
)
def test_tokens_of_another_client_or_issuer_are_not_used_and_not_touched(
    manager: Callable[..., SessionManager],
    store: MemoryTokenStore,
    provider: StubProvider,
    clock: Clock,
    others: dict[str, str],
) -> None:
    """They are not sent to this provider, not returned to this program and not deleted. [S6]"""
    tokens = _stored(store, provider, **{"issuer": "https://id.example.com", **others})
    session = manager()
    assert session.initialize() is None
    assert session.tokens is None
    for ask in (session.get_access_token, session.refresh, lambda: session.refresh(instead_of="x")):
        with pytest.raises(TokenExpiredError, match="No user is signed in"):
            ask()
    clock.pass_(3601)
    with pytest.raises(TokenExpiredError):
        session.get_access_token()
    assert session.logout() is False
    assert store.load("alice") == tokens
    assert provider.calls == 0
    assert provider.revoked == []


def test_tokens_that_another_client_stores_during_a_refresh_are_not_returned(
    manager: Callable[..., SessionManager], store: MemoryTokenStore, provider: StubProvider, clock: Clock
) -> None:
    _stored(store, provider)
    clock.pass_(3601)
    other = replace(provider.grant(), access_token="other", client_id="other")
    provider.before = lambda: store.save("alice", other)
    with pytest.raises(TokenExpiredError, match="No user is signed in"):
        manager().get_access_token()
    assert store.load("alice") == other


def test_tokens_without_client_and_issuer_are_used(
    manager: Callable[..., SessionManager], store: MemoryTokenStore, provider: StubProvider
) -> None:
    """A program may store tokens from another source."""
    _stored(store, provider, client_id="", issuer="")
    assert manager().get_access_token() == "access.alice.0"


# refresh


def test_an_access_token_that_was_replaced_already_costs_no_call(
    manager: Callable[..., SessionManager], store: MemoryTokenStore, provider: StubProvider
) -> None:
    tokens = _stored(store, provider)
    session = manager()
    assert session.refresh(instead_of="an older one") == tokens
    assert provider.calls == 0
    fresh = session.refresh(instead_of=tokens.access_token)
    assert fresh.access_token == "access.alice.1"
    assert session.refresh(instead_of=tokens.access_token) == fresh
    assert provider.calls == 1


class _Meeting(TokenStore):
    """The store of one process, whose lock is granted when all processes have loaded the tokens."""

    def __init__(self, backend: Backend, all_are_here: threading.Barrier) -> None:
        super().__init__(backend)
        self._all_are_here = all_are_here

    def lock(self, key: str, wait: float) -> AbstractContextManager[Lease]:
        self._all_are_here.wait(_SECONDS)
        return super().lock(key, wait)


def _meeting(store: TokenStore, number: int) -> list[_Meeting]:
    all_are_here = threading.Barrier(number)
    return [_Meeting(store.backend, all_are_here) for _ in range(number)]


def test_managers_that_refresh_at_once_share_one_call(
    store: MemoryTokenStore, provider: StubProvider, clock: Clock
) -> None:
    """They act like processes on one store: all have loaded the same tokens."""
    _stored(store, provider)
    managers = [SessionManager(provider, own, "alice", clock=clock) for own in _meeting(store, 8)]
    got = together(8, lambda number: managers[number].refresh().access_token)
    assert set(got) == {"access.alice.1"}
    assert provider.calls == 1


def test_a_slow_provider_of_short_lived_tokens_is_called_once(store: MemoryTokenStore, clock: Clock) -> None:
    """The new tokens are due again before the other callers continue, which accept them all the same."""
    provider = StubProvider(clock, lifetime=6)
    _stored(store, provider)
    clock.pass_(5)

    def answer_late() -> OAuthTokenSet:
        tokens = refresh_tokens("refresh.alice.0")
        clock.pass_(5)
        return tokens

    refresh_tokens = provider.refresh_tokens
    provider.refresh_tokens = lambda refresh_token: answer_late()  # type: ignore[method-assign]
    managers = [SessionManager(provider, own, "alice", clock=clock) for own in _meeting(store, 4)]
    got = together(4, lambda number: managers[number].get_access_token())
    assert set(got) == {"access.alice.1"}
    assert provider.calls == 1


@pytest.mark.parametrize(("passed", "served"), [(3599, True), (3601, False)])
def test_a_lock_that_is_not_released_costs_no_valid_token(
    manager: Callable[..., SessionManager],
    store: MemoryTokenStore,
    provider: StubProvider,
    clock: Clock,
    passed: float,
    served: bool,
) -> None:
    @contextmanager
    def lock(key: str, wait: float) -> Iterator[Lease]:
        raise StoreUnavailable("Another process is refreshing.")
        yield UnlimitedLease()

    _stored(store, provider)
    clock.pass_(passed)
    store.lock = lock  # type: ignore[method-assign]
    if served:
        assert manager().get_access_token() == "access.alice.0"
    else:
        with pytest.raises(StoreUnavailable):
            manager().get_access_token()
    assert provider.calls == 0


@pytest.mark.parametrize(("timeout", "seconds"), [(10.0, 90.0), (120.0, 970.0)])
def test_a_caller_waits_as_long_as_two_refreshes_can_take(
    store: MemoryTokenStore, clock: Clock, timeout: float, seconds: float
) -> None:
    provider = _Patient(clock, timeout)
    _stored(store, provider)
    asked: list[float] = []
    locked = store.lock

    def lock(key: str, wait: float) -> AbstractContextManager[Lease]:
        asked.append(wait)
        return locked(key, wait)

    store.lock = lock  # type: ignore[method-assign]
    SessionManager(provider, store, "alice", clock=clock).refresh()
    assert asked == [seconds]


class _Patient(StubProvider):
    def __init__(self, clock: Clock, timeout: float) -> None:
        super().__init__(clock)
        self.options = replace(self.options, http_timeout_seconds=timeout)


# on_reauth_required


def test_callers_that_wait_when_the_grant_ends_get_the_new_token(
    manager: Callable[..., SessionManager],
    store: MemoryTokenStore,
    provider: StubProvider,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The callback is called once, with no lock held: it may lock the store, and take long. [S5]"""
    waiters, asked = count_waiters(monkeypatch), []

    def sign_in() -> None:
        asked.append(threading.get_ident())
        for _ in range(7):
            assert waiters.acquire(timeout=_SECONDS)
        with store.lock("alice", 30):
            assert store.load("alice") is None
            store.save("alice", provider.grant("alice.again"))

    session = manager(on_reauth_required=sign_in)
    _stored(store, provider)
    clock.pass_(3601)
    provider.fault = refused()
    assert set(_ask_from_threads(8, session)) == {"access.alice.again.0"}
    assert len(asked) == 1
    assert provider.calls == 1


def _ask_from_threads(number: int, session: SessionManager) -> list[str]:
    """Return the result of each thread, without a `Future`: only those of the manager are counted."""
    got: list[str] = []

    def ask() -> None:
        try:
            got.append(session.get_access_token())
        except AuthenticationError as error:
            got.append(type(error).__name__)

    threads = [threading.Thread(target=ask) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(_SECONDS)
    return got


@pytest.mark.parametrize("error", [None, AuthFlowCancelled("The login was cancelled.", error="cancelled")])
def test_without_a_new_sign_in_all_waiting_callers_get_the_refusal(
    manager: Callable[..., SessionManager],
    store: MemoryTokenStore,
    provider: StubProvider,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    error: AuthenticationError | None,
) -> None:
    waiters, asked = count_waiters(monkeypatch), []

    def fail_to_sign_in() -> None:
        asked.append(1)
        for _ in range(3):
            assert waiters.acquire(timeout=_SECONDS)
        if error is not None:
            raise error

    session = manager(on_reauth_required=fail_to_sign_in)
    _stored(store, provider)
    clock.pass_(3601)
    provider.fault = refused()
    assert _ask_from_threads(4, session) == ["TokenRefreshError"] * 4
    assert asked == [1]
    with pytest.raises(TokenExpiredError, match="No user is signed in"):
        session.get_access_token()
    assert asked == [1], "once"


def test_a_sign_in_of_another_user_is_not_used(
    manager: Callable[..., SessionManager], store: MemoryTokenStore, provider: StubProvider, clock: Clock
) -> None:
    session = manager(on_reauth_required=lambda: store.save("bob", provider.grant("bob")))
    _stored(store, provider)
    clock.pass_(3601)
    provider.fault = refused()
    with pytest.raises(TokenRefreshError):
        session.get_access_token()
    with pytest.raises(TokenExpiredError):
        session.get_access_token()


def test_a_new_sign_in_with_expired_tokens_is_not_used(
    manager: Callable[..., SessionManager], store: MemoryTokenStore, provider: StubProvider, clock: Clock
) -> None:
    ended = provider.grant("alice.again")
    session = manager(on_reauth_required=lambda: store.save("alice", ended))
    _stored(store, provider)
    clock.pass_(3601)
    provider.fault = refused()
    with pytest.raises(TokenRefreshError):
        session.get_access_token()


def test_an_error_of_the_callback_reaches_the_caller(
    manager: Callable[..., SessionManager], store: MemoryTokenStore, provider: StubProvider, clock: Clock
) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    session = manager(on_reauth_required=fail)
    _stored(store, provider)
    clock.pass_(3601)
    provider.fault = refused()
    with pytest.raises(ZeroDivisionError):
        session.get_access_token()


def test_a_network_failure_asks_for_no_sign_in(
    manager: Callable[..., SessionManager], store: MemoryTokenStore, provider: StubProvider, clock: Clock
) -> None:
    asked: list[int] = []
    session = manager(on_reauth_required=lambda: asked.append(1))
    _stored(store, provider)
    clock.pass_(3601)
    provider.fault = unreachable()
    for _ in range(5):
        with pytest.raises(TokenError):
            session.get_access_token()
    assert asked == []
    assert store.exists("alice")


# many users


@pytest.mark.parametrize("kind", ["memory", "sqlite", "redis", "encrypted", "keyring"])
def test_many_users_on_one_store_are_never_mixed_up(request: pytest.FixtureRequest, kind: str) -> None:
    """32 threads with different users meet at every call to the provider. [T32]"""
    store, clock, threads = TokenStore(request.getfixturevalue(kind)), Clock(), 32
    provider = StubProvider(clock)
    users = [f"user{number}" for number in range(threads * (2 if kind == "keyring" else 4))]
    for user in users:
        store.save(user, provider.grant(user))
    clock.pass_(3590)
    meet = threading.Barrier(threads)
    provider.before = lambda: meet.wait(_SECONDS)

    def ask(number: int) -> None:
        for user in users[number::threads]:
            session = SessionManager(provider, store, user, clock=clock)
            assert session.get_access_token() == f"access.{user}.1"
            tokens = session.tokens
            assert tokens is not None
            assert (tokens.access_token, tokens.refresh_token) == (f"access.{user}.1", f"refresh.{user}.1")

    with ThreadPoolExecutor(threads) as pool:
        for future in [pool.submit(ask, number) for number in range(threads)]:
            future.result(60)
    assert provider.calls == len(users)
    assert len(set(provider.spent)) == len(users)
