"""PostgreSQL: servers that are down, silent, restarted, full or replaced."""

from __future__ import annotations

import os
import pwd
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import psycopg
import pytest

from pywry_auth.backends.base import Backend, Terms, When
from pywry_auth.backends.postgres import PostgresBackend
from pywry_auth.backends.postgres_connections import TimedConnection
from pywry_auth.exceptions import StoreUnavailable
from tests.backends.threads import together
from tests.peers.postgres_server import PostgresServer
from tests.peers.tls import TLSFiles
from tests.protocol.servers import free_port
from tests.waiting import eventually

PROMPT = 10
"""Seconds; generous for a busy machine. By default, libpq waits for minutes, and psycopg forever."""

_OUTAGE = 30 if os.environ.get("SOAK") else 1

_USES: tuple[Callable[[Backend], object], ...] = (
    lambda backend: backend.get("k:1"),
    lambda backend: backend.put("k:1", b"canary", Terms(group="k:all")),
    lambda backend: backend.put("k:1", b"canary", Terms(group="k:all", limit=3)),
    lambda backend: backend.pop("k:1"),
    lambda backend: backend.members("k:all"),
    lambda backend: list(backend.keys("k:")),
    lambda backend: backend.count("n:1", 60),
    lambda backend: backend.prune("k:", 60),
    lambda backend: backend.lock("lock:1", 30).__enter__(),
)


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """A server that a test can kill or silence."""
    with PostgresServer() as server:
        yield server


@pytest.fixture
def remote(server: PostgresServer) -> Iterator[PostgresBackend]:
    backend = PostgresBackend(server.url)
    yield backend
    backend.close()


def _fails(use: Callable[[], object], told: str) -> None:
    """Check that an operation fails soon, with words and without a value."""
    began = time.monotonic()
    with pytest.raises(StoreUnavailable, match=told) as caught:
        use()
    assert time.monotonic() - began < PROMPT
    assert caught.value.error == "temporarily_unavailable"
    assert "canary" not in f"{caught.value!r}{caught.value.__cause__!r}{caught.value.__context__!r}"


def test_a_restart_between_two_calls_raises_no_error(server: PostgresServer, remote: PostgresBackend) -> None:
    """Idle connections that ended are replaced before use. [S11]"""
    remote.put("k:1", b"v", Terms(group="k:all"))
    server.kill()
    server.start()
    assert remote.pop("k:1", group="k:all") == b"v"
    server.shut_down()
    server.start()
    assert remote.put("k:1", b"v", Terms(ttl=60, group="k:all", when=When.ABSENT))
    with remote.lock("lock:1", 0):
        assert remote.members("k:all") == ["k:1"]


def test_acknowledged_records_survive_the_death_of_the_server(
    server: PostgresServer, remote: PostgresBackend
) -> None:
    """Eight threads write until the server is killed. [T63]"""
    written: list[set[str]] = [set() for _ in range(8)]
    killed = threading.Event()

    def write(number: int) -> None:
        if number == 8:
            assert eventually(lambda: all(len(keys) > 5 for keys in written))
            server.kill()
            killed.set()
            return
        for turn in range(10_000):
            try:
                remote.put(f"k:{number}:{turn}", b"v")
            except StoreUnavailable:
                assert killed.wait(PROMPT)
                return
            written[number].add(f"k:{number}:{turn}")

    together(9, write)
    server.start()
    assert set().union(*written) <= set(remote.keys("k:"))


def test_a_dead_server_is_unavailable_at_once_and_usable_after_a_restart(
    server: PostgresServer, remote: PostgresBackend
) -> None:
    """Every operation fails at once while the server is down. [P15]"""
    remote.put("k:1", b"v")
    server.kill()
    for use in _USES:
        _fails(lambda use=use: use(remote), "no server listens there")  # type: ignore[misc]
    server.start()
    assert remote.put("k:1", b"v")


