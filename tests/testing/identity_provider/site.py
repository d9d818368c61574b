"""A site that receives logout tokens."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from queue import Queue

from flask import Flask, Response, request
from werkzeug.serving import make_server


@dataclass
class Site:
    """The address of a site, and the logout tokens that it received."""

    uri: str = ""
    status: int = 200
    received: Queue[str] = field(default_factory=Queue)

    def view(self) -> Response:
        self.received.put(request.form["logout_token"])
        location = {"Location": "/elsewhere"} if self.status == 302 else {}
        return Response(status=self.status, headers=location)


@contextmanager
def listening_site() -> Iterator[Site]:
    """Serve the site on a free port of the loopback address."""
    site, app = Site(), Flask(__name__)
    app.add_url_rule("/logout", view_func=site.view, methods=["POST"])
    server = make_server("127.0.0.1", 0, app, threaded=True)
    site.uri = f"http://127.0.0.1:{server.port}/logout?of=site"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
