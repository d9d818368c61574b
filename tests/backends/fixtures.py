"""A pytest plugin with an empty backend of each kind.

The fixture ``backend`` is each of them in turn.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pywry_auth.backends.base import Backend
from pywry_auth.backends.encrypted import EncryptedBackend
from pywry_auth.backends.keyring import KeyringBackend
from pywry_auth.backends.memory import MemoryBackend
from pywry_auth.backends.postgres import PostgresBackend
from pywry_auth.backends.redis import RedisBackend
from pywry_auth.backends.sqlite import SQLiteBackend
from tests.backends.keyrings import WindowsKeyring
from tests.peers.postgres_server import PostgresServer
from tests.peers.redis_cluster import ClusterSetUp
from tests.peers.redis_sentinel import SentinelSetUp
from tests.peers.redis_server import RedisServer
from tests.peers.valkey_server import Valkey, valkey_server

ENCRYPTION_KEY = base64.urlsafe_b64encode(bytes(range(32))).decode("ascii")


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


@pytest.fixture(scope="session")
def sentinel_set_up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SentinelSetUp]:
    """Servers under sentinels; a test that causes a failover waits until they are whole again."""
    with SentinelSetUp(tmp_path_factory.mktemp("sentinel")) as set_up:
        yield set_up


@pytest.fixture(scope="session")
def cluster_set_up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterSetUp]:
    """A cluster; a test that causes a failover waits until it is whole again."""
    with ClusterSetUp(tmp_path_factory.mktemp("cluster")) as set_up:
        yield set_up


@pytest.fixture(scope="session")
def valkey_peer() -> Iterator[Valkey]:
    with valkey_server() as server:
        yield server


@dataclass
class Clock:
    """A clock that stands still until it is moved."""

    now: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def memory(clock: Clock) -> MemoryBackend:
    return MemoryBackend(clock=clock)


@pytest.fixture
def sqlite(clock: Clock, tmp_path: Path) -> Iterator[SQLiteBackend]:
    backend = SQLiteBackend(tmp_path / "state.sqlite3", clock=clock)
    yield backend
    backend.close()


@pytest.fixture
def redis(redis_server: RedisServer) -> Iterator[RedisBackend]:
    redis_server.client.flushall()
    backend = RedisBackend(redis_server.url)
    yield backend
    backend.close()


@pytest.fixture
def postgres(postgres_server: PostgresServer) -> Iterator[PostgresBackend]:
    postgres_server.clear()
    backend = PostgresBackend(postgres_server.url)
    yield backend
    backend.close()


@pytest.fixture
def sentinel(sentinel_set_up: SentinelSetUp) -> Iterator[RedisBackend]:
    sentinel_set_up.primary.client.flushall()
    backend = RedisBackend(sentinel_set_up.url)
    yield backend
    backend.close()


@pytest.fixture
def cluster(cluster_set_up: ClusterSetUp) -> Iterator[RedisBackend]:
    cluster_set_up.primary.client.flushall()
    backend = RedisBackend(cluster_set_up.url)
    yield backend
    backend.close()


@pytest.fixture
def valkey(valkey_peer: Valkey) -> Iterator[RedisBackend]:
    valkey_peer.client.flushall()
    backend = RedisBackend(valkey_peer.url)
    yield backend
    backend.close()


@pytest.fixture
def encrypted_cluster(cluster: RedisBackend) -> EncryptedBackend:
    return EncryptedBackend(cluster, [ENCRYPTION_KEY])


@pytest.fixture
def encrypted(sqlite: SQLiteBackend) -> EncryptedBackend:
    return EncryptedBackend(sqlite, [ENCRYPTION_KEY])


@pytest.fixture
def encrypted_memory(memory: MemoryBackend) -> EncryptedBackend:
    return EncryptedBackend(memory, [ENCRYPTION_KEY])


@pytest.fixture
def encrypted_sqlite(sqlite: SQLiteBackend) -> EncryptedBackend:
    return EncryptedBackend(sqlite, [ENCRYPTION_KEY])


@pytest.fixture
def encrypted_redis(redis: RedisBackend) -> EncryptedBackend:
    return EncryptedBackend(redis, [ENCRYPTION_KEY])


@pytest.fixture
def encrypted_postgres(postgres: PostgresBackend) -> EncryptedBackend:
    return EncryptedBackend(postgres, [ENCRYPTION_KEY])


@pytest.fixture
def encrypted_keyring(keyring: KeyringBackend) -> EncryptedBackend:
    return EncryptedBackend(keyring, [ENCRYPTION_KEY])


@pytest.fixture
def keyring(clock: Clock, tmp_path: Path) -> KeyringBackend:
    return KeyringBackend("test", vault=WindowsKeyring(), folder=tmp_path / "locks", clock=clock)


@pytest.fixture(params=["memory", "sqlite", "redis", "postgres", "encrypted"])
def backend(request: pytest.FixtureRequest) -> Backend:
    found: Backend = request.getfixturevalue(request.param)
    return found


@pytest.fixture(params=["memory", "sqlite", "encrypted"])
def clocked(request: pytest.FixtureRequest) -> Backend:
    """A backend that reads ``clock``; Redis has its own clock."""
    found: Backend = request.getfixturevalue(request.param)
    return found
