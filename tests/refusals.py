"""Answers to a refresh, and what each of them means."""

from __future__ import annotations

import json
from dataclasses import dataclass

ENDED = "the provider has ended the grant"
REFUSED = "the provider refused, but the cause can be corrected"
AWAY = "the provider is not available at present"


@dataclass(frozen=True)
class RefreshAnswer:
    """An answer of the token endpoint.

    Args:
        status: The HTTP status.
        body: A text, or the members of a JSON object.
        meaning: ``ENDED``, ``REFUSED`` or ``AWAY``.
    """

    status: int
    body: str | dict[str, object]
    meaning: str

    @property
    def replacement(self) -> tuple[int, str, bytes]:
        """The answer for :class:`tests.faults.Faults`."""
        if isinstance(self.body, str):
            return self.status, "text/html", self.body.encode()
        return self.status, "application/json", json.dumps(self.body).encode()

    def __str__(self) -> str:
        """Return the name of the case."""
        return f"{self.status} {self.body}"


_END_OF_GRANT = (
    "invalid_grant",
    "interaction_required",
    "login_required",
    "consent_required",
    "invalid_token",
    "expired_token",
    "token_expired",
    "invalid_refresh_token",
    "bad_refresh_token",
)
_CORRECTABLE = (
    "invalid_client",
    "unauthorized_client",
    "invalid_scope",
    "invalid_request",
    "INVALID_GRANT",
    "a code of this provider only",
)

ANSWERS = (
    *(RefreshAnswer(400, {"error": code}, ENDED) for code in _END_OF_GRANT),
    *(RefreshAnswer(status, {"error": "expired_token"}, ENDED) for status in (401, 403)),
    RefreshAnswer(200, {"ok": False, "error": "invalid_refresh_token"}, ENDED),
    *(RefreshAnswer(400, {"error": code}, REFUSED) for code in _CORRECTABLE),
    RefreshAnswer(401, {"error": "invalid_client"}, REFUSED),
    RefreshAnswer(403, {"error": "unauthorized_client", "error_description": "not good"}, REFUSED),
    RefreshAnswer(200, {"ok": False, "error": "token_rotation_disabled"}, REFUSED),
    RefreshAnswer(200, {"errcode": 40030, "errmsg": "not a refresh token"}, REFUSED),
    RefreshAnswer(400, {"status": 400, "message": "no such refresh token"}, REFUSED),
    RefreshAnswer(400, {"error": {"code": "invalid_grant"}}, REFUSED),
    RefreshAnswer(400, {"error": None}, REFUSED),
    RefreshAnswer(401, "", REFUSED),
    RefreshAnswer(403, "<html>no</html>", REFUSED),
    RefreshAnswer(404, "<html>not here</html>", REFUSED),
    *(RefreshAnswer(status, {"error": "invalid_grant"}, AWAY) for status in (429, 500, 503)),
    RefreshAnswer(429, "", AWAY),
    RefreshAnswer(502, "<html>down</html>", AWAY),
    RefreshAnswer(200, "<html>sign in to the network of this hotel</html>", AWAY),
)
