"""The pages that a browser shows when it comes back to the loopback address, and what is sent with them."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, replace
from html import escape
from http import HTTPStatus

from pywry_auth.exceptions import printable

_DONE, _CLOSE = "✅ Authentication Complete —", "You can close this window."
_MESSAGE_LIMIT = 600  # characters; a provider may send whole paragraphs

_STYLE = """
:root { color-scheme: light dark; --paper: #f4f5f7; --card: #fff; --ink: #1c2530; --soft: #4b5766;
  --line: #d9dee5; --accent: #5b6b80; }
.done { --accent: #15803d; }
.failed { --accent: #b42318; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #12161c; --card: #1c222b; --ink: #edf1f6; --soft: #aab6c5; --line: #333d4a;
    --accent: #8b9bb0; }
  .done { --accent: #4ade80; }
  .failed { --accent: #f97066; }
}
* { box-sizing: border-box; }
body { margin: 0; min-height: 100vh; display: grid; place-items: center; padding: 1.25rem;
  background: var(--paper); color: var(--ink); font: 1rem/1.6 system-ui, "Segoe UI", Roboto, sans-serif; }
main { width: 100%; max-width: 31rem; padding: 2rem 2.25rem; background: var(--card);
  border: 1px solid var(--line); border-top: 5px solid var(--accent); border-radius: 12px;
  box-shadow: 0 12px 32px rgb(0 0 0 / 9%); overflow-wrap: anywhere; }
h1 { margin: 0 0 .75rem; font-size: 1.4rem; line-height: 1.35; text-wrap: balance; }
h1 span { display: inline-block; }
p { margin: .5rem 0 0; }
.next { margin-top: 1.25rem; padding-top: 1rem; border-top: 1px solid var(--line); color: var(--soft); }
@media (max-width: 30rem) { main { padding: 1.5rem 1.25rem; } h1 { font-size: 1.15rem; } }
"""

_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

SECURITY_HEADERS = (
    (
        "Content-Security-Policy",
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'",
    ),
    ("Referrer-Policy", "no-referrer"),  # the address of this page holds the code
    ("X-Content-Type-Options", "nosniff"),
    ("Cache-Control", "no-store"),
)
"""Sent with every page: nothing is loaded, framed, kept, guessed at or told to others."""

_LAYOUT = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main class="{kind}">
<h1>{title}</h1>
{paragraphs}
</main>
</body>
</html>
"""


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
        f"{_DONE} {_CLOSE}",
        next_step="You are signed in. Go on in the application that you came from.",
    )
    # Where the heading does not fit on one line it breaks between its two parts.
    parts = f"<span>{_DONE}</span> <span>{_CLOSE}</span>"
    return replace(page, html=page.html.replace(f"<h1>{_DONE} {_CLOSE}", f"<h1>{parts}"))


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
    text = [f"<p>{escape(paragraph)}</p>" for paragraph in paragraphs]
    text.append(f'<p class="next">{escape(next_step)}</p>')
    html = _LAYOUT.format(title=escape(title), style=_STYLE, kind=kind, paragraphs="\n".join(text))
    return Page(status, html)
