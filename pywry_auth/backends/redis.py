"""A Redis backend, for processes on many machines."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar, cast

from pywry_auth.backend_names import PREFIX, REDIS_URL
from pywry_auth.backends import redis_scripts
from pywry_auth.backends.base import Backend, Terms, UnreadableRecord, When, bounded, require_size, texts
from pywry_auth.backends.options import StorageOptions
from pywry_auth.backends.redis_checks import ServerCheck
from pywry_auth.exceptions import StoreUnavailable

try:
    from redis import RedisError, ResponseError
    from redis.commands.core import Script

    from pywry_auth.backends.redis_clients import as_bytes, open_servers
    from pywry_auth.backends.redis_codes import BROKEN
    from pywry_auth.backends.redis_replicas import Replicas
except ImportError as error:
    raise ImportError(
        f"The Redis backend needs the package {error.name}: pip install 'pywry-auth[redis]'"
    ) from error

_T = TypeVar("_T")

_BATCH = 500  # keys that the server looks at in one step

_WHEN = {When.ALWAYS: b"", When.ABSENT: b"NX", When.PRESENT: b"XX"}


class RedisBackend(Backend):
    """Records as Redis strings ``{prefix}:{key}`` that Redis expires.

    Each operation is one round trip. It fails within two seconds if the server is gone or silent. Threads
    share the connections, which are opened again after a fork. If a connection breaks, or the server became a
    replica, the operation is sent again over a new connection. If the first response was lost, a ``pop`` may
    return None, and a conditional ``put`` may return False, although the operation was done.

    Under Sentinel and in a cluster, each new connection leads to the primary of that moment. Once in a
    second, a process that uses its connections asks whether it is still the primary. In a cluster, all keys
    begin with ``{prefix}:``, so that they are in one slot.

    After the first answer of the server, each process logs a warning if the server is a replica, a sentinel
    or a node of a cluster that the URL does not describe as such, or if it evicts records.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://``, with user, password and database number if needed;
            ``redis+sentinel://HOST:26379,HOST:26379/SERVICE/0``, or ``redis+cluster://HOST:6379,HOST:6379``.
            Reserved characters of the password are percent-encoded (RFC 3986 §2.1).
        prefix: The text at the beginning of all keys, so that several applications can share a server.
        wait_replicas: How many replicas must have the writes of a :meth:`replicated` block; 0 for no wait.

    Raises:
        ValueError: ``url`` is not a valid Redis URL; the text says how to write it, and does not quote it.
    """

    lists_keys = True

    def __init__(self, url: str = REDIS_URL, *, prefix: str = PREFIX, wait_replicas: int = 0) -> None:
        self._servers = open_servers(url, prefix, must_be_known=wait_replicas > 0)
        self._client, self._prefix = self._servers.client, self._servers.prefix
        self._check = ServerCheck(self._client, wait_replicas, self._servers.topology)
        self._replicas = Replicas(self._client, self._name("replicated:mark"), wait_replicas)
        self._get = self._client.register_script(redis_scripts.GET)
        self._get_many = self._client.register_script(redis_scripts.GET_MANY)
        self._rewrite = self._client.register_script(redis_scripts.REWRITE)
        self._put = self._client.register_script(redis_scripts.PUT)
        self._pop = self._client.register_script(redis_scripts.POP)
        self._members = self._client.register_script(redis_scripts.MEMBERS)
        self._prune = self._client.register_script(redis_scripts.PRUNE)
        self._scan = self._client.register_script(redis_scripts.SCAN)
        self._count = self._client.register_script(redis_scripts.COUNT)

    def get(self, key: str) -> bytes | None:
        """Return the live value of ``key``, or None."""
        found = self._find(key)
        return None if isinstance(found, int) else found

    def read(self, key: str) -> bytes | None:
        """Return the live value of ``key``, as :meth:`Backend.read` describes."""
        found = self._find(key)
        if isinstance(found, int):
            raise UnreadableRecord("A stored record is damaged.")
        return found

    def get_many(self, keys: Sequence[str]) -> dict[str, bytes | None]:
        """Return the live values of several keys, as :meth:`Backend.get_many` describes.

        Large values take a round trip each, so that every answer comes in time.
        """
        found: dict[str, bytes | None] = {}
        left_out: list[str] = []
        for begin in range(0, len(keys), _BATCH):
            page = keys[begin : begin + _BATCH]
            answer = self._run(self._get_many, [self._name(key) for key in page], [], reads=True)
            for key, value in zip(page, answer, strict=True):
                if value == redis_scripts.LEFT_OUT:
                    left_out.append(key)
                elif value is not None:
                    found[key] = None if isinstance(value, int) else value
        return found | super().get_many(left_out)

    def put(self, key: str, value: bytes, terms: Terms = Terms()) -> bool:
        """Store a value, as :meth:`Backend.put` describes."""
        require_size(value)
        lifetime = None if terms.ttl is None else _milliseconds(terms.ttl)
        name, group, when = self._name(key), terms.group, terms.when
        if group is None and terms.expected is None and when is When.ALWAYS:
            return bool(self._ask(lambda: self._client.set(name, value, px=lifetime)))
        keys, args = [name], [value, lifetime or b"", _WHEN[when]]
        args += [b"", b""] if terms.expected is None else [b"1", terms.expected]
        if group is not None:
            keys.append(self._group(group))
            args += [_member(key, group), b"" if terms.limit is None else terms.limit]
            args += [self._prefix, as_bytes(_kind(group))]
        return bool(self._run(self._put, keys, args))

    def rewrite(self, key: str, expected: bytes, value: bytes) -> bool:
        """Replace a value, as :meth:`Backend.rewrite` describes."""
        require_size(value)
        return bool(self._run(self._rewrite, [self._name(key)], [expected, value]))

    def pop(self, key: str, expected: bytes | None = None, *, group: str | None = None) -> bytes | None:
        """Remove and return a value, as :meth:`Backend.pop` describes."""
        keys, args = [self._name(key)], [b""]
        if group is not None:
            keys, args = [*keys, self._group(group)], [_member(key, group)]
        if expected is not None:
            args = [*args, expected]
        return cast("bytes | None", self._run(self._pop, keys, args))

    def members(self, group: str) -> list[str]:
        """Return the live keys of a group.

        A large group takes several round trips, so that no other client has to wait.
        """
        live = set[bytes]()
        keys, begin = [self._group(group)], as_bytes(_kind(group))
        for page in self._pages(self._members, keys, [self._prefix, begin]):
            live.update(page)
        return texts(live)

    def keys(self, kind: str) -> Iterator[str]:
        """Return the keys of a kind, as :meth:`Backend.keys` describes.

        Redis answers in batches, between which it serves other clients.
        """
        seen = set[bytes]()  # Redis may return a key twice (SCAN, "Scan guarantees")
        for page in self._pages(self._scan, [self._prefix], [self._pattern(kind), _BATCH]):
            fresh = set(page) - seen
            seen |= fresh
            yield from texts(name.removeprefix(self._prefix) for name in fresh)

    def count(self, key: str, window: float) -> int:
        """Add one to a counter, as :meth:`Backend.count` describes."""
        return int(self._run(self._count, [self._name(key)], [_milliseconds(window)]))

    def prune(self, kind: str, within: float = 0.0) -> int:
        """Remove records that expire soon and return their number.

        Redis itself removes the expired ones.
        """
        if within <= 0:
            return 0
        cursor, removed = b"0", 0
        pattern = self._pattern(kind)
        while True:
            args = (cursor, pattern, _milliseconds(within))
            cursor, count = self._run(self._prune, [self._prefix], args)
            removed += int(count)
            if cursor == b"0":
                return removed

    @contextmanager
    def replicated(self) -> Iterator[None]:
        """Wait for ``wait_replicas`` replicas, as :meth:`Backend.replicated` describes.

        The block costs one more round trip before it and one after it. The wait takes 0.7 seconds at most.
        """
        if not self._replicas.wanted:
            yield
            return
        history = self._ask(self._replicas.history, reads=True)
        yield
        self._ask(lambda: self._replicas.confirm(history))

    def probe(self) -> None:
        """Check that records can be stored, and warn of the server's risks.

        No thread remains that a fork of the process would interrupt.

        Raises:
            StoreUnavailable: They cannot be stored; the text gives the reason.
        """
        with self._check.after():
            super().probe()

    def close(self) -> None:
        """Close the idle connections; a later call opens new ones."""
        self._servers.close()

    def _find(self, key: str) -> bytes | int | None:
        """Return a stored value; a number if it is unreadable."""
        return cast("bytes | int | None", self._run(self._get, [self._name(key)], [], reads=True))

    def _pages(
        self, script: Script, keys: list[bytes], args: Sequence[bytes | str | int]
    ) -> Iterator[list[bytes]]:
        """Yield the pages of a list, whose cursor means something to one server only."""
        cursor, changes = b"0", self._servers.changes
        while True:
            cursor, page = self._run(script, keys, [cursor, *args], reads=True)
            if self._servers.changes != changes:
                raise StoreUnavailable(
                    "Another Redis server became the primary while records were listed: try again."
                )
            yield page
            if cursor == b"0":
                return

    def _name(self, key: str) -> bytes:
        return self._prefix + as_bytes(key)

    def _pattern(self, kind: str) -> bytes:
        """Return the pattern of all keys of a kind, in which no other character has a meaning."""
        return re.sub(rb"[][*?\\]", rb"\\\g<0>", self._name(kind)) + b"*"

    def _group(self, group: str) -> bytes:
        return self._prefix + b"group:" + as_bytes(group)

    def _run(
        self, script: Script, keys: list[bytes], args: Sequence[bytes | str | int], *, reads: bool = False
    ) -> Any:
        return self._ask(lambda: script(keys, args), reads=reads)

    def _ask(self, command: Callable[[], _T], *, reads: bool = False) -> _T:
        """Return the response to a command.

        Args:
            command: One call of redis-py with complete arguments, so that each error comes from redis-py.
            reads: Whether the command writes nothing, so that it may be sent again.
        """

        def attempt() -> _T:
            try:
                answer = self._attempt(command, reads=reads)
            except ResponseError:
                self._check.begin()
                raise
            self._check.begin()  # only now, because the server answers
            return answer

        try:
            return attempt()
        except (RedisError, *BROKEN) as error:
            refused = self._servers.explained(error)
        # Outside of the except clause, because a server may repeat the password, the command and the value.
        raise StoreUnavailable(refused)

    def _attempt(self, command: Callable[[], _T], *, reads: bool) -> _T:
        try:
            return command()
        except (RedisError, *BROKEN) as error:
            if not (self._servers.refused(error) or (reads and isinstance(error, BROKEN))):
                raise
        # If the server became a replica, a new connection finds the primary.
        self._servers.drop()
        return command()


def open_backend(options: StorageOptions) -> RedisBackend:
    """Open the backend that the options describe."""
    return RedisBackend(options.url, prefix=options.prefix, wait_replicas=options.wait_replicas)


def _milliseconds(seconds: float) -> int:
    return max(1, round(bounded(seconds) * 1000))


def _kind(group: str) -> str:
    return group[: group.find(":") + 1]


def _member(key: str, group: str) -> bytes:
    """Return the text that represents a key in a group.

    It omits the kind that both share, because Redis packs members of up to 64 bytes best.
    """
    kind = _kind(group)
    rest = key.removeprefix(kind)
    whole = not key.startswith(kind) or rest.startswith("\0")
    return as_bytes("\0" + key if whole else rest)
