"""Redis: the stored keys and lifetimes, and faulty servers."""

from __future__ import annotations

import os
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.connection import Connection

from pywry_auth.backends.base import Terms, When
from pywry_auth.backends.redis import RedisBackend
from pywry_auth.exceptions import StoreUnavailable
from tests.backends.threads import together
from tests.peers.redis_server import RedisServer
from tests.peers.tls import TLSFiles
from tests.protocol.servers import free_port

PROMPT = 10
"""Seconds; generous for a busy machine. By default, redis-py waits a minute, or forever."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A server that a test can stop, fill or damage."""
    with RedisServer(tmp_path) as server:
        yield server


@pytest.fixture
def remote(server: RedisServer) -> Iterator[RedisBackend]:
    backend = RedisBackend(server.url)
    yield backend
    backend.close()


def test_keys_begin_with_the_prefix(redis_server: RedisServer) -> None:
    redis_server.client.flushall()
    backend = RedisBackend(redis_server.url, prefix="shop")
    backend.put("k:1", b"", Terms(group="k:all"))
    backend.count("n:1", 60)
    assert sorted(redis_server.client.keys()) == [b"shop:group:k:all", b"shop:k:1", b"shop:n:1"]
    backend.close()


def test_a_damaged_group_is_reduced_step_by_step(redis: RedisBackend, redis_server: RedisServer) -> None:
    """Other requests wait while Redis removes members. [T51]"""
    redis.put("k:1", b"", Terms(ttl=600, group="k:all"))
    (group,) = redis_server.client.keys("*group*")
    redis_server.client.zadd(group, {f"stale{number}": 1 << 60 for number in range(2500)})
    left = []
    for number in range(4):
        redis.put(f"new:{number}", b"", Terms(ttl=600, group="k:all", limit=10))
        left.append(redis_server.client.zcard(group))
    assert left == [1502, 503, 10, 10]


def test_each_key_expires_by_itself(redis: RedisBackend, redis_server: RedisServer) -> None:
    client = redis_server.client
    redis.put("k:1", b"", Terms(ttl=60, group="k:all"))
    redis.put("k:2", b"", Terms(ttl=600, group="k:all"))
    redis.put("k:3", b"", Terms(ttl=6))
    redis.count("n:1", 60)
    for _ in range(3):
        redis.count("n:1", 6000)
    with redis.lock("lock:1", 0, lease=30):
        keys = client.keys()
        lifetimes = {key: client.pttl(key) for key in keys}
    expected = {
        b"pywry:k:1": 60,
        b"pywry:k:2": 600,
        b"pywry:k:3": 6,
        b"pywry:n:1": 60,
        b"pywry:group:k:all": 600,
        b"pywry:lock:1": 30,
    }
    assert lifetimes.keys() == expected.keys()
    for key, seconds in expected.items():
        assert (seconds - PROMPT) * 1000 < lifetimes[key] <= seconds * 1000


def test_a_group_expires_with_its_last_member(redis: RedisBackend, redis_server: RedisServer) -> None:
    client = redis_server.client
    redis.put("k:1", b"", Terms(ttl=600, group="k:all"))
    redis.put("k:2", b"", Terms(ttl=60, group="k:all"))
    assert client.ttl("pywry:group:k:all") > 500
    redis.put("k:1", b"", Terms(ttl=60, group="k:all"))
    assert client.ttl("pywry:group:k:all") <= 60
    redis.put("k:2", b"", Terms(group="k:all"))
    assert client.ttl("pywry:group:k:all") == -1
    redis.put("k:2", b"", Terms(ttl=60, group="k:all"))
    assert 0 < client.ttl("pywry:group:k:all") <= 60
    redis.pop("k:1", group="k:all")
    redis.pop("k:2", group="k:all")
    assert client.dbsize() == 0


def test_expired_members_leave_the_group(redis: RedisBackend, redis_server: RedisServer) -> None:
    client = redis_server.client
    redis.put("k:lives", b"", Terms(ttl=600, group="k:all"))
    for number in range(25):
        client.zadd("pywry:group:k:all", {f"ended{number}": 1000 + number})
    for _ in range(3):
        redis.put("k:lives", b"", Terms(ttl=600, group="k:all"))
    assert client.zrange("pywry:group:k:all", 0, -1) == [b"lives"]


def test_a_record_that_another_client_removed_is_not_a_member(
    redis: RedisBackend, redis_server: RedisServer
) -> None:
    redis.put("k:1", b"", Terms(group="k:all"))
    redis.put("k:2", b"", Terms(group="k:all"))
    redis_server.client.delete("pywry:k:1")
    assert redis.members("k:all") == ["k:2"]


