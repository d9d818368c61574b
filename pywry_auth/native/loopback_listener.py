"""An HTTP server on a port of the loopback address.

No client can stall it, flood it or keep it open.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import selectors
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from http.server import ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any, TypeVar

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError
from pywry_auth.native.http_connection import Exchange, Respond

_JOIN = 2.0  # seconds; a joined thread has been woken before, so it ends much earlier
_MOST_NAMED = 10  # ports and ranges in an error text
_BACKLOG = 128
_ATTEMPTS = 10  # to find a free port of two addresses
_IN_USE = (errno.EADDRINUSE, errno.EACCES)  # the latter on Windows for a range reserved for Hyper-V
_NO_ADDRESS = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)  # a machine without IPv6
_T = TypeVar("_T")
_logger = logging.getLogger("pywry_auth.native")


class LoopbackServer(ThreadingHTTPServer):
    """A bound and listening server.

    ``start`` lets it answer, and ``server_close`` ends all its connections and threads. The lock guards the
    open connections and their threads. A connection is closed only with the lock held. Otherwise another
    thread could shut down a descriptor that already belongs to the next connection.

    Args:
        addresses: Loopback addresses to listen on. One that this machine lacks is left out.
        port: Port to bind on each address; 0 takes any free one.
        respond: Answers requests.
        head_timeout: Seconds that a client has to send the whole head of a request.
        max_connections: Connections open at once; a further one closes the oldest idle one.

    Raises:
        OSError: The port cannot be bound.
    """

    daemon_threads = True

    def __init__(
        self,
        addresses: Sequence[str],
        port: int,
        respond: Respond,
        *,
        head_timeout: float,
        max_connections: int,
    ) -> None:
        self.respond = respond
        self.head_timeout = head_timeout
        self._max_connections = max_connections
        self._addresses = addresses
        self._listeners: list[socket.socket] = []
        self._lock = threading.Lock()
        self._open: dict[socket.socket, bool] = {}  # by age: may it be closed for a new one?
        self._handlers: set[threading.Thread] = set()
        self._acceptor: threading.Thread | None = None
        self._woken, self._waker = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        TCPServer.__init__(self, (addresses[0], port), Exchange)
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._register_listeners()

    def server_bind(self) -> None:
        """Bind the port on each address, and look no host name up."""
        self._listeners = listen_on(self._addresses, self.server_address[1])
        self.socket.close()  # the base class made it, for one address only
        self.socket = self._listeners[0]
        self.server_name, self.server_port = self._addresses[0], self.socket.getsockname()[1]

    def server_activate(self) -> None:
        """Do nothing: the sockets listen already."""

    def start(self) -> None:
        """Answer requests from now on, in threads of its own."""
        acceptor = threading.Thread(target=self.serve_forever, name="pywry-auth-callback", daemon=True)
        acceptor.start()
        self._acceptor = acceptor

    def serve_forever(self, poll_interval: float = 0.5) -> None:
        """Accept connections until ``shutdown``.

        ``shutdown`` wakes this method. Unlike that of the base class, it does not poll.
        """
        while True:
            ready = [key.data for key, _ in self._selector.select()]
            if None in ready:  # the waker
                return
            for listener in ready:
                self._accept(listener)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in a thread of its own.

        No client waits for another client.
        """
        thread = threading.Thread(
            target=self.process_request_thread,
            args=(request, client_address),
            name="pywry-auth-callback-connection",
            daemon=True,
        )
        with self._lock:
            if len(self._open) >= self._max_connections:
                self._end_oldest()
            try:
                thread.start()
            except RuntimeError:  # no further thread can be started
                request.close()
                return
            self._open[request] = True
            self._handlers = {handler for handler in self._handlers if handler.is_alive()} | {thread}

    def set_idle(self, connection: socket.socket, idle: bool) -> None:
        """Mark whether a connection may be closed for a new one.

        It may not be closed while its answer is being prepared.
        """
        with self._lock:
            if connection in self._open:
                self._open[connection] = idle

    def shutdown_request(self, request: Any) -> None:
        """Close a connection; its thread does this last."""
        with self._lock:
            self._open.pop(request, None)
            request.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log that a connection broke.

        The base class would print a traceback to stderr.
        """
        _logger.debug("a connection to the callback server broke: %s", sys.exc_info()[0])

    def shutdown(self) -> None:
        """Stop accepting."""
        self._waker.send(b"x")
        if self._acceptor is not None:
            self._acceptor.join(_JOIN)

    def server_close(self) -> None:
        """Close the port and every connection, and join all threads."""
        if self.socket.fileno() == -1:
            return
        self.shutdown()  # first: closing a listener that another thread polls leaves its port open on Linux
        for listener in self._listeners or [self.socket]:
            listener.close()
        with self._lock:
            handlers = self._handlers
            for connection in self._open:
                _hang_up(connection)
        for handler in handlers:
            handler.join(_JOIN)
        self._selector.close()
        self._woken.close()
        self._waker.close()

    def _accept(self, listener: socket.socket) -> None:
        try:
            connection, address = listener.accept()
        except (BlockingIOError, ConnectionError):
            return  # the client has gone again
        except OSError:
            self._make_room()
            return
        self.process_request(connection, address)

    def _register_listeners(self) -> None:
        for listener in self._listeners:
            self._selector.register(listener, selectors.EVENT_READ, listener)

    def _end_oldest(self) -> bool:
        """Close the oldest idle connection, and return whether one existed.

        The caller holds the lock.
        """
        oldest = next((connection for connection, idle in self._open.items() if idle), None)
        if oldest is not None:
            del self._open[oldest]
            _hang_up(oldest)
        return oldest is not None

    def _make_room(self) -> None:
        """Free a descriptor, or pause for a moment.

        A waiting client stays in the queue. An immediate new attempt would only use CPU time.
        """
        with self._lock:
            ended = self._end_oldest()
        if not ended:
            for listener in self._listeners:
                self._selector.unregister(listener)
            self._selector.select(0.1)
            self._register_listeners()


def _hang_up(connection: socket.socket) -> None:
    """Shut a connection down, so that its thread closes it."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def listen_on(addresses: Sequence[str], port: int) -> list[socket.socket]:
    """Return sockets that listen on the same port of each address.

    Args:
        addresses: Loopback addresses. One that this machine lacks is left out.
        port: The port; 0 takes any that is free on all addresses.

    Raises:
        OSError: The port cannot be bound on an address, or the machine has none of the addresses.
    """
    for _ in range(_ATTEMPTS if port == 0 else 0):
        try:
            return _listen_on(addresses, port)
        except OSError as error:
            if error.errno not in _IN_USE:
                raise
    return _listen_on(addresses, port)


