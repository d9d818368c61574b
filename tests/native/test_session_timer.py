"""The timer of SessionManager: tokens stay fresh, without too many calls."""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from pywry_auth.exceptions import StoreUnavailable, TokenExpiredError
from pywry_auth.flow.authorization_code import begin, complete
from pywry_auth.models import OAuthTokenSet
from pywry_auth.native.session_manager import SessionManager
from pywry_auth.providers.oidc import GenericOIDCProvider
from pywry_auth.state.token_stores import MemoryTokenStore
from pywry_auth.state.tokens import TokenStore
from pywry_auth.testing.identity_provider import DEFAULT_CLIENTS, IdentityProvider
from tests.native.stub_provider import StubProvider, refused, unreachable
from tests.native.timers import Clock, HeldTimers
from tests.person import Person, parameters_of

_SECONDS = 20
_BIT = 0.01  # real time passes too
_DECADE = 10 * 365 * 86400


class _Store(MemoryTokenStore):
    """Signals when fresh tokens were stored, and can be unavailable."""

    def __init__(self) -> None:
        super().__init__()
        self.away = False
        self.replaced = threading.Semaphore(0)

    def load(self, key: str) -> OAuthTokenSet | None:
        if self.away:
            raise StoreUnavailable("The store is away.")
        return super().load(key)

    def replace(
        self, key: str, tokens: OAuthTokenSet, instead_of: OAuthTokenSet, *, review: str = ""
    ) -> bool:
        stored = super().replace(key, tokens, instead_of, review=review)
        self.replaced.release()
        return stored


@pytest.fixture
def store() -> _Store:
    return _Store()


@pytest.fixture
def session(provider: StubProvider, store: _Store, clock: Clock, timers: HeldTimers) -> SessionManager:
    """Return a session of alice whose timer is set."""
    session = _manager(provider, store, clock)
    session.save_tokens(provider.grant())
    return session


def _manager(provider: StubProvider, store: TokenStore, clock: Clock, **more: Any) -> SessionManager:
    return SessionManager(provider, store, "alice", clock=clock, **more)


def _wake(clock: Clock, timers: HeldTimers, seconds: float) -> None:
    """Let time pass, and let the timer read the clock."""
    clock.pass_(seconds)
    timers.only.ring()


def _let_ring(clock: Clock, timers: HeldTimers) -> float:
    """Let time pass until the timer has called back, and return how many seconds that took."""
    began = clock.now
    while timers.only.interval == 60:  # it only reads the clock
        _wake(clock, timers, 60)
    _wake(clock, timers, timers.only.interval + _BIT)
    return clock.now - began


def _tokens(store: TokenStore) -> OAuthTokenSet:
    tokens = store.load("alice")
    assert tokens is not None
    return tokens


def test_tokens_stay_fresh_in_the_background() -> None:
    """In real time, at a provider that rotates tokens: each set is replaced before it expires."""
    store = _Store()
    with IdentityProvider(signing_algorithm="ES256", access_token_lifetime=2) as idp:
        provider = GenericOIDCProvider(DEFAULT_CLIENTS[0].client_id, issuer_url=idp.issuer)
        request = begin(provider, "http://127.0.0.1:1/callback")
        result = complete(provider, request, parameters_of(Person().authorize(request.url)))
        session = SessionManager(provider, store, result.user_id)
        session.save_tokens(result.tokens)
        lives = [result.tokens]
        for _ in range(2):
            assert store.replaced.acquire(timeout=_SECONDS)
            tokens = session.tokens
            assert tokens is not None
            assert tokens.issued_at < (lives[-1].expires_at or 0), "the refresh came too late"
            lives.append(tokens)
        session.close()
        assert len({tokens.access_token for tokens in lives}) == 3
        assert idp.calls["token"] == 3
        provider.close()


@pytest.mark.parametrize(("lifetime", "buffer", "after"), [(3600, 60, 3540), (3600, 0, 3600), (40, 60, 20)])
def test_a_refresh_happens_shortly_before_the_token_expires(
    store: _Store, clock: Clock, timers: HeldTimers, lifetime: int, buffer: float, after: float
) -> None:
    provider = StubProvider(clock, lifetime)
    session = _manager(provider, store, clock, refresh_buffer_seconds=buffer)
    session.save_tokens(provider.grant())
    _wake(clock, timers, after - 0.5)
    assert provider.calls == 0, "before it was due"
    _wake(clock, timers, 0.5 + 0.1 * (lifetime - after))
    assert provider.calls == 1
    assert _tokens(store).access_token == "access.alice.1"
    assert len(timers.live) == 1, "the next timer is set"
    session.close()