def test_a_url_can_name_a_unix_socket_and_a_database(server: RedisServer) -> None:
    backend, other = RedisBackend(server.socket_url), RedisBackend(server.socket_url.replace("db=0", "db=1"))
    assert backend.put("k:1", b"v")
    assert backend.get("k:1") == b"v"
    assert other.get("k:1") is None
    backend.close()
    other.close()


def test_a_tls_server_is_trusted_only_with_its_certificate_authority(
    tmp_path: Path, tls_files: TLSFiles
) -> None:
    server = RedisServer(tmp_path)
    url = f"rediss://127.0.0.1:{server.port}/0"
    files = ["--tls-cert-file", str(tls_files.cert), "--tls-key-file", str(tls_files.key)]
    server.start("--port", "0", "--tls-port", str(server.port), *files, "--tls-auth-clients", "no")
    trusting, doubting = RedisBackend(f"{url}?ssl_ca_certs={tls_files.ca}"), RedisBackend(url)
    try:
        assert trusting.put("k:1", b"v")
        assert trusting.get("k:1") == b"v"
        with pytest.raises(StoreUnavailable, match="ssl_ca_certs"):
            doubting.get("k:1")
    finally:
        trusting.close()
        doubting.close()
        server.stop()


def test_a_restart_between_two_calls_raises_no_error(server: RedisServer, remote: RedisBackend) -> None:
    """Connections and scripts are lost and are created again. [S11]"""
    remote.put("k:1", b"v", Terms(group="k:all"))
    server.stop()
    server.start()
    assert remote.get("k:1") is None
    server.stop()
    server.start()
    assert remote.put("k:1", b"v", Terms(ttl=60, group="k:all", when=When.ABSENT))
    assert remote.members("k:all") == ["k:1"]
    assert remote.count("n:1", 60) == 1
    assert remote.pop("k:1", group="k:all") == b"v"


def test_forgotten_scripts_are_sent_again(redis: RedisBackend, redis_server: RedisServer) -> None:
    assert redis.count("n:1", 60) == 1
    redis_server.client.script_flush()
    assert redis.count("n:1", 60) == 2


def test_a_stopped_server_is_unavailable_at_once_and_usable_after_a_restart(
    server: RedisServer, remote: RedisBackend
) -> None:
    """Every operation fails at once while the server is stopped. [P15]"""
    remote.put("k:1", b"v")
    server.stop()
    for use in (
        lambda: remote.get("k:1"),
        lambda: remote.put("k:1", b"canary", Terms(group="k:all")),
        lambda: remote.pop("k:1"),
        lambda: remote.members("k:all"),
        lambda: remote.count("n:1", 60),
        lambda: remote.prune("k:", 60),
        lambda: remote.lock("lock:1", 30).__enter__(),
    ):
        began = time.monotonic()
        with pytest.raises(StoreUnavailable, match="does not answer") as caught:
            use()
        assert caught.value.error == "temporarily_unavailable"
        assert time.monotonic() - began < PROMPT
    server.start()
    assert remote.put("k:1", b"v")


def test_a_server_that_never_answers_is_unavailable_soon() -> None:
    """The socket accepts the connection and stays silent. [P15]"""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        backend = RedisBackend(f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
        began = time.monotonic()
        with pytest.raises(StoreUnavailable, match="does not answer"):
            backend.get("k:1")
        assert time.monotonic() - began < PROMPT
        backend.close()


def test_a_server_that_never_accepts_is_unavailable_soon() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=1) as full:
        # The queue is full, so that another connection gets no response.
        queue = [socket.socket() for _ in range(3)]
        for waiting in queue:
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        backend = RedisBackend(f"redis://127.0.0.1:{full.getsockname()[1]}/0")
        began = time.monotonic()
        with pytest.raises(StoreUnavailable, match="does not answer"):
            backend.get("k:1")
        assert time.monotonic() - began < PROMPT
        backend.close()
        for waiting in queue:
            waiting.close()


def test_a_silent_resolver_is_waited_for_no_longer_than_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """redis-py looks names up without a time limit of its own. [P15, T57]"""
    over, resolve = threading.Event(), socket.getaddrinfo

    def look_up(host: str, *more: Any, **options: Any) -> list[Any]:
        if host == "redis.example.com":
            over.wait(30)
        return list(resolve("127.0.0.1", *more, **options))

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    backend = RedisBackend(f"rediss://redis.example.com:{free_port()}/0")
    began = time.monotonic()
    with pytest.raises(StoreUnavailable, match="does not answer"):
        backend.get("k:1")
    assert time.monotonic() - began < PROMPT
    over.set()


