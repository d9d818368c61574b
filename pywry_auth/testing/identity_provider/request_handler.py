"""The handlers of connections: the usual one, and one that forgets idle connections."""

from __future__ import annotations

import io
import logging
import re
import time
from typing import TYPE_CHECKING, Any, ClassVar

from werkzeug.serving import WSGIRequestHandler
from werkzeug.test import run_wsgi_app

if TYPE_CHECKING:
    from pywry_auth.testing.identity_provider.listener import Listener

_logger = logging.getLogger("pywry_auth.identity_provider")


class Handler(WSGIRequestHandler):
    """Serves one request for each connection."""

    protocol_version = "HTTP/1.1"
    default_request_version = "HTTP/1.1"  # an invalid request gets a status line, too
    timeout: ClassVar[float | None] = 30.0

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Log the request without its query, which contains codes and states."""
        path = getattr(self, "path", "")  # an invalid request has no path
        _logger.info("%s %s %s", self.command, path.partition("?")[0], code)

    def log(self, type: str, message: str, *args: Any) -> None:
        """Log nothing, because an invalid request may contain secrets."""


class ForgetfulHandler(Handler):
    """Serves many requests for each connection, until it was idle for too long.

    Later requests on it get no answer, as if a firewall had forgotten the connection.
    """

    timeout = None  # otherwise an idle connection would close
    server: Listener

    def setup(self) -> None:
        """Begin to measure the idle time."""
        super().setup()
        self._idle_since = time.monotonic()

    def parse_request(self) -> bool:
        """Read a request, or every byte until the client or ``stop()`` closes a forgotten connection."""
        if time.monotonic() - self._idle_since < self.server.forget_idle:
            return super().parse_request()
        while self.rfile.read(1):
            pass
        self.close_connection = True
        return False

    def run_wsgi(self) -> None:
        """Answer a request, and keep the connection open.

        The server of werkzeug would close it.
        """
        length = self.headers.get("Content-Length", "0")
        if not re.fullmatch("[0-9]{1,6}", length) or "Transfer-Encoding" in self.headers:
            super().run_wsgi()
            return
        environ = {**self.make_environ(), "wsgi.input": io.BytesIO(self.rfile.read(int(length)))}
        content, status, headers = run_wsgi_app(self.server.app, environ, buffered=True)
        body = b"".join(content)
        self.send_response(int(status[:3]), status[4:])
        for name, value in headers:
            self.send_header(name, value)
        if "Content-Length" not in headers and status[:3] != "204":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(b"" if self.command == "HEAD" else body)
        self._idle_since = time.monotonic()
