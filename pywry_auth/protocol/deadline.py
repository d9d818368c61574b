"""urllib3 connections with one deadline for the whole call, and a rule for their addresses.

A socket's own timeout does not include the name look-up, and starts again with each address of a host and
with each read. A silent resolver, a host with many unreachable addresses, or a server that sends single bytes
could therefore block a caller for minutes or hours.
"""

from __future__ import annotations

import http.client
import io
import math
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import TYPE_CHECKING, Any

from urllib3 import HTTPConnectionPool
from urllib3.connection import HTTPConnection
from urllib3.exceptions import ConnectTimeoutError, LocationParseError, NewConnectionError
from urllib3.util.connection import allowed_gai_family

from pywry_auth.name_lookup import LookupTimedOut, addresses_of
from pywry_auth.protocol.reach import EVERYWHERE, Network, network_of

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

IDLE_SECONDS = 30.0
"""Seconds after which an unused connection is closed instead of used again."""

_ADDRESS_SECONDS = 3.05  # longer than one retransmitted SYN; then another address may work
_LOOPBACK = "127.0.0.1"
_SOCKS4 = 1  # the number of this version in PySocks
# These clocks go on while a laptop sleeps. The monotonic clock of Linux does not.
_AWAKE_OR_ASLEEP = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", None))


def seconds_since_boot() -> float:
    """Return a time in seconds that never goes back, and that includes the time of a sleep."""
    return time.monotonic() if _AWAKE_OR_ASLEEP is None else time.clock_gettime(_AWAKE_OR_ASLEEP)


class _DeadlineReader(io.RawIOBase):
    """Reads a socket within the remaining time."""

    def __init__(self, sock: socket.socket, seconds: float) -> None:
        self._socket = sock
        self._file = sock.makefile("rb", buffering=0)
        self._ends = time.monotonic() + seconds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int | None:
        left = self._ends - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer was not complete in time")
        self._socket.settimeout(left)
        return self._file.readinto(buffer)

    def close(self) -> None:
        self._file.close()
        super().close()


class _DeadlineSocket:
    """The part of a socket that ``http.client.HTTPResponse`` uses."""

    def __init__(self, sock: socket.socket, seconds: float) -> None:
        self._socket = sock
        self._seconds = seconds

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_DeadlineReader(self._socket, self._seconds))


def _response(connection: Any, sock: Any, *args: Any, **kwargs: Any) -> http.client.HTTPResponse:
    # urllib3 2 has set the connection's timeout to the rest of the call's time limit.
    if isinstance(connection.timeout, (int, float)):
        sock = _DeadlineSocket(sock, connection.timeout)
    response = _Response(sock, *args, **kwargs)
    response.peer = connection.peer
    return response


class _Response(http.client.HTTPResponse):
    """A response that knows the address of its server; empty if a proxy chose the address.

    Invalid header lines are dropped. urllib3 would log them, and a provider can quote a secret there.
    """

    peer = ""

    def begin(self) -> None:
        super().begin()
        self.msg.set_payload("")
        self.msg.defects.clear()


class RefusedAddress(Exception):
    """All addresses of a host are outside the networks that the call may reach.

    Args:
        host: The host.
        network: The kind of its first address.
    """

    def __init__(self, host: str, network: Network) -> None:
        super().__init__(f"{host} is {network.value}")
        self.host = host
        self.network = network


# Each thread has a context of its own; so has each greenlet, also if gevent replaced the threads later.
_reachable: ContextVar[frozenset[Network]] = ContextVar("reachable", default=EVERYWHERE.networks)


@contextmanager
def only_to(networks: frozenset[Network]) -> Iterator[None]:
    """Limit the connections that the current thread uses in the block.

    urllib3 passes no argument of a call to its connection, so the thread carries the rule.

    Args:
        networks: The kinds of addresses to which the connections may be made.
    """
    before = _reachable.set(networks)
    try:
        yield
    finally:
        _reachable.reset(before)


class _Deadline:
    response_class = _response  # http.client calls it with the socket
    peer = ""


