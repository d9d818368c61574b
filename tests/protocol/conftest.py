"""Fixtures of the protocol's tests: a provider, and no idle connections."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pywry_auth.protocol.http import close_idle_connections
from tests.protocol.issuer import ScriptedIssuer


@pytest.fixture(autouse=True)
def idle_connections() -> Iterator[None]:
    """Close idle connections, so that no test inherits one to another test's server."""
    yield
    close_idle_connections()


@pytest.fixture
def issuer() -> Iterator[ScriptedIssuer]:
    """A provider on the loopback address for one test."""
    with ScriptedIssuer() as scripted:
        yield scripted
