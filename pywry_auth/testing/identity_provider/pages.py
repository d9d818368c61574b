"""The pages that the provider shows, each as a finished response with its headers."""

from __future__ import annotations

import base64
import hashlib
from urllib.parse import urlsplit

from flask import Response, make_response, render_template

from pywry_auth.testing.identity_provider.templates import STYLE

_STYLE_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
_POLICY = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action {{forms}};"
    " frame-ancestors 'none'; base-uri 'none'"
)


def protect(response: Response) -> Response:
    """Add the headers that every answer of the provider has."""
    response.headers["Cache-Control"] = "no-store"
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers.setdefault("Content-Security-Policy", _POLICY.format(forms="'none'"))
    return response


def redirect(location: str) -> Response:
    """Send the browser to ``location`` with a GET, whatever brought it here."""
    return Response(status=303, headers={"Location": location})


def page(template: str, *, status: int = 200, returns_to: str = "", **values: object) -> Response:
    """Return a page.

    Args:
        template: Its name in ``templates.TEMPLATES``.
        status: HTTP status.
        returns_to: Where the form on it leads in the end.
        values: What the template speaks of.
    """
    address = returns_to.partition("?")[0]
    response = make_response(render_template(template, style=STYLE, returns_to=address, **values), status)
    forms = f"'self' {_source(returns_to)}".strip()
    response.headers["Content-Security-Policy"] = _POLICY.format(forms=forms)
    return response


def message(title: str, text: str) -> Response:
    """Return a page that only says something."""
    return page("message.html", title=title, text=text, next_step="You can close this window.")


def error(text: str, status: int = 400) -> Response:
    """Return the page that says what went wrong."""
    title = "Not found" if status == 404 else "This did not work"
    next_step = "Go back to the application and try again."
    return page("message.html", status=status, failed=True, title=title, text=text, next_step=next_step)


def _source(address: str) -> str:
    """Return an address as a source for ``form-action``: browsers hold a form's redirect to it, too."""
    parts = urlsplit(address)
    # The policy's grammar knows no IPv6 address, and an application's own scheme has no host.
    named = parts.scheme in ("http", "https") and "[" not in parts.netloc
    return f"{parts.scheme}://{parts.netloc}" if named else f"{parts.scheme}:" if parts.scheme else ""
