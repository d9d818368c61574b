"""The quirks of the HTTP layer, for every endpoint."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Mapping

from flask import Flask, Response, request

from pywry_auth.testing.identity_provider.endpoints import PAGES, PATHS
from pywry_auth.testing.identity_provider.quirks import Quirks

_ENCODERS: Mapping[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,  # with zlib's frame (RFC 9110 §8.4.1.2)
}


class Transport:
    """Refuses requests by their headers, and encodes answers.

    Args:
        quirks: The deviations of the provider.
    """

    def __init__(self, quirks: Quirks) -> None:
        self._quirks = quirks

    def install(self, app: Flask) -> None:
        """Let the application ask before each request and after each response."""
        app.before_request(self.refusal)
        app.after_request(self.encode)

    def refusal(self) -> Response | None:
        """Return the refusal of the current request, or None."""
        blocked = self._quirks.block_user_agent.lower()
        agent = request.headers.get("User-Agent", "").lower()
        if blocked and request.path not in PAGES and blocked in agent:
            return Response("Access denied\n", 403, mimetype="text/plain")
        if self._quirks.strict_accept and not _accepts(self._answer_type()):
            return Response("Not acceptable\n", 406, mimetype="text/plain")
        return None

    def encode(self, response: Response) -> Response:
        """Return the response with its Content-Encoding."""
        if not response.is_json:
            return response
        if self._quirks.strict_accept and request.path == PATHS["jwks"]:
            response.mimetype = "application/jwk-set+json"
        if encoder := _ENCODERS.get(self._quirks.compress):
            response.set_data(encoder(response.get_data()))
        if label := self._quirks.compress or self._quirks.content_encoding:
            response.headers["Content-Encoding"] = label
        return response

    def _answer_type(self) -> str:
        signed = "application/jwt" if self._quirks.userinfo_jwt else "application/json"
        types = dict.fromkeys(PAGES, "text/html")
        types |= {PATHS["jwks"]: "application/jwk-set+json", PATHS["userinfo"]: signed}
        return types.get(request.path, "application/json")


def _accepts(media_type: str) -> bool:
    # A request without the header accepts every type (RFC 9110 §12.5.1).
    header = request.headers.get("Accept", "*/*")
    return not {"*/*", media_type}.isdisjoint(part.partition(";")[0].strip() for part in header.split(","))
