"""Asks the sentinels, or the nodes of a cluster, which server is the primary."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from redis.backoff import NoBackoff
from redis.connection import AbstractConnection, Connection, SSLConnection
from redis.exceptions import AuthenticationError, RedisError
from redis.retry import Retry

from pywry_auth.backends.redis_answers import REFUSED, ask_sentinel, owner, read_sentinel, read_sentinels
from pywry_auth.backends.redis_codes import BROKEN, TopologyFault
from pywry_auth.backends.redis_connections import with_deadline
from pywry_auth.redis_places import Address, RedisPlace

_MOST_ASKED = 7  # servers in one search; the next search begins with the others
_MOST_KNOWN = 32
_REST = 5.0  # seconds until a server that failed is asked again; twice as long after each failure
_LONGEST_REST = 60.0
_LONGEST_IDLE = 60.0  # seconds after which a firewall may have forgotten a connection
_SHORTEST_SECONDS = 0.001
_OF_NETWORK = ("client_name", "socket_keepalive")
_OF_USER = ("username", "password")


@dataclass
class _Informant:
    """One server that is asked."""

    link: AbstractConnection | None = None
    used: float = field(default=float("-inf"))
    failures: int = 0
    rests_until: float = field(default=float("-inf"))


class Informants:
    """The servers that know the primary, as one process asks them; the caller holds a lock.

    The connections stay open. Servers that fail are asked last, and rest for some seconds. Sentinels and
    nodes that others name are remembered.

    Args:
        place: The set-up.
        options: The options of the connections to data servers. Those for the network are used here too.
        key: A key of the site. In a cluster, the owner of its slot is the primary.
        clock: Returns the time in seconds.
    """

    def __init__(
        self,
        place: RedisPlace,
        options: Mapping[str, Any],
        key: bytes,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._place, self._key, self._clock = place, key, clock
        self._is_cluster = place.topology == "cluster"
        self._known = {address: _Informant() for address in place.addresses}
        self._kind: type[AbstractConnection] = (
            SSLConnection if place.url.partition(":")[0] == "rediss" else Connection
        )
        kept = [name for name in options if name in _OF_NETWORK or name.startswith("ssl_")]
        self._options: dict[str, Any] = {name: options[name] for name in kept}
        if self._is_cluster:
            self._options |= {name: options[name] for name in _OF_USER if name in options}
        else:
            self._options |= {"username": place.username or None, "password": place.password or None}
        self.failures: list[Exception] = []

    def primary(self, seconds: float, current: Address | None) -> Address | None:
        """Return the primary, or None if no server answered; ``failures`` then has the reasons.

        Args:
            seconds: The time for all servers.
            current: The last known primary.
        """
        self.failures = []
        ends = self._clock() + seconds
        return self._from_nodes(ends, current) if self._is_cluster else self._from_sentinels(ends, current)

    def doubt(self) -> None:
        """Ask another node of a cluster first; the one that answered last may have an old view."""
        if self._is_cluster:
            for address in [address for address, each in self._known.items() if each.link]:
                self._drop(address)
                self._known[address] = self._known.pop(address)

    def close(self) -> None:
        """Close the open connections; a later question opens them again."""
        for address in self._known:
            self._drop(address)

    def _from_nodes(self, ends: float, current: Address | None) -> Address | None:
        """Return the answer of the first node that gives one.

        A node without a majority of the cluster refuses the command by itself.
        """
        order = sorted(self._known, key=lambda address: address == current)  # cut off, it names itself
        asked = order[:_MOST_ASKED]
        for index, address in enumerate(asked):
            try:
                link = self._opened(address, self._share(ends, len(asked) - index))
                found = owner(link, address, self._key)
            except (RedisError, *BROKEN) as error:
                self._fail(address, error)
            else:
                self._succeed(address)
                self._remember([found])
                return found
        return None

    def _from_sentinels(self, ends: float, current: Address | None) -> Address | None:
        """Return the answer of the newest configuration, which has the highest epoch.

        A sentinel that was cut off or has just started has an old one. Among answers of the same epoch, or
        of users who may not read it, the address that most sentinels name is the primary.
        """
        answers: list[tuple[int, Address]] = []
        asked: list[Address] = []
        while batch := self._next(asked, again=not answers):
            asked += batch
            answers += self._ask_all(batch, ends)
        votes = Counter(address for _, address in answers)
        best = max(answers, key=lambda each: (each[0], votes[each[1]], each[1] == current), default=(0, None))
        return best[1]

    def _next(self, asked: Sequence[Address], *, again: bool) -> list[Address]:
        """Return the sentinels to ask next: also those that rest, if no other one answered."""
        left = [address for address in self._known if address not in asked]
        ready = [address for address in left if self._known[address].rests_until <= self._clock()]
        return (ready or (left if again else []))[: max(0, _MOST_ASKED - len(asked))]

    def _ask_all(self, batch: Sequence[Address], ends: float) -> list[tuple[int, Address]]:
        """Send the questions to all sentinels before the first answer is read."""
        answers: list[tuple[int, Address]] = []
        waiting: list[tuple[Address, AbstractConnection, bool]] = []
        for index, address in enumerate(batch):
            before = self._known[address].link
            try:
                link = self._opened(address, self._share(ends, len(batch) - index + 1))
                is_new = link is not before
                ask_sentinel(link, self._place.service, asks_others=is_new)
            except (RedisError, *BROKEN) as error:
                self._fail(address, error)
            else:
                waiting.append((address, link, is_new))
        for index, (address, link, is_new) in enumerate(waiting):
            try:
                _limit(link, self._share(ends, len(waiting) - index))
                answers.append(read_sentinel(link))
                self._remember(read_sentinels(link) if is_new else [])
            except (RedisError, *BROKEN) as error:
                self._fail(address, error)
            else:
                self._succeed(address)
        return answers

    def _opened(self, address: Address, seconds: float) -> AbstractConnection:
        """Return a connection, which is a new one unless the last one can still be used."""
        informant = self._known[address]
        if informant.link is not None and not self._is_usable(informant, informant.link):
            self._drop(address)
        if informant.link is None:
            host, port = address
            waits = {"socket_timeout": seconds, "socket_connect_timeout": seconds}
            options = {**self._options, **waits, "protocol": 2, "retry": Retry(NoBackoff(), 0)}
            informant.link = with_deadline(self._kind)(host=host, port=port, **options)  # type: ignore[call-arg]
            informant.link.connect()  # type: ignore[no-untyped-call]
        _limit(informant.link, seconds)
        return informant.link

    def _is_usable(self, informant: _Informant, link: AbstractConnection) -> bool:
        """Return whether a connection is open, was used lately, and has no answer that was not read."""
        try:
            return self._clock() - informant.used < _LONGEST_IDLE and not link.can_read(0)
        except (RedisError, *BROKEN):
            return False

    def _share(self, ends: float, parts: int) -> float:
        return max((ends - self._clock()) / parts, _SHORTEST_SECONDS)

    def _succeed(self, address: Address) -> None:
        informant = self._known[address]
        informant.failures, informant.rests_until, informant.used = 0, float("-inf"), self._clock()

    def _fail(self, address: Address, error: Exception) -> None:
        """Note a failure, and ask this server last from now on."""
        is_refused = isinstance(error, AuthenticationError) and not self._is_cluster
        self.failures.append(TopologyFault(REFUSED) if is_refused else error)
        self._drop(address)
        informant = self._known[address] = self._known.pop(address)
        rest = min(_REST * 2.0 ** min(informant.failures, 10), _LONGEST_REST)
        informant.failures, informant.rests_until = informant.failures + 1, self._clock() + rest

    def _remember(self, addresses: Sequence[Address]) -> None:
        for address in addresses:
            if len(self._known) < _MOST_KNOWN:
                self._known.setdefault(address, _Informant())

    def _drop(self, address: Address) -> None:
        link, self._known[address].link = self._known[address].link, None
        if link is not None:
            with suppress(RedisError, *BROKEN):
                link.disconnect()  # type: ignore[no-untyped-call]


def _limit(link: AbstractConnection, seconds: float) -> None:
    """Set the time limit of the next answer of an open connection."""
    opened: Any = link
    opened.socket_timeout = seconds
    opened._sock.settimeout(seconds)
