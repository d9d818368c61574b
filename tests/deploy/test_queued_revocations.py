"""Queued revocations of some accounts, within a time limit."""

from __future__ import annotations

import pytest

from pywry_auth.deploy.providers import Providers
from pywry_auth.deploy.queued_revocations import QueuedRevocations
from pywry_auth.exceptions import StoreUnavailable
from pywry_auth.providers.oidc import GenericOIDCProvider
from pywry_auth.state.tokens import TokenStore
from tests.deploy.web import CLIENT_SECRET, WatchedBackend, Web


class Clock:
    """A clock that advances with each look."""

    def __init__(self, seconds: float) -> None:
        self.now, self.seconds = 0.0, seconds

    def __call__(self) -> float:
        self.now += self.seconds
        return self.now


def _queue(web: Web) -> list[str]:
    """Put the tokens of both users into the queue."""
    for name in ("alice", "bob"):
        web.browser().sign_in(username=name)
        tokens = web.tokens.load(f"user-{name}")
        assert tokens is not None
        web.tokens.delete(f"user-{name}")
        web.tokens.revocations.add(f"user-{name}", tokens)
    return ["user-alice", "user-bob"]


def test_only_the_tokens_of_the_accounts_are_revoked(web: Web) -> None:
    accounts = _queue(web)
    work = QueuedRevocations(Providers.of(web.provider), web.tokens)
    assert work.revoke(accounts[:1]) == 0
    assert (work.confirmed, web.calls()["revoke"]) == (1, 2)
    assert work.revoke(accounts) == 0
    assert (work.confirmed, web.calls()["revoke"]) == (2, 4)


def test_the_work_ends_with_its_time(web: Web) -> None:
    accounts = _queue(web)
    work = QueuedRevocations(Providers.of(web.provider), web.tokens, Clock(30))
    assert (work.revoke(accounts), work.confirmed, web.calls()["revoke"]) == (2, 0, 0)


def test_tokens_of_other_providers_are_left(web: Web) -> None:
    accounts = _queue(web)
    other = GenericOIDCProvider("other", CLIENT_SECRET, issuer_url="https://idp.example")
    work = QueuedRevocations(Providers.of(other), web.tokens)
    assert (work.revoke(accounts), work.confirmed) == (2, 0)


def test_a_store_failure_ends_the_work(web: Web) -> None:
    accounts = _queue(web)
    watched = WatchedBackend(web.backend)
    watched.fails = lambda number: number > 0
    work = QueuedRevocations(Providers.of(web.provider), TokenStore(watched))
    with pytest.raises(StoreUnavailable):
        work.revoke(accounts)
    assert work.confirmed == 0
