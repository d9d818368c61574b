"""The interface of every backend: bytes with a lifetime.

A lock between threads and processes is built on the same operations.
"""

from __future__ import annotations

import logging
import os
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeVar

from pywry_auth.backends.lease import LEASE, Lease, Moment, RenewedLease, StillHeld
from pywry_auth.backends.measured import measure_operations
from pywry_auth.exceptions import StoreUnavailable

_logger = logging.getLogger("pywry_auth.backends")

_T = TypeVar("_T")

_RELEASE_SECONDS = 1.0  # in which a failed release is tried again
_RELEASE_PAUSE = 0.2  # seconds between two attempts

LONGEST_LIFETIME = 100 * 366 * 86400.0
"""Seconds. Longer lifetimes are reduced to this one, so that no system's numbers overflow."""

LARGEST_VALUE = 16 << 20
"""Bytes. Backends refuse larger values; a larger one that another program stored is unreadable."""

_LONGEST_COUNT = 18  # digits


class UnreadableRecord(StoreUnavailable):
    """A record exists, and this process cannot read it.

    Another process may be able to: one with a newer version of this package, or with other encryption keys.
    """


class When(Enum):
    """The state of a key that a ``put`` requires."""

    ALWAYS = "always"
    ABSENT = "absent"  # the first writer wins
    PRESENT = "present"  # a deleted record stays deleted


@dataclass(frozen=True, kw_only=True, slots=True)
class Terms:
    """The lifetime, group and condition of a ``put``.

    Args:
        ttl: Lifetime in seconds, more than 0; None keeps the value until it is removed.
        group: The group that lists the key in :meth:`Backend.members`. A later ``put`` of the key must name
            the same group.
        limit: The largest number of members in the group; beyond it, the oldest are removed. All members of
            such a group must have the same lifetime.
        when: Whether a live value must exist, must not exist, or does not matter.
        expected: Compare and put: the value is replaced only if the live value equals this one. ``when`` then
            has no effect.
    """

    ttl: float | None = None
    group: str | None = None
    limit: int | None = None
    when: When = When.ALWAYS
    expected: bytes | None = field(default=None, repr=False)

    def allow(self, read: Callable[[], bytes | None]) -> bool:
        """Return whether the condition holds.

        Args:
            read: Returns the live value of the key, or None; called only if the condition depends on it.
        """
        if self.expected is not None:
            return read() == self.expected
        return self.when is When.ALWAYS or (read() is None) is (self.when is When.ABSENT)


