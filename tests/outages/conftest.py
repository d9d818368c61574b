"""The host of the applications in this folder that run in the process of the test."""

from __future__ import annotations

import pytest

from tests.deploy.hosts import FLASK, Host


@pytest.fixture
def hosting() -> Host:
    """The web host that serves the routes."""
    return FLASK
