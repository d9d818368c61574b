"""The session of the current request, looked up when something first asks for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from flask import current_app, g, request
from werkzeug.local import LocalProxy

from pywry_auth.deploy.cookies import Cookie
from pywry_auth.exceptions import INVALID_CONFIGURATION, AuthenticationError
from pywry_auth.models import UserSession
from pywry_auth.state.sessions import SessionStore, session_id_of_bearer

if TYPE_CHECKING:
    from flask import Flask, Response

_EXTENSION = "pywry_auth"
_CACHED = "_pywry_auth_session"


@dataclass(frozen=True)
class CurrentSessions:
    """Finds the session that a request belongs to.

    Args:
        store: Where sessions are.
        cookie: Carries a browser's session.
        auth_header: Carries an API client's, as ``Bearer …``.
        enabled: Whether there are sessions at all.
    """

    store: SessionStore
    cookie: Cookie
    auth_header: str
    enabled: bool

    def install(self, app: Flask) -> None:
        """Make ``current_session`` and ``g.session`` work in an application."""
        app.extensions[_EXTENSION] = self
        app.before_request(_offer)
        app.after_request(_vary)

    def session_id(self) -> str | None:
        """Return the ID that the request names, by bearer token or cookie; nothing is looked up."""
        scheme, _, token = request.headers.get(self.auth_header, "").partition(" ")
        bearer = session_id_of_bearer(token.strip()) if scheme.lower() == "bearer" else None
        return bearer or self.cookie.read(request)

    def find(self) -> UserSession | None:
        """Return the request's session, or None.

        Raises:
            BackendUnavailable: The store is down: nobody is let in, and nobody is logged out.
        """
        session_id = self.session_id() if self.enabled else None
        return None if session_id is None else self.store.get_session(session_id)


def find_current() -> UserSession | None:
    """Return the current request's session or None; the store is asked once in a request.

    Raises:
        AuthenticationError: The application has no authentication blueprint.
    """
    if _CACHED not in g:
        setattr(g, _CACHED, sessions_of_app().find())
    return cast("UserSession | None", getattr(g, _CACHED))


def forget_current() -> None:
    """Look the session up again when it is next asked for."""
    g.pop(_CACHED, None)


def sessions_of_app() -> CurrentSessions:
    """Return what ``install`` left in the current application."""
    try:
        return cast(CurrentSessions, current_app.extensions[_EXTENSION])
    except KeyError:
        raise AuthenticationError(
            "This application has no authentication: register create_auth_blueprint() on it.",
            error=INVALID_CONFIGURATION,
        ) from None


current_session = cast("UserSession | None", LocalProxy(find_current))
"""The current request's session; false when nobody is signed in."""


def _offer() -> None:
    g.session = current_session


def _vary(response: Response) -> Response:
    # Whatever was made with a look at the session is for this visitor alone.
    if _CACHED in g:
        response.vary.update(("Cookie", sessions_of_app().auth_header))
    return response
