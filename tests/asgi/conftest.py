"""The web host of the tests in this folder."""

from __future__ import annotations

import pytest

from tests.deploy.hosts import Host


@pytest.fixture
def hosting() -> Host:
    """FastAPI without a prefix."""
    return Host("fastapi")
