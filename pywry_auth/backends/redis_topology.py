"""Finds the primary of a Redis service under Sentinel, or of a site's slot in a cluster.

All keys of a site are in one slot, because a record and its index change in one step. So both kinds of
set-ups have one primary for the site, and only its address changes.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from redis.exceptions import ConnectionError, ResponseError, TimeoutError

from pywry_auth.backends.redis_codes import TopologyFault, TopologySilent
from pywry_auth.backends.redis_errors import explained
from pywry_auth.backends.redis_informants import Informants
from pywry_auth.per_process import PerProcess
from pywry_auth.redis_places import Address, RedisPlace, in_form

_logger = logging.getLogger("pywry_auth.backends")

_EVERY = 1.0  # seconds between two questions for the primary, while connections are in use
_AFTER_FAILURE = 5.0  # seconds until the next question after one without an answer
_PART = 0.5  # of the time for a new connection
_CONFIRMED_FOR = 10.0  # seconds

_SERVERS = {"sentinel": "sentinel", "cluster": "node of the cluster"}
_UNCONFIRMED = "for 10 seconds, %s; %s"
_IN_USE = "the last known primary of Redis stays in use, although it may have been replaced"
_REFUSING = "operations fail until one names it, because PYWRY_DEPLOY__REDIS_WAIT_REPLICAS is above 0"
_TOO_LONG = (
    "the last answer is older than 10 seconds, and the primary may have been replaced: start the servers that"
    " PYWRY_DEPLOY__REDIS_URL names, or restore the network to them"
)


class _State:
    """What one process knows about a set-up; the lock guards all members.

    The lock is held while servers are asked, so that one thread asks and the others get its answer.
    """

    def __init__(self, informants: Informants) -> None:
        self.lock = threading.Lock()
        self.informants = informants
        self.found: Address | None = None
        self.asked = self.due = self.silent_until = float("-inf")
        self.changes = 0
        self.is_confirmed = True


class PrimaryFinder:
    """Asks the sentinels or the nodes of a cluster for the primary.

    Args:
        place: The set-up.
        options: The options of the connections to data servers.
        key: A key of the site. In a cluster, the owner of its slot is the primary.
        must_be_known: Whether operations fail if the primary has not been named for 10 seconds. Otherwise,
            the last known one stays in use without a limit.
        clock: Returns the time in seconds.
    """

    def __init__(
        self,
        place: RedisPlace,
        options: Mapping[str, Any],
        key: bytes,
        *,
        must_be_known: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._place, self._clock = place, clock
        self._scheme = place.url.partition(":")[0]
        self._must_be_known = must_be_known
        self._limit = float(options.get("socket_connect_timeout") or 1.0)
        self._state = PerProcess(lambda: _State(Informants(place, dict(options), key, clock=clock)))

    @property
    def changes(self) -> int:
        """The number of times that another server became the primary, as far as this process knows."""
        return self._state().changes

    @property
    def last_known(self) -> Address | None:
        """The server that was named last as the primary."""
        return self._state().found

    def primary(self, seconds: float) -> Address:
        """Return the address of the primary, asked for during this call.

        While no server answers, it is the last known one: then there is no failover that this process could
        learn of, and open connections stay in use too.

        Args:
            seconds: The time that the caller has.

        Raises:
            TopologyFault: No server ever named the primary, or none has for 10 seconds although it must be
                known; the sentence gives the reason.
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
            if self._must_be_known and not self._is_confirmed(state):
                raise TopologyFault(self._sentence(_TOO_LONG))
            return state.found
        finally:
            state.lock.release()

    def is_current(self, address: Address) -> bool:
        """Return whether a server is the primary, as of a moment ago.

        Once in a second, the first caller asks. Without an answer, nothing changes.

        Args:
            address: The address of the server.

        Raises:
            TopologyFault: The primary must be known, and no server has named it for 10 seconds.
        """
        state = self._state()
        if state.found is not None and self._clock() >= state.due and state.lock.acquire(blocking=False):
            try:
                self._search(state)
            finally:
                state.lock.release()
        if self._must_be_known and state.found is not None and not self._is_confirmed(state):
            return self.primary(self._limit) == address  # another thread may be asking
        return state.found in (None, address)

    def doubt(self) -> None:
        """Note that the primary did not behave like one: the next caller asks again."""
        self._forget(Informants.doubt)

    def close(self) -> None:
        """Close the open connections; a later call opens them again."""
        self._forget(Informants.close)

    def _forget(self, what: Callable[[Informants], None]) -> None:
        state = self._state()
        state.due = state.silent_until = float("-inf")
        if state.lock.acquire(blocking=False):
            try:
                what(state.informants)
            finally:
                state.lock.release()

    def _search(self, state: _State) -> None:
        """Find the primary; without an answer, the last known one stays.

        Raises:
            TopologyFault: There is neither.
        """
        found = state.informants.primary(self._limit * _PART, state.found)
        if found is not None:
            self._note(state, found)
            return
        fault = self._fault(max(state.informants.failures, key=_tells))
        is_missed = self._must_be_known and not self._is_confirmed(state)
        state.due = state.silent_until = self._clock() + (_EVERY if is_missed else _AFTER_FAILURE)
        if state.found is None:
            state.silent_until = float("-inf")
            raise fault
        _logger.debug("the last known primary of Redis is used: %s", fault.sentence)
        if state.is_confirmed and not self._is_confirmed(state):
            state.is_confirmed = False
            effect = _REFUSING if self._must_be_known else _IN_USE
            _logger.warning(_UNCONFIRMED, fault.sentence, effect)

    def _is_confirmed(self, state: _State) -> bool:
        return self._clock() - state.asked <= _CONFIRMED_FOR

    def _note(self, state: _State, found: Address) -> None:
        if state.found not in (None, found):
            state.changes += 1
        state.found, state.asked = found, self._clock()
        state.due = state.asked + _EVERY
        if not state.is_confirmed:
            state.is_confirmed = True
            _logger.warning("a %s names the primary of Redis again", self._server)

    def _fault(self, error: Exception) -> TopologyFault:
        """Return an error without the texts of servers; it is raised while no other error is handled."""
        if isinstance(error, TopologyFault):
            return TopologyFault(error.sentence)
        topology = self._place.topology
        words = explained(error, self._scheme, topology if isinstance(error, ResponseError) else "")
        words = in_form(words, topology).removesuffix(".")
        words = words if words.startswith("Redis") else words[0].lower() + words[1:]
        sentence = self._sentence(words)
        return TopologySilent(sentence) if isinstance(error, TimeoutError) else TopologyFault(sentence)

    def _sentence(self, words: str) -> str:
        return f"no {self._server} names the primary: {words}"

    @property
    def _server(self) -> str:
        return _SERVERS[self._place.topology]


def _tells(error: Exception) -> int:
    """Return how much an error says about the settings; a server that is down says least."""
    return 2 * isinstance(error, TopologyFault) + (type(error) not in (ConnectionError, TimeoutError))
