"""The PostgreSQL server of the site, with its faults."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from tests.peers.postgres_server import PostgresServer
from tests.soak.places import EVERY, Inject, repeat

_TABLE = "pywry_auth_records"
_SLOW_SECONDS = 0.25
_OF_THE_SITE = "FROM pg_stat_activity WHERE usename = 'site'"
_FULL = """
CREATE OR REPLACE FUNCTION soak_full() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'no space left' USING ERRCODE = 'disk_full'; END $$
"""


class PostgresPlace:
    """A server whose transactions survive its death."""

    kind = "postgres"

    def __init__(self) -> None:
        self._server = PostgresServer()
        self.faults: Mapping[str, Inject] = {
            "killed and restarted": self._killed,
            "stopped": self._stopped,
            "shut down and restarted": self._shut_down,
            "drops connections": self._dropped,
            "read-only": self._read_only,
            "disk full": self._full,
            "no connection left": self._crowded,
            "slow": self._slow,
        }

    @property
    def version(self) -> str:
        [(version,)] = self._server.admin("SHOW server_version")
        return f"PostgreSQL {version.split()[0]}"

    @property
    def where(self) -> str:
        return self._server.url

    @property
    def settings(self) -> dict[str, str]:
        return {"STATE_BACKEND": "postgres", "POSTGRES_URL": self.where}

    def __enter__(self) -> PostgresPlace:
        self._server.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.__exit__(None, None, None)

    def _killed(self, over: threading.Event) -> None:
        self._server.kill()
        over.wait()
        self._server.start()

    def _stopped(self, over: threading.Event) -> None:
        self._server.stop()
        over.wait()
        self._server.go_on()

    def _shut_down(self, over: threading.Event) -> None:
        self._server.shut_down()
        over.wait()
        self._server.start()

    def _dropped(self, over: threading.Event) -> None:
        repeat(over, self._drop)

    def _drop(self) -> None:
        self._server.admin(f"SELECT pg_terminate_backend(pid) {_OF_THE_SITE}")

    def _read_only(self, over: threading.Event) -> None:
        """Refuse all writes, as a standby and a full file system of some services do."""
        self._configure("default_transaction_read_only = on")
        over.wait()
        self._configure("default_transaction_read_only = off")

    def _configure(self, text: str) -> None:
        self._server.admin(f"ALTER SYSTEM SET {text}")
        self._server.admin("SELECT pg_reload_conf()")

    def _full(self, over: threading.Event) -> None:
        """Refuse to store records, with the error of a full disk; reads and removals go on."""
        self._server.admin(_FULL)
        self._server.admin(
            f"CREATE TRIGGER soak_full BEFORE INSERT OR UPDATE ON {_TABLE} EXECUTE FUNCTION soak_full()"
        )
        over.wait()
        self._server.admin(f"DROP TRIGGER soak_full ON {_TABLE}")

    def _crowded(self, over: threading.Event) -> None:
        """Close the connections, and allow no further one."""
        self._server.admin("ALTER ROLE site CONNECTION LIMIT 0")
        self._drop()
        over.wait()
        self._server.admin("ALTER ROLE site CONNECTION LIMIT -1")

    def _slow(self, over: threading.Event) -> None:
        """Hold a lock that all statements wait for, again and again."""
        repeat(over, lambda: self._hold(_SLOW_SECONDS), EVERY)

    def _hold(self, seconds: float) -> None:
        self._server.admin(
            f"DO $$ BEGIN LOCK TABLE {_TABLE} IN ACCESS EXCLUSIVE MODE; PERFORM pg_sleep({seconds}); END $$"
        )
