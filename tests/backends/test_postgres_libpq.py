"""PostgreSQL with the libpq of the system, which may be older than that of ``psycopg[binary]``."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping

import pytest
from psycopg.conninfo import make_conninfo

from pywry_auth.backends.postgres import PostgresBackend
from pywry_auth.backends.postgres_connections import Connector
from pywry_auth.backends.postgres_libpq import known_options, newer_than_libpq
from pywry_auth.exceptions import StoreUnavailable
from pywry_auth.postgres_url import postgres_url
from tests.documents import ROOT
from tests.peers.postgres_server import PostgresServer

# The options of libpq 12, as far as a URL of this package may have them.
_OLD = frozenset({"application_name", "options", "target_session_attrs", "sslmode", "sslrootcert", "sslcert"})

_USE = """
import sys
from psycopg import pq
from pywry_auth.backends.base import Terms
from pywry_auth.backends.postgres import PostgresBackend

backend = PostgresBackend(sys.argv[1])
backend.put("k:system", b"v", Terms(ttl=60))
with backend.lock("lock:system", 5):
    print(pq.__impl__, backend.pop("k:system"))
backend.close()
"""


def _run(code: str, *arguments: str, environ: Mapping[str, str] = {}) -> str:
    command = [sys.executable, "-c", code, *arguments]
    variables = {**os.environ, **environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_libpq_of_the_system_serves(postgres_server: PostgresServer) -> None:
    """``pip install '.[postgres]'`` uses it: on Debian 12, it is libpq 15. [S3, S11]"""
    assert _run(_USE, postgres_server.url, environ={"PSYCOPG_IMPL": "python"}) == "python b'v'\n"


def test_a_default_that_libpq_does_not_know_is_left_out(
    postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    older, given = known_options() - {"load_balance_hosts", "gssencmode"}, []

    def noted(**parameters: str) -> str:
        given.append(parameters.keys())
        return make_conninfo(**parameters)

    monkeypatch.setattr("pywry_auth.backends.postgres_connections.known_options", lambda: older)
    monkeypatch.setattr("pywry_auth.backends.postgres_connections.make_conninfo", noted)
    Connector(postgres_url(postgres_server.url))(time.monotonic() + 10).close()
    assert len(given) == 1
    assert given[0] <= older
    assert {"sslmode", "client_encoding"} <= given[0]


@pytest.mark.parametrize(
    ("query", "version", "told"),
    [
        ("load_balance_hosts=random", 15, "load_balance_hosts is newer than libpq 15"),
        ("require_auth=scram-sha-256", 15, "require_auth is newer than libpq 15"),
        ("sslnegotiation=direct&sslmode=verify-full", 16, "sslnegotiation is newer than libpq 16"),
        ("sslmode=verify-full&sslrootcert=system", 15, "sslrootcert=system is newer than libpq 15"),
        ("target_session_attrs=primary", 13, "target_session_attrs=primary is newer than libpq 13"),
        ("sslmode=verify-full&sslrootcert=/etc/ca.pem", 12, ""),
        ("sslmode=verify-full&sslrootcert=system", 16, ""),
    ],
)
def test_an_option_that_libpq_does_not_know_is_named(query: str, version: int, told: str) -> None:
    """libpq would refuse the connection, and the log of the server would say nothing. [S11]"""
    address = postgres_url(f"postgresql://site:canary@db/site?{query}")
    fault = newer_than_libpq(address.parameters, _OLD, version)
    assert told in fault
    assert bool(told) == ("pip install 'psycopg[binary]'" in fault)


def test_a_url_with_such_an_option_is_refused_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pywry_auth.backends.postgres.known_options", lambda: _OLD)
    monkeypatch.setattr("pywry_auth.backends.postgres.libpq_version", lambda: 15)
    with pytest.raises(ValueError, match=r"PYWRY_DEPLOY__POSTGRES_URL.*require_auth is newer") as caught:
        PostgresBackend("postgresql://site:canary@db/site?require_auth=scram-sha-256")
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("variable", ["PGSSLMINPROTOCOLVERSION", "PGCHANNELBINDING"])
def test_a_value_that_libpq_refuses_is_no_matter_of_the_server(
    postgres_server: PostgresServer, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its log has no line of it."""
    monkeypatch.setenv(variable, "canary")
    backend = PostgresBackend(postgres_server.url)
    with pytest.raises(StoreUnavailable, match=r"Libpq .* refuses an option of the connection") as caught:
        backend.get("k:1")
    assert "canary" not in str(caught.value)
