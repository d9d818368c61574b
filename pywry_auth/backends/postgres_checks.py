"""Warnings about a PostgreSQL server that can lose records which it acknowledged."""

from __future__ import annotations

from collections.abc import Sequence

from pywry_auth.backends.postgres_statements import TABLE

_STANDBY = (
    "the PostgreSQL server is a standby: users cannot sign in or out. Name the primary in"
    " PYWRY_DEPLOY__POSTGRES_URL"
)
_FSYNC = (
    "the PostgreSQL server does not wait for its disk (fsync = off): a loss of power destroys its data. Set"
    " fsync = on"
)
_ASYNCHRONOUS = (
    "the PostgreSQL server acknowledges records before they are on its disk (synchronous_commit = off):"
    " after a"
    " crash, users are signed out, and sign-outs of the last moment are undone. Set synchronous_commit = on"
    " for this role"
)
_UNLOGGED = (
    f"the table {TABLE} is UNLOGGED: a crash empties it, and a standby has no copy. Run ALTER TABLE {TABLE}"
    " SET LOGGED"
)


def risks(row: Sequence[object]) -> list[str]:
    """Return a sentence for each risk of a server.

    Args:
        row: The server's answer to the statement ``RISKS``.
    """
    standby, fsync, commit, persistence = row
    found = {
        _STANDBY: standby is True,
        _FSYNC: fsync == "off",
        _ASYNCHRONOUS: commit == "off",
        _UNLOGGED: persistence == "u",
    }
    return [risk for risk, present in found.items() if present]
