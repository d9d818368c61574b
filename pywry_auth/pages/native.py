"""The pages of the callback server on the loopback address."""

from __future__ import annotations

from dataclasses import dataclass, replace
from http import HTTPStatus
from urllib.parse import quote

from markupsafe import Markup

from pywry_auth.exceptions import printable
from pywry_auth.pages.html import (
    Page,
    button_link,
    document,
    join,
    paragraph,
    security_elements,
    security_headers,
)

_TICK, _DONE, _CLOSE = "✅", "Authentication Complete —", "You can close this window."
_MESSAGE_LIMIT = 600  # characters; a provider can send whole paragraphs
_URL_CHARACTERS = "!#$%&'()*+,/:;=?@[]~"

SECURITY_HEADERS = tuple(security_headers().items())
"""Sent with every page."""


@dataclass(frozen=True)
class PageResponse:
    """A response of the callback server, with page and status.

    Args:
        status: The HTTP status.
        html: The document; empty for a response without a page.
        headers: Further headers beside those of ``security``.
        title: The title and heading, as plain text.
        message: The paragraphs, as plain text; they may contain text from the provider.
        kind: ``done``, ``failed`` or ``notice``.
        security: The security headers.
    """

    status: HTTPStatus
    html: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    title: str = ""
    message: str = ""
    kind: str = ""
    security: tuple[tuple[str, str], ...] = SECURITY_HEADERS


def complete() -> PageResponse:
    """Return the page of a sign-in that worked."""
    # If the heading does not fit on one line, it breaks between its two parts. The style draws the tick: many
    # Linux machines have no font with that character and would show an empty box.
    heading = Markup("<span><span>{}</span> {}</span> <span>{}</span>").format(_TICK, _DONE, _CLOSE)
    return _page(
        HTTPStatus.OK,
        "done",
        f"{_TICK} {_DONE} {_CLOSE}",
        next_step="You are signed in. Continue in the application that you came from.",
        heading=heading,
    )


def failed(message: str) -> PageResponse:
    """Return the page of a failed sign-in.

    Args:
        message: The error and the remedy, as plain text; it may contain text from the provider.
    """
    return _page(
        HTTPStatus.BAD_REQUEST,
        "failed",
        "Sign-in failed",
        printable(message, _MESSAGE_LIMIT),
        next_step="You can close this window and sign in again from the application.",
    )


def cancelled(message: str) -> PageResponse:
    """Return the page after the user, or the provider, refused at the provider's page.

    Args:
        message: The error and the remedy, as plain text; it may contain text from the provider.
    """
    return _page(
        HTTPStatus.BAD_REQUEST,
        "notice",
        "You cancelled",
        "If you did not cancel, the provider refused the sign-in.",
        printable(message, _MESSAGE_LIMIT),
        next_step="You can close this window and sign in again from the application.",
    )


def already_answered() -> PageResponse:
    """Return the page for requests after the accepted redirect."""
    return _page(
        HTTPStatus.CONFLICT,
        "notice",
        "This sign-in has already received a response",
        "Each sign-in accepts only one response, and this sign-in has already received one.",
        next_step="You can close this window. The application shows whether you are signed in.",
    )


def unfinished() -> PageResponse:
    """Return the page for a browser that waited long enough."""
    return _page(
        HTTPStatus.ACCEPTED,
        "notice",
        "Your sign-in is not finished yet",
        "The provider has not confirmed your identity yet.",
        next_step="You can close this window. The application shows whether you are signed in.",
    )


def ended() -> PageResponse:
    """Return the page for a sign-in that the application ended."""
    return _page(
        HTTPStatus.GONE,
        "failed",
        "This sign-in has ended",
        "The application stopped waiting before the sign-in was finished.",
        next_step="You can close this window and sign in again from the application.",
    )


def lead_to(url: str) -> str:
    """Return a document for a file that leads to a URL, with or without the user's help.

    Args:
        url: URL of the authorization request.
    """
    refresh = Markup('<meta http-equiv="refresh" content="0; url={}">\n').format(url)
    body = [
        paragraph("Your browser continues to the sign-in page of your provider."),
        button_link(url, "Continue"),
    ]
    page = Page("sign_in", "Continue to sign in", join(body, "\n"))
    return document(page, head=security_elements() + refresh)


def redirect(url: str, cookie: str) -> PageResponse:
    """Return a redirect.

    Args:
        url: The target.
        cookie: Value of the Set-Cookie header.
    """
    target = quote(url, safe=_URL_CHARACTERS)  # no character can end the header
    return PageResponse(HTTPStatus.FOUND, headers=(("Location", target), ("Set-Cookie", cookie)))


def opened_twice() -> PageResponse:
    """Return the page for the second browser at a one-time address."""
    return _page(
        HTTPStatus.GONE,
        "failed",
        "This sign-in was ended for your safety",
        "Its address works only once and was opened before. Another program may have read it.",
        next_step="You can close this window and sign in again from the application.",
    )


def other_user() -> PageResponse:
    """Return the page for another user at a one-time address."""
    return _page(
        HTTPStatus.FORBIDDEN,
        "failed",
        "This sign-in belongs to another user",
        "Only the user who started the application can open this address.",
        next_step="If you started it, open in this browser the address that the application shows.",
    )


def ignored(why: str, status: HTTPStatus = HTTPStatus.BAD_REQUEST) -> PageResponse:
    """Return the page for a response that does not belong to the sign-in in progress.

    Args:
        why: The condition of the response, as sentences without text from the request.
        status: The HTTP status.
    """
    page = _page(
        status,
        "notice",
        "This response does not belong to the sign-in",
        why,
        next_step="If you were signing in, go back to the application and start again.",
    )
    return replace(page, headers=_allow(status))


def refused(status: HTTPStatus) -> PageResponse:
    """Return the page for a request without a valid response.

    The page shows nothing of the request.

    Args:
        status: The HTTP status, which gives the reason.
    """
    page = _page(
        status,
        "notice",
        f"{status.phrase} ({status.value})",
        "This address only accepts the response to a sign-in that is in progress.",
        next_step="If you were signing in, go back to the application and start again.",
    )
    return replace(page, headers=_allow(status))


def _allow(status: HTTPStatus) -> tuple[tuple[str, str], ...]:
    return (("Allow", "GET, HEAD"),) if status is HTTPStatus.METHOD_NOT_ALLOWED else ()


def _page(
    status: HTTPStatus,
    kind: str,
    title: str,
    *paragraphs: str,
    next_step: str,
    heading: Markup | None = None,
) -> PageResponse:
    text = [*map(paragraph, paragraphs), paragraph(next_step, "next")]
    html = document(Page("sign_in", title, join(text, "\n"), kind), heading)
    return PageResponse(status, html, title=title, message=" ".join((*paragraphs, next_step)), kind=kind)
