"""The session of the current request, looked up when something first asks for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, cast
from urllib.parse import urlencode

from flask import current_app, request, url_for
from werkzeug.local import LocalProxy

from pywry_auth.deploy.cookies import Cookie
from pywry_auth.exceptions import AuthenticationError, ErrorCode
from pywry_auth.models import UserSession
from pywry_auth.state.sessions import SessionStore, session_id_of_bearer

if TYPE_CHECKING:
    from flask import Flask, Response
    from flask.ctx import _AppCtxGlobals

    from pywry_auth.deploy.site import Site

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
        site: The site's own addresses.
    """

    store: SessionStore
    cookie: Cookie
    auth_header: str
    enabled: bool
    site: Site

    def install(self, app: Flask, blueprint: str) -> None:
        """Make ``current_session`` and ``g.session`` work in an application.

        Args:
            app: The application.
            blueprint: What it calls the blueprint with the routes.
        """
        app.extensions[_EXTENSION] = _Installed(self, blueprint)
        lazy = type("Globals", (app.app_ctx_globals_class,), {"session": _LazySession()})
        app.app_ctx_globals_class = cast("type[_AppCtxGlobals]", lazy)
        app.after_request(_vary)

    def session_id(self) -> str | None:
        """Return the ID that the request names, by bearer token or cookie; nothing is looked up."""
        scheme, _, token = request.headers.get(self.auth_header, "").partition(" ")
        bearer = session_id_of_bearer(token.strip()) if scheme.lower() == "bearer" else None
        return bearer or self.cookie.read(request)

    def find(self) -> UserSession | None:
        """Return the request's session, or None.

        Raises:
            StoreUnavailable: The store is down: nobody is let in, and nobody is logged out.
        """
        session_id = self.session_id() if self.enabled else None
        return None if session_id is None else self.store.get_session(session_id)


class _LazySession:
    """What ``g.session`` is until an application puts something of its own there: the session or None."""

    def __get__(self, instance: object, owner: type) -> UserSession | None:
        return find_current()


class _Installed(NamedTuple):
    sessions: CurrentSessions
    blueprint: str


def find_current() -> UserSession | None:
    """Return the current request's session or None; the store is asked once in a request.

    Raises:
        AuthenticationError: The application has no authentication blueprint.
    """
    # With the request and not in g, which belongs to an application context and may see several requests.
    if not hasattr(request, _CACHED):
        setattr(request, _CACHED, sessions_of_app().find())
    return cast("UserSession | None", getattr(request, _CACHED))


def forget_current() -> None:
    """Look the session up again when it is next asked for."""
    if hasattr(request, _CACHED):
        delattr(request, _CACHED)


def sessions_of_app() -> CurrentSessions:
    """Return what ``install`` left in the current application."""
    return _installed().sessions


def login_path(next_path: str, provider: str = "") -> str:
    """Return the path of the login as browsers see it.

    Args:
        next_path: Where to go once signed in; empty for where everybody goes.
        provider: Which of several to begin at; empty for the visitor's choice.
    """
    sessions, blueprint = _installed()
    path = sessions.site.public_path(url_for(f"{blueprint}.login"))
    query = {name: value for name, value in (("provider", provider), ("next", next_path)) if value}
    return f"{path}?{urlencode(query)}" if query else path


def _installed() -> _Installed:
    try:
        return cast(_Installed, current_app.extensions[_EXTENSION])
    except KeyError:
        raise AuthenticationError(
            "This application has no authentication: register create_auth_blueprint() on it.",
            error=ErrorCode.INVALID_CONFIGURATION,
        ) from None


current_session = cast("UserSession | None", LocalProxy(find_current))
"""The current request's session; false when nobody is signed in.

Ask for its truth, not whether it ``is None``: it stands for the session, and is an object either way.
"""


def _vary(response: Response) -> Response:
    # Whatever was made with a look at the session is for this visitor alone.
    if hasattr(request, _CACHED):
        response.vary.update(("Cookie", sessions_of_app().auth_header))
    return response
