"""A client that calls an ASGI application directly, with each path and method as the test writes it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote


@dataclass(frozen=True)
class Answer:
    """A response, or the end of a websocket's handshake."""

    status_code: int
    headers: Mapping[str, str]
    text: str

    def json(self) -> Any:
        """Return the parsed body."""
        return json.loads(self.text)


class Client:
    """Sends requests to an application.

    Args:
        app: The application.
    """

    def __init__(self, app: Any) -> None:
        self._app = app

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        """Send a GET request."""
        return self.request("GET", path, headers)

    def post(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        """Send a POST request without a body."""
        return self.request("POST", path, headers)

    def request(self, method: str, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        """Send a request."""
        sent = self._run({"type": "http", "method": method, "scheme": "http"}, path, headers)
        start = next(message for message in sent if message["type"] == "http.response.start")
        found = {name.decode().title(): value.decode() for name, value in start["headers"]}
        body = b"".join(message.get("body", b"") for message in sent)
        return Answer(start["status"], found, body.decode())

    def websocket(self, path: str, headers: Mapping[str, str] | None = None) -> int:
        """Open a websocket; return 0, or the code with which the application refused it."""
        sent = self._run({"type": "websocket", "scheme": "ws"}, path, headers)
        return 0 if sent[0]["type"] == "websocket.accept" else int(sent[0]["code"])

    def start(self) -> None:
        """Start and stop the application."""
        incoming = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])
        self._serve({"type": "lifespan"}, incoming)

    def _run(self, kind: dict[str, Any], path: str, headers: Mapping[str, str] | None) -> list[Any]:
        path, _, query = path.partition("?")
        given = {"host": "127.0.0.1", **{name.lower(): value for name, value in (headers or {}).items()}}
        scope = {
            **kind,
            "path": unquote(path),
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(name.encode(), value.encode()) for name, value in given.items()],
            "client": ("127.0.0.1", 50000),
            "server": ("127.0.0.1", 80),
            "http_version": "1.1",
        }
        first = {"type": "websocket.connect" if kind["type"] == "websocket" else "http.request"}
        return self._serve(scope, iter([first]))

    def _serve(self, scope: dict[str, Any], incoming: Any) -> list[Any]:
        sent: list[Any] = []

        async def receive() -> Any:
            return next(incoming, {"type": "http.disconnect"})

        async def send(message: Any) -> None:
            sent.append(message)

        asyncio.run(self._app({"asgi": {"version": "3.0"}, **scope}, receive, send))
        return sent