def _listen_on(addresses: Sequence[str], port: int) -> list[socket.socket]:
    with ExitStack() as opened:
        listeners: list[socket.socket] = []
        for address in addresses:
            try:
                listener = _listen(address, port)
            except OSError as error:
                if error.errno not in _NO_ADDRESS or (address == addresses[-1] and not listeners):
                    raise
                continue
            listeners.append(opened.enter_context(listener))
            port = listener.getsockname()[1]
        opened.pop_all()
        return listeners


def _listen(address: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    try:
        if listener.family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if sys.platform == "win32":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            # A fixed port could otherwise not be bound again for a minute after a login (TIME_WAIT). On
            # Windows, this would let another process listen on the same port.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(_BACKLOG)
        listener.setblocking(False)  # a client may have gone again: accept() must not wait for the next
    except BaseException:
        listener.close()
        raise
    return listener


def first_free(ports: Sequence[int], bind: Callable[[int], _T]) -> _T:
    """Return the result of ``bind`` for the first free port.

    Args:
        ports: Ports to try in order; 0 takes any free one. No other port is taken: a provider that requires
            a registered port would refuse it, later and less clearly.
        bind: Binds a port, or raises OSError.

    Raises:
        AuthenticationError: No port is free; the text names them.
    """
    for port in ports:
        try:
            return bind(port)
        except OverflowError as error:
            raise _misconfigured(
                f"{port} is not a valid port: use 1 to 65535, or 0 for any free port."
            ) from error
        except OSError as error:
            if error.errno not in _IN_USE:
                raise _misconfigured(f"No port can be opened for the login: {error.strerror}.") from error
    if not ports:
        raise _misconfigured("The login needs a port for its redirect URI: give 0 for any free port.")
    raise _misconfigured(
        f"The login needs one of these ports, and all are in use or reserved: {_named(ports)}. "
        "End the program that uses one, or allow another port and register it at the provider."
    )


def _named(ports: Sequence[int]) -> str:
    """Return ports as text, with each run of successive ports as a range."""
    runs: list[tuple[int, int]] = []
    for port in ports:
        if runs and port == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], port)
        else:
            runs.append((port, port))
    names = [str(first) if first == last else f"{first}-{last}" for first, last in runs[:_MOST_NAMED]]
    return ", ".join(names) + (" …" if len(runs) > _MOST_NAMED else "")


def _misconfigured(text: str) -> AuthenticationError:
    return AuthenticationError(text, error=ErrorCode.INVALID_CONFIGURATION)
