"""A backend in process memory, which is lost at exit."""

from __future__ import annotations

import hmac
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from pywry_auth.backends.base import Backend, Terms, bounded
from pywry_auth.backends.options import StorageOptions
from pywry_auth.per_process import PerProcess

_LOOKED_AT_PER_WRITE = 3
"""Records that each write checks for expiry. With only one, expired records would accumulate."""


@dataclass(frozen=True, slots=True)
class _Record:
    value: bytes = field(repr=False)
    expires: float
    group: str | None


class MemoryBackend(Backend):
    """Records in a dictionary; one lock guards all attributes.

    Later writes remove expired records, a few at a time. Therefore the cost of a write does not depend on the
    number of records, and memory stays bounded without pruning.

    Args:
        clock: Unix time in seconds.
    """

    shared = False
    local = True
    lists_keys = True

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._changed = PerProcess(threading.Condition)
        self._records: OrderedDict[str, _Record] = OrderedDict()
        self._groups: dict[str, dict[str, None]] = {}

    def __len__(self) -> int:
        """Return the number of records, including unremoved expired ones."""
        return len(self._records)

    def get(self, key: str) -> bytes | None:
        """Return the live value of ``key``, or None."""
        with self._changed():
            return self._value(key)

    def get_many(self, keys: Sequence[str]) -> dict[str, bytes | None]:
        """Return the live values of several keys."""
        with self._changed():
            return {key: value for key in keys if (value := self._value(key)) is not None}

    def put(self, key: str, value: bytes, terms: Terms = Terms()) -> bool:
        """Store a value, as :meth:`Backend.put` describes."""
        lifetime = math.inf if terms.ttl is None else bounded(terms.ttl)
        with self._changed():
            if not terms.allow(lambda: self._value(key)):
                return False
            self._remove(key)
            self._insert(key, _Record(value, self._clock() + lifetime, terms.group))
            if terms.group is not None and terms.limit is not None:
                self._shrink(terms.group, terms.limit)
            self._sweep()
        return True

    def rewrite(self, key: str, expected: bytes, value: bytes) -> bool:
        """Replace a value, as :meth:`Backend.rewrite` describes."""
        with self._changed():
            record = self._live(key)
            if record is None or not hmac.compare_digest(record.value, expected):
                return False
            self._records[key] = replace(record, value=value)
        return True

    def pop(self, key: str, expected: bytes | None = None, *, group: str | None = None) -> bytes | None:
        """Remove and return a value, as :meth:`Backend.pop` describes."""
        with self._changed():
            record = self._live(key)
            if record is None or (expected is not None and not hmac.compare_digest(record.value, expected)):
                return None
            self._remove(key)
            self._changed().notify_all()  # a caller that waits for a lock then tries again at once
            return record.value

    def members(self, group: str) -> list[str]:
        """Return the live keys of a group."""
        with self._changed():
            return [key for key in self._groups.get(group, ()) if self._live(key)]

    def keys(self, kind: str) -> Iterator[str]:
        """Return the keys of a kind at this moment, as :meth:`Backend.keys` describes."""
        with self._changed():
            return iter([key for key in self._records if key.startswith(kind) and self._live(key)])

    def count(self, key: str, window: float) -> int:
        """Add one to a counter, as :meth:`Backend.count` describes."""
        lifetime = bounded(window)
        with self._changed():
            record = self._live(key)
            number = int(record.value) + 1 if record else 1
            expires = record.expires if record else self._clock() + lifetime
            self._remove(key)
            self._insert(key, _Record(str(number).encode(), expires, None))
            self._sweep()
        return number

    def prune(self, kind: str, within: float = 0.0) -> int:
        """Remove expired records, as :meth:`Backend.prune` describes."""
        with self._changed():
            end = self._clock() + within
            ended = [key for key, record in self._records.items() if record.expires <= end]
            ended = [key for key in ended if key.startswith(kind)]
            for key in ended:
                self._remove(key)
        return len(ended)

    def close(self) -> None:
        """Do nothing: there is no connection, and all records stay."""

    def _value(self, key: str) -> bytes | None:
        record = self._live(key)
        return record.value if record else None

    def _live(self, key: str) -> _Record | None:
        record = self._records.get(key)
        return record if record and record.expires > self._clock() else None

    def _insert(self, key: str, record: _Record) -> None:
        self._records[key] = record
        if record.group is not None:
            self._groups.setdefault(record.group, {})[key] = None

    def _remove(self, key: str) -> None:
        record = self._records.pop(key, None)
        if record is None or record.group is None:
            return
        group = self._groups[record.group]
        del group[key]
        if not group:
            del self._groups[record.group]

    def _shrink(self, group: str, limit: int) -> None:
        members = self._groups[group]
        for key in list(islice(members, max(0, len(members) - limit))):
            self._remove(key)

    def _sweep(self) -> None:
        """Remove or requeue the records that were checked longest ago."""
        for _ in range(min(_LOOKED_AT_PER_WRITE, len(self._records))):
            key = next(iter(self._records))
            if self._live(key):
                self._records.move_to_end(key)
            else:
                self._remove(key)

    def _pause(self, seconds: float) -> None:
        with self._changed():
            self._changed().wait(seconds)


def open_backend(options: StorageOptions) -> MemoryBackend:
    """Open the backend that the options describe."""
    return MemoryBackend()
