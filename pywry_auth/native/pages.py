"""The pages that a browser shows when it comes back to the loopback address, and what is sent with them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from http import HTTPStatus

from pywry_auth.exceptions import printable
from pywry_auth.flow.html import document, paragraph, security_headers

_TICK, _DONE, _CLOSE = "✅", "Authentication Complete —", "You can close this window."
_MESSAGE_LIMIT = 600  # characters; a provider may send whole paragraphs

SECURITY_HEADERS = tuple(security_headers().items())
"""Sent with every page."""


@dataclass(frozen=True)
class Page:
    """An answer to a browser.

    Args:
        status: The HTTP status.
        html: The document; empty for an answer without one.
        headers: What this answer has beside ``SECURITY_HEADERS``.
    """

    status: HTTPStatus
    html: str = ""
    headers: tuple[tuple[str, str], ...] = ()


def complete() -> Page:
    """Return the page of a sign-in that worked."""
    page = _page(
        HTTPStatus.OK,
        "done",
        f"{_TICK} {_DONE} {_CLOSE}",
        next_step="You are signed in. Go on in the application that you came from.",
    )
    # Where the heading does not fit on one line it breaks between its two parts. The tick is drawn by the
    # style: many a Linux has no font with that character, and would show an empty box.
    parts = f"<span><span>{_TICK}</span> {_DONE}</span> <span>{_CLOSE}</span>"
    return replace(page, html=page.html.replace(f"<h1>{_TICK} {_DONE} {_CLOSE}", f"<h1>{parts}"))


def failed(message: str) -> Page:
    """Return the page of a sign-in that did not work.

    Args:
        message: What went wrong and what to do, in plain text; a provider's words may be among it.
    """
    return _page(
        HTTPStatus.BAD_REQUEST,
        "failed",
        "Sign-in did not work",
        printable(message, _MESSAGE_LIMIT),
        next_step="You can close this window and sign in again from the application.",
    )


def already_answered() -> Page:
    """Return the page for whoever comes after the redirect that counted."""
    return _page(
        HTTPStatus.CONFLICT,
        "notice",
        "This sign-in was already answered",
        "Each sign-in takes one answer, and this one has had it.",
        next_step="You can close this window. The application shows whether you are signed in.",
    )


def unfinished() -> Page:
    """Return the page for a browser that has been kept waiting long enough."""
    return _page(
        HTTPStatus.ACCEPTED,
        "notice",
        "Your sign-in is still being finished",
        "The provider takes its time to confirm who you are.",
        next_step="You can close this window. The application shows whether you are signed in.",
    )


def ended() -> Page:
    """Return the page for a sign-in that the application gave up before it could be finished."""
    return _page(
        HTTPStatus.GONE,
        "failed",
        "This sign-in has ended",
        "The application stopped waiting before the sign-in was finished.",
        next_step="You can close this window and sign in again from the application.",
    )


def refused(status: HTTPStatus) -> Page:
    """Return the page for a request that is no answer to the sign-in; it shows nothing of the request.

    Args:
        status: Why it is refused.
    """
    allow = (("Allow", "GET, HEAD"),) if status is HTTPStatus.METHOD_NOT_ALLOWED else ()
    page = _page(
        status,
        "notice",
        f"{status.phrase} ({status.value})",
        "This address only takes the answer of a sign-in that is under way, and this request is not it.",
        next_step="If you were signing in, go back to the application and start again.",
    )
    return replace(page, headers=allow)


def _page(status: HTTPStatus, kind: str, title: str, *paragraphs: str, next_step: str) -> Page:
    text = [paragraph(line) for line in paragraphs]
    return Page(status, document(title, "\n".join([*text, paragraph(next_step, "next")]), kind))
