"""Sign-out: tokens are removed, then revoked."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pywry_auth.backends.base import Terms
from pywry_auth.exceptions import StoreUnavailable
from pywry_auth.flow.refresh import refresh_stored
from pywry_auth.flow.sign_out import SignOutResult, sign_out
from pywry_auth.models import OAuthTokenSet
from pywry_auth.state.token_record import StoredTokens
from pywry_auth.state.token_stores import MemoryTokenStore
from tests.flow.token_sets import Away, always, answering, first, revoked
from tests.protocol.issuer import SUBJECT, ScriptedIssuer
from tests.protocol.servers import Answer


@pytest.mark.usefixtures("no_longer_than_the_lease")
def test_a_sign_out_ends_the_tokens_that_outlived_the_lease(issuer: ScriptedIssuer) -> None:
    """It revokes the fresh set, not the one that the store still has. [T64]"""
    store = Away(99, False, lease=0.3)
    store.save(SUBJECT, first(issuer))
    issuer.answers["/revoke"] = Answer(b"")
    answering(issuer, refresh_token="canary-refresh-2")
    with pytest.raises(StoreUnavailable):
        refresh_stored(issuer.provider(), store, SUBJECT, always)
    store.left = 0
    assert sign_out(issuer.provider(), store, SUBJECT).revoked
    assert revoked(issuer) == ["canary-refresh-2", "canary-next"]
    assert store.list_keys() == []


def test_a_sign_out_removes_and_revokes_the_tokens(issuer: ScriptedIssuer) -> None:
    store, tokens = MemoryTokenStore(), first(issuer)
    store.save(SUBJECT, tokens)
    issuer.answers["/revoke"] = Answer({})
    assert sign_out(issuer.provider(), store, SUBJECT) == SignOutResult(tokens, True)
    assert revoked(issuer) == ["canary-refresh-1", "canary-first"]
    assert store.list_keys() == []
    assert sign_out(issuer.provider(), store, SUBJECT) == SignOutResult()


def test_a_sign_out_removes_the_tokens_even_if_the_revocation_fails(issuer: ScriptedIssuer) -> None:
    store, tokens = MemoryTokenStore(), first(issuer)
    store.save(SUBJECT, tokens)
    issuer.answers["/revoke"] = Answer({}, 500)
    assert sign_out(issuer.provider(), store, SUBJECT) == SignOutResult(tokens, False)
    assert store.list_keys() == []


def test_a_sign_out_touches_no_tokens_of_another_client(issuer: ScriptedIssuer) -> None:
    store = MemoryTokenStore()
    ours = first(issuer)
    for theirs in (replace(ours, client_id="another"), replace(ours, issuer="https://another.example.com")):
        store.save(SUBJECT, theirs)
        assert sign_out(issuer.provider(), store, SUBJECT) == SignOutResult()
        assert store.load(SUBJECT) == theirs
    assert revoked(issuer) == []


def test_a_sign_out_without_a_provider_removes_the_tokens(issuer: ScriptedIssuer) -> None:
    store, tokens = MemoryTokenStore(), first(issuer)
    store.save(SUBJECT, tokens)
    assert sign_out(None, store, SUBJECT) == SignOutResult(tokens, False)
    assert store.list_keys() == []


def test_a_sign_out_removes_a_record_that_cannot_be_read(issuer: ScriptedIssuer) -> None:
    store = MemoryTokenStore()
    store.save(SUBJECT, first(issuer))
    (key,) = store.backend.members("oauth:tokens")
    store.backend.put(key, b"damaged", Terms(group="oauth:tokens"))
    assert sign_out(issuer.provider(), store, SUBJECT) == SignOutResult()
    assert not store.exists(SUBJECT)


class _Overtaken(MemoryTokenStore):
    """A store whose tokens another process replaces just after each load, a few times."""

    def __init__(self, following: list[OAuthTokenSet]) -> None:
        super().__init__()
        self.following = following

    def find(self, key: str) -> StoredTokens | None:
        stored = super().find(key)
        if self.following:
            self.save(key, self.following.pop(0))
        return stored


def test_a_sign_out_revokes_the_set_that_it_removed(issuer: ScriptedIssuer) -> None:
    sets = [first(issuer, access_token=f"canary-{number}") for number in range(4)]
    store = _Overtaken(sets[1:])
    store.save(SUBJECT, sets[0])
    issuer.answers["/revoke"] = Answer({})
    assert sign_out(issuer.provider(), store, SUBJECT).tokens == sets[-1]
    assert revoked(issuer) == ["canary-refresh-1", "canary-3"]
    assert store.list_keys() == []


class _Forgetful(MemoryTokenStore):
    """A store that removes a set, but whose answer is lost and repeated by the client."""

    def remove(self, key: str, stored: StoredTokens) -> bool:
        super().remove(key, stored)
        return super().remove(key, stored)


def test_a_sign_out_whose_answer_was_lost_revokes_the_tokens(issuer: ScriptedIssuer) -> None:
    """Clients of a store repeat a command over a new connection. [T66]"""
    store = _Forgetful()
    store.save(SUBJECT, first(issuer))
    issuer.answers["/revoke"] = Answer(b"")
    assert sign_out(issuer.provider(), store, SUBJECT).revoked
    assert revoked(issuer) == ["canary-refresh-1", "canary-first"]