def test_programs_that_share_tokens_do_not_wake_at_the_same_time(
    store: _Store, clock: Clock, timers: HeldTimers
) -> None:
    """The jitter never wakes a program before the tokens are due, or long after. [L]"""
    provider = StubProvider(clock, lifetime=100)
    sessions = [_manager(provider, store, clock, refresh_buffer_seconds=50) for _ in range(20)]
    for session in sessions:
        session.save_tokens(provider.grant())
    moments = [timer.interval for timer in timers.live]
    assert len(set(moments)) == 20
    assert 50 <= min(moments) < max(moments) <= 55
    for session in sessions:
        session.close()


def test_tokens_from_the_store_are_kept_fresh_too(
    provider: StubProvider, store: _Store, clock: Clock, timers: HeldTimers
) -> None:
    store.save("alice", provider.grant())
    session = _manager(provider, store, clock)
    assert not timers
    assert session.initialize() == _tokens(store)
    assert provider.calls == 0
    _wake(clock, timers, 3598)
    assert provider.calls == 1
    session.close()


@pytest.mark.parametrize("missing", ["refresh_token", "expires_in"])
def test_tokens_that_cannot_or_need_not_be_refreshed_set_no_timer(
    session: SessionManager, provider: StubProvider, timers: HeldTimers, missing: str
) -> None:
    assert timers.live
    grant = provider.grant()
    session.save_tokens(
        replace(grant, refresh_token=None) if missing == "refresh_token" else replace(grant, expires_in=None)
    )
    assert not timers.live, "the timer of the earlier tokens is still set"


@pytest.mark.parametrize("lifetime", [0, 1, 2])
def test_tokens_that_expire_at_once_cause_no_storm_of_calls(
    store: _Store, clock: Clock, timers: HeldTimers, lifetime: int
) -> None:
    """There is at most one call per second, in the background and on demand."""
    provider = StubProvider(clock, lifetime)
    session = _manager(provider, store, clock)
    session.save_tokens(provider.grant())
    for _ in range(10):
        assert _let_ring(clock, timers) >= 1
        for _ in range(20):
            session.get_access_token()
    assert provider.calls == 10
    session.close()


@pytest.mark.usefixtures("timers")
@pytest.mark.parametrize(("lifetime", "most"), [(0, 5), (1, 5), (2, 5)])
def test_without_the_timer_they_cause_no_storm_of_calls_either(
    store: _Store, clock: Clock, lifetime: int, most: int
) -> None:
    provider = StubProvider(clock, lifetime)
    session = _manager(provider, store, clock)
    session.save_tokens(provider.grant())
    session.close()
    for _ in range(50):
        clock.pass_(0.1)
        session.get_access_token()
    assert 1 < provider.calls <= most


