"""Records with lifetimes and groups in a keyring.

A keyring itself has no lifetimes or groups, and cannot list its entries.
"""

from __future__ import annotations

import logging
import math
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pywry_auth.backends.base import Terms, bounded, counted
from pywry_auth.backends.keyring_entries import Entries
from pywry_auth.digests import digest_of
from pywry_auth.strict_json import read_json, write_json

_logger = logging.getLogger("pywry_auth.backends")

_INDEX = "index"  # cannot be the name of a record: those names are digests
_END = struct.Struct(">d")


@dataclass(frozen=True)
class _Listed:
    group: str | None
    end: float


class Records:
    """Records, and an index of all records in one entry.

    The index lists every record, and possibly some that do not exist: a record is listed before it is
    written, and its row is removed after the record. Therefore the index finds records that a crash left
    behind.

    The names of records are digests, because a keyring may limit the length of names, treat ``Bob`` and
    ``bob`` as equal, or show names to programs that must not see values.

    Args:
        entries: The entries in the keyring.
        clock: Unix time in seconds.
    """

    def __init__(self, entries: Entries, clock: Callable[[], float]) -> None:
        self._entries = entries
        self._clock = clock

    def get(self, key: str) -> bytes | None:
        """Return the live value of ``key``, or None."""
        found = self._live(key)
        return found and found[1]

    def rewrite(self, key: str, expected: bytes, value: bytes) -> bool:
        """Replace a value, as :meth:`Backend.rewrite` describes."""
        found = self._live(key)
        if found is None or found[1] != expected:
            return False
        self._entries.write(digest_of(key), found[0] + value)
        return True

    def put(self, key: str, value: bytes, terms: Terms) -> bool:
        """Store a value, as :meth:`Backend.put` describes."""
        end = math.inf if terms.ttl is None else self._clock() + bounded(terms.ttl)
        if not terms.allow(lambda: self.get(key)):
            return False
        index, group, limit = self._index(), terms.group, terms.limit
        self._write(index, key, value, _Listed(group, end))
        members = [] if limit is None or group is None else _of_group(index, group)
        oldest = members[: max(0, len(members) - (limit or 0))]
        self._drop(index, {*self._ended(index), *oldest})
        return True

    def pop(self, key: str, expected: bytes | None) -> bytes | None:
        """Remove and return a value, as :meth:`Backend.pop` describes."""
        value = self.get(key)
        if value is None or (expected is not None and value != expected):
            return None
        self._drop(self._index(), [key])
        return value

    def members(self, group: str) -> list[str]:
        """Return the live keys of a group."""
        index = self._index()
        ended = self._ended(index)
        lost = [key for key in _of_group(index, group) if not self._entries.holds(digest_of(key))]
        self._drop(index, {*ended, *lost})
        return _of_group(index, group)

    def count(self, key: str, window: float) -> int:
        """Add one to a counter, as :meth:`Backend.count` describes."""
        now, lifetime = self._clock(), bounded(window)
        value, index = self.get(key), self._index()
        listed = index.get(key) if value else None
        number = counted(value) + 1
        self._write(index, key, b"%d" % number, listed or _Listed(None, now + lifetime))
        self._drop(index, self._ended(index))
        return number

    def prune(self, kind: str, within: float) -> int:
        """Remove expired records, as :meth:`Backend.prune` describes."""
        index = self._index()
        ended = [key for key in self._ended(index, within) if key.startswith(kind)]
        self._drop(index, ended)
        return len(ended)

    def _live(self, key: str) -> tuple[bytes, bytes] | None:
        """Return the packed end of a live record, and its value."""
        data = self._entries.read(digest_of(key))
        # The comparison is false for NaN, so that a damaged record does not live forever.
        if data is None or len(data) < _END.size or not _END.unpack_from(data)[0] > self._clock():
            return None
        return data[: _END.size], data[_END.size :]

    def _ended(self, index: dict[str, _Listed], within: float = 0.0) -> list[str]:
        end = self._clock() + within
        return [key for key, listed in index.items() if listed.end <= end]

    def _write(self, index: dict[str, _Listed], key: str, value: bytes, listed: _Listed) -> None:
        if index.get(key) != listed:
            index.pop(key, None)
            index[key] = listed  # at the end, because the oldest records come first
            self._write_index(index)
        self._entries.write(digest_of(key), _END.pack(listed.end) + value)

    def _drop(self, index: dict[str, _Listed], keys: Iterable[str]) -> None:
        keys = list(keys)
        for key in keys:
            self._entries.erase(digest_of(key))
            index.pop(key, None)
        if keys:
            self._write_index(index)

    def _index(self) -> dict[str, _Listed]:
        data = self._entries.read(_INDEX)
        try:
            rows = read_json(data) if data else []
            return {
                str(key): _Listed(group, math.inf if end is None else _finite(end))
                for key, group, end in rows
            }
        except (TypeError, ValueError):
            _logger.warning("the index in the keyring cannot be read; a new one lists later records")
            return {}

    def _write_index(self, index: dict[str, _Listed]) -> None:
        rows = [(key, row.group, None if row.end == math.inf else row.end) for key, row in index.items()]
        self._entries.write(_INDEX, write_json(rows).encode("ascii"))


def _finite(end: object) -> float:
    if not isinstance(end, int | float) or not math.isfinite(end):
        raise ValueError("the end of a record is not a time")
    return float(end)


def _of_group(index: dict[str, _Listed], group: str) -> list[str]:
    return [key for key, listed in index.items() if listed.group == group]
