"""Connections of psycopg with a deadline for every wait.

psycopg has no time limit for a statement, and libpq looks names up without one. Therefore this module waits
itself: it drives the steps of both libraries, and stops at the deadline.
"""

from __future__ import annotations

import math
import os
import re
import select
import time
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from psycopg import Connection, OperationalError, pq
from psycopg.conninfo import make_conninfo
from psycopg.rows import TupleRow
from psycopg.waiting import Ready, Wait

from pywry_auth.backends.postgres_libpq import known_options
from pywry_auth.name_lookup import addresses_of
from pywry_auth.postgres_url import PostgresAddress

if TYPE_CHECKING:
    from psycopg.pq.abc import PGconn

_T = TypeVar("_T")

LIMIT = 2.0
"""Seconds for an operation, from the wait for a connection to the last byte of the answer."""

_BROKEN_AFTER = 5  # seconds of silence until the server asks whether this machine is still there
_SESSION = {
    "statement_timeout": f"{LIMIT * 1000:.0f}",
    "lock_timeout": "1000",
    "idle_in_transaction_session_timeout": "10000",
    "default_transaction_isolation": r"read\ committed",
    # They free the locks of a machine that vanished.
    "tcp_keepalives_idle": f"{_BROKEN_AFTER}",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "10000",
}
_SCHEMA = re.compile(r"(?:-c\s*|--)search[_-]path=((?:\\.|\S)*)")  # a backslash precedes a blank
_PREPARED_AFTER = 5  # executions of a statement; through a pooler, nothing is prepared


class DeadlinePassed(OperationalError):
    """The server, or a connection, was not there in time."""


class NotConnected(OperationalError):
    """No host accepted a connection.

    Args:
        failures: libpq's text or another error for each attempt, in their order.
    """

    def __init__(self, failures: list[str | Exception]) -> None:
        super().__init__("no host accepted a connection")
        self.failures = failures


class OptionsIgnored(OperationalError):
    """A pooler dropped the option that names the schema of the table."""


class TimedConnection(Connection[TupleRow]):
    """A connection whose waits end at a deadline.

    A connection that did not answer in time is closed, and so is one whose wait was interrupted, because the
    answer to its last statement may still arrive.
    """

    ends: float = math.inf
    """The deadline, in the seconds of ``time.monotonic``."""

    pooled: bool = False
    """Whether a pooler such as PgBouncer stands between this process and the server."""

    def wait(
        self, gen: Generator[Any, Any, _T], interval: float | None = None, timeout: float | None = None
    ) -> _T:
        """Return the result of a generator of psycopg that waits for the server.

        Args:
            gen: Yields what it waits for, and receives what is ready.
            interval: Has no effect.
            timeout: Has no effect.

        Raises:
            DeadlinePassed: The deadline passed; the connection is closed.
        """
        try:
            wanted = next(gen)
            while True:
                wanted = gen.send(_ready(self.pgconn.socket, wanted, self.ends))
                _require_time(self.ends)  # for a server that sends without end, the socket is always ready
        except StopIteration as done:
            result: _T = done.value
            return result
        except DeadlinePassed:
            self.close()
            raise
        except Exception:
            raise
        except BaseException:
            self.close()
            raise

    def is_usable(self) -> bool:
        """Return whether the connection can run another statement.

        No byte waits at an idle connection, unless the server ended it or changed its parameters.
        """
        if self.closed or self.pgconn.transaction_status != pq.TransactionStatus.IDLE:
            return False
        try:
            _ready(self.pgconn.socket, Wait.R, 0.0)
        except DeadlinePassed:
            return True
        except (OSError, ValueError, OperationalError):
            return False
        return False


class Connector:
    """Opens connections to the first host that serves.

    Only a number is shared between threads: the host that served last, which is tried first.

    Args:
        address: The hosts and the parameters.
    """

    def __init__(self, address: PostgresAddress) -> None:
        self._address = address
        self._parameters = _parameters(address)
        self._first = 0

    def __call__(self, ends: float) -> TimedConnection:
        """Return a new connection in autocommit mode.

        Args:
            ends: The deadline of the whole attempt.

        Raises:
            NotConnected: No host accepted the connection in time.
        """
        failures: list[str | Exception] = []
        first, count = self._first, len(self._address.hosts)  # another thread may change the first one
        for step in range(count):
            index = (first + step) % count
            share = time.monotonic() + (ends - time.monotonic()) / (count - step)
            for attempt in self._attempts(index, share, failures):
                self._first = index
                return self._prepared(attempt, ends)
            self._first = (index + 1) % count  # another caller need not wait for a silent host first
        raise NotConnected(failures)

    def _attempts(self, index: int, ends: float, failures: list[str | Exception]) -> Iterator[PGconn]:
        """Yield a connection to each address of a host that accepts one."""
        host, port = self._address.hosts[index]
        try:
            places = [""] if host.startswith("/") else addresses_of(host, port, 0, ends - time.monotonic())
        except (OSError, UnicodeError) as error:
            failures.append(error)
            return
        for number, place in enumerate(places):
            share = time.monotonic() + (ends - time.monotonic()) / (len(places) - number)
            own = {"host": host, "port": str(port), "hostaddr": place}
            try:
                yield _opened(make_conninfo(**self._parameters, **own), share)
            except OperationalError as error:
                failures.append(error if isinstance(error, DeadlinePassed) else str(error))

    def _prepared(self, opened: PGconn, ends: float) -> TimedConnection:
        connection = TimedConnection(opened)
        connection.ends = ends
        try:
            connection.autocommit = True
            connection.prepare_threshold = None
            found = connection.execute("SELECT pg_backend_pid()").fetchone()
            connection.pooled = found != (connection.pgconn.backend_pid,)
            if connection.pooled:
                self._require_schema(connection)
        except BaseException:
            connection.close()
            raise
        if not connection.pooled:
            connection.prepare_threshold = _PREPARED_AFTER
        return connection

    def _require_schema(self, connection: TimedConnection) -> None:
        """Check that a pooler handed on the schema, because another one may contain another table."""
        named = _SCHEMA.findall(self._address.parameters.get("options", ""))
        if not named:
            return
        found = connection.execute("SELECT current_setting('search_path')").fetchone()
        if found is None or _plain(found[0]) != _plain(named[-1]):
            raise OptionsIgnored("the pooler ignores options")