def test_an_unreachable_provider_is_called_less_and_less_often(
    session: SessionManager,
    provider: StubProvider,
    store: _Store,
    clock: Clock,
    timers: HeldTimers,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The backoff has jitter and no end, and the tokens are kept. [L]"""
    provider.fault = unreachable()
    before = _tokens(store)
    _wake(clock, timers, 3598)
    for expected in (5, 10, 20, 40, 80, 160, 300, 300):
        assert expected * 0.8 <= _let_ring(clock, timers) <= expected * 1.2 + _BIT
    assert provider.calls == 9
    assert _tokens(store) == before
    assert caplog.text.count("could not be refreshed, next try in about") == 9
    provider.fault, provider.spent = None, []
    _let_ring(clock, timers)
    assert _tokens(store).access_token == "access.alice.1"
    provider.fault = unreachable()
    _wake(clock, timers, 3598)
    assert _let_ring(clock, timers) <= 6 + _BIT, "the backoff did not start again"
    session.close()


def test_an_unavailable_store_is_tried_again_too(
    session: SessionManager, provider: StubProvider, store: _Store, clock: Clock, timers: HeldTimers
) -> None:
    store.away = True
    _wake(clock, timers, 3598)
    assert 4 <= timers.only.interval <= 6
    store.away = False
    _wake(clock, timers, 7)
    assert provider.calls == 1
    session.close()


def test_the_timer_follows_tokens_that_another_process_refreshed(
    session: SessionManager, provider: StubProvider, store: _Store, clock: Clock, timers: HeldTimers
) -> None:
    clock.pass_(3000)
    store.save("alice", provider.refresh_tokens(_tokens(store).refresh_token or ""))
    _wake(clock, timers, 598)
    assert provider.calls == 1, "the call of the other process"
    _wake(clock, timers, 3000)
    assert provider.calls == 2
    session.close()


def test_a_clock_that_was_set_back_keeps_no_expired_token_in_use(
    session: SessionManager, provider: StubProvider, clock: Clock
) -> None:
    """By the wall clock, the token would be valid for another day."""
    clock.now -= 86400
    assert session.get_access_token() == "access.alice.1"
    assert session.get_access_token() == "access.alice.1", "the new token was issued by the same clock"
    assert provider.calls == 1
    session.close()


def test_clocks_that_differ_slightly_cause_no_refresh(
    session: SessionManager, provider: StubProvider, clock: Clock
) -> None:
    """The clocks of machines on one store differ by seconds."""
    clock.now -= 50
    assert session.get_access_token() == "access.alice.0"
    assert provider.calls == 0
    session.close()


def test_a_clock_that_is_wrong_for_a_while_costs_a_refresh_for_each_step(
    session: SessionManager, provider: StubProvider, clock: Clock, timers: HeldTimers
) -> None:
    clock.now += _DECADE
    timers.only.ring()
    assert session.get_access_token() == "access.alice.1"
    clock.now -= _DECADE
    assert session.get_access_token() == "access.alice.2"
    assert session.get_access_token() == "access.alice.2"
    assert provider.calls == 2
    session.close()


def _close(session: SessionManager) -> None:
    session.close()


def _log_out(session: SessionManager) -> None:
    assert session.logout()


@pytest.mark.parametrize("end", [_close, _log_out])
def test_the_timer_stops_and_leaves_no_thread(
    session: SessionManager, timers: HeldTimers, end: Callable[[SessionManager], None]
) -> None:
    assert timers.live
    end(session)
    assert not timers.live
    for timer in timers:
        timer.join(_SECONDS)
        assert not timer.is_alive()


def test_a_manager_without_references_is_collected_and_its_timer_ends(
    provider: StubProvider, store: _Store, clock: Clock, timers: HeldTimers
) -> None:
    session = _manager(provider, store, clock)
    session.save_tokens(provider.grant())
    assert timers.live
    del session
    gc.collect()
    assert not timers.live


def test_a_closed_manager_refreshes_on_demand_and_sets_no_timer(
    session: SessionManager, provider: StubProvider, clock: Clock, timers: HeldTimers
) -> None:
    session.close()
    clock.pass_(3599)
    assert session.get_access_token() == "access.alice.1"
    assert provider.calls == 1
    assert not timers.live


def test_a_refresh_that_ends_after_the_close_sets_no_timer_either(
    session: SessionManager, provider: StubProvider, clock: Clock, timers: HeldTimers
) -> None:
    provider.before = session.close
    _wake(clock, timers, 3598)
    assert provider.calls == 1
    assert not timers.live


def test_a_logout_during_a_background_refresh_is_not_undone(
    session: SessionManager, provider: StubProvider, store: _Store, clock: Clock, timers: HeldTimers
) -> None:
    provider.before = session.logout
    _wake(clock, timers, 3598)
    assert not store.exists("alice")
    assert not timers.live
    assert {"access.alice.1", "refresh.alice.1"} <= set(provider.revoked)


def test_a_refusal_stops_the_timer_and_calls_the_program_once(
    provider: StubProvider,
    store: _Store,
    clock: Clock,
    timers: HeldTimers,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """There is no retry after invalid_grant. [L]"""
    asked: list[str] = []
    session = _manager(provider, store, clock, on_reauth_required=lambda: asked.append("once"))
    session.save_tokens(provider.grant())
    provider.fault = refused()
    with caplog.at_level(logging.INFO, "pywry_auth.native"):
        _wake(clock, timers, 3598)
    assert asked == ["once"]
    assert not timers.live
    assert "not refreshed any more" in caplog.text
    with pytest.raises(TokenExpiredError):
        session.get_access_token()
    assert asked == ["once"]
    assert provider.calls == 1


def test_tokens_of_a_new_sign_in_after_a_refusal_are_kept_fresh(
    provider: StubProvider, store: _Store, clock: Clock, timers: HeldTimers
) -> None:
    def sign_in() -> None:
        provider.fault = None
        store.save("alice", provider.grant("alice.again"))

    session = _manager(provider, store, clock, on_reauth_required=sign_in)
    session.save_tokens(provider.grant())
    provider.fault = refused()
    _wake(clock, timers, 3598)
    assert session.get_access_token() == "access.alice.again.0"
    _wake(clock, timers, 3598)
    assert session.get_access_token() == "access.alice.again.1"
    session.close()