def test_the_pool_recovers_at_once_after_an_outage(server: PostgresServer, remote: PostgresBackend) -> None:
    """However long the outage was: nothing waits for a later attempt. [T63, P15]"""
    remote.put("k:1", b"v")
    server.kill()
    ends = time.monotonic() + _OUTAGE
    while time.monotonic() < ends:
        together(16, lambda _: _fails(lambda: remote.get("k:1"), "no server listens there"))
    server.start()
    began = time.monotonic()
    assert together(16, lambda _: remote.get("k:1")) == [b"v"] * 16
    taken = time.monotonic() - began
    print(f"after {_OUTAGE} s, 16 threads read in {taken:.2f} s")
    assert taken < PROMPT


def test_a_server_that_falls_silent_during_use_is_unavailable_soon(
    server: PostgresServer, remote: PostgresBackend
) -> None:
    """All threads fail within the limit, those that wait for a connection too. [P15]"""
    remote.put("k:1", b"v")
    with remote.lock("lock:0", 0):
        pass
    server.stop()
    began = time.monotonic()
    together(24, lambda number: _fails(lambda: _USES[number % len(_USES)](remote), "in time|in use"))
    assert time.monotonic() - began < PROMPT
    server.go_on()
    assert remote.get("k:1") is not None
    assert remote.put("k:2", b"v")


def test_a_server_that_is_silent_in_any_phase_is_unavailable_soon(server: PostgresServer) -> None:
    """It never accepts, or is silent before, within or after TLS, or at the authentication. [P15]"""
    server.stop()  # the system accepts the connection, and no process answers
    urls = [server.url]
    with ExitStack() as open_sockets:
        for sent in (b"", b"S", b"N", b"R\0\0\0\x0c\0\0\0"):
            port = open_sockets.enter_context(_answering(sent))
            urls += [
                f"postgresql://u:canary@127.0.0.1:{port}/site{rest}" for rest in ("", "?sslmode=require")
            ]
        full = open_sockets.enter_context(socket.create_server(("127.0.0.1", 0), backlog=1))
        # The queue is full, so that another connection gets no response.
        for _ in range(3):
            waiting = open_sockets.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        urls.append(f"postgresql://u@127.0.0.1:{full.getsockname()[1]}/site")
        backends = [PostgresBackend(url) for url in urls]
        told = "does not answer in time|does not speak TLS|is not PostgreSQL"
        together(len(urls), lambda number: _fails(lambda: backends[number].get("k:1"), told))
    server.go_on()
    assert backends[0].get("k:1") is None
    backends[0].close()


@contextmanager
def _answering(sent: bytes) -> Iterator[int]:
    """Answer each connection with some bytes, and be silent then; return the port."""
    clients: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    clients.append(listening.accept()[0])
                    clients[-1].recv(1024)
                    clients[-1].sendall(sent)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()
            for client in clients:
                client.close()


@pytest.mark.parametrize("state", [b"", b"K\0\0\0\x0c\0\0\0\1\0\0\0\1Z\0\0\0\5I"], ids=["sign-in", "query"])
def test_a_server_that_sends_without_end_is_given_up(state: bytes) -> None:
    """Its notices are no answer. [P15]"""
    notice = b"N\0\0\0\x14SNOTICE\0C00000\0\0"
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with suppress(OSError), listening.accept()[0] as client:
                client.recv(1024)
                client.sendall(b"R\0\0\0\x08\0\0\0\0" + state)
                if state:
                    client.recv(1024)
                ends = time.monotonic() + 2 * PROMPT
                while time.monotonic() < ends:
                    client.sendall(notice * 200)

        thread = threading.Thread(target=serve)
        thread.start()
        url = f"postgresql://u:canary@127.0.0.1:{listening.getsockname()[1]}/site?sslmode=disable"
        _fails(lambda: PostgresBackend(url).get("k:1"), "in time")
        thread.join()


def test_a_silent_resolver_is_waited_for_no_longer_than_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """psycopg and libpq look names up without a time limit. [P15, T57]"""
    over, resolve = threading.Event(), socket.getaddrinfo

    def look_up(host: str, *more: Any, **options: Any) -> list[Any]:
        if host == "db.example.com":
            over.wait(30)
        return list(resolve("127.0.0.1", *more, **options))

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    backend = PostgresBackend(f"postgresql://u:canary@db.example.com:{free_port()}/site")
    _fails(lambda: backend.get("k:1"), "could not be looked up in time")
    over.set()
    backend.close()