class Backend(ABC):
    """Bytes with a lifetime, stored under keys of any text.

    Many threads use a backend at once and, if ``shared`` is true, many processes. A value is live until it
    expires or is removed.

    A key begins with the kind of its record and a colon (``session:…``), so that the keys of two kinds are
    never equal. Every operation is atomic, and raises :class:`StoreUnavailable` if the storage system does
    not respond. The class ``BackendContract`` in :mod:`pywry_auth.testing.backend_contract` tests a backend.
    """

    shared: bool = True
    """Whether other processes see the stored values."""

    local: bool = False
    """Whether calls wait neither for a network nor for the user, so that none takes long."""

    lists_keys: bool = False
    """Whether :meth:`keys` is available."""

    def __init_subclass__(cls, measured: bool = True, **arguments: Any) -> None:
        """Let the watchers of :mod:`pywry_auth.measures` see the operations of a class.

        Args:
            measured: Whether they do; false for a backend that passes each operation on to another one.
            arguments: Those of further base classes.
        """
        super().__init_subclass__(**arguments)
        if measured:
            measure_operations(cls)

    @abstractmethod
    def get(self, key: str) -> bytes | None:
        """Return the live value of ``key``, or None."""

    def read(self, key: str) -> bytes | None:
        """Return the live value of ``key``, or None if there is no record.

        This is :meth:`get` for callers that must not mistake an unreadable record for a missing one. A
        backend whose ``get`` returns None for unreadable records overrides it.

        Raises:
            UnreadableRecord: There is a record, and it cannot be read.
        """
        return self.get(key)

    def get_many(self, keys: Sequence[str]) -> dict[str, bytes | None]:
        """Return the live values of several keys, in as few round trips as possible.

        The values need not be of one moment: other callers can write in the meantime.

        Args:
            keys: The keys, at most a few hundred, because all values are in memory at once.

        Returns:
            The value of each key with a live record; None for a record that cannot be read.
        """
        found: dict[str, bytes | None] = {}
        for key in keys:
            try:
                value = self.read(key)
            except UnreadableRecord:
                found[key] = None
                continue
            if value is not None:
                found[key] = value
        return found

    @abstractmethod
    def put(self, key: str, value: bytes, terms: Terms = Terms()) -> bool:
        """Store a value and return whether it was stored.

        Args:
            key: The key.
            value: The bytes to store.
            terms: Lifetime, group and condition.

        Raises:
            ValueError: ``terms.ttl`` is not more than 0.
        """

    def rewrite(self, key: str, expected: bytes, value: bytes) -> bool:
        """Replace a value with another form of the same value.

        The lifetime and the group stay. A backend without such an operation does nothing.

        Args:
            key: The key.
            expected: The value is replaced only if the live value equals this one.
            value: The new form.

        Returns:
            Whether it was replaced.
        """
        return False

    @abstractmethod
    def pop(self, key: str, expected: bytes | None = None, *, group: str | None = None) -> bytes | None:
        """Remove and return a value in one step.

        If several callers pop one value, one of them gets it and the others get None.

        Args:
            key: The key.
            expected: Remove the value only if it is equal to this one.
            group: The group of the key. A backend with an index of groups then updates the index at once;
                without this argument, it updates the index when the record would have expired.
        """

    @abstractmethod
    def members(self, group: str) -> list[str]:
        """Return the live keys of a group, in no order.

        The cost depends only on the size of that group.
        """

    def keys(self, kind: str) -> Iterator[str]:
        """Return all live keys of a kind, in no order and each once.

        No value is loaded, and other callers can write in the meantime. A record that is stored or removed
        during the iteration may be listed or not. The cost depends on the number of all stored records. A
        backend that overrides this method sets ``lists_keys``.

        Args:
            kind: The text at the beginning of the keys.

        Raises:
            StoreUnavailable: The backend cannot list its keys, or it is down. It may be raised at a later
                step of the iteration.
        """
        raise StoreUnavailable(
            f"The backend {type(self).__name__} cannot list all of its records: name one user, or write the "
            "method keys() of the backend."
        )

    @abstractmethod
    def count(self, key: str, window: float) -> int:
        """Add one to a counter and return the new count.

        Args:
            key: The key of the counter.
            window: Seconds after the first call of a count; then the counter starts again from 0.
        """

    @abstractmethod
    def prune(self, kind: str, within: float = 0.0) -> int:
        """Remove expired records of a kind and return their number.

        A call is never necessary, because every backend removes expired records eventually. The cost may
        depend on the number of all stored records.

        Args:
            kind: The text at the beginning of their keys.
            within: Seconds. Records that would expire within this time are removed too.
        """

    @abstractmethod
    def close(self) -> None:
        """Close all connections; a later call opens new ones."""

    def probe(self) -> None:
        """Check that a stored value can be read again.

        A random record with a group is stored and removed, as most operations of this package have groups.

        Raises:
            StoreUnavailable: It cannot be read; the text gives the reason.
        """
        key, value = "probe:" + os.urandom(16).hex(), os.urandom(16)
        self.put(key, value, Terms(ttl=60, group=key))
        if self.pop(key, group=key) != value:
            raise StoreUnavailable("The store does not return stored values: check its configuration.")

    @contextmanager
    def replicated(self) -> Iterator[None]:
        """Make sure that the writes of the ``with`` block survive the loss of a server.

        A backend whose server acknowledges writes before they are safe overrides this method. It does nothing
        by default, and with a backend that is not configured to wait.

        Raises:
            StoreUnavailable: At the end of the block, the writes are not known to be safe. They are not
                undone: the block must be repeated, also if it then finds nothing to write. It is raised
                before the block if the store is down.
        """
        yield

    @contextmanager
    def lock(self, key: str, wait: float, lease: float = LEASE) -> Iterator[Lease]:
        """Hold a lock while the ``with`` block runs.

        The lock excludes all other threads and processes on this backend. It is a lease: it expires after a
        short time unless its holder renews it. A thread renews it while the block runs, however long that is.
        Therefore the lock of a dead process delays the others only for the length of a lease.

        A lock can still be lost, for example while the store is down or the machine sleeps. A block must
        check :meth:`Lease.left` before a step that only the holder may do.

        A waiting caller tries again after short random pauses, because not every system can notify it.

        Args:
            key: The name of the lock.
            wait: Seconds to wait for another holder.
            lease: The length of the lease in seconds.

        Raises:
            StillHeld: Another caller still held the lock after ``wait`` seconds.
            StoreUnavailable: The store is down.
        """
        owner = os.urandom(16)
        held = self._in_turn(lambda: self._acquire(key, owner, lease), wait)
        try:
            with held.kept():
                yield held
        finally:
            self._release(key, owner)

    def _in_turn(self, attempt: Callable[[], _T | None], wait: float) -> _T:
        """Return the first result of ``attempt`` that is not None."""
        deadline = time.monotonic() + wait
        pause = 0.004
        while (taken := attempt()) is None:
            left = deadline - time.monotonic()
            if left <= 0:
                raise StillHeld("Another thread or process did not finish the same work in time: try again.")
            self._pause(min(left, random.uniform(pause / 2, pause)))  # noqa: S311 - only spreads the callers
            pause = min(0.05, pause * 1.5)
        return taken

    def _acquire(self, key: str, owner: bytes, length: float) -> RenewedLease | None:
        begun = Moment()
        try:
            # If a response was lost and the command was sent again, the first attempt already took the lock.
            taken = self.put(key, owner, Terms(ttl=length, when=When.ABSENT)) or self.get(key) == owner
        except StoreUnavailable:
            with suppress(StoreUnavailable):
                self.pop(key, owner)  # the write may have been done, although its response is missing
            raise
        renewal = Terms(ttl=length, expected=owner)
        return RenewedLease(length, begun, lambda: self.put(key, owner, renewal)) if taken else None

    def _release(self, key: str, owner: bytes) -> None:
        deadline = time.monotonic() + _RELEASE_SECONDS
        while True:
            try:
                self.pop(key, owner)
                return
            except StoreUnavailable:
                if time.monotonic() >= deadline:
                    break
                time.sleep(_RELEASE_PAUSE)
        # The work under the lock is done and its result is valid. The lock expires by itself.
        _logger.warning("a lock could not be released and will expire")

    def _pause(self, seconds: float) -> None:
        time.sleep(seconds)


