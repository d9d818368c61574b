"""A site without a network, for operations that overlap or during which the store fails."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from pywry_auth.backends.base import Backend
from pywry_auth.backends.redis import RedisBackend
from pywry_auth.backends.sqlite import SQLiteBackend
from tests.lifecycle.world import World
from tests.peers.redis_server import RedisServer


@pytest.fixture(scope="session")
def world() -> Iterator[World]:
    with World() as world:
        yield world


@pytest.fixture(scope="session")
def linked_world() -> Iterator[World]:
    """A site that gives the user an ID of its own."""
    with World("an ID of the site") as world:
        yield world


@pytest.fixture(params=["sqlite", "redis"] if os.environ.get("SOAK") else ["redis"])
def new_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Backend]]:
    """Makes empty stores that processes can share."""
    opened: list[Backend] = []

    def sqlite() -> Backend:
        opened.append(SQLiteBackend(tmp_path / f"{len(opened)}.sqlite3"))
        return opened[-1]

    def redis() -> Backend:
        server: RedisServer = request.getfixturevalue("redis_server")
        opened.append(RedisBackend(server.url, prefix=uuid4().hex))
        return opened[-1]

    yield sqlite if request.param == "sqlite" else redis
    for backend in opened:
        backend.close()
