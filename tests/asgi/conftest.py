"""The host of this room's tests."""

from __future__ import annotations

import pytest

from tests.deploy.hosts import Host


@pytest.fixture
def hosting() -> Host:
    """FastAPI, without any prefix."""
    return Host("fastapi")
