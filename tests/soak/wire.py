"""A browser's requests over connections of their own, and its cookies."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

PAGE = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
JSON = "application/json"
_SECONDS = 60  # longer than any fault, so that only killed workers leave requests unanswered


@dataclass(frozen=True)
class Answer:
    """One answer, or its absence.

    Args:
        status: The HTTP status; 0 if the connection broke.
        start: When the request was sent, in monotonic seconds.
        end: When the answer arrived.
        body: The body.
        location: The ``Location`` header.
        cookies: The set cookies; an empty value deletes one.
        worker: The process that answered.
        retry_after: The ``Retry-After`` header.
    """

    status: int
    start: float
    end: float
    body: bytes = field(default=b"", repr=False)
    location: str = field(default="", repr=False)
    cookies: Mapping[str, str] = field(default_factory=dict, repr=False)
    worker: str = ""
    retry_after: str = ""

    @property
    def members(self) -> dict[str, Any]:
        """The JSON object in the body; empty if there is another body."""
        try:
            values = json.loads(self.body)
        except ValueError:
            return {}
        return values if isinstance(values, dict) else {}

    @property
    def error(self) -> str:
        """The error code in the body, if any."""
        return str(self.members.get("error", ""))

    @property
    def failed(self) -> bool:
        """Whether the request has no result: an outage, or no answer."""
        return self.status == 0 or self.status >= 500


def send(port: int, method: str, path: str, cookies: Mapping[str, str], accept: str) -> Answer:
    """Send one request to the loopback address, and return its answer.

    Args:
        port: The site's port.
        method: The HTTP method.
        path: The path and query.
        cookies: The browser's cookies.
        accept: The ``Accept`` header.
    """
    headers = {"Accept": accept, "Connection": "close"}
    if cookies:
        headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in cookies.items())
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_SECONDS)
    start = time.monotonic()
    try:
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        body = response.read()
    except (OSError, http.client.HTTPException):
        return Answer(0, start, time.monotonic())
    finally:
        connection.close()
    return Answer(
        response.status,
        start,
        time.monotonic(),
        body,
        response.getheader("Location", ""),
        dict(map(_cookie, response.headers.get_all("Set-Cookie", []))),
        response.getheader("X-Worker", ""),
        response.getheader("Retry-After", ""),
    )


def _cookie(header: str) -> tuple[str, str]:
    name, _, value = header.partition(";")[0].partition("=")
    return name, "" if "Max-Age=0" in header else value
