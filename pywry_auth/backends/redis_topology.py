"""Finds the primary of a Redis service under Sentinel, or of a site's slot in a cluster.

All keys of a site are in one slot, because a record and its index change in one step. So both kinds of
set-ups have one primary for the site, and only its address changes.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from redis.backoff import NoBackoff
from redis.connection import AbstractConnection, Connection, SSLConnection
from redis.exceptions import AuthenticationError, ConnectionError, RedisError, ResponseError, TimeoutError
from redis.retry import Retry

from pywry_auth.backends.redis_codes import TopologyFault, TopologySilent, code_of, moved_to
from pywry_auth.backends.redis_connections import with_deadline
from pywry_auth.backends.redis_errors import explained
from pywry_auth.per_process import PerProcess
from pywry_auth.redis_places import Address, RedisPlace

_logger = logging.getLogger("pywry_auth.backends")

_BROKEN = (OSError, EOFError, ValueError, AttributeError, TypeError)
_EVERY = 1.0  # seconds between two questions for the primary, while connections are in use
_AFTER_FAILURE = 5.0  # seconds until the next question after one without an answer
_PART = 0.5  # of the time for a new connection
_MOST_ASKED = 5  # servers in one search; the next search begins with the others
_MOST_KNOWN = 32
_SHORTEST_SECONDS = 0.001
_URL = "PYWRY_DEPLOY__REDIS_URL"
_NO_SERVICE = f"the sentinels know no service of this name: correct the name behind their addresses in {_URL}"
_NO_SENTINEL = (
    f"a server that {_URL} names is not a sentinel: name the sentinels with their ports (26379), or write"
    " redis:// for one server"
)
_REFUSED = (
    "the sentinels require other credentials: write sentinel_password= and, if they have users,"
    f" sentinel_username= in the query of {_URL} (percent-encoded)"
)
_OF_NETWORK = ("client_name", "socket_keepalive")
_OF_USER = ("username", "password")


class _State:
    """What one process knows about a set-up; the lock guards all members.

    The lock is held while a server is asked, so that one thread asks and the others get its answer.
    """

    def __init__(self, addresses: Sequence[Address]) -> None:
        self.lock = threading.Lock()
        self.order = list(addresses)
        self.link: tuple[Address, AbstractConnection] | None = None
        self.found: Address | None = None
        self.asked = self.due = self.silent_until = float("-inf")
        self.changes = 0


class PrimaryFinder:
    """Asks the sentinels or the nodes of a cluster for the primary.

    One connection to the server that answered last stays open in each process. Servers that fail are asked
    last. Sentinels and nodes that others name are remembered.

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
        self._scheme = place.url.partition(":")[0]
        limit = float(options.get("socket_connect_timeout") or 1.0)
        self._seconds = limit * _PART
        self._state = PerProcess(lambda: _State(place.addresses))
        kept = [name for name in options if name in _OF_NETWORK or name.startswith("ssl_")]
        self._options: dict[str, Any] = {name: options[name] for name in kept}
        if place.topology == "cluster":
            self._options |= {name: options[name] for name in _OF_USER if name in options}
        else:
            self._options |= {"username": place.username or None, "password": place.password or None}

    @property
    def changes(self) -> int:
        """The number of times that another server became the primary, as far as this process knows."""
        return self._state().changes

    def primary(self, seconds: float) -> Address:
        """Return the address of the primary, asked for during this call.

        While no server answers, it is the last known one: then there is no failover that this process could
        learn of, and open connections stay in use too.

        Args:
            seconds: The time that the caller has.

        Raises:
            TopologyFault: No server ever named the primary; the sentence gives the reason.
        """
        state, begun = self._state(), self._clock()
        if not state.lock.acquire(timeout=seconds):
            raise TopologySilent(self._sentence("they do not answer in time"))
        try:
            is_answered = state.asked > begun  # by another thread in the meantime
            if not is_answered and self._clock() >= state.silent_until:
                self._search(state)
            if state.found is None:
                raise TopologyFault(self._sentence("they do not answer"))
            return state.found
        finally:
            state.lock.release()

    def is_current(self, address: Address) -> bool:
        """Return whether a server is the primary, as of a moment ago.

        Once in a second, the first caller asks. Without an answer, nothing changes.

        Args:
            address: The address of the server.
        """
        state = self._state()
        if state.found is not None and self._clock() >= state.due and state.lock.acquire(blocking=False):
            try:
                self._search(state)
            finally:
                state.lock.release()
        return state.found in (None, address)

    def doubt(self) -> None:
        """Note that the primary did not behave like one: another server is asked, and soon."""
        state = self._state()
        state.due = state.silent_until = float("-inf")
        if state.lock.acquire(blocking=False):
            try:
                self._drop_link(state)
            finally:
                state.lock.release()

    def close(self) -> None:
        """Close the open connection; a later call opens one again."""
        self.doubt()

    def _search(self, state: _State) -> None:
        """Find the primary; without an answer, the last known one stays.

        Raises:
            TopologyFault: There is neither.
        """
        order = state.order
        if self._place.topology == "cluster":  # a primary that was cut off still names itself
            order = sorted(order, key=lambda address: address == state.found)
        asked = order[:_MOST_ASKED]
        failures: list[Exception] = []
        for address in asked:
            try:
                found = self._ask(state, address, self._seconds / len(asked))
            except (RedisError, *_BROKEN) as error:
                failures.append(error)
                self._drop_link(state, address)
            else:
                self._note(state, found)
                return
        fault = self._fault(max(failures, key=_tells))
        state.due = state.silent_until = self._clock() + _AFTER_FAILURE
        if state.found is None:
            state.silent_until = float("-inf")
            raise fault
        _logger.debug("the last known primary of Redis is used: %s", fault.sentence)

    def _fault(self, error: Exception) -> TopologyFault:
        """Return an error without the texts of servers; it is raised while no other error is handled."""
        if isinstance(error, TopologyFault):
            return TopologyFault(error.sentence)
        answered = isinstance(error, ResponseError)
        words = explained(error, self._scheme, self._place.topology if answered else "")
        sentence = self._sentence(words[0].lower() + words[1:].removesuffix("."))
        return TopologySilent(sentence) if isinstance(error, TimeoutError) else TopologyFault(sentence)

    def _sentence(self, words: str) -> str:
        servers = "sentinel" if self._place.topology == "sentinel" else "node of the cluster"
        return f"no {servers} names the primary: {words}"

    def _ask(self, state: _State, address: Address, seconds: float) -> Address:
        is_new = state.link is None or state.link[0] != address
        if is_new:
            self._drop_link(state)
            state.link = (address, self._connection(address, max(seconds, _SHORTEST_SECONDS)))
        assert state.link is not None  # noqa: S101
        link = state.link[1]
        if self._place.topology == "cluster":
            found = _owner(link, address, self._key)
            self._remember(state, [found])
        else:
            found = _named(link, self._place.service)
            if is_new:
                self._remember(state, _sentinels(link, self._place.service))
        return found

    def _connection(self, address: Address, seconds: float) -> AbstractConnection:
        kind: type[AbstractConnection] = SSLConnection if self._scheme == "rediss" else Connection
        waits = {"socket_timeout": seconds, "socket_connect_timeout": seconds}
        host, port = address
        options = {**self._options, **waits, "protocol": 2, "retry": Retry(NoBackoff(), 0)}
        return with_deadline(kind)(host=host, port=port, **options)  # type: ignore[call-arg]

    def _note(self, state: _State, found: Address) -> None:
        if state.found not in (None, found):
            state.changes += 1
        state.found, state.asked = found, self._clock()
        state.due = state.asked + _EVERY

    def _remember(self, state: _State, addresses: Sequence[Address]) -> None:
        new = [address for address in addresses if address not in state.order]
        state.order += new[: max(0, _MOST_KNOWN - len(state.order))]

    def _drop_link(self, state: _State, failed: Address | None = None) -> None:
        """Close the open connection, and ask its server last from now on."""
        if state.link is not None:
            address, link = state.link
            state.link = None
            with suppress(RedisError, *_BROKEN):
                link.disconnect()  # type: ignore[no-untyped-call]
            failed = failed or address
        if failed in state.order:
            state.order = [address for address in state.order if address != failed] + [failed]