class _Connecting(_Deadline, HTTPConnection):  # type: ignore[misc]  # the class of responses is a function
    """Divides the time limit among the addresses of a host.

    The parent class allows the whole time for each address, and does not count the name look-up.
    """

    _used_at = 0.0

    @property
    def is_connected(self) -> bool:
        """Whether the pool may use the open connection for this call.

        Another call may have opened it, under another rule. A router or a VPN may have forgotten an idle
        connection without telling either end, and a call on it would then wait for its whole time limit.
        """
        permitted = not self.peer or network_of(self.peer) in _reachable.get()
        recent = seconds_since_boot() - self._used_at < IDLE_SECONDS
        return permitted and recent and super().is_connected

    def request(self, *args: Any, **kwargs: Any) -> None:
        self._used_at = seconds_since_boot()  # an answer takes seconds, so the time of the request is enough
        super().request(*args, **kwargs)

    def _new_conn(self) -> socket.socket:
        usual, allowed = self._place(), self.timeout
        limited = isinstance(allowed, (int, float))
        ends = time.monotonic() + allowed if isinstance(allowed, (int, float)) else math.inf
        places = self._places(ends)
        try:
            for index, place in enumerate(places):
                self._go_to(place)
                if limited:
                    self.timeout = min(_left(ends) / (len(places) - index), _ADDRESS_SECONDS)
                try:
                    sock = super()._new_conn()
                    break
                except (ConnectTimeoutError, NewConnectionError):
                    if index == len(places) - 1:
                        raise
        finally:
            self._go_to(usual)
            self.timeout = _left(ends) if limited else allowed
        if limited:
            sock.settimeout(_left(ends))  # the rest is for TLS or a proxy's answer
        return self._checked(sock, place)

    def _place(self) -> Any:
        """Return the host to connect to, in the form of ``_places``."""
        return self._dns_host

    def _places(self, ends: float) -> Sequence[Any]:
        """Return the addresses to connect to, one after the other."""
        addresses = self._look_up(self._dns_host, self.port, ends)
        return addresses if self.proxy else self._permitted(addresses)

    def _go_to(self, place: Any) -> None:
        """Let the parent class connect to this address."""
        self._dns_host = place

    def _checked(self, sock: socket.socket, place: Any) -> socket.socket:
        """Return the socket if its address is permitted, and note the address."""
        if self.proxy:
            return sock
        try:
            self.peer = str(sock.getpeername()[0])
            if self.peer == sock.getsockname()[0]:
                self.peer = _LOOPBACK  # an address of this machine's own interfaces leads to this machine
            self._permitted([self.peer])
        except BaseException as error:
            sock.close()
            if isinstance(error, OSError):  # the server has closed the connection already
                raise NewConnectionError(self, f"{self.host} closed the connection") from error
            raise
        return sock

    def _permitted(self, addresses: Sequence[str]) -> Sequence[str]:
        # This looks at the addresses that are connected to: a second look-up could return others.
        permitted = [address for address in addresses if network_of(address) in _reachable.get()]
        if not permitted:
            raise RefusedAddress(self.host, network_of(addresses[0]))
        return permitted

    def _look_up(self, host: str, port: int, ends: float, family: int | None = None) -> Sequence[str]:
        seconds = None if ends == math.inf else _left(ends)
        try:
            found = addresses_of(host, port, allowed_gai_family() if family is None else family, seconds)
        except LookupTimedOut as error:
            raise ConnectTimeoutError(self, f"{host}: {error}") from error
        except UnicodeError as error:
            raise LocationParseError(host) from error
        except OSError as error:
            raise NewConnectionError(self, f"{host} could not be resolved: {error}") from error
        if not found:
            raise NewConnectionError(self, f"{host} has no address")
        return found


class _ThroughSocks(_Connecting):
    """Does the name look-ups of a SOCKS proxy itself, since PySocks has no time limit for them.

    The proxy's URL decides whether the proxy or this machine resolves the name of the provider. A place is
    the address of the proxy with the provider's address or name.
    """

    _socks_options: dict[str, Any]

    def _place(self) -> Any:
        return self._socks_options["proxy_host"], self._dns_host

    def _places(self, ends: float) -> Sequence[Any]:
        options = self._socks_options
        ours: Sequence[str] = [self.host]
        if not options["rdns"]:
            # Version 4 has only IPv4 addresses. Not every proxy of version 5 can connect to IPv6 addresses.
            family = socket.AF_INET if options["socks_version"] == _SOCKS4 else socket.AF_UNSPEC
            found = self._look_up(self.host, self.port, ends, family)
            ours = sorted(self._permitted(found), key=lambda address: ":" in address)
        proxy = (options["proxy_host"] or "").strip("[]")
        theirs = self._look_up(proxy, options["proxy_port"] or 0, ends, socket.AF_UNSPEC)
        return [(through, address) for address in ours for through in theirs]

    def _go_to(self, place: Any) -> None:
        # A copy: the connections of a pool share the options.
        self._socks_options = {**self._socks_options, "proxy_host": place[0]}
        self._dns_host = place[1]

    def _checked(self, sock: socket.socket, place: Any) -> socket.socket:
        self.peer = "" if self._socks_options["rdns"] else place[1]
        return sock


def _left(ends: float) -> float:
    return max(ends - time.monotonic(), 0.001)


@cache
def with_deadline(pool: type[HTTPConnectionPool]) -> type[HTTPConnectionPool]:
    """Return a pool class with connections that keep each call's deadline.

    Args:
        pool: A pool class for http or https, direct or through a SOCKS proxy.
    """
    kind = pool.ConnectionCls
    if issubclass(kind, _Deadline):
        return pool
    socks = getattr(kind, "_new_conn", None) is not HTTPConnection._new_conn
    bases = (_ThroughSocks if socks else _Connecting, kind)
    return type(pool.__name__, (pool,), {"ConnectionCls": type(kind.__name__, bases, {})})
