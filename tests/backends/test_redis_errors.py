"""Redis: each condition has words of its own, without the password, the key and the value."""

from __future__ import annotations

import datetime
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from redis import Redis
from redis.exceptions import (
    AuthenticationError,
    AuthenticationWrongNumberOfArgsError,
    BusyLoadingError,
    ClusterCrossSlotError,
    ClusterDownError,
    ConnectionError,
    InvalidResponse,
    MasterDownError,
    MovedError,
    RedisError,
    ResponseError,
    TimeoutError,
)

from pywry_auth.backends.base import Terms
from pywry_auth.backends.redis import RedisBackend
from pywry_auth.backends.redis_errors import explained
from pywry_auth.exceptions import StoreUnavailable
from pywry_auth.name_lookup import LookupTimedOut
from tests.peers.redis_server import RedisServer
from tests.peers.tls import make_tls_files


def _told(url: str, prefix: str = "pywry") -> str:
    """Return the error of an operation with a group, which has no secret of the URL or the record."""
    backend = RedisBackend(url, prefix=prefix)
    with pytest.raises(StoreUnavailable) as caught:
        backend.put("k:canary", b"canary", Terms(ttl=60, group="k:canary"))
    backend.close()
    assert "canary" not in f"{caught.value!r}{caught.value.__cause__!r}"
    return str(caught.value)


@pytest.fixture
def server(redis_server: RedisServer) -> Iterator[RedisServer]:
    """The shared server; each test restores its settings."""
    redis_server.client.flushall()
    yield redis_server
    redis_server.client.config_set("maxmemory", "0")
    redis_server.client.config_set("min-replicas-to-write", "0")
    redis_server.client.acl_deluser("site")
    redis_server.client.flushall()


def _user(server: RedisServer, *rules: str) -> str:
    """Create a user with some rules, and return its URL."""
    command = ("ACL", "SETUSER", "site", "reset", "on", ">canary", *rules)
    server.client.execute_command(*command)  # type: ignore[no-untyped-call]
    return f"redis://site:canary@127.0.0.1:{server.port}/0"


@pytest.mark.parametrize("lacking", ["-@scripting", "-evalsha", "-zadd", "-select"])
def test_a_missing_permission_for_a_command_is_named_with_the_rules(
    server: RedisServer, lacking: str
) -> None:
    """The commands of scripts count too, and the rules are enough. [S11]"""
    url = _user(server, "~pywry:*", "+@all", lacking).replace("/0", "/1")
    told = _told(url)
    assert "does not permit a command to this user (ACL)" in told
    rules = told.partition("the rules ")[2].rstrip(".").split()
    backend = RedisBackend(_user(server, "~pywry:*", *rules))
    backend.probe()
    assert backend.put("k:1", b"v", Terms(ttl=60, group="k:all"))
    assert (backend.members("k:all"), backend.count("n:1", 60), backend.prune("k:", 99)) == (["k:1"], 1, 1)
    backend.close()


@pytest.mark.parametrize("keys", ["~other:*", "%R~pywry:*"])
def test_a_missing_permission_for_the_keys_is_named_with_the_prefix(server: RedisServer, keys: str) -> None:
    told = _told(_user(server, keys, "+@all"))
    assert "does not permit these keys" in told
    assert "PYWRY_DEPLOY__REDIS_PREFIX" in told


def test_faults_of_a_running_server_are_named(server: RedisServer) -> None:
    """Each names what to change. [S11]"""
    assert "no such database" in _told(server.url.replace("/0", "/99"))
    server.client.rpush("pywry:group:k:canary", "x")
    assert "choose another PYWRY_DEPLOY__REDIS_PREFIX" in _told(server.url)
    server.client.flushall()
    server.client.config_set("min-replicas-to-write", "1")
    assert "min-replicas-to-write" in _told(server.url)
    server.client.config_set("min-replicas-to-write", "0")
    server.client.config_set("maxmemory", "1")
    assert "raise maxmemory" in _told(server.url)


def test_a_refused_password_is_named(server: RedisServer) -> None:
    url = _user(server, "~*", "+@all").replace("canary", "canary%23")
    assert "refused the user or password" in _told(url)