def _tells(error: Exception) -> int:
    """Return how much an error says about the settings; a server that is down says least."""
    return 2 * isinstance(error, TopologyFault) + (type(error) not in (ConnectionError, TimeoutError))


def _named(link: AbstractConnection, service: str) -> Address:
    """Return the primary according to a sentinel."""
    try:
        reply = _reply(link, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", service)
    except AuthenticationError:
        reason = _REFUSED
    except ResponseError as error:
        if code_of(error) != "unknown":
            raise
        reason = _NO_SENTINEL
    else:
        reason = "" if reply else _NO_SERVICE
    if reason:
        raise TopologyFault(reason)
    host, port = reply
    return host.decode(), int(port)


def _sentinels(link: AbstractConnection, service: str) -> list[Address]:
    """Return the other sentinels according to one; none if it does not say."""
    with suppress(RedisError, KeyError, *_BROKEN):
        found = []
        for fields in _reply(link, "SENTINEL", "SENTINELS", service):
            sentinel = dict(zip(fields[::2], fields[1::2], strict=True))
            found.append((sentinel[b"ip"].decode(), int(sentinel[b"port"])))
        return found
    return []


def _owner(link: AbstractConnection, address: Address, key: bytes) -> Address:
    """Return the owner of a key's slot according to a node of a cluster.

    Every node says it with the rights that the site has anyway, and in a short answer.
    """
    try:
        _reply(link, "EXISTS", key)
    except RedisError as error:
        if code_of(error) == "ASK":  # the slot is being moved, and this node still owns it
            return address
        owner = moved_to(error)
        if owner is None:
            raise
    else:
        return address
    return owner[0] or address[0], owner[1]  # a node that does not know the host means its own


def _reply(link: AbstractConnection, *command: str | bytes) -> Any:
    link.send_command(*command)  # type: ignore[no-untyped-call]
    return link.read_response()
