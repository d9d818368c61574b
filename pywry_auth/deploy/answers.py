"""Answers of the routes and guards: JSON for programs, a page for people."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from flask import Response, jsonify, request
from markupsafe import Markup

from pywry_auth.deploy.current import login_path, sessions_of_app
from pywry_auth.deploy.return_to import safe_path
from pywry_auth.exceptions import AuthenticationError, ErrorCode, StoreUnavailable, printable
from pywry_auth.pages.html import Page, button_link, document, link, paragraph, security_headers

_logger = logging.getLogger("pywry_auth.deploy")

_TITLE = {
    401: "Please sign in",
    403: "Not allowed",
    404: "There is no such page",
    405: "This does not work that way",
    429: "Please wait a moment",
    503: "Not available at the moment",
}

_RETRY_SECONDS = 5
_STORE_DOWN = "This site cannot look up who is signed in at the moment: try again in a few seconds."


def refusal(
    status: int, error: str, description: str, headers: Mapping[str, str] | None = None, again: str = ""
) -> Response:
    """Return an error, as a page with a way on for people and as JSON for programs.

    Args:
        status: The HTTP status.
        error: Stable code.
        description: A sentence for people.
        headers: Further headers.
        again: Path of the page that a person can try next; by default a new sign-in.
    """
    if prefers_html():
        ways_on = _ways_on(status, error, again or login_path(""))
        body = paragraph(description) + ways_on + paragraph(f"Code: {error}", "next")
        response = page(_TITLE.get(status, "Sign-in did not work"), body, "failed", status)
    else:
        response = jsonify(error=error, error_description=description)
        response.status_code = status
    response.headers.update({"Cache-Control": "no-store", **(headers or {})})
    return response


def refusal_for(error: AuthenticationError, again: str = "") -> Response:
    """Return the answer for an error that a view raised; ``again`` as for ``refusal``."""
    status = ErrorCode.status_of(error.error)
    retry = {429: error.timeout or _RETRY_SECONDS, 503: _RETRY_SECONDS}.get(status)
    headers = {} if retry is None else {"Retry-After": str(int(retry))}
    if status >= 500:
        _logger.warning("%s could not be served: %s", request.endpoint or "a page", error)
    # Where the store is and what ails it is for the log alone.
    told = _STORE_DOWN if isinstance(error, StoreUnavailable) else str(error)
    return refusal(status, printable(error.error, 60), printable(told, 600), headers, again)


def store_down(error: AuthenticationError) -> Response:
    """Return the answer for one of the application's own views: a person can go there again."""
    return refusal_for(error, safe_path(sessions_of_app().site.current_path, login_path("")))


def page(
    title: str, body: Markup, kind: str = "notice", status: int = 200, form_action: str = "'none'"
) -> Response:
    """Return a page with its security headers (see ``document`` and ``security_headers``)."""
    response = Response(document(Page("page", title, body, kind)), status, mimetype="text/html")
    response.headers.update(security_headers(form_action))
    return response


def answer(**members: Any) -> Response:
    """Return a JSON object."""
    return jsonify(**members)


def _ways_on(status: int, error: str, again: str) -> Markup:
    home = f"{sessions_of_app().site.root}/"
    if status in (404, 405):  # a new sign-in would not help
        return button_link(home, "Home")
    if status == 401:
        label = "Sign in"
    else:
        label = "Use another account" if error == ErrorCode.ACCESS_DENIED else "Try again"
    return button_link(again, label) + Markup("<nav>{}</nav>").format(link(home, "Home"))


def redirect_to(url: str, status: int = 303) -> Response:
    """Return a redirect to a URL that was made here: nothing in it is taken from a request unjudged."""
    return Response("", status, {"Location": url})


def prefers_html() -> bool:
    """Tell whether the client would rather have a page than JSON."""
    return request.accept_mimetypes.best_match(["application/json", "text/html"]) == "text/html"