def bounded(ttl: float) -> float:
    """Return a lifetime in seconds that every system can represent.

    Args:
        ttl: The requested lifetime in seconds.

    Raises:
        ValueError: ``ttl`` is not more than 0.
    """
    if not ttl > 0:
        raise ValueError(f"a lifetime must be more than 0 seconds, not {ttl}")
    return min(ttl, LONGEST_LIFETIME)


def require_size(value: bytes) -> None:
    """Check that a value can be stored.

    Args:
        value: The value of a ``put``.

    Raises:
        ValueError: It is larger than :data:`LARGEST_VALUE`.
    """
    if len(value) > LARGEST_VALUE:
        raise ValueError(f"a value of {len(value)} bytes is too large: at most {LARGEST_VALUE} can be stored")


def counted(value: bytes | None) -> int:
    """Return the number in a stored counter.

    Args:
        value: The stored value, or None.

    Returns:
        The number; 0 if there is no counter or it is damaged.
    """
    return int(value) if value and len(value) <= _LONGEST_COUNT and value.isdigit() else 0


def texts(keys: Iterable[bytes]) -> list[str]:
    """Return stored keys as text, without those that are not keys of this package.

    Args:
        keys: The stored keys: UTF-8, perhaps with lone surrogates.
    """
    found = []
    for key in keys:
        with suppress(UnicodeDecodeError):
            found.append(key.decode("utf-8", "surrogatepass"))
    return found