def test_each_address_of_a_server_is_tried(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name stays, because TLS compares it. [T57]"""
    resolve = socket.getaddrinfo

    def look_up(host: str, *more: Any, **options: Any) -> list[Any]:
        names = ["127.0.0.2", "127.0.0.1"] if host == "redis.example.com" else [host]
        return [found for name in names for found in resolve(name, *more, **options)]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    backend = RedisBackend(f"redis://redis.example.com:{server.port}/0")
    assert backend.put("k:1", b"v")
    connection = backend._client.connection_pool.get_connection()
    assert (connection.host, connection.socket_connect_timeout) == ("redis.example.com", 1)
    backend.close()


def test_a_server_that_falls_silent_during_use_is_unavailable_soon(
    server: RedisServer, remote: RedisBackend
) -> None:
    remote.put("k:1", b"v")
    os.kill(server.pid, signal.SIGSTOP)
    began = time.monotonic()
    with pytest.raises(StoreUnavailable, match="does not answer"):
        remote.get("k:1")
    assert time.monotonic() - began < PROMPT
    os.kill(server.pid, signal.SIGCONT)
    assert remote.get("k:1") == b"v"


def test_a_replica_is_unavailable_for_writes_until_it_is_the_primary(
    server: RedisServer, remote: RedisBackend
) -> None:
    """The server answers writes with READONLY. [P15]"""
    remote.put("k:1", b"v")
    server.client.replicaof("127.0.0.1", 1)
    with pytest.raises(StoreUnavailable, match="READONLY"):
        remote.put("k:1", b"w")
    with pytest.raises(StoreUnavailable):
        remote.pop("k:1")
    assert remote.get("k:1") == b"v"
    server.client.replicaof("NO", "ONE")
    assert remote.pop("k:1") == b"v"


def test_reads_go_on_while_a_thread_writes_to_a_replica(server: RedisServer) -> None:
    """Each refused write drops idle connections, and none that a reader uses. [T63]"""
    server.client.set("pywry:k:1", b"v")
    server.client.config_set("repl-diskless-sync-delay", "0")
    with tempfile.TemporaryDirectory() as folder:  # the path of a socket must be short
        replica = RedisServer(Path(folder))
        replica.start("--replicaof", "127.0.0.1", str(server.port))
        while replica.client.get("pywry:k:1") != b"v":
            time.sleep(0.01)
        backend = RedisBackend(replica.url)
        written = threading.Event()

        def act(number: int) -> None:
            if number:
                while not written.is_set():
                    assert backend.get("k:1") == b"v"
            else:
                _write_in_vain(backend)
                written.set()

        together(9, act)
        backend.close()
        replica.client.close()
        replica.stop()


def _write_in_vain(backend: RedisBackend) -> None:
    for _ in range(150):
        with pytest.raises(StoreUnavailable, match="READONLY"):
            backend.put("k:2", b"w")


def test_closing_a_backend_does_not_disturb_a_thread_that_uses_it(redis: RedisBackend) -> None:
    """Only idle connections are closed: each command is sent once. [T63]"""
    done = threading.Event()

    def act(number: int) -> None:
        if number == 0:
            while not done.is_set():
                redis.close()
            return
        try:
            for _ in range(200):
                redis.count("n:1", 600)
        finally:
            done.set()

    together(9, act)
    assert redis.count("n:1", 600) == 8 * 200 + 1


@pytest.mark.parametrize("kind", [OSError, EOFError, ValueError, AttributeError])
def test_a_broken_connection_is_an_outage_for_a_write_and_none_for_a_read(
    redis: RedisBackend, monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    """The read is sent again over a new connection. [T63]"""
    redis.put("k:1", b"v", Terms(group="k:all"))
    _break_next_response(monkeypatch, kind)
    assert redis.get("k:1") == b"v"
    _break_next_response(monkeypatch, kind)
    assert redis.members("k:all") == ["k:1"]
    for write in (lambda: redis.put("k:1", b"w"), lambda: redis.pop("k:2"), lambda: redis.count("n:1", 60)):
        _break_next_response(monkeypatch, kind)
        with pytest.raises(StoreUnavailable, match=f"broke \\({kind.__name__}\\)") as caught:
            write()
        assert "canary" not in f"{caught.value!r}{caught.value.__cause__!r}"
    assert redis.get("k:1") == b"w"


def _break_next_response(monkeypatch: pytest.MonkeyPatch, kind: type[Exception]) -> None:
    def read_response(self: Connection, *args: Any, **options: Any) -> Any:
        original(self, *args, **options)
        monkeypatch.undo()
        raise kind("canary")

    original = Connection.read_response
    monkeypatch.setattr(Connection, "read_response", read_response)
