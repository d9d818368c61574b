"""The connections of one process.

psycopg_pool is not used. It connects in the background, after pauses that double: after an outage of 34
seconds, it took 22 more until the first connection. It also reports a time-out where the reason is known,
waits without a limit for a silent server, and has threads that do not survive a fork.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from psycopg.errors import OperationalError

from pywry_auth.backends.postgres_connections import DeadlinePassed, TimedConnection

_IDLE_SECONDS = 60.0  # after which an unused connection is closed


class PoolExhausted(OperationalError):
    """All connections of this process stayed in use until the deadline."""


class PostgresPool:
    """Connections that threads take turns to use.

    The lock of ``_changed`` guards all members. It is not held while a connection is opened or used.

    Args:
        connect: Opens a connection before a deadline.
        most: The largest number of connections.
        clock: Returns the time in seconds; only differences are used.
    """

    def __init__(
        self,
        connect: Callable[[float], TimedConnection],
        most: int,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connect = connect
        self._most = most
        self._clock = clock
        self._changed = threading.Condition()
        self._idle: list[tuple[float, TimedConnection]] = []  # the one that was used last is at the end
        self._open = 0

    @contextmanager
    def connection(self, ends: float, *, fresh: bool = False) -> Iterator[TimedConnection]:
        """Lend a connection for the ``with`` block.

        Args:
            ends: The deadline, in the seconds of ``time.monotonic``, also for the use of the connection.
            fresh: Whether to open a new connection, and to close those that are idle.

        Raises:
            PoolExhausted: No connection became free in time.
            NotConnected: No new one could be opened.
        """
        lent = self._clock()
        connection = self._taken(ends, fresh=fresh)
        try:
            connection.ends = ends
            yield connection
        except DeadlinePassed:
            self._close_idle_since(lent)  # they lead to the same silent server
            raise
        finally:
            self._give_back(connection)

    def close_idle(self) -> None:
        """Close the connections that are not in use."""
        self._close_idle_since(math.inf)

    def _close_idle_since(self, moment: float) -> None:
        """Close the connections that have not been used after a moment."""
        with self._changed:
            unused = [connection for since, connection in self._idle if since <= moment]
            self._idle = [(since, connection) for since, connection in self._idle if since > moment]
            self._left(len(unused))
        for connection in unused:
            connection.close()

    def _taken(self, ends: float, *, fresh: bool) -> TimedConnection:
        while (idle := self._reserved(ends)) is not None:
            if not fresh and self._is_usable(idle):
                return idle
            self._discard(idle)
        try:
            return self._connect(ends)
        except BaseException:
            with self._changed:
                self._left(1)
            raise

    def _reserved(self, ends: float) -> TimedConnection | None:
        """Return an idle connection, or None for the right to open one."""
        with self._changed:
            while not self._idle:
                if self._open < self._most:
                    self._open += 1
                    return None
                left = ends - time.monotonic()
                if left <= 0:
                    raise PoolExhausted("all connections are in use")
                self._changed.wait(left)
            return self._idle.pop()[1]

    def _give_back(self, connection: TimedConnection) -> None:
        now = self._clock()
        if not self._is_usable(connection):
            self._discard(connection)
            return
        with self._changed:
            self._idle.append((now, connection))
            expired = self._idle[0][1] if now - self._idle[0][0] > _IDLE_SECONDS else None
            if expired is not None:
                del self._idle[0]
                self._left(1)
            self._changed.notify()
        if expired is not None:
            expired.close()

    def _is_usable(self, connection: TimedConnection) -> bool:
        """Return whether a connection can be used.

        An interruption, such as a time-out of gevent, may arrive during the check. It must not keep the place
        of the connection.
        """
        try:
            return connection.is_usable()
        except BaseException:
            self._discard(connection)
            raise

    def _discard(self, connection: TimedConnection) -> None:
        try:
            connection.close()
        finally:
            with self._changed:
                self._left(1)

    def _left(self, number: int) -> None:
        self._open -= number
        self._changed.notify(number)
