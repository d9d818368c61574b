"""SessionManager's timer: tokens stay fresh though nobody asks, and nothing is asked too often."""

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
    """Tells when fresh tokens were stored, and can be away."""

    def __init__(self) -> None:
        super().__init__()
        self.away = False
        self.replaced = threading.Semaphore(0)

    def load(self, key: str) -> OAuthTokenSet | None:
        if self.away:
            raise StoreUnavailable("The store is away.")
        return super().load(key)

    def replace(self, key: str, tokens: OAuthTokenSet, instead_of: OAuthTokenSet) -> bool:
        stored = super().replace(key, tokens, instead_of)
        self.replaced.release()
        return stored


@pytest.fixture
def store() -> _Store:
    return _Store()


@pytest.fixture
def session(provider: StubProvider, store: _Store, clock: Clock, timers: HeldTimers) -> SessionManager:
    """Alice is signed in, and the timer is set."""
    session = _manager(provider, store, clock)
    session.save_tokens(provider.grant())
    return session


def _manager(provider: StubProvider, store: TokenStore, clock: Clock, **more: Any) -> SessionManager:
    return SessionManager(provider, store, "alice", clock=clock, **more)


def _wake(clock: Clock, timers: HeldTimers, seconds: float) -> None:
    """Let time pass, and have the timer look at the clock."""
    clock.pass_(seconds)
    timers.only.ring()


def _let_ring(clock: Clock, timers: HeldTimers) -> float:
    """Let time pass until the timer has called back, and return how many seconds that took."""
    began = clock.now
    while timers.only.interval == 60:  # it only looks at the clock
        _wake(clock, timers, 60)
    _wake(clock, timers, timers.only.interval + _BIT)
    return clock.now - began


def _tokens(store: TokenStore) -> OAuthTokenSet:
    tokens = store.load("alice")
    assert tokens is not None
    return tokens


def test_tokens_stay_fresh_though_nobody_asks() -> None:
    """With real time, at a provider that rotates: each life ends after the next one has begun."""
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
            assert tokens.issued_at < (lives[-1].expires_at or 0), "it came too late"
            lives.append(tokens)
        session.close()
        assert len({tokens.access_token for tokens in lives}) == 3
        assert idp.calls["token"] == 3
        provider.close()


@pytest.mark.parametrize(("lifetime", "buffer", "after"), [(3600, 60, 3540), (3600, 0, 3600), (40, 60, 20)])
def test_a_refresh_comes_so_long_before_the_tokens_end(
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
    assert len(timers.live) == 1, "and so it goes on"
    session.close()


def test_programs_that_share_tokens_do_not_all_wake_at_one_moment(
    store: _Store, clock: Clock, timers: HeldTimers
) -> None:
    """L: jitter; never before the tokens are due, and never in the last part of their life."""
    provider = StubProvider(clock, lifetime=100)
    sessions = [_manager(provider, store, clock, refresh_buffer_seconds=50) for _ in range(20)]
    for session in sessions:
        session.save_tokens(provider.grant())
    moments = [timer.interval for timer in timers.live]
    assert len(set(moments)) == 20
    assert 50 <= min(moments) < max(moments) <= 55
    for session in sessions:
        session.close()


def test_tokens_that_are_found_in_the_store_are_kept_fresh_too(
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
    assert not timers.live, "the one of the earlier tokens"


@pytest.mark.parametrize("lifetime", [0, 1, 2])
def test_tokens_that_end_at_once_make_no_storm(
    store: _Store, clock: Clock, timers: HeldTimers, lifetime: int
) -> None:
    """At most one call a second, in the background and when they are asked for, however often that is."""
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
def test_without_the_timer_they_make_no_storm_either(
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


def test_a_provider_that_is_away_is_asked_again_less_and_less_often(
    session: SessionManager,
    provider: StubProvider,
    store: _Store,
    clock: Clock,
    timers: HeldTimers,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """L: backoff with jitter, without end, and the grant is kept."""
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
    assert _let_ring(clock, timers) <= 6 + _BIT, "the next outage begins anew"
    session.close()


def test_a_store_that_is_away_is_an_outage_too(
    session: SessionManager, provider: StubProvider, store: _Store, clock: Clock, timers: HeldTimers
) -> None:
    store.away = True
    _wake(clock, timers, 3598)
    assert 4 <= timers.only.interval <= 6
    store.away = False
    _wake(clock, timers, 7)
    assert provider.calls == 1
    session.close()


def test_what_another_process_refreshed_is_watched_from_then_on(
    session: SessionManager, provider: StubProvider, store: _Store, clock: Clock, timers: HeldTimers
) -> None:
    clock.pass_(3000)
    store.save("alice", provider.refresh_tokens(_tokens(store).refresh_token or ""))
    _wake(clock, timers, 598)
    assert provider.calls == 1, "the other's"
    _wake(clock, timers, 3000)
    assert provider.calls == 2
    session.close()


def test_a_clock_that_was_set_back_keeps_no_dead_token_alive(
    session: SessionManager, provider: StubProvider, clock: Clock
) -> None:
    """By the clock on the wall the token would live for another day."""
    clock.now -= 86400
    assert session.get_access_token() == "access.alice.1"
    assert session.get_access_token() == "access.alice.1", "what was issued by the same clock counts"
    assert provider.calls == 1
    session.close()


def test_clocks_that_differ_by_a_little_ask_for_nothing(
    session: SessionManager, provider: StubProvider, clock: Clock
) -> None:
    """Machines on one store do not agree on the second."""
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
def test_it_stops_and_leaves_no_thread(
    session: SessionManager, timers: HeldTimers, end: Callable[[SessionManager], None]
) -> None:
    assert timers.live
    end(session)
    assert not timers.live
    for timer in timers:
        timer.join(_SECONDS)
        assert not timer.is_alive()


def test_a_manager_that_nobody_holds_any_more_is_collected_and_its_timer_ends(
    provider: StubProvider, store: _Store, clock: Clock, timers: HeldTimers
) -> None:
    session = _manager(provider, store, clock)
    session.save_tokens(provider.grant())
    assert timers.live
    del session
    gc.collect()
    assert not timers.live


def test_closed_it_refreshes_when_it_is_asked_and_sets_no_timer_again(
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


def test_a_logout_during_the_refresh_of_the_timer_counts(
    session: SessionManager, provider: StubProvider, store: _Store, clock: Clock, timers: HeldTimers
) -> None:
    provider.before = session.logout
    _wake(clock, timers, 3598)
    assert not store.exists("alice")
    assert not timers.live
    assert {"access.alice.1", "refresh.alice.1"} <= set(provider.revoked)


def test_a_refusal_ends_it_and_tells_the_program_once(
    provider: StubProvider,
    store: _Store,
    clock: Clock,
    timers: HeldTimers,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """L: no retry after invalid_grant."""
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


def test_whoever_signs_in_again_when_the_timer_asks_is_kept_fresh(
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
