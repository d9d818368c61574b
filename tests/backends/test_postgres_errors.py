"""PostgreSQL: each condition has words of its own, without the password, the key and the value."""

from __future__ import annotations

import datetime
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from psycopg import Error, errors

from pywry_auth.backends.base import Terms
from pywry_auth.backends.postgres import PostgresBackend
from pywry_auth.backends.postgres_connections import NotConnected
from pywry_auth.backends.postgres_errors import explained
from pywry_auth.exceptions import StoreUnavailable
from tests.documents import ROOT
from tests.peers.postgres_pooler import Pooler
from tests.peers.postgres_server import PostgresServer
from tests.peers.tls import make_tls_files


def _told(url: str) -> str:
    """Return the error of an operation with a group, which has no secret of the URL or the record."""
    backend = PostgresBackend(url)
    with pytest.raises(StoreUnavailable) as caught:
        backend.put("k:canary", b"canary", Terms(ttl=60, group="k:canary"))
    backend.close()
    assert "canary" not in f"{caught.value!r}{caught.value.__cause__!r}{caught.value.__context__!r}"
    return str(caught.value)


def _url(server: PostgresServer, login: str = "site:site%20password", rest: str = "site") -> str:
    return f"postgresql://{login}@127.0.0.1:{server.port}/{rest}"


@pytest.fixture
def server(postgres_server: PostgresServer) -> Iterator[PostgresServer]:
    """The shared server; each test restores it."""
    yield postgres_server
    postgres_server.admin("DROP TABLE IF EXISTS pywry_auth_records")
    postgres_server.admin("ALTER ROLE site LOGIN CONNECTION LIMIT -1")


@pytest.mark.parametrize(
    ("login", "rest", "told"),
    [
        ("site:canary", "site", "refused the user or password"),
        ("canary:canary", "site", "refused the user or password"),
        ("site", "site", "requires a password"),
        ("site:site%20password", "canary", "no such database"),
        ("site:site%20password", "site?sslmode=require", "does not speak TLS"),
        ("site:site%20password", "site?options=-ccanary=1", "refuses a parameter"),
        ("site:site%20password", "site?require_auth=md5", "correct require_auth"),
    ],
)
def test_a_refused_connection_is_explained(
    server: PostgresServer, login: str, rest: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The text names the setting to correct. [S11]"""
    monkeypatch.delenv("PGPASSWORD", raising=False)
    words = _told(_url(server, login, rest))
    assert told in words
    assert "PYWRY_DEPLOY__POSTGRES_URL" in words


def test_a_role_that_must_not_sign_in_is_named(server: PostgresServer) -> None:
    server.admin("ALTER ROLE site NOLOGIN")
    assert "must not sign in" in _told(server.url)


def test_too_many_connections_are_named(server: PostgresServer) -> None:
    server.admin("ALTER ROLE site CONNECTION LIMIT 0")
    assert "serves as many clients as it may" in _told(server.url)


def test_a_missing_line_in_the_rules_is_named(server: PostgresServer) -> None:
    """The rules of the tests' server name only 127.0.0.1 and passwords."""
    failure = 'FATAL:  no pg_hba.conf entry for host "10.0.0.1", user "u", database "d", no encryption'
    assert "without TLS" in explained(NotConnected([failure]))
    assert "add a line to pg_hba.conf" in explained(NotConnected([failure.removesuffix(", no encryption")]))
    assert server.admin("SELECT 1") == [(1,)]


def test_a_role_that_may_not_create_the_table_is_told_how_to_get_it(server: PostgresServer) -> None:
    """With the table of the documentation, the same role works. [S11]"""
    server.admin("DROP TABLE IF EXISTS pywry_auth_records")
    server.admin("CREATE ROLE guest LOGIN PASSWORD 'guest'")
    try:
        words = _told(_url(server, "guest:guest"))
        assert "may not create it" in words
        assert "GRANT USAGE ON SCHEMA" in words  # the same error means that it may not look there
        backend = PostgresBackend(server.url)
        backend.probe()  # the owner creates it
        backend.close()
        denied = _told(_url(server, "guest:guest"))
        assert "GRANT SELECT, INSERT, UPDATE, DELETE" in denied
        grant = denied.partition(": ")[2].partition(" TO ")[0]
        server.admin(f"{grant} TO guest")
        guest = PostgresBackend(_url(server, "guest:guest"))
        guest.probe()
        assert guest.put("k:1", b"v", Terms(ttl=60, group="k:all", limit=3))
        assert (guest.members("k:all"), guest.count("n:1", 60), guest.prune("k:", 99)) == (["k:1"], 1, 1)
        guest.close()
    finally:
        server.admin("DROP TABLE IF EXISTS pywry_auth_records")
        server.admin("DROP ROLE guest")


def test_a_pooler_that_ignores_the_schema_is_refused(server: PostgresServer) -> None:
    """The site would create another table where other roles may write. [S11, T63]"""
    server.admin("CREATE SCHEMA auth AUTHORIZATION site")
    tables = "SELECT schemaname FROM pg_tables WHERE tablename = 'pywry_auth_records'"
    try:
        for ignores in (True, False):
            with Pooler(server.port, ignores_options=ignores) as pooler:
                url = f"postgresql://site:site%20password@127.0.0.1:{pooler.port}/site?options=-csearch_path=auth"
                if ignores:
                    assert "ALTER ROLE site SET search_path" in _told(url)
                    assert server.admin(tables) == []
                else:
                    backend = PostgresBackend(url)
                    assert backend.put("k:1", b"v")
                    backend.close()
                    assert server.admin(tables) == [("auth",)]
    finally:
        server.admin("DROP SCHEMA auth CASCADE")


@pytest.mark.parametrize(
    "columns",
    [
        "key text PRIMARY KEY",
        "key bytea, whole_key bytea, value bytea, member_of bytea, expires timestamptz",
        "key bytea PRIMARY KEY, whole_key bytea, value bytea, member_of bytea, expires bigint",
    ],
)
def test_a_table_of_another_shape_is_named(server: PostgresServer, columns: str) -> None:
    server.admin("DROP TABLE IF EXISTS pywry_auth_records")
    server.admin(f"CREATE TABLE pywry_auth_records ({columns})")
    server.admin("ALTER TABLE pywry_auth_records OWNER TO site")
    assert "has another shape" in _told(server.url)


def test_a_certificate_that_is_not_valid_is_named(tmp_path: Path) -> None:
    """It is for another host, or has expired, or is from another authority."""
    for folder in ("other", "expired", "unknown"):
        (tmp_path / folder).mkdir()
    past = datetime.timedelta(days=-2)
    other = make_tls_files(tmp_path / "other", host="other.example.com")
    expired = make_tls_files(tmp_path / "expired", begins=2 * past, ends=past)
    unknown = make_tls_files(tmp_path / "unknown")
    for files, ca, told in (
        (other, other.ca, "is for another host"),
        (expired, expired.ca, "has expired"),
        (unknown, other.ca, "not trusted"),
        (unknown, tmp_path / "missing.pem", "not trusted"),
    ):
        private = {"ssl_cert_file": files.cert.read_bytes(), "ssl_key_file": files.key.read_bytes()}
        with PostgresServer({"ssl": "on"}, private=private) as server:
            words = _told(f"{server.url}?sslmode=verify-full&sslrootcert={ca}")
            assert told in words


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"-ERR unknown command\r\n", b""])
def test_another_server_at_the_port_is_told(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        other.settimeout(30)

        def serve() -> None:
            client, _ = other.accept()
            client.recv(1024)
            client.sendall(answer)
            client.close()

        thread = threading.Thread(target=serve)
        thread.start()
        words = _told(f"postgresql://u:canary@127.0.0.1:{other.getsockname()[1]}/site?sslmode=disable")
        thread.join(30)
    assert ("is not PostgreSQL" in words) or ("ended the connection" in words)


def test_an_unknown_host_and_a_missing_socket_are_named(tmp_path: Path) -> None:
    assert "host of PostgreSQL is not known" in _told("postgresql://u:canary@none.invalid/site")
    assert "host of PostgreSQL is not known" in _told(f"postgresql://u:canary@{'a' * 64}.invalid/site")
    assert "no server listens there" in _told(f"postgresql://u:canary@/site?host={tmp_path}")


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("53100", "disk of PostgreSQL is full"),
        ("53200", "no memory left"),
        ("53300", "as many clients as it may"),
        ("57P03", "starting or shutting down"),
        ("25006", "refuses to write"),
        ("55P03", "too busy"),
        ("58030", "cannot read or write its files"),
        ("XX001", r"refused a statement \(XX001\)"),
    ],
)
def test_the_code_of_a_statement_decides(code: str, told: str) -> None:
    """The words of the server are in its own language, and may quote values."""

    class Refused(Error):
        sqlstate = code

    with pytest.raises(StoreUnavailable, match=told) as caught:
        raise StoreUnavailable(explained(Refused("canary")))
    assert "canary" not in str(caught.value)


