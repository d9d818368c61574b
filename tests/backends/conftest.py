"""The backends, for the tests of this room."""

import pytest

from pywry_auth.backends.base import Backend
from tests.backends.fixtures import (  # noqa: F401 - fixtures, known by their names
    clock,
    encrypted,
    encrypted_keyring,
    encrypted_memory,
    encrypted_redis,
    encrypted_sqlite,
    keyring,
    memory,
    redis,
    redis_server,
    sqlite,
)


@pytest.fixture(params=["memory", "sqlite", "redis", "encrypted", "keyring"])
def backend(request: pytest.FixtureRequest) -> Backend:
    return request.getfixturevalue(request.param)


@pytest.fixture(params=["memory", "sqlite", "encrypted", "keyring"])
def clocked(request: pytest.FixtureRequest) -> Backend:
    """A backend that goes by ``clock``; Redis has its own."""
    return request.getfixturevalue(request.param)
