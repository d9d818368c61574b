"""SessionManager: what it does with stored tokens, and what many who ask at once get, without a network."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any

import pytest

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


def test_a_logout_forgets_the_tokens_before_it_asks_the_provider(
    provider: StubProvider, store: MemoryTokenStore, manager: Callable[..., SessionManager]
) -> None:
    """So that a program which ends while the provider keeps it waiting is signed out all the same."""
    kept: list[OAuthTokenSet | None] = []

    def look(token: str) -> bool:
        kept.append(store.load("alice"))
        return True

    provider.revoke_token = look  # type: ignore[method-assign]
    _stored(store, provider)
    session = manager()
    session.initialize()
    assert session.logout() is True
    assert kept == [None, None]


def test_a_logout_revokes_what_another_process_refreshed_a_moment_ago(
    provider: StubProvider, store: MemoryTokenStore, manager: Callable[..., SessionManager]
) -> None:
    """Otherwise those tokens would have no owner, and be valid until they expire."""
    session, load = manager(), store.load
    _stored(store, provider)

    def overtaken(key: str) -> OAuthTokenSet | None:
        store.load = load  # type: ignore[method-assign]
        seen = load(key)
        store.save("alice", provider.refresh_tokens("refresh.alice.0"))
        return seen

    store.load = overtaken  # type: ignore[method-assign]
    assert session.logout() is True
    assert set(provider.revoked) == {"access.alice.1", "refresh.alice.1"}
    assert not store.exists("alice")


# initialize


def test_without_tokens_somebody_has_to_sign_in(manager: Callable[..., SessionManager]) -> None:
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
def test_without_a_refresh_token_they_serve_until_their_end(
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
def test_a_grant_that_the_provider_ended_is_forgotten_and_nobody_is_asked_from_within(
    manager: Callable[..., SessionManager],
    store: MemoryTokenStore,
    provider: StubProvider,
    clock: Clock,
    passed: float,
) -> None:
    """Whoever initializes sees the None and can sign the person in."""
    _stored(store, provider)
    clock.pass_(passed)
    provider.fault = refused()
    asked: list[int] = []
    assert manager(on_reauth_required=lambda: asked.append(1)).initialize() is None
    assert not store.exists("alice")
    assert asked == []


def test_while_the_provider_is_away_what_lives_serves_and_what_has_ended_is_kept(
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


# another's tokens


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
    """S6: neither sent to this provider, nor given to this program, nor deleted."""
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


def test_tokens_that_another_client_stores_meanwhile_are_not_returned(
    manager: Callable[..., SessionManager], store: MemoryTokenStore, provider: StubProvider, clock: Clock
) -> None:
    _stored(store, provider)
    clock.pass_(3601)
    other = replace(provider.grant(), access_token="other", client_id="other")
    provider.before = lambda: store.save("alice", other)
    with pytest.raises(TokenExpiredError, match="No user is signed in"):
        manager().get_access_token()
    assert store.load("alice") == other


def test_tokens_that_say_nothing_of_their_maker_are_used(
    manager: Callable[..., SessionManager], store: MemoryTokenStore, provider: StubProvider
) -> None:
    """A program may store what it has from elsewhere."""
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


def test_managers_who_want_a_refresh_at_once_share_one(
    store: MemoryTokenStore, provider: StubProvider, clock: Clock
) -> None:
    """As processes do on one store: each has a manager of its own, and found the same tokens."""
    _stored(store, provider)
    waiting = threading.Barrier(8)
    locked = store.lock

    def lock(key: str, lifetime: float) -> AbstractContextManager[None]:
        waiting.wait(_SECONDS)  # all have looked at the store by now
        return locked(key, lifetime)

    store.lock = lock  # type: ignore[method-assign]
    managers = [SessionManager(provider, store, "alice", clock=clock) for _ in range(8)]
    got = together(8, lambda number: managers[number].refresh().access_token)
    assert set(got) == {"access.alice.1"}
    assert provider.calls == 1


def test_a_slow_provider_of_short_lived_tokens_is_asked_once(store: MemoryTokenStore, clock: Clock) -> None:
    """What the first one brings is due again when the others get their turn: they take it all the same."""
    provider = StubProvider(clock, lifetime=6)
    _stored(store, provider)
    clock.pass_(5)
    waiting = threading.Barrier(4)
    locked = store.lock

    def lock(key: str, lifetime: float) -> AbstractContextManager[None]:
        waiting.wait(_SECONDS)
        return locked(key, lifetime)

    def answer_late() -> OAuthTokenSet:
        tokens = refresh_tokens("refresh.alice.0")
        clock.pass_(5)
        return tokens

    refresh_tokens = provider.refresh_tokens
    provider.refresh_tokens = lambda refresh_token: answer_late()  # type: ignore[method-assign]
    store.lock = lock  # type: ignore[method-assign]
    managers = [SessionManager(provider, store, "alice", clock=clock) for _ in range(4)]
    got = together(4, lambda number: managers[number].get_access_token())
    assert set(got) == {"access.alice.1"}
    assert provider.calls == 1


@pytest.mark.parametrize(("passed", "served"), [(3599, True), (3601, False)])
def test_somebody_elses_turn_that_does_not_end_costs_no_living_token(
    manager: Callable[..., SessionManager],
    store: MemoryTokenStore,
    provider: StubProvider,
    clock: Clock,
    passed: float,
    served: bool,
) -> None:
    @contextmanager
    def lock(key: str, lifetime: float) -> Iterator[None]:
        raise StoreUnavailable("Somebody else is at the same work.")
        yield

    _stored(store, provider)
    clock.pass_(passed)
    store.lock = lock  # type: ignore[method-assign]
    if served:
        assert manager().get_access_token() == "access.alice.0"
    else:
        with pytest.raises(StoreUnavailable):
            manager().get_access_token()
    assert provider.calls == 0


@pytest.mark.parametrize(("timeout", "lifetime"), [(10.0, 45.0), (120.0, 485.0)])
def test_a_turn_lasts_as_long_as_the_calls_of_a_refresh_can_take(
    store: MemoryTokenStore, clock: Clock, timeout: float, lifetime: float
) -> None:
    """A lock that ended before its holder's call would let a second one spend the same refresh token."""
    provider = _Patient(clock, timeout)
    _stored(store, provider)
    asked: list[float] = []
    locked = store.lock

    def lock(key: str, lifetime: float) -> AbstractContextManager[None]:
        asked.append(lifetime)
        return locked(key, lifetime)

    store.lock = lock  # type: ignore[method-assign]
    SessionManager(provider, store, "alice", clock=clock).refresh()
    assert asked == [lifetime]


