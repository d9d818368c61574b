"""A wired application and its provider, for the tests of this room."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from pywry_auth.backends.base import Backend
from pywry_auth.backends.memory import MemoryBackend
from pywry_auth.backends.redis import RedisBackend
from pywry_auth.backends.sqlite import SQLiteBackend
from pywry_auth.testing.identity_provider import IdentityProvider
from tests.backends.fixtures import redis_server  # noqa: F401 - a fixture, known by its name
from tests.deploy.hosts import FLASK, HOSTS, Host
from tests.deploy.web import SITE_CLIENT, Browser, Faults, Web
from tests.peers.redis_server import RedisServer


@pytest.fixture
def faults() -> Faults:
    """What the provider's endpoints answer instead of the truth."""
    return Faults()


@pytest.fixture
def idp(faults: Faults) -> Iterator[IdentityProvider]:
    with IdentityProvider(clients=[SITE_CLIENT], signing_algorithm="ES256") as running:
        running.wrap(faults.around)
        yield running


_CONTRACT = {
    *("answers", "caching", "callback", "csrf", "login", "logout", "pending"),
    *("rate_limit", "refresh", "signals", "status"),
}
"""Test files that say what the six routes do, wherever they are served."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the contract in each place."""
    name = metafunc.module.__name__.rpartition(".test_")[2]
    if "hosting" in metafunc.fixturenames and name in _CONTRACT:
        metafunc.parametrize("hosting", HOSTS, ids=lambda host: host.name)


@pytest.fixture
def hosting() -> Host:
    """Where the routes are served."""
    return FLASK


@pytest.fixture
def make_web(idp: IdentityProvider, hosting: Host) -> Callable[..., Web]:
    """Makes applications at the provider; each has a store in memory of its own unless it is given one."""

    def make(backend: Backend | None = None, **arguments: Any) -> Web:
        backend = MemoryBackend() if backend is None else backend
        return Web(idp, backend, **{"host": hosting, **arguments})

    return make


@pytest.fixture
def web(make_web: Callable[..., Web]) -> Web:
    return make_web()


@pytest.fixture
def alice(web: Web) -> Browser:
    """A browser in which alice has signed in."""
    browser = web.browser()
    browser.sign_in()
    return browser


@pytest.fixture
def sqlite_backend(tmp_path: Path) -> Iterator[SQLiteBackend]:
    backend = SQLiteBackend(tmp_path / "state.sqlite3")
    yield backend
    backend.close()


@pytest.fixture
def redis_backend(redis_server: RedisServer) -> Iterator[RedisBackend]:  # noqa: F811
    backend = RedisBackend(redis_server.url, prefix=uuid4().hex)
    yield backend
    backend.close()


@pytest.fixture(params=["memory", "sqlite_backend", "redis_backend"])
def backend(request: pytest.FixtureRequest) -> Backend:
    return MemoryBackend() if request.param == "memory" else request.getfixturevalue(request.param)


@pytest.fixture
def web_on(make_web: Callable[..., Web], backend: Backend) -> Web:
    """An application on each backend in turn."""
    return make_web(backend)
