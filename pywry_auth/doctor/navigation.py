"""A request as a browser sends it when a user opens an address."""

from __future__ import annotations

from dataclasses import dataclass

from pywry_auth.protocol.http import ProviderSession

_HEADERS = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document", "Sec-Fetch-Site": "none"}


@dataclass(frozen=True)
class Answer:
    """The head of an answer.

    Args:
        status: The status; 0 if there was no answer.
        location: The header ``Location``, or an empty text.
        cookies: The headers ``Set-Cookie``.
    """

    status: int = 0
    location: str = ""
    cookies: tuple[str, ...] = ()


def answer_to(session: ProviderSession, url: str) -> Answer:
    """Return the head of the answer to a navigation. Redirects are not followed.

    Args:
        session: The session for the request.
        url: The address.
    """
    try:
        with session.request("GET", url, headers=_HEADERS, stream=True) as response:
            cookies = response.raw.headers.getlist("Set-Cookie")
            return Answer(response.status_code, response.headers.get("Location", ""), tuple(cookies))
    except Exception:  # noqa: BLE001  # many kinds; a call that words them tells more
        return Answer()
