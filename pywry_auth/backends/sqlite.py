"""A backend in one SQLite file, without a server.

It is for several processes on one machine.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from sqlite3 import Connection

from pywry_auth.backends.base import (
    LARGEST_VALUE,
    Backend,
    Terms,
    UnreadableRecord,
    bounded,
    counted,
    require_size,
    texts,
)
from pywry_auth.backends.options import StorageOptions
from pywry_auth.backends.places import file_at, state_folder
from pywry_auth.backends.sqlite_file import SQLiteFile

_VERSION = 1

_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS records"
    " (key BLOB PRIMARY KEY, value BLOB NOT NULL, expires REAL NOT NULL, member_of BLOB)",
    "CREATE INDEX IF NOT EXISTS records_by_end ON records (expires)",
    "CREATE INDEX IF NOT EXISTS records_by_group ON records (member_of, expires) WHERE member_of IS NOT NULL",
)

# A column accepts values of any type and size. SQLite checks them before it loads a value.
_READABLE = (
    f"typeof(value) = 'blob' AND length(value) <= {LARGEST_VALUE} AND typeof(expires) = 'real'"
    f" AND typeof(key) = 'blob' AND length(key) <= {LARGEST_VALUE}"
)
_GET = f"SELECT value, expires FROM records WHERE key = :key AND expires > :now AND {_READABLE}"  # noqa: S608 - constants
# It names the unreadable row only, because another process may store a readable one after the first look.
_UNREADABLE = (
    "SELECT 1 FROM records WHERE key = :key AND (expires > :now OR typeof(expires) <> 'real')"  # noqa: S608
    f" AND NOT ({_READABLE})"
)
_GET_MANY = (
    f"SELECT key, CASE WHEN {_READABLE} THEN value END FROM records"  # noqa: S608 - constants and marks
    " WHERE key IN ({marks}) AND (expires > ? OR typeof(expires) <> 'real')"
)
_INSERT = (
    "INSERT INTO records VALUES (:key, :value, :expires, :group) ON CONFLICT (key) DO"
    " UPDATE SET value = excluded.value, expires = excluded.expires, member_of = excluded.member_of"
)
_REWRITE = (
    "UPDATE records SET value = :value WHERE key = :key AND expires > :now AND value = :expected"  # noqa: S608
    f" AND {_READABLE}"
)
_DELETE = "DELETE FROM records WHERE key = :key"
_MEMBERS = f"SELECT key FROM records WHERE member_of = :group AND expires > :now AND {_READABLE}"  # noqa: S608
_KEYS = (
    f"SELECT key FROM records WHERE key >= :begin AND key < :end AND length(key) <= {LARGEST_VALUE}"  # noqa: S608
    " AND (expires > :now OR typeof(expires) <> 'real') ORDER BY key LIMIT :page"
)
_LIMIT = (
    "DELETE FROM records WHERE key IN"
    " (SELECT key FROM records WHERE member_of = :group ORDER BY expires DESC LIMIT -1 OFFSET :limit)"
)
_PRUNE = "DELETE FROM records WHERE expires <= :end AND substr(key, 1, length(:kind)) = :kind"
_SWEEP = "DELETE FROM records WHERE key IN (SELECT key FROM records WHERE expires <= :now LIMIT 10)"

_PAGE = 500  # keys of one query; writers never wait for a longer one, and no SQLite refuses so many marks


class SQLiteBackend(Backend):
    """Records in one file that only its owner can read.

    Later writes remove expired records, a few at a time, so that the file stays bounded without pruning.

    Args:
        path: The file. It and its folder are created if they are missing. Default: :func:`default_path`.
        clock: Unix time in seconds; it must be the same for all processes that use the file.

    Raises:
        StoreUnavailable: The path cannot be used, or other users can reach the file.
    """

    local = True
    lists_keys = True

    def __init__(self, path: str | Path | None = None, *, clock: Callable[[], float] = time.time) -> None:
        self._file = SQLiteFile(path_at(path), _SCHEMA, _VERSION)
        self._clock = clock

    def get(self, key: str) -> bytes | None:
        """Return the live value of ``key``, or None."""
        with self._file.connection() as connection:
            return _value(connection, {"key": _bytes(key), "now": self._clock()})

    def read(self, key: str) -> bytes | None:
        """Return the live value of ``key``, as :meth:`Backend.read` describes."""
        row = {"key": _bytes(key), "now": self._clock()}
        with self._file.connection() as connection:
            value = _value(connection, row)
            damaged = value is None and connection.execute(_UNREADABLE, row).fetchone() is not None
        if damaged:
            raise UnreadableRecord("A stored record is damaged.")
        return value

    def get_many(self, keys: Sequence[str]) -> dict[str, bytes | None]:
        """Return the live values of several keys, as :meth:`Backend.get_many` describes."""
        found: dict[bytes, bytes | None] = {}
        for begin in range(0, len(keys), _PAGE):
            page = [_bytes(key) for key in keys[begin : begin + _PAGE]]
            query = _GET_MANY.format(marks=",".join("?" * len(page)))
            with self._file.connection() as connection:
                found.update(connection.execute(query, (*page, self._clock())).fetchall())
        return {key: found[name] for key in keys if (name := _bytes(key)) in found}

    def put(self, key: str, value: bytes, terms: Terms = Terms()) -> bool:
        """Store a value, as :meth:`Backend.put` describes."""
        require_size(value)
        now, lifetime = self._clock(), math.inf if terms.ttl is None else bounded(terms.ttl)
        row = {"key": _bytes(key), "value": value, "expires": now + lifetime, "now": now}
        row["group"] = None if terms.group is None else _bytes(terms.group)
        with self._file.transaction() as connection:
            if not terms.allow(lambda: _value(connection, row)):
                return False
            connection.execute(_INSERT, row)
            if terms.limit is not None:
                connection.execute(_LIMIT, row | {"limit": terms.limit})
            connection.execute(_SWEEP, row)
        return True

    def rewrite(self, key: str, expected: bytes, value: bytes) -> bool:
        """Replace a value, as :meth:`Backend.rewrite` describes."""
        require_size(value)
        row = {"key": _bytes(key), "now": self._clock(), "expected": expected, "value": value}
        with self._file.transaction() as connection:
            return connection.execute(_REWRITE, row).rowcount > 0

    def pop(self, key: str, expected: bytes | None = None, *, group: str | None = None) -> bytes | None:
        """Remove and return a value, as :meth:`Backend.pop` describes."""
        row = {"key": _bytes(key), "now": self._clock()}
        with self._file.transaction() as connection:
            value = _value(connection, row)
            if value is None or (expected is not None and value != expected):
                return None
            connection.execute(_DELETE, row)
        return value

    def members(self, group: str) -> list[str]:
        """Return the live keys of a group."""
        with self._file.connection() as connection:
            rows = connection.execute(_MEMBERS, {"group": _bytes(group), "now": self._clock()}).fetchall()
        return texts(key for (key,) in rows)

    def keys(self, kind: str) -> Iterator[str]:
        """Return the keys of a kind, as :meth:`Backend.keys` describes.

        No connection is held between two pages of keys.
        """
        begin, end = _bytes(kind), _bytes(kind) + b"\xff"  # a byte that no key contains
        while True:
            row = {"begin": begin, "end": end, "now": self._clock(), "page": _PAGE}
            with self._file.connection() as connection:
                found = connection.execute(_KEYS, row).fetchall()
            yield from texts(key for (key,) in found)
            if len(found) < _PAGE:
                return
            begin = found[-1][0] + b"\0"  # the first text after that key

    def count(self, key: str, window: float) -> int:
        """Add one to a counter, as :meth:`Backend.count` describes."""
        now, longest = self._clock(), bounded(window)
        row = {"key": _bytes(key), "group": None, "now": now}
        with self._file.transaction() as connection:
            found = connection.execute(_GET, row).fetchone()
            number = counted(found[0] if found else None) + 1
            end = min(found[1], now + longest) if number > 1 else now + longest
            connection.execute(_INSERT, row | {"value": b"%d" % number, "expires": end})
            connection.execute(_SWEEP, row)
        return number

    def prune(self, kind: str, within: float = 0.0) -> int:
        """Remove expired records, as :meth:`Backend.prune` describes."""
        with self._file.transaction() as connection:
            return connection.execute(_PRUNE, {"kind": _bytes(kind), "end": self._clock() + within}).rowcount

    def probe(self) -> None:
        """Check that records can be stored.

        A process of root may still become another user, as a server does after its start. Until it has used
        the file, such a process creates no file, and opens only a file of root, because the other user could
        not use files of root.

        Raises:
            StoreUnavailable: They cannot be stored; the text gives the reason.
        """
        if self._file.may_be_for_another_user():
            self._file.check_place()
        else:
            super().probe()

    def close(self) -> None:
        """Close the idle connections; a later call opens new ones."""
        self._file.close()


def open_backend(options: StorageOptions) -> SQLiteBackend:
    """Open the backend that the options describe."""
    return SQLiteBackend(options.path or None)


def path_at(path: str | Path | None) -> Path:
    """Return the absolute path of the file that a setting names.

    Args:
        path: The setting; empty or None for the default file.

    Raises:
        StoreUnavailable: The path cannot be used, or the user has no folder for state.
    """
    return file_at(path) if path else default_path()


def default_path() -> Path:
    """Return the default file, inside the user's folder for state.

    Raises:
        StoreUnavailable: The user has no such folder.
    """
    return state_folder() / "state.sqlite3"


def _value(connection: Connection, row: Mapping[str, object]) -> bytes | None:
    found = connection.execute(_GET, row).fetchone()
    return bytes(found[0]) if found else None


def _bytes(text: str) -> bytes:
    # Keys may contain lone surrogates, which SQLite cannot store as text.
    return text.encode("utf-8", "surrogatepass")