class _Patient(StubProvider):
    def __init__(self, clock: Clock, timeout: float) -> None:
        super().__init__(clock)
        self.options = replace(self.options, http_timeout_seconds=timeout)


# on_reauth_required


def test_whoever_waits_when_the_grant_ends_gets_the_token_of_the_new_sign_in(
    manager: Callable[..., SessionManager],
    store: MemoryTokenStore,
    provider: StubProvider,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """S5: it is called once, with no lock held: what it does may lock the store, and take its time."""
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
    """Return what each thread got; of a `Future`, only the manager's own are asked for their results here."""
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
def test_if_nobody_signs_in_all_who_wait_hear_that_the_grant_has_ended(
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


def test_somebody_else_who_signs_in_is_not_taken_for_the_user(
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


def test_a_new_sign_in_whose_tokens_have_ended_already_is_none(
    manager: Callable[..., SessionManager], store: MemoryTokenStore, provider: StubProvider, clock: Clock
) -> None:
    ended = provider.grant("alice.again")
    session = manager(on_reauth_required=lambda: store.save("alice", ended))
    _stored(store, provider)
    clock.pass_(3601)
    provider.fault = refused()
    with pytest.raises(TokenRefreshError):
        session.get_access_token()


def test_what_the_program_itself_does_wrong_is_its_own_error(
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


def test_network_trouble_asks_nobody_to_sign_in(
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
    """T32: 32 threads, each at another user, meet at every call to the provider."""
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
