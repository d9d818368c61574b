"""The provider's web server, with a thread for each connection."""

from __future__ import annotations

import contextlib
import logging
import socket
import ssl
import threading
from typing import Any

from werkzeug.serving import ThreadedWSGIServer

from pywry_auth.testing.identity_provider.request_handler import ForgetfulHandler, Handler

LOOPBACK = "127.0.0.1"
"""The only address to listen on, because the provider shows passwords."""

_logger = logging.getLogger("pywry_auth.identity_provider")


class Listener(ThreadedWSGIServer):
    """A server for ``app`` between ``start()`` and ``stop()``.

    The lock guards the open connections.

    Args:
        app: The WSGI application.
        port: The port; 0 means any free port.
        tls: The context for https; None means http.
        forget_idle: After this many idle seconds a connection gets no answers; 0 means never.
    """

    daemon_threads = True

    def __init__(self, app: Any, port: int, tls: ssl.SSLContext | None, forget_idle: float = 0.0) -> None:
        self.forget_idle = forget_idle
        handler = ForgetfulHandler if forget_idle else Handler
        with socket.create_server((LOOPBACK, port), backlog=128) as bound:
            # Pass a descriptor: werkzeug would exit the process if it could not bind the port itself.
            super().__init__(LOOPBACK, port, app, handler, fd=bound.fileno())
        self.ssl_context = (
            tls  # set after the constructor: each connection is wrapped, not the listening socket
        )
        self._lock = threading.Lock()
        self._connections: dict[threading.Thread, socket.socket] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="identity-provider", daemon=True)

    def start(self) -> None:
        """Serve in a background thread."""
        if not self._thread.is_alive():
            self._thread.start()

    def stop(self) -> None:
        """Stop serving, and close all connections, threads and the port."""
        self._stopping.set()
        if self._thread.is_alive():
            with contextlib.suppress(OSError):
                socket.create_connection((LOOPBACK, self.port)).close()  # this ends the wait for a connection
            self._thread.join()
        with self._lock:
            still_open = list(self._connections.items())
        for thread, connection in still_open:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(connection, socket.SHUT_RDWR)
            thread.join(timeout=5)
        self.server_close()

    def get_request(self) -> tuple[socket.socket, Any]:
        """Return the next connection.

        Its thread does the TLS handshake at the first read.
        """
        connection, address = super().get_request()
        if self.ssl_context is None:
            return connection, address
        tls = self.ssl_context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return tls, address

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve one connection in a thread that ``stop()`` joins."""
        arguments = (request, client_address)
        thread = threading.Thread(target=self.process_request_thread, args=arguments, daemon=True)
        with self._lock:
            self._connections[thread] = request
        thread.start()

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve one connection until it closes."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._lock:
                self._connections.pop(threading.current_thread(), None)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log nothing.

        Clients may disconnect, and the application logs its own errors.
        """

    def log(self, type: str, message: str, *args: Any) -> None:
        """Log an error of the server itself."""
        _logger.error(message, *args)

    def _serve(self) -> None:
        while not self._stopping.is_set():
            self.handle_request()
