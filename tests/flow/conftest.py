"""A scripted provider, as in the tests of the protocol, and outages that end with the lease."""

from __future__ import annotations

import pytest

from tests.protocol.conftest import idle_connections, issuer

__all__ = ["idle_connections", "issuer"]


@pytest.fixture
def no_longer_than_the_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let attempts to store fresh tokens end when the lease ends."""
    monkeypatch.setattr("pywry_auth.flow.refresh._SHORTEST_OUTAGE", 0.0)