def test_a_missing_password_is_named_with_the_old_protocol(server: RedisServer) -> None:
    """The server refuses long commands before it knows the user. [S11]"""
    with Redis(port=server.port, single_connection_client=True) as client:  # its connection needs no password
        client.config_set("requirepass", "canary")
        try:
            assert "requires a password" in _told(f"{server.url}?protocol=2")
        finally:
            client.config_set("requirepass", "")


def test_used_up_connections_are_named(server: RedisServer) -> None:
    """The server is well. [S11]"""
    backend = RedisBackend(server.url + "?max_connections=1")
    pool = backend._client.connection_pool
    used = pool.get_connection()
    with pytest.raises(StoreUnavailable, match=r"max_connections in .* raise it to the number of threads"):
        backend.get("k:1")
    pool.release(used)
    assert backend.get("k:1") is None
    backend.close()


def test_a_node_of_a_cluster_is_named(tmp_path: Path) -> None:
    """Also by the probe at start-up, although one key by itself could be stored. [S11]"""
    server = RedisServer(tmp_path)
    while server.port > 55_000:  # a node also listens at a port that is higher by 10,000
        server.client.close()
        server = RedisServer(tmp_path)
    server.start("--cluster-enabled", "yes", "--cluster-require-full-coverage", "no")
    try:
        assert "write redis+cluster://HOST:PORT" in _told(server.url)
        backend = RedisBackend(server.url)
        with pytest.raises(StoreUnavailable, match="a node of a cluster"):
            backend.probe()
        backend.close()
    finally:
        server.client.close()
        server.stop()


@pytest.mark.parametrize(
    ("query", "words", "days", "host"),
    [
        ("", "add the option ssl_ca_certs=", 1, ""),
        ("?ssl_ca_certs={ca}", "has expired: renew it", -1, ""),
        ("?ssl_ca_certs={ca}", "is for another host", 1, "other.example.com"),
    ],
)
def test_a_refused_certificate_is_named(tmp_path: Path, query: str, words: str, days: int, host: str) -> None:
    """An unknown authority, an expired certificate and another host differ. [S11]"""
    begins = datetime.timedelta(days=-2)
    files = make_tls_files(tmp_path, begins=begins, ends=datetime.timedelta(days=days), host=host)
    server = RedisServer(tmp_path)
    names = ["--tls-cert-file", str(files.cert), "--tls-key-file", str(files.key)]
    server.start("--port", "0", "--tls-port", str(server.port), *names, "--tls-auth-clients", "no")
    try:
        url = f"rediss://127.0.0.1:{server.port}/0{query.format(ca=files.ca)}"
        assert words in _told(url)
    finally:
        server.client.close()
        server.stop()


def test_no_password_of_a_private_key_is_asked_for(tmp_path: Path) -> None:
    """OpenSSL would wait for an input at the terminal, without a limit. [S11]"""
    files = make_tls_files(tmp_path)
    name = tmp_path / "encrypted.pem"
    key = load_pem_private_key(files.key.read_bytes(), None)
    name.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"canary")))
    server = RedisServer(tmp_path)
    names = ["--tls-cert-file", str(files.cert), "--tls-key-file", str(files.key)]
    server.start("--port", "0", "--tls-port", str(server.port), *names, "--tls-auth-clients", "no")
    try:
        query = f"ssl_ca_certs={files.ca}&ssl_certfile={files.cert}&ssl_keyfile={name}"
        url = f"rediss://127.0.0.1:{server.port}/0?{query}"
        assert "its password (ssl_password)" in _told(url)
        backend = RedisBackend(f"{url}&ssl_password=canary")
        backend.probe()
        backend.close()
    finally:
        server.client.close()
        server.stop()


def _certificate(code: int) -> ssl.SSLError:
    error = ssl.SSLCertVerificationError("canary")
    error.verify_code = code
    return error


def _tls(reason: str) -> ssl.SSLError:
    error = ssl.SSLError("canary")
    error.reason = reason
    return error


