"""Redis under three sentinels, with its faults."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path

from tests.peers.redis_sentinel import SentinelSetUp
from tests.soak.places import Inject, repeat

_DURABLE = ("--appendonly", "yes", "--appendfsync", "always")
_SLOW_MILLISECONDS = 250


class RedisPlace:
    """A primary and its replica under three sentinels; both keep their records on disk.

    Each sign-in and sign-out waits for the replica (``REDIS_WAIT_REPLICAS``), so that no failover loses it.

    Args:
        folder: An empty folder with a short path.
    """

    kind = "redis"

    def __init__(self, folder: Path) -> None:
        self._servers = SentinelSetUp(folder, options=_DURABLE)
        self.faults: Mapping[str, Inject] = {
            "primary killed, replica promoted": self._killed,
            "primary stopped": self._stopped,
            "primary killed and restarted at once": self._restarted,
            "fails over on command": self._commanded,
            "replica lost": self._lonely,
            "out of memory": self._full,
            "slow": self._slow,
            "drops connections": self._dropped,
        }

    @property
    def version(self) -> str:
        return f"Redis {self._servers.primary.client.info('server')['redis_version']}"

    @property
    def where(self) -> str:
        return self._servers.url

    @property
    def settings(self) -> dict[str, str]:
        return {"STATE_BACKEND": "redis", "REDIS_URL": self.where, "REDIS_WAIT_REPLICAS": "1"}

    def __enter__(self) -> RedisPlace:
        self._servers.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._servers.__exit__(None, None, None)

    def _killed(self, over: threading.Event) -> None:
        old = self._servers.kill_primary()
        self._servers.wait_until_failed_over()
        over.wait()
        self._servers.restart(old)
        self._servers.wait_until_whole()

    def _stopped(self, over: threading.Event) -> None:
        """Stop the primary, for more or less time than the sentinels tolerate."""
        old = self._servers.stop_primary()
        over.wait()
        self._servers.continue_primary(old)
        self._servers.wait_until_whole()

    def _restarted(self, over: threading.Event) -> None:
        """Restart the primary, which is usually quicker than the sentinels."""
        self._servers.restart(self._servers.kill_primary())
        self._servers.wait_until_whole()
        over.wait()

    def _commanded(self, over: threading.Event) -> None:
        self._servers.fail_over()
        self._servers.wait_until_whole()
        over.wait()
        self._servers.wait_until_whole()

    def _lonely(self, over: threading.Event) -> None:
        """Kill the replica, so that no sign-in can be acknowledged."""
        replica = self._servers.replicas[0]
        replica.stop()
        over.wait()
        self._servers.restart(replica)
        self._servers.wait_until_whole()

    def _full(self, over: threading.Event) -> None:
        primary = self._servers.primary.client
        primary.config_set("maxmemory", "1")
        over.wait()
        primary.config_set("maxmemory", "0")

    def _slow(self, over: threading.Event) -> None:
        client = self._servers.primary.client
        repeat(over, lambda: client.client_pause(_SLOW_MILLISECONDS), 1.2 * _SLOW_MILLISECONDS / 1000)

    def _dropped(self, over: threading.Event) -> None:
        client = self._servers.primary.client
        repeat(over, lambda: client.client_kill_filter(_type="normal", skipme=True))