def _plain(schemas: str) -> str:
    """Return the names of schemas without blanks and quotes."""
    return re.sub(r"[\\\s\"']", "", schemas)


def _parameters(address: PostgresAddress) -> dict[str, str]:
    """Return the parameters of each connection.

    Those that are stated here do not come from the environment of the process. An older libpq lacks some of
    them, and behaves as they say.
    """
    several = len(address.hosts) > 1
    own = {
        "dbname": address.database,
        "user": address.user or _system_user(),
        "password": address.password,
        "client_encoding": "UTF8",
        "application_name": "pywry_auth",
        "target_session_attrs": "read-write" if several else "any",
        "sslmode": "prefer",
        "gssencmode": "disable",
        "load_balance_hosts": "disable",
    }
    known = known_options()
    given = {**{name: value for name, value in own.items() if name in known}, **address.parameters}
    given["options"] = " ".join(
        [*(f"-c {name}={value}" for name, value in _SESSION.items()), address.parameters.get("options", "")]
    ).strip()
    return {name: value for name, value in given.items() if value is not None}


def _system_user() -> str | None:
    """Return the name of the user that runs this process; None if it has no name, as in some containers."""
    try:
        import pwd  # Windows has none

        return pwd.getpwuid(os.geteuid()).pw_name
    except (ImportError, KeyError):
        return None


def _opened(parameters: str, ends: float) -> PGconn:
    """Return a new connection of libpq.

    Raises:
        DeadlinePassed: The host was silent.
        OperationalError: The host refused it; the text is libpq's.
    """
    opened = pq.PGconn.connect_start(parameters.encode())
    try:
        while (status := _polled(opened)) != pq.PollingStatus.OK:
            wanted = Wait.R if status == pq.PollingStatus.READING else Wait.W
            _ready(opened.socket, wanted, ends)
            _require_time(ends)
    except BaseException:
        opened.finish()
        raise
    opened.nonblocking = 1
    return opened


def _polled(opened: PGconn) -> pq.PollingStatus:
    status = pq.PollingStatus.FAILED
    if opened.status != pq.ConnStatus.BAD:
        status = pq.PollingStatus(opened.connect_poll())
    if status == pq.PollingStatus.FAILED:
        raise OperationalError(opened.error_message.decode("utf-8", "replace"))
    return status


def _require_time(ends: float) -> None:
    if time.monotonic() >= ends:
        raise DeadlinePassed("the server did not finish in time")


def _ready(descriptor: int, wanted: int, ends: float) -> Ready:
    """Wait until a socket can be read or written.

    Args:
        descriptor: The socket.
        wanted: ``Wait.R``, ``Wait.W`` or both.
        ends: The deadline.

    Raises:
        DeadlinePassed: It could not be used in time.
    """
    seconds = min(max(0.0, ends - time.monotonic()), 3600.0)
    if hasattr(select, "poll"):
        poll = select.poll()
        reads, writes = bool(wanted & Wait.R), bool(wanted & Wait.W)
        poll.register(descriptor, (select.POLLIN if reads else 0) | (select.POLLOUT if writes else 0))
        found = dict(poll.poll(math.ceil(seconds * 1000))).get(descriptor, 0)
        failed = found & ~(select.POLLIN | select.POLLOUT)
        readable, writable = found & select.POLLIN or failed, found & select.POLLOUT or failed
    else:
        reading, writing = [descriptor] if wanted & Wait.R else [], [descriptor] if wanted & Wait.W else []
        some_readable, some_writable, _ = select.select(reading, writing, [], seconds)
        readable, writable, reads, writes = len(some_readable), len(some_writable), True, True
    state = (Ready.R if readable and reads else 0) | (Ready.W if writable and writes else 0)
    if not state:
        raise DeadlinePassed("the server did not answer in time")
    return Ready(state)
