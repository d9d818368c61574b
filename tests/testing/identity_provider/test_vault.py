"""The provider's memory stays bounded."""

from __future__ import annotations

from pywry_auth.testing.identity_provider import User, vault
from tests.testing.identity_provider.person import Clock


def test_memory_stays_bounded(clock: Clock) -> None:
    """Expired records are removed when new ones come; beyond the limit, the oldest goes."""

    kept = vault.Vault(clock)
    grant = vault.Grant("client", User("alice", "x", {}), "openid", 0)
    first = kept.issue("refresh", grant, 1e9)
    for _ in range(vault.LIMIT - 1):
        kept.issue("code", grant, 10)
    assert kept.find("refresh", first)
    clock.now += vault.SWEEP_SECONDS
    for _ in range(vault.LIMIT - 1):
        kept.issue("code", grant, 10)
    assert kept.find("refresh", first)
    kept.issue("code", grant, 10)
    assert kept.find("refresh", first) is None
