"""A PostgreSQL backend, for processes on many machines."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from pywry_auth.backend_names import PREFIX
from pywry_auth.backends.base import Backend, Terms, UnreadableRecord, bounded, require_size, texts
from pywry_auth.backends.lease import LEASE, Lease, Moment, RenewedLease
from pywry_auth.backends.options import StorageOptions
from pywry_auth.exceptions import StoreUnavailable
from pywry_auth.per_process import PerProcess
from pywry_auth.postgres_url import PostgresAddress, postgres_url

try:
    from psycopg import Error, OperationalError
    from psycopg.errors import UndefinedTable

    from pywry_auth.backends import postgres_statements as statements
    from pywry_auth.backends.postgres_checks import risks
    from pywry_auth.backends.postgres_connections import LIMIT, Connector, TimedConnection
    from pywry_auth.backends.postgres_errors import explained, not_created
    from pywry_auth.backends.postgres_libpq import known_options, libpq_version, newer_than_libpq
    from pywry_auth.backends.postgres_locks import HeldLock, LockSession, lock_number
    from pywry_auth.backends.postgres_pool import PostgresPool
except ImportError as error:
    if error.name is None:  # of an absent package, Python gives the name
        raise ImportError(
            "psycopg finds no libpq, the client library of PostgreSQL: pip install 'psycopg[binary]', or"
            " install the library of the system (Debian: apt-get install libpq5)"
        ) from error
    raise ImportError(
        f"The PostgreSQL backend needs the package {error.name}: pip install 'pywry-auth[postgres]'"
    ) from error

_logger = logging.getLogger("pywry_auth.backends")

_T = TypeVar("_T")
_Row = Mapping[str, object]

_BROKEN = (OSError, ValueError)
"""The errors other than its own that psycopg raises if a connection is closed while in use."""

_REPEATED = frozenset({"25006", "57P01", "57P02", "57P03", "40001", "40P01"})
"""The errors after which a statement is sent again, because the server undid it."""

_INDEXED = 1000  # bytes of a key that stand in the index; a longer key is represented by its digest
_LONG = b"\xfe"  # a byte that no key contains, before the digest
_AFTER = b"\xff"  # a byte above all others
_PAGE = 500  # keys of one statement
_SWEPT_EVERY = 16  # stored records, after which expired ones are removed
_SWEPT = 64  # expired records that are removed at once; more than are stored in the meantime


class PostgresBackend(Backend):
    """Records in the table ``pywry_auth_records``, whose keys begin with ``{prefix}:``.

    The table is created at the first use. Later writes remove expired records, a few at a time, so that it
    stays bounded without a job. Each operation is one statement, and fails within two seconds if the server
    is gone or silent. If a connection breaks, or the server became a standby, a read is sent again over a new
    connection, and so is a write that the server undid.

    A lock ends with the connection of its process, so that the lock of a killed process is free at once.
    Through a pooler (PgBouncer), which gives connections to several clients, it is a lease instead.

    Args:
        url: ``postgresql://user:password@host:5432/database``, perhaps with several hosts, of which the first
            that accepts writes is used. Reserved characters of the password are percent-encoded (RFC 3986
            §2.1).
        prefix: The text at the beginning of all keys, so that several applications can share a table.

    Raises:
        ValueError: ``url`` is empty or not valid; the text says how to write it, and does not quote it.
    """

    lists_keys = True

    def __init__(self, url: str, *, prefix: str = PREFIX) -> None:
        address = _address(url)
        self._prefix = _bytes(prefix + ":")
        connector = Connector(address)
        self._pool = PerProcess(lambda: PostgresPool(connector, address.most_connections))
        self._locks = PerProcess(lambda: LockSession(connector))
        self._stored = 0  # only roughly, because threads share it

    def get(self, key: str) -> bytes | None:
        """Return the live value of ``key``, or None."""
        row = self._rows(statements.GET, {"key": self._name(key)}, reads=True)
        return row[0][0] if row else None

    def read(self, key: str) -> bytes | None:
        """Return the live value of ``key``, as :meth:`Backend.read` describes."""
        row = self._rows(statements.GET, {"key": self._name(key)}, reads=True)
        if row and row[0][0] is None:
            raise UnreadableRecord("A stored record is damaged.")
        return row[0][0] if row else None

    def get_many(self, keys: Sequence[str]) -> dict[str, bytes | None]:
        """Return the live values of several keys, as :meth:`Backend.get_many` describes.

        Large values take a round trip each, so that every answer comes in time.
        """
        found: dict[bytes, bytes | None] = {}
        for begin in range(0, len(keys), _PAGE):
            page = [self._name(key) for key in keys[begin : begin + _PAGE]]
            found.update(self._rows(statements.GET_MANY, {"keys": page}, reads=True))
        values = {key: found[name] for key in keys if (name := self._name(key)) in found}
        return values | super().get_many([key for key, value in values.items() if value is None])

    def put(self, key: str, value: bytes, terms: Terms = Terms()) -> bool:
        """Store a value, as :meth:`Backend.put` describes."""
        require_size(value)
        row = {**self._key(key), "value": value, "group": None, **_lifetime(terms.ttl)}
        statement = statements.PUT[terms.when]
        if terms.expected is not None:
            row["expected"], statement = terms.expected, statements.COMPARE_AND_PUT
        if terms.group is not None:
            row["group"] = self._group(terms.group)
        if terms.group is None or terms.limit is None:
            stored = self._changed(statement, row)
        else:
            row |= {"limit": terms.limit, "lock": lock_number(b"group\0" + self._group(terms.group))}
            stored = self._run(lambda connection: _put_limited(connection, statement, row))
        if stored:
            self._sweep()
        return stored

    def rewrite(self, key: str, expected: bytes, value: bytes) -> bool:
        """Replace a value, as :meth:`Backend.rewrite` describes."""
        require_size(value)
        row = {"key": self._name(key), "expected": expected, "value": value}
        return self._changed(statements.REWRITE, row)

    def pop(self, key: str, expected: bytes | None = None, *, group: str | None = None) -> bytes | None:
        """Remove and return a value, as :meth:`Backend.pop` describes."""
        row = {"key": self._name(key), "expected": expected}
        found = self._rows(statements.POP if expected is None else statements.COMPARE_AND_POP, row)
        return found[0][0] if found else None

    def members(self, group: str) -> list[str]:
        """Return the live keys of a group."""
        rows = self._rows(statements.MEMBERS, {"group": self._group(group)}, reads=True)
        return texts(name.removeprefix(self._prefix) for (name,) in rows)

    def keys(self, kind: str) -> Iterator[str]:
        """Return the keys of a kind, as :meth:`Backend.keys` describes.

        No connection is held between two pages of keys.
        """
        row = {**self._range(kind), "page": _PAGE}
        while True:
            rows = self._rows(statements.KEYS, row, reads=True)
            for key in texts(whole.removeprefix(self._prefix) for _, whole in rows):
                if key.startswith(kind):  # of a long kind, the index contains only the beginning
                    yield key
            if len(rows) < _PAGE:
                return
            row["begin"] = rows[-1][0] + b"\0"  # the first text after that key

    def count(self, key: str, window: float) -> int:
        """Add one to a counter, as :meth:`Backend.count` describes."""
        rows = self._rows(statements.COUNT, {**self._key(key), **_lifetime(window)})
        if rows[0][0] == 1:
            self._sweep()
        return int(rows[0][0])

    def prune(self, kind: str, within: float = 0.0) -> int:
        """Remove expired records, as :meth:`Backend.prune` describes.

        Each step removes a part of them, so that no other client waits for long.
        """
        row = {**self._range(kind), "within": within, "page": _PAGE}
        removed = 0
        while count := self._run(lambda connection: connection.execute(statements.PRUNE, row).rowcount):
            removed += count
        return removed

    def probe(self) -> None:
        """Check that records can be stored, and warn of the server's risks.

        Raises:
            StoreUnavailable: They cannot be stored; the text gives the reason.
        """
        super().probe()
        for risk in risks(self._rows(statements.RISKS, {}, reads=True)[0]):
            _logger.warning("%s", risk)

    def close(self) -> None:
        """Close the idle connections; a later call opens new ones."""
        self._pool().close_idle()
        self._locks().close()

    @contextmanager
    def lock(self, key: str, wait: float, lease: float = LEASE) -> Iterator[Lease]:
        """Hold a lock while the ``with`` block runs, as :meth:`Backend.lock` describes.

        The lock ends with the connection of the process. A thread looks after the connection while the block
        runs, and :meth:`Lease.left` returns 0.0 as soon as this process notices that it broke.
        """
        locks = self._locks()
        if self._explained(locks.is_pooled):
            with super().lock(key, wait, lease) as leased:
                yield leased
            return
        number = lock_number(b"lock\0" + self._name(key))
        taken, begun = self._in_turn(lambda: self._taken(locks, number), wait)
        renewed = RenewedLease(lease, begun, lambda: self._explained(lambda: locks.confirm(taken)))
        try:
            with renewed.kept():
                yield _SessionLease(renewed, lambda: locks.is_held(taken))
        finally:
            try:
                locks.release(taken)
            except (Error, *_BROKEN):
                _logger.warning("the connection of the locks broke: all locks of this process are released")

    def _taken(self, locks: LockSession, number: int) -> tuple[HeldLock, Moment] | None:
        begun = Moment()
        taken = self._explained(lambda: locks.acquire(number))
        return (taken, begun) if taken else None

    def _sweep(self) -> None:
        """Remove some expired records, after every few stored ones."""
        self._stored += 1
        if self._stored % _SWEPT_EVERY:
            return
        try:
            self._run(lambda connection: connection.execute(statements.SWEEP, {"page": _SWEPT}))
        except StoreUnavailable as error:
            _logger.debug("expired records were not removed: %s", error)

    def _rows(self, statement: str, row: _Row, *, reads: bool = False) -> list[Any]:
        return self._run(
            lambda connection: connection.execute(statement, row, binary=True).fetchall(), reads=reads
        )

    def _changed(self, statement: str, row: _Row) -> bool:
        return self._run(lambda connection: connection.execute(statement, row).rowcount > 0)

    def _run(self, work: Callable[[TimedConnection], _T], *, reads: bool = False) -> _T:
        """Return the result of some statements.

        Args:
            work: Sends the statements.
            reads: Whether they write nothing, so that they may be sent again.
        """

        def attempt() -> _T:
            ends = time.monotonic() + LIMIT
            try:
                return self._once(work, ends)
            except (Error, *_BROKEN) as error:
                if not _may_repeat(error, reads=reads) or time.monotonic() >= ends:
                    raise
            # A new connection finds the server that accepts writes. An idle one may have ended too.
            return self._once(work, ends, fresh=True)

        return self._explained(attempt)

    def _once(self, work: Callable[[TimedConnection], _T], ends: float, *, fresh: bool = False) -> _T:
        with self._pool().connection(ends, fresh=fresh) as connection:
            try:
                return work(connection)
            except UndefinedTable:
                _create(connection)
            return work(connection)

    def _explained(self, work: Callable[[], _T]) -> _T:
        try:
            return work()
        except _NotCreated as error:
            refused = error.words
        except (Error, *_BROKEN) as error:
            refused = explained(error)
        # Outside of the except clause, because a server may repeat the names, the keys and the values.
        raise StoreUnavailable(refused)

    def _key(self, key: str) -> dict[str, object]:
        name = self._prefix + _bytes(key)
        indexed = _indexed(name)
        return {"key": indexed, "whole": None if indexed == name else name}

    def _name(self, key: str) -> bytes:
        return _indexed(self._prefix + _bytes(key))

    def _group(self, group: str) -> bytes:
        return _indexed(self._prefix + _bytes(group))

    def _range(self, kind: str) -> dict[str, object]:
        begin = (self._prefix + _bytes(kind))[:_INDEXED]
        return {"begin": begin, "end": begin + _AFTER}


class _SessionLease:
    """A lock that ends with a connection.

    Args:
        renewed: The lease that a thread renews by asking the server.
        is_held: Returns whether the connection is still there.
    """

    def __init__(self, renewed: RenewedLease, is_held: Callable[[], bool]) -> None:
        self._renewed = renewed
        self._is_held = is_held

    def left(self) -> float:
        """Return the seconds for which the lock certainly stays held."""
        left = self._renewed.left()
        return left if left > 0 and self._is_held() else 0.0


class _NotCreated(Error):
    """The table is missing and could not be created.

    Args:
        words: The condition and its remedy.
    """

    def __init__(self, words: str) -> None:
        super().__init__(words)
        self.words = words


def open_backend(options: StorageOptions) -> PostgresBackend:
    """Open the backend that the options describe."""
    return PostgresBackend(options.url, prefix=options.prefix)


def _address(url: str) -> PostgresAddress:
    if not url:
        raise ValueError(
            "the PostgreSQL URL is missing: set PYWRY_DEPLOY__POSTGRES_URL, for example to"
            " postgresql://user:password@host:5432/database"
        )
    try:
        address = postgres_url(url)
        if fault := newer_than_libpq(address.parameters, known_options(), libpq_version()):
            raise ValueError(fault)
    except ValueError as error:
        raise ValueError(
            "the PostgreSQL URL (PYWRY_DEPLOY__POSTGRES_URL), in the form"
            f" postgresql://user:password@host:5432/database, is not valid: {error}"
        ) from None
    if address.parameters.get("sslmode") in ("require", "verify-ca"):
        _logger.warning(
            "the name in the certificate of the PostgreSQL server is not checked: write sslmode=verify-full"
            " in PYWRY_DEPLOY__POSTGRES_URL, with sslrootcert=/path/of/its/authority.pem"
        )
    return address


def _put_limited(connection: TimedConnection, statement: str, row: _Row) -> bool:
    """Store a member of a group, and remove the oldest ones beyond the limit."""
    with connection.transaction():
        connection.execute(statements.GROUP_LOCK, row)
        stored = connection.execute(statement, row).rowcount > 0
        connection.execute(statements.LIMIT_GROUP, row)
    return stored


def _create(connection: TimedConnection) -> None:
    """Create the table and its indexes."""
    try:
        with connection.transaction():
            connection.execute(statements.DDL_LOCK)
            for statement in statements.DDL:
                connection.execute(statement)
    except Error as error:
        words = not_created(error)
        if not words:
            raise
    else:
        return
    raise _NotCreated(words)


def _may_repeat(error: Exception, *, reads: bool) -> bool:
    """Return whether a statement may be sent again after an error."""
    if not isinstance(error, Error):
        return reads
    return error.sqlstate in _REPEATED or (reads and _is_broken(error))


def _is_broken(error: Error) -> bool:
    return type(error) is OperationalError and error.sqlstate is None


def _indexed(name: bytes) -> bytes:
    return name if len(name) <= _INDEXED else name[:_INDEXED] + _LONG + hashlib.sha256(name).digest()


def _lifetime(seconds: float | None) -> dict[str, object]:
    return {"ttl": None if seconds is None else bounded(seconds)}


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
