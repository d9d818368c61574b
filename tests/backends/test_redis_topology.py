"""Redis under Sentinel and in a cluster: silent, missing and mistaken servers."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

from pywry_auth.backends.base import Terms
from pywry_auth.backends.redis import RedisBackend
from pywry_auth.exceptions import StoreUnavailable
from tests.peers.mistaken_redis import MistakenRedis, listed
from tests.peers.redis_cluster import ClusterSetUp
from tests.peers.redis_sentinel import SERVICE, SentinelSetUp
from tests.peers.redis_server import RedisServer
from tests.protocol.servers import free_port
from tests.waiting import await_threads, eventually

PROMPT = 4.0
"""Seconds; generous for a busy machine. Each operation should fail within 2 s."""


@contextmanager
def _opened(url: str) -> Iterator[RedisBackend]:
    backend = RedisBackend(url)
    try:
        yield backend
    finally:
        await_threads("pywry-auth-redis-check")  # its warnings belong to this test
        backend.close()


@pytest.fixture
def silent() -> Iterator[str]:
    """The addresses of three servers that accept connections and stay silent."""
    with ExitStack() as stack:
        servers = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(3)]
        yield ",".join(f"127.0.0.1:{server.getsockname()[1]}" for server in servers)


def _addresses(servers: list[RedisServer]) -> str:
    return ",".join(f"127.0.0.1:{server.port}" for server in servers)


def _forms(addresses: str) -> list[str]:
    return [f"redis+sentinel://{addresses}/{SERVICE}/0", f"redis+cluster://{addresses}"]


def _told(url: str, *, reads: bool = False) -> str:
    """Return the error of an operation, which comes in time."""
    with _opened(url) as backend:
        begun = time.monotonic()
        with pytest.raises(StoreUnavailable) as caught:
            backend.get("k:1") if reads else backend.put("k:1", b"canary", Terms(ttl=60))
        assert time.monotonic() - begun < PROMPT
    assert "canary" not in f"{caught.value!r}{caught.value.__cause__!r}"
    return str(caught.value)


@pytest.mark.parametrize("form", [0, 1])
def test_silent_servers_are_waited_for_no_longer_than_one(silent: str, form: int) -> None:
    """The time limit is shared among them. [P15]"""
    told = _told(_forms(silent)[form])
    assert "names the primary: Redis does not answer in time" in told


@pytest.mark.parametrize("form", [0, 1])
def test_one_server_that_answers_is_enough(
    silent: str, form: int, sentinel_set_up: SentinelSetUp, cluster_set_up: ClusterSetUp
) -> None:
    """It is asked first from then on. [P15]"""
    good = [sentinel_set_up.sentinels, cluster_set_up.others][form][:1]
    with _opened(_forms(f"{silent},{_addresses(good)}")[form]) as backend:
        begun = time.monotonic()
        assert backend.put("k:1", b"v", Terms(ttl=60))
        assert time.monotonic() - begun < PROMPT
        backend._client.connection_pool.disconnect()
        begun = time.monotonic()
        assert backend.get("k:1") == b"v"
        assert time.monotonic() - begun < 0.5


@pytest.mark.parametrize("form", [0, 1])
def test_servers_that_others_name_are_remembered(
    form: int, sentinel_set_up: SentinelSetUp, cluster_set_up: ClusterSetUp
) -> None:
    """The only one in the URL can be silent later. [T63]"""
    named = [sentinel_set_up.sentinels, cluster_set_up.others][form][-1]
    with _opened(_forms(_addresses([named]))[form]) as backend:
        assert backend.put("k:1", b"v", Terms(ttl=60))
        named.pause()
        try:
            backend._client.connection_pool.disconnect()
            assert eventually(lambda: _answer(backend) == b"v", PROMPT)
        finally:
            named.resume()


def _answer(backend: RedisBackend) -> bytes | None:
    try:
        return backend.get("k:1")
    except StoreUnavailable:
        return None


def test_service_goes_on_while_no_sentinel_answers(sentinel_set_up: SentinelSetUp) -> None:
    """The last known primary stays in use, by new connections too, and no request waits again. [T63]"""
    with _opened(sentinel_set_up.url) as backend, ExitStack() as stack:
        assert backend.put("k:1", b"v", Terms(ttl=60))
        await_threads("pywry-auth-redis-check")
        for server in sentinel_set_up.sentinels:
            server.pause()
            stack.callback(server.resume)
        ends = time.monotonic() + 1.5  # beyond the next question for the primary
        while time.monotonic() < ends:
            assert backend.get("k:1") == b"v"
        backend._client.connection_pool.disconnect()
        begun = time.monotonic()
        assert backend.get("k:1") == b"v"
        assert time.monotonic() - begun < 0.4


def test_mistakes_in_a_url_are_named(
    sentinel_set_up: SentinelSetUp, cluster_set_up: ClusterSetUp, redis_server: RedisServer
) -> None:
    """Each names what to change. [S11]"""
    sentinels, node = _addresses(sentinel_set_up.sentinels), cluster_set_up.primary
    assert "know no service of this name" in _told(f"redis+sentinel://{sentinels}/other/0")
    assert "is not a sentinel" in _told(f"redis+sentinel://127.0.0.1:{redis_server.port}/{SERVICE}/0")
    assert "sentinel_password=" in _told(f"{sentinel_set_up.url}?sentinel_password=canary")
    assert "refused the user or password" in _told(f"redis+cluster://u:canary@127.0.0.1:{node.port}")
    assert "no server listens" in _told(f"redis+cluster://127.0.0.1:{free_port()}")
    assert "no such database" in _told(sentinel_set_up.url.replace("/0", "/99"))
    assert "write redis+cluster://HOST:PORT" in _told(cluster_set_up.others[0].url)
    assert "write redis+sentinel://HOST:26379" in _told(sentinel_set_up.sentinels[0].url)


@pytest.mark.parametrize(
    ("url", "warnings"),
    [
        (lambda sentinel, cluster, plain: sentinel.url, []),
        (lambda sentinel, cluster, plain: cluster.url, []),
        (lambda sentinel, cluster, plain: sentinel.sentinels[0].url, ["redis+sentinel://HOST"]),
        (lambda sentinel, cluster, plain: cluster.primary.url, ["redis+cluster://HOST"]),
        (
            lambda sentinel, cluster, plain: f"redis+cluster://127.0.0.1:{plain.port}",
            ["is not a node of a cluster"],
        ),
    ],
)
def test_a_set_up_that_the_url_does_not_describe_is_warned_about(
    url: Callable[..., str],
    warnings: list[str],
    sentinel_set_up: SentinelSetUp,
    cluster_set_up: ClusterSetUp,
    redis_server: RedisServer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The warning names the form of the URL. [T72]"""
    given = url(sentinel_set_up, cluster_set_up, redis_server)
    with caplog.at_level(logging.DEBUG, "pywry_auth.backends"), _opened(given) as backend:
        _answer(backend)
        await_threads("pywry-auth-redis-check")
    found = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(found) == len(warnings)
    assert all(text in message for text, message in zip(warnings, found, strict=True))


def test_a_primary_that_takes_writes_without_replicas_is_mentioned(
    sentinel_set_up: SentinelSetUp, caplog: pytest.LogCaptureFixture
) -> None:
    """It is no warning, because it is a choice between two risks. [T72]"""
    primary = sentinel_set_up.primary.client
    with caplog.at_level(logging.INFO, "pywry_auth.backends"):
        for number in ("1", "0"):
            primary.config_set("min-replicas-to-write", number)
            with _opened(sentinel_set_up.url) as backend:
                backend.probe()
            assert ("min-replicas-to-write 1" in caplog.text) is (number == "0")


def test_nothing_is_read_from_a_replica_that_a_sentinel_names(sentinel_set_up: SentinelSetUp) -> None:
    """Its records may be old: a user who signed out would be signed in. [T63]"""
    replica = sentinel_set_up.replicas[0]
    with MistakenRedis(listed("127.0.0.1", replica.port)) as sentinel:
        told = _told(f"redis+sentinel://127.0.0.1:{sentinel.port}/{SERVICE}/0", reads=True)
        assert "named as the primary of Redis is not one" in told
