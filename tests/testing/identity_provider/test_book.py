"""The provider lists its grants, and which of their tokens are active."""

from __future__ import annotations

import hashlib

from pywry_auth.testing import IdentityProvider, User
from pywry_auth.testing.identity_provider import vault
from tests.testing.identity_provider.person import Clock, Person


def _digests(*tokens: str) -> set[str]:
    return {hashlib.sha256(token.encode()).hexdigest() for token in tokens}


def test_grants_are_numbered_in_their_order_of_issue(provider: IdentityProvider) -> None:
    """A grant counts from its tokens on: a code that was never exchanged is no grant."""
    alice, bob = Person(provider.issuer), Person(provider.issuer)
    alice.signs_in()
    bob.exchanges(bob.code(name="bob", password="builder"))
    alice.tokens()
    grants = provider.grants()
    assert [(grant.number, grant.user_id, grant.client_id) for grant in grants] == [
        (1, "user-bob", "pywry-demo"),
        (2, "user-alice", "pywry-demo"),
    ]
    assert provider.grants(after=1) == grants[1:]


def test_a_refresh_replaces_the_active_refresh_token(provider: IdentityProvider, alice: Person) -> None:
    first = alice.tokens()
    second = alice.refreshes(first).json()
    (grant,) = provider.grants()
    access = (first["access_token"], second["access_token"])
    assert grant.refresh_tokens == _digests(second["refresh_token"])
    assert grant.access_tokens == _digests(*access)
    assert grant.tokens == _digests(*access, first["refresh_token"], second["refresh_token"])
    assert grant.live
    assert not grant.ended


def test_a_revoked_refresh_token_ends_its_grant(provider: IdentityProvider, alice: Person) -> None:
    tokens = alice.tokens()
    alice.revokes(tokens["refresh_token"])
    (grant,) = provider.grants()
    assert grant.ended
    assert not grant.live


def test_a_revoked_access_token_leaves_the_refresh_token_active(
    provider: IdentityProvider, alice: Person
) -> None:
    tokens = alice.tokens()
    alice.revokes(tokens["access_token"])
    (grant,) = provider.grants()
    assert grant.access_tokens == frozenset()
    assert grant.refresh_tokens == _digests(tokens["refresh_token"])
    assert grant.live
    assert not grant.ended


def test_expired_tokens_are_not_active(provider: IdentityProvider, alice: Person, clock: Clock) -> None:
    alice.tokens()
    clock.now += 31 * 86400
    (grant,) = provider.grants()
    assert not grant.live
    assert not grant.ended


def test_the_book_shows_no_token(provider: IdentityProvider, alice: Person) -> None:
    """Neither a token nor its digest is in the text of a grant."""
    tokens = alice.tokens()
    text = str(provider.grants())
    secrets = {tokens["access_token"], tokens["refresh_token"]}
    assert not any(secret in text for secret in secrets | _digests(*secrets))


def test_the_book_stays_bounded(clock: Clock) -> None:
    """Beyond the limit, the oldest token is removed, and a grant goes with its last token."""
    kept = vault.Vault(clock)
    grants = [vault.Grant("client", User("alice", "x", {}), "openid", 0) for _ in range(3)]
    kept.issue("access", grants[0], 10)
    for _ in range(vault.LIMIT - 1):
        kept.issue("access", grants[1], 10)
    assert [grant.number for grant in kept.grants(0)] == [1, 2]
    for _ in range(2):
        kept.issue("access", grants[2], 10)
    assert [grant.number for grant in kept.grants(0)] == [2, 3]
    assert sum(len(grant.tokens) for grant in kept.grants(0)) == vault.LIMIT
