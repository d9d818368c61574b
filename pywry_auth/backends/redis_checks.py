"""Warnings about a Redis server that can lose records which it acknowledged."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pywry_auth.exceptions import printable

if TYPE_CHECKING:
    from redis import Redis

_logger = logging.getLogger("pywry_auth.backends")

_URL = "PYWRY_DEPLOY__REDIS_URL"
_REPLICA = (
    f"the Redis server is a replica: users cannot sign in or out. Name the primary in {_URL}, or its"
    " sentinels (redis+sentinel://HOST:26379,HOST:26379/SERVICE/0)"
)
_SENTINEL = (
    "the Redis server is a sentinel, which keeps no records. Write"
    f" redis+sentinel://HOST:26379,HOST:26379/SERVICE/0 in {_URL}"
)
_CLUSTER = (
    "the Redis server is a node of a cluster: operations on the keys of other nodes fail. Write"
    f" redis+cluster://HOST:6379,HOST:6379 in {_URL}"
)
_NO_CLUSTER = (
    f"the Redis server is not a node of a cluster. Write redis:// or redis+sentinel:// in {_URL}; the keys"
    " then have other names, so that users sign in again"
)
_UNGUARDED = (
    "the primary of Redis accepts writes without its replicas, and those are lost if it is cut off from them."
    " Set min-replicas-to-write 1 and min-replicas-max-lag 10, or accept this risk"
)
_EVICTION = (
    "the Redis server removes records when its memory is full (maxmemory-policy %s): users are signed out,"
    " and their tokens are lost. Set maxmemory-policy noeviction"
)


_TOO_FEW = (
    "the Redis server has %d replicas, and PYWRY_DEPLOY__REDIS_WAIT_REPLICAS requires %d: users cannot sign"
    " in or out. Start the replicas, or lower the number"
)


class ServerCheck:
    """Looks at a server once in each process, and logs a warning for each risk.

    A thread of its own asks the server, so that no request waits for the answer. Only a probe waits.

    Args:
        client: The client of the server, with its time limits.
        wait_replicas: How many replicas must have each sign-in and sign-out.
        topology: Empty for one server, ``sentinel`` or ``cluster``.
    """

    def __init__(self, client: Redis, wait_replicas: int = 0, topology: str = "") -> None:
        self._client, self._topology = client, topology
        self._wait_replicas = wait_replicas
        self._begun: dict[int, object] = {}  # by process, because a fork copies it

    def begin(self) -> None:
        """Start to look, unless this process did so before."""
        if not self._claim():
            return
        try:
            threading.Thread(target=self._look, name="pywry-auth-redis-check", daemon=True).start()
        except RuntimeError:  # the interpreter is ending, or there are too many threads
            _logger.debug("the Redis server was not checked")

    @contextmanager
    def after(self) -> Iterator[None]:
        """Look after the ``with`` block, and in this thread.

        If the block fails, a later operation starts to look.
        """
        first = self._claim()
        try:
            yield
        except BaseException:
            if first:
                self._begun.pop(os.getpid(), None)
            raise
        if first:
            self._look()

    def _claim(self) -> bool:
        """Return whether this call is the first one in this process."""
        pid, mine = os.getpid(), object()
        return pid not in self._begun and self._begun.setdefault(pid, mine) is mine  # setdefault is atomic

    def _look(self) -> None:
        try:
            info = self._client.info()
        except Exception as error:  # noqa: BLE001  # for example without the right to run INFO
            _logger.debug("the Redis server was not checked (%s)", type(error).__name__)
            return
        for risk in risks(info, self._wait_replicas, self._topology):
            _logger.warning("%s", risk)
        if self._topology == "sentinel" and "min_slaves_good_slaves" not in info:
            _logger.info("%s", _UNGUARDED)


def risks(info: Mapping[str, object], wait_replicas: int = 0, topology: str = "") -> list[str]:
    """Return a sentence for each risk of a server.

    Args:
        info: The server's answer to the command ``INFO``.
        wait_replicas: See :class:`ServerCheck`.
        topology: Empty for one server, ``sentinel`` or ``cluster``.
    """
    replicas = info.get("connected_slaves")
    has_too_few = isinstance(replicas, int) and replicas < wait_replicas and info.get("role") != "slave"
    policy = str(info.get("maxmemory_policy", "noeviction"))
    evicts = info.get("maxmemory", 0) != 0 and policy != "noeviction"
    found = {
        _REPLICA: info.get("role") == "slave",
        _SENTINEL: info.get("redis_mode") == "sentinel",
        _CLUSTER: info.get("cluster_enabled") == 1 and topology != "cluster",
        _NO_CLUSTER: info.get("cluster_enabled") == 0 and topology == "cluster",
        _EVICTION % printable(policy, 40): evicts,
        _TOO_FEW % (replicas if has_too_few else 0, wait_replicas): has_too_few,
    }
    return [risk for risk, present in found.items() if present]
