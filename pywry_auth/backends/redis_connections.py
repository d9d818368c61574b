"""Connections of redis-py whose time limit includes the name look-up."""

from __future__ import annotations

import time
from typing import Any

from redis.connection import AbstractConnection, Connection, SSLConnection

from pywry_auth.name_lookup import addresses_of

_SHORTEST_SECONDS = 0.001


class Connecting(Connection):
    """Divides ``socket_connect_timeout`` among the name look-up and the addresses of the host.

    The parent class looks the name up without a limit, and allows the whole time for each address.
    """

    def _connect(self) -> Any:
        name, seconds = self.host, self.socket_connect_timeout
        limit = float(seconds or 0)
        ends = time.monotonic() + limit
        addresses = addresses_of(name, int(self.port), self.socket_type, limit or None)
        try:
            for index, self.host in enumerate(addresses):
                share = (ends - time.monotonic()) / (len(addresses) - index)
                self.socket_connect_timeout = max(share, _SHORTEST_SECONDS) if limit else seconds
                try:
                    return super()._connect()  # type: ignore[no-untyped-call]
                except OSError:
                    if index == len(addresses) - 1:
                        raise
        finally:
            self.host, self.socket_connect_timeout = name, seconds  # TLS compares the name
        raise OSError("the host has no address")


class ConnectingWithTLS(SSLConnection, Connecting):
    """The same with TLS."""


def with_deadline(kind: type[AbstractConnection]) -> type[AbstractConnection]:
    """Return a class of connections whose time limit includes the name look-up.

    Args:
        kind: The class of redis-py. Sockets of this machine need no look-up, and keep their class.
    """
    own: dict[type[AbstractConnection], type[AbstractConnection]] = {
        Connection: Connecting,
        SSLConnection: ConnectingWithTLS,
    }
    return own.get(kind, kind)
