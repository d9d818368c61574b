"""The fixtures of the protocol's tests."""

from __future__ import annotations

from tests.protocol.conftest import idle_connections, issuer

__all__ = ["idle_connections", "issuer"]
