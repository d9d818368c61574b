"""The web hosts and backends of the tests in this folder."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pywry_auth.backends.base import Backend
from pywry_auth.backends.memory import MemoryBackend
from tests.deploy.hosts import FLASK, HOSTS, Host
from tests.deploy.web import Browser, Web

_CONTRACT = {
    *("answers", "caching", "callback", "csrf", "login", "logout", "metrics_views", "pending"),
    *("rate_limit", "ready", "refresh", "signals", "status"),
}
"""The test files of the contract, which run on each web host."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the contract on each web host."""
    name = metafunc.module.__name__.rpartition(".test_")[2]
    if "hosting" in metafunc.fixturenames and name in _CONTRACT:
        metafunc.parametrize("hosting", HOSTS, ids=lambda host: host.name)


@pytest.fixture
def hosting() -> Host:
    """The web host that serves the routes."""
    return FLASK


@pytest.fixture
def alice(web: Web) -> Browser:
    """A browser where alice is signed in."""
    browser = web.browser()
    browser.sign_in()
    return browser


@pytest.fixture(params=["memory", "sqlite_backend", "redis_backend"])
def backend(request: pytest.FixtureRequest) -> Backend:
    return MemoryBackend() if request.param == "memory" else request.getfixturevalue(request.param)


@pytest.fixture
def web_on(make_web: Callable[..., Web], backend: Backend) -> Web:
    """An application on each backend in turn."""
    return make_web(backend)
