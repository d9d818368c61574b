"""The web hosts and backends of the tests in this folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import product

import pytest

from pywry_auth.backends.base import Backend
from pywry_auth.backends.memory import MemoryBackend
from tests.deploy.hosts import FLASK, HOSTS, Host
from tests.deploy.web import Browser, Web

_SOAK = bool(os.environ.get("SOAK"))
_BACKENDS = ("memory", "sqlite_backend", "redis_backend")
_BELOW_PATHS = [host for host in HOSTS if host.mount or host.strips]
_BEHIND_PROXY = [host for host in HOSTS if host.strips]

_CONTRACT = {
    **{key: [FLASK, *_BELOW_PATHS] for key in ("caching", "callback", "login", "logout", "status")},
    **{key: [FLASK, *_BEHIND_PROXY] for key in ("answers", "csrf", "metrics_views", "pending")},
    **{key: [FLASK, *_BEHIND_PROXY] for key in ("rate_limit", "ready", "refresh", "signals")},
}
"""The test files of the contract, and their web hosts: those whose paths differ most from Flask's.

With ``make soak``, each file runs on all hosts.
"""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the contract on its hosts, tests of stores on each backend, and in ``make soak`` each pair."""
    hosts = _CONTRACT.get(metafunc.module.__name__.rpartition(".test_")[2])
    hosts = list(HOSTS) if hosts and _SOAK else hosts
    if "backend" in metafunc.fixturenames:
        pairs = [
            pair for pair in product(hosts or [FLASK], _BACKENDS) if _SOAK or {FLASK, "memory"} & {*pair}
        ]
        ids = [f"{host.name}-{backend}" for host, backend in pairs]
        metafunc.parametrize(("hosting", "backend"), pairs, indirect=["backend"], ids=ids)
    elif hosts and "hosting" in metafunc.fixturenames:
        metafunc.parametrize("hosting", hosts, ids=lambda host: host.name)


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


@pytest.fixture
def backend(request: pytest.FixtureRequest) -> Backend:
    return MemoryBackend() if request.param == "memory" else request.getfixturevalue(request.param)


@pytest.fixture
def web_on(make_web: Callable[..., Web], backend: Backend) -> Web:
    """An application on each backend in turn."""
    return make_web(backend)
