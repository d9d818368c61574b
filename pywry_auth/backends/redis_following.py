"""Connections of redis-py that find the primary and follow it."""

from __future__ import annotations

import time
from typing import Any

from redis.connection import AbstractConnection, SSLConnection
from redis.exceptions import ConnectionError

from pywry_auth.backends.redis_codes import NotPrimary, TopologyFault
from pywry_auth.backends.redis_connections import Connecting
from pywry_auth.backends.redis_topology import PrimaryFinder
from pywry_auth.redis_places import Address

_SHORTEST_SECONDS = 0.001


class _Following(Connecting):
    """Connects to the primary, and leaves it when another server is the primary.

    ``socket_connect_timeout`` includes the question for the primary.

    Args:
        finder: Knows the primary.
        options: The options of redis-py; a host and a port have no effect.
    """

    def __init__(self, *, finder: PrimaryFinder, **options: Any) -> None:
        self.finder = finder
        self._reached: Address | None = None
        complete: Any = _require_primary
        super().__init__(**options, redis_connect_func=complete)  # type: ignore[no-untyped-call]

    def connect(self) -> None:
        """Connect, unless the connection is open and leads to the primary."""
        try:
            is_current = self._reached is None or self.finder.is_current(self._reached)
        except TopologyFault as fault:
            raise ConnectionError("the primary is not known") from fault
        if not is_current:
            self.disconnect()
        super().connect()  # type: ignore[no-untyped-call]

    def disconnect(self, *args: Any, **options: Any) -> None:
        """Close the connection."""
        self._reached = None
        super().disconnect(*args, **options)  # type: ignore[no-untyped-call]

    def _connect(self) -> Any:
        seconds = self.socket_connect_timeout
        limit = float(seconds or 1.0)
        ends = time.monotonic() + limit
        address = self.finder.primary(limit)
        self.host, self.port = address
        self.socket_connect_timeout = max(ends - time.monotonic(), _SHORTEST_SECONDS)
        try:
            found = super()._connect()
        except OSError:
            self.finder.doubt()
            raise
        finally:
            self.socket_connect_timeout = seconds
        self._reached = address
        return found


def _require_primary(connection: Any) -> None:
    """Complete a new connection, and check that its server is a primary (Sentinel clients, "Step 3").

    ``HELLO`` says the role with fewer rights than ``ROLE``.

    Raises:
        NotPrimary: It is a replica.
    """
    connection.on_connect()
    connection.send_command("HELLO", connection.get_protocol())
    reply = connection.read_response()
    facts = reply if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2], strict=True))
    if facts.get(b"role") != b"master":
        connection.finder.doubt()
        raise NotPrimary("the server is not a primary")


class _FollowingWithTLS(SSLConnection, _Following):
    """The same with TLS."""


def following(scheme: str) -> type[AbstractConnection]:
    """Return the class of connections that follow the primary.

    Args:
        scheme: ``redis``, or ``rediss`` for TLS.
    """
    return _FollowingWithTLS if scheme == "rediss" else _Following
