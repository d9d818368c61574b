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
_UNLIMITED = (
    "the pooler before PostgreSQL ignores the time limits of the site: statements that the site gave up go on"
    " at the server. Run ALTER ROLE site SET statement_timeout = '2s', and ALTER ROLE site SET"
    " lock_timeout = '1s'"
)
_SHAPE = (
    f"{TABLE} in the PostgreSQL database is a view, or has an expiry without a time zone, so that records may"
    " end too early or too late. Remove it, or choose another schema with options=-csearch_path=NAME in"
    " PYWRY_DEPLOY__POSTGRES_URL"
)


def risks(row: Sequence[object]) -> list[str]:
    """Return a sentence for each risk of a server.

    Args:
        row: The server's answer to the statement ``RISKS``.
    """
    standby, fsync, commit, persistence, for_statement, for_lock, has_shape = row
    found = {
        _STANDBY: standby is True,
        _FSYNC: fsync == "off",
        _ASYNCHRONOUS: commit == "off",
        _UNLOGGED: persistence == "u",
        _UNLIMITED: "0" in (for_statement, for_lock),
        _SHAPE: has_shape is False,
    }
    return [risk for risk, present in found.items() if present]