def _below(cause: Exception, kind: Callable[[str], RedisError] = ConnectionError) -> RedisError:
    """Return an error of redis-py that was raised while another one was handled."""
    error = kind("Error 1 connecting to canary:6379. canary")
    error.__context__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "scheme", "words"),
    [
        (_below(_certificate(9)), "rediss", "is not yet valid: check this machine's clock"),
        (_below(_certificate(62)), "rediss", "for another host: correct the host"),
        (_below(_tls("WRONG_VERSION_NUMBER")), "rediss", "does not speak TLS at this port"),
        (_below(_tls("TLSV13_ALERT_CERTIFICATE_REQUIRED")), "rediss", "ssl_certfile= and ssl_keyfile="),
        (_below(_tls("SSLV3_ALERT_UNSUPPORTED_CERTIFICATE")), "rediss", "tls-auth-clients no"),
        (_below(_tls("KEY_VALUES_MISMATCH")), "rediss", "a file that"),
        (_below(ssl.SSLError(9, "[SSL] PEM lib (_ssl.c:3926)")), "rediss", "a file that"),
        (UnicodeError("canary"), "redis", "the host of Redis is not known"),
        (TypeError("canary"), "rediss", "the connection to Redis broke (TypeError)"),
        (_below(ssl.SSLError("canary")), "rediss", "the TLS connection to Redis failed"),
        (_below(FileNotFoundError(2, "canary")), "rediss", "a file that"),
        (_below(FileNotFoundError(2, "canary")), "unix", "the socket of Redis does not exist"),
        (_below(PermissionError(13, "canary")), "unix", "unixsocketperm"),
        (_below(ConnectionRefusedError(111, "canary")), "unix", "no server listens at its socket"),
        (_below(ConnectionRefusedError(111, "canary")), "redis", "no server listens at this host and port"),
        (_below(socket.gaierror(-2, "canary")), "redis", "the host of Redis is not known"),
        (_below(LookupTimedOut("canary"), TimeoutError), "redis", "could not be looked up in time"),
        (_below(OSError(113, "canary")), "redis", "cannot be reached: check the network"),
        (_below(TimeoutError("canary"), TimeoutError), "redis", "does not answer in time"),
        (TimeoutError("canary"), "rediss", "if the server does not speak TLS, write redis://"),
        (ConnectionError("Connection closed by server."), "redis", "if it expects TLS, write rediss://"),
        (_below(ConnectionResetError(104, "canary")), "redis", "if it expects TLS, write rediss://"),
        (ConnectionError("Too many connections"), "redis", "max_connections"),
        (ConnectionError("max number of clients reached"), "redis", "raise maxclients"),
        (BusyLoadingError("canary"), "redis", "still loading its data"),
        (InvalidResponse("canary"), "redis", "is not Redis: correct host and port"),
        (MasterDownError("canary"), "redis", "a replica without its primary"),
        (ClusterDownError("canary"), "redis", "a node of a cluster"),
        (ClusterCrossSlotError("canary"), "redis", "a node of a cluster"),
        (MovedError("3999 127.0.0.1:6381"), "redis", "a node of a cluster"),
        (ResponseError("SELECT is not allowed in cluster mode"), "redis", "no such database"),
        (ResponseError("MISCONF canary"), "redis", "cannot save its data"),
        (ResponseError("DENIED canary"), "redis", "protected mode"),
        (ResponseError("ACL failure in script: canary"), "redis", "(ACL)"),
        (ResponseError("BUSY canary"), "redis", "SCRIPT KILL"),
        (ResponseError("unknown command 'EVALSHA', with args: canary"), "redis", "does not know a command"),
        (AuthenticationError("AUTH <password> called without canary"), "redis", "has no password"),
        (AuthenticationError("Client sent AUTH, canary"), "redis", "has no password"),
        (AuthenticationError("Authentication required."), "redis", "requires a password"),
        (ResponseError("Protocol error: unauthenticated bulk length"), "redis", "requires a password"),
        (AuthenticationWrongNumberOfArgsError("canary"), "redis", "older than 6.0"),
        (ResponseError("canary"), "redis", "refused a command (ResponseError)"),
    ],
)
def test_conditions_are_told_apart_without_words_of_the_server(
    error: Exception, scheme: str, words: str
) -> None:
    """The classes and codes are those of redis-py 5 and later. [S11]"""
    told = explained(error, scheme)
    assert words.lower() in told.lower()
    assert "canary" not in told
    assert told.endswith(".")
