"""A small page on the loopback address, as a target for a browser."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.peers.tls import TLSFiles


@contextmanager
def serve_page(tls: TLSFiles | None = None) -> Iterator[int]:
    """Serve the page at every path of 127.0.0.1, and yield the port.

    Args:
        tls: Serve https with these files.
    """
    with ThreadingHTTPServer(("127.0.0.1", 0), _Page) as server:
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls.cert, tls.key)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


class _Page(BaseHTTPRequestHandler):
    timeout = 10  # an idle preconnection must not delay the end of the server

    def do_GET(self) -> None:
        body = b"<!doctype html><html lang=en><title>Loopback</title><p>Hello"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""