def test_each_address_of_a_host_is_tried(
    postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one refuses. [T57]"""
    resolve = socket.getaddrinfo

    def look_up(host: str, *more: Any, **options: Any) -> list[Any]:
        names = ["127.0.0.2", "127.0.0.1"] if host == "db.example.com" else [host]
        return [found for name in names for found in resolve(name, *more, **options)]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    backend = PostgresBackend(postgres_server.url.replace("127.0.0.1", "db.example.com"))
    assert backend.put("k:1", b"v")
    backend.close()


def test_a_record_in_use_is_waited_for_no_longer_than_the_limit(
    postgres: PostgresBackend, postgres_server: PostgresServer
) -> None:
    """Another program, such as a backup, has a lock on the table. [P15]"""
    postgres.put("k:1", b"v")
    with psycopg.connect(postgres_server.url) as holder:
        holder.execute("LOCK TABLE pywry_auth_records")
        _fails(lambda: postgres.put("k:1", b"canary"), "too busy")
    assert postgres.put("k:1", b"v")


def test_sessions_that_an_administrator_ends_raise_no_error(
    postgres: PostgresBackend, postgres_server: PostgresServer
) -> None:
    """The server says that it undid the statement, which is sent again. [T63]"""
    done, reads = threading.Event(), [0] * 4

    def act(number: int) -> int:
        if number == 0:
            for _ in range(5):
                before = reads.copy()
                assert eventually(lambda before=before: _all_went_on(before, reads))  # type: ignore[misc]
                postgres_server.admin(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE application_name = 'pywry_auth' AND wait_event = 'ClientRead'"
                )
            done.set()
            return 0
        while not done.is_set():
            assert postgres.get("k:missing") is None
            reads[number - 1] += 1
        return 0

    assert together(5, act) == [0] * 5


def _all_went_on(before: list[int], now: list[int]) -> bool:
    return all(count > earlier + 3 for earlier, count in zip(before, now, strict=True))


def test_an_interrupt_leaves_no_connection_in_an_unknown_state(
    postgres: PostgresBackend, postgres_server: PostgresServer
) -> None:
    """Control-C arrives while a statement waits. The next one does not get its answer."""
    postgres.put("k:1", b"v")
    with psycopg.connect(postgres_server.url) as holder:
        holder.execute("LOCK TABLE pywry_auth_records")
        timer = threading.Timer(0.2, signal.raise_signal, [signal.SIGINT])
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            postgres.get("k:1")
        timer.join()
    assert postgres.get("k:missing") is None
    assert postgres.get("k:1") == b"v"


@pytest.mark.parametrize("check", [1, 2], ids=["before use", "after use"])
def test_an_interrupted_check_of_a_connection_keeps_no_place(
    postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch, check: int
) -> None:
    """A time-out of gevent arrives while a connection is checked. The next use gets its place. [P15]"""
    backend = PostgresBackend(f"{postgres_server.url}?max_connections=1")
    backend.put("k:1", b"v")
    calls, is_usable = [], TimedConnection.is_usable

    def interrupted(connection: TimedConnection) -> bool:
        calls.append(connection)
        if len(calls) == check:
            raise KeyboardInterrupt
        return is_usable(connection)

    monkeypatch.setattr(TimedConnection, "is_usable", interrupted)
    with pytest.raises(KeyboardInterrupt):
        backend.get("k:1")
    assert backend.get("k:1") == b"v"
    assert calls[check - 1].closed
    backend.close()


@pytest.fixture
def pair(server: PostgresServer) -> Iterator[tuple[PostgresServer, PostgresServer, PostgresBackend]]:
    """A primary, its standby, and a backend that knows both."""
    with PostgresServer(standby_of=server) as standby:
        server.admin("ALTER SYSTEM SET synchronous_standby_names = '*'")
        server.admin("SELECT pg_reload_conf()")
        url = f"postgresql://site:site%20password@127.0.0.1:{standby.port},127.0.0.1:{server.port}/site"
        backend = PostgresBackend(url)
        yield server, standby, backend
        backend.close()


def test_a_standby_takes_over(pair: tuple[PostgresServer, PostgresServer, PostgresBackend]) -> None:
    """The URL names both, and the one that accepts writes is found. [T63]"""
    primary, standby, backend = pair
    assert backend.put("k:1", b"v")
    with backend.lock("lock:1", 0) as lease:
        primary.kill()
        assert eventually(lambda: lease.left() == 0)
    _fails(lambda: backend.put("k:2", b"canary"), "standby")
    standby.promote()
    assert backend.get("k:1") == b"v"
    assert backend.put("k:2", b"v")
    with backend.lock("lock:1", 0) as lease:
        assert lease.left() > 0


def test_a_standby_takes_over_from_a_silent_primary(
    pair: tuple[PostgresServer, PostgresServer, PostgresBackend],
) -> None:
    """Not every idle connection to the old primary costs a request. [T63]"""
    primary, standby, backend = pair
    meeting, failed = threading.Barrier(6, timeout=30), 0

    def use(_: int) -> None:
        with backend._pool().connection(time.monotonic() + PROMPT):
            meeting.wait()

    together(6, use)
    primary.stop()
    standby.promote()
    while not _is_stored(backend):
        failed += 1
        assert failed <= 3  # one at the old primary; more if the machine is busy


def _is_stored(backend: PostgresBackend) -> bool:
    try:
        return backend.put("k:1", b"v")
    except StoreUnavailable:
        return False


def test_a_server_that_became_a_standby_is_left(server: PostgresServer) -> None:
    """It refuses to write, and its connections are dropped. [T63]"""
    server.admin("ALTER DATABASE site SET default_transaction_read_only = on", database="postgres")
    backend = PostgresBackend(server.url)
    _fails(lambda: backend.put("k:1", b"canary"), "refuses to write")
    server.admin("ALTER DATABASE site SET default_transaction_read_only = off", database="postgres")
    assert backend.put("k:1", b"v")
    backend.close()


def test_a_tls_server_is_trusted_only_with_its_certificate_authority(tls_files: TLSFiles) -> None:
    files = {"ssl_cert_file": tls_files.cert.read_bytes(), "ssl_key_file": tls_files.key.read_bytes()}
    with PostgresServer({"ssl": "on"}, private=files) as server:
        trusting = PostgresBackend(f"{server.url}?sslmode=verify-full&sslrootcert={tls_files.ca}")
        doubting = PostgresBackend(f"{server.url}?sslmode=verify-full&sslrootcert=system")
        assert trusting.put("k:1", b"v")
        assert server.admin("SELECT count(*) > 0 FROM pg_stat_ssl WHERE ssl") == [(True,)]
        _fails(lambda: doubting.get("k:1"), "sslrootcert")
        trusting.close()
        doubting.close()


def test_a_url_can_name_a_socket(postgres_server: PostgresServer) -> None:
    backend = PostgresBackend(postgres_server.socket_url)
    assert backend.put("k:1", b"v")
    backend.close()


def test_the_environment_does_not_change_the_connection(
    postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The URL says all of it but secrets. [S3]"""
    names = ("PGHOST", "PGHOSTADDR", "PGPORT", "PGDATABASE", "PGUSER", "PGOPTIONS", "PGAPPNAME")
    for name in (*names, "PGSSLMODE", "PGTARGETSESSIONATTRS", "PGCONNECT_TIMEOUT", "PGCLIENTENCODING"):
        monkeypatch.setenv(name, "canary")
    backend = PostgresBackend(postgres_server.url)
    assert backend.put("k:1", b"v")
    backend.close()


def test_a_url_without_a_user_means_the_user_of_the_system(
    postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if the environment names another one. [S3]"""
    monkeypatch.setenv("PGUSER", "canary")
    name = pwd.getpwuid(os.geteuid()).pw_name
    postgres_server.admin(f'CREATE ROLE "{name}" LOGIN')
    try:
        backend = PostgresBackend(postgres_server.socket_url.replace("site@", ""))
        assert backend._rows("SELECT current_user::text", {}) == [(name,)]
        backend.close()
    finally:
        postgres_server.admin(f'DROP ROLE "{name}"')