def test_of_several_hosts_the_failure_that_says_most_is_told() -> None:
    """A host that is down or a standby is expected among several."""
    refused = 'connection to server at "10.0.0.1", port 5432 failed: Connection refused'
    standby = "connection failed: session is read-only"
    password = 'FATAL:  password authentication failed for user "u"'
    assert "refused the user or password" in explained(NotConnected([refused, password, standby]))
    assert "standby" in explained(NotConnected([standby, refused]))
    assert "no server listens" in explained(NotConnected([refused]))
    assert "did not accept the connection" in explained(NotConnected(["FATAL:  認証に失敗しました"]))
    assert isinstance(NotConnected([]), errors.OperationalError)


@pytest.mark.parametrize(
    ("hidden", "told"),
    [
        ("sys.modules['psycopg'] = None", "pip install 'pywry-auth[postgres]'"),
        ("ctypes.util.find_library = lambda name: None", "pip install 'psycopg[binary]'"),
    ],
)
def test_a_missing_package_is_told_from_a_missing_library(hidden: str, told: str) -> None:
    """Slim images of containers have no libpq. The command that is named helps. [S11]"""
    code = (
        f"import sys, ctypes.util\n{hidden}\nfrom pywry_auth.state import PostgresSessionStore\n"
        "try:\n    PostgresSessionStore('postgresql://u:p@h/d')\n"
        "except ImportError as error:\n    print(error)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={**os.environ, "PSYCOPG_IMPL": "python"},
    )
    assert told in run.stdout


def test_the_image_of_a_site_can_use_postgres() -> None:
    """Its base has no libpq. [S11]"""
    assert "'psycopg[binary]" in (ROOT / "examples/deploy/container/Dockerfile").read_text()
