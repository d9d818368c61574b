"""The provider and the stores of the web application's tests."""

from __future__ import annotations

import pytest

from tests.backends.fixtures import redis_server  # noqa: F401 - fixtures, known by their names
from tests.deploy.conftest import faults, idp, make_web, redis_backend, sqlite_backend, web  # noqa: F401
from tests.deploy.hosts import Host


@pytest.fixture
def hosting() -> Host:
    """FastAPI, without any prefix."""
    return Host("fastapi")
