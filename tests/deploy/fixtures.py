"""A pytest plugin: an application with its provider and stores.

A folder that uses it defines the fixture ``hosting``, the web host that serves the routes.
"""

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
from tests.deploy.hosts import Host
from tests.deploy.web import SITE_CLIENT, Web
from tests.faults import Faults
from tests.peers.redis_server import RedisServer


@pytest.fixture
def faults() -> Faults:
    """The responses that replace those of the provider's endpoints."""
    return Faults()


@pytest.fixture
def idp(faults: Faults) -> Iterator[IdentityProvider]:
    with IdentityProvider(clients=[SITE_CLIENT], signing_algorithm="ES256") as running:
        running.wrap(faults.around)
        yield running


@pytest.fixture
def make_web(idp: IdentityProvider, hosting: Host) -> Iterator[Callable[..., Web]]:
    """Makes applications at the provider.

    Each has its own store in memory unless the test passes one.
    """
    made: list[Web] = []

    def make(backend: Backend | None = None, **arguments: Any) -> Web:
        backend = MemoryBackend() if backend is None else backend
        made.append(Web(idp, backend, **{"host": hosting, **arguments}))
        return made[-1]

    yield make
    for web in made:
        if isinstance(web.backend, MemoryBackend):  # others are closed already
            _forget_revocations(web.backend)


def _forget_revocations(backend: Backend) -> None:
    """Remove the revocations that wait, so that no thread tries them, and logs it, during other tests."""
    for key in backend.members("oauth:revocations"):
        backend.pop(key, group="oauth:revocations")


@pytest.fixture
def web(make_web: Callable[..., Web]) -> Web:
    return make_web()


@pytest.fixture
def sqlite_backend(tmp_path: Path) -> Iterator[SQLiteBackend]:
    backend = SQLiteBackend(tmp_path / "state.sqlite3")
    yield backend
    backend.close()


@pytest.fixture
def redis_backend(redis_server: RedisServer) -> Iterator[RedisBackend]:
    backend = RedisBackend(redis_server.url, prefix=uuid4().hex)
    yield backend
    backend.close()
