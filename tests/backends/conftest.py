"""The backends of ``fixtures.py``, and the keyring."""

import pytest

from pywry_auth.backends.base import Backend


@pytest.fixture(params=["memory", "sqlite", "redis", "encrypted", "keyring"])
def backend(request: pytest.FixtureRequest) -> Backend:
    found: Backend = request.getfixturevalue(request.param)
    return found


@pytest.fixture(params=["memory", "sqlite", "encrypted", "keyring"])
def clocked(request: pytest.FixtureRequest) -> Backend:
    """A backend that reads ``clock``; Redis has its own clock."""
    found: Backend = request.getfixturevalue(request.param)
    return found
