"""Locks that end with the connection of their process.

All locks of a process are advisory locks of one session. The number of its connections therefore does not
depend on the number of its locks, and a waiting thread holds no connection.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from pywry_auth.backends.postgres_connections import LIMIT, DeadlinePassed, TimedConnection

_T = TypeVar("_T")

_TRY = "SELECT pg_try_advisory_lock(%s)"
_UNLOCK = "SELECT pg_advisory_unlock(%s)"
_CONFIRM = "SELECT 1"


def lock_number(name: bytes) -> int:
    """Return the number of an advisory lock, which PostgreSQL knows by 64 bits.

    Args:
        name: The name of the lock, with the prefix of the site.
    """
    return int.from_bytes(hashlib.sha256(name).digest()[:8], "big", signed=True)


@dataclass(frozen=True)
class HeldLock:
    """A lock that this process took.

    Args:
        session: The connection in whose session it was taken.
        number: The number of the lock.
    """

    session: TimedConnection
    number: int


class LockSession:
    """The session with the locks of one process.

    ``_turn`` guards all members; only ``_given_up`` is set without it. It is held over the calls of the
    session, because one connection serves one statement at a time; each of them ends within :data:`LIMIT`,
    and so does each wait for the turn. Threads of this process that want the same lock exclude each other
    here: for the server, a session may lock twice.

    Args:
        connect: Opens a connection before a deadline.
    """

    def __init__(self, connect: Callable[[float], TimedConnection]) -> None:
        self._connect = connect
        self._turn = threading.Lock()
        self._connection: TimedConnection | None = None
        self._held: set[int] = set()
        self._given_up: TimedConnection | None = None  # has a lock that could not be released

    def is_pooled(self) -> bool:
        """Return whether a pooler may give the session to other clients, with its locks.

        Raises:
            NotConnected: There is no connection.
        """
        return self._with_connection(lambda connection: connection.pooled)

    def acquire(self, number: int) -> HeldLock | None:
        """Try to take a lock, and return it; None if another thread or process holds it.

        Args:
            number: The number of the lock.
        """

        def attempt(connection: TimedConnection) -> HeldLock | None:
            if number in self._held or connection.execute(_TRY, [number]).fetchone() != (True,):
                return None
            self._held.add(number)
            return HeldLock(connection, number)

        return self._with_connection(attempt)

    def is_held(self, lock: HeldLock) -> bool:
        """Return whether the session of a lock still exists, as far as this process knows without a call.

        Args:
            lock: The lock.
        """
        if not self._turn.acquire(blocking=False):
            return lock.session is self._connection  # a statement runs, and notices the end of the session
        try:
            if lock.session is self._connection and not lock.session.is_usable():
                self._drop()
            return lock.session is self._connection
        finally:
            self._turn.release()

    def confirm(self, lock: HeldLock) -> bool:
        """Ask the server whether the session of a lock still exists.

        Args:
            lock: The lock.
        """
        with self._its_turn() as ends:
            if lock.session is not self._connection:
                return False
            self._execute(lock.session, _CONFIRM, [], ends)
            return True

    def release(self, lock: HeldLock) -> None:
        """Release a lock; if that fails, the session ends, and all of its locks with it.

        Args:
            lock: The lock.
        """
        if lock.session is not self._connection:
            return  # no session comes back, so that this needs no turn
        try:
            with self._its_turn() as ends:
                if lock.session is self._connection:
                    self._held.discard(lock.number)
                    self._execute(lock.session, _UNLOCK, [lock.number], ends)
        except DeadlinePassed:
            self._given_up = lock.session
            raise

    def close(self) -> None:
        """Close the connection, unless a lock is held or taken."""
        if self._turn.acquire(timeout=LIMIT):
            try:
                if not self._held:
                    self._drop()
            finally:
                self._turn.release()

    @contextmanager
    def _its_turn(self) -> Iterator[float]:
        """Take the turn, and yield the deadline.

        Raises:
            DeadlinePassed: Other threads kept the turn for too long.
        """
        ends = time.monotonic() + LIMIT
        if not self._turn.acquire(timeout=LIMIT):
            raise DeadlinePassed("other threads of this process waited for the server")
        try:
            self._drop_given_up()
            yield ends
        finally:
            self._drop_given_up()
            self._turn.release()

    def _drop_given_up(self) -> None:
        """End the session with a lock that a thread without the turn could not release."""
        if self._given_up is not None and self._given_up is self._connection:
            self._drop()

    def _with_connection(self, work: Callable[[TimedConnection], _T]) -> _T:
        with self._its_turn() as ends:
            connection = self._connection
            if connection is None or not connection.is_usable():
                self._drop()
                self._connection = connection = self._connect(ends)
            connection.ends = ends
            try:
                return work(connection)
            except BaseException:
                self._drop()
                raise

    def _execute(self, connection: TimedConnection, statement: str, values: list[int], ends: float) -> None:
        connection.ends = ends
        try:
            connection.execute(statement, values)
        except BaseException:
            self._drop()
            raise

    def _drop(self) -> None:
        """Close the connection, and with it all locks."""
        connection, self._connection = self._connection, None
        self._given_up = None
        self._held.clear()
        if connection is not None:
            connection.close()
