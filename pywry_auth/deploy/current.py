"""The session that a request belongs to, looked up when it is first needed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from pywry_auth.state.sessions import SessionStore, session_id_of_bearer

if TYPE_CHECKING:
    from werkzeug.wrappers import Request, Response

    from pywry_auth.deploy.cookies import Cookie
    from pywry_auth.models import UserSession

_FOUND = "_pywry_auth_session"  # attribute of a request


@dataclass(frozen=True)
class CurrentSessions:
    """Finds the session that a request belongs to.

    Args:
        store: Where sessions are.
        cookie: Carries a browser's session.
        auth_header: Name of the header that carries an API client's, as ``Bearer …``.
        enabled: Whether users can be signed in at all.
    """

    store: SessionStore
    cookie: Cookie
    auth_header: str
    enabled: bool

    def session_id(self, request: Request) -> str | None:
        """Return the ID that a request names, by bearer token or cookie, without a look-up."""
        scheme, _, token = request.headers.get(self.auth_header, "").partition(" ")
        bearer = session_id_of_bearer(token.strip()) if scheme.lower() == "bearer" else None
        return bearer or self.cookie.read(request)

    def of(self, request: Request) -> UserSession | None:
        """Return a request's session or None; the store is asked once for each request.

        Raises:
            StoreUnavailable: The store is down: no user is let in, and none is signed out.
        """
        if not hasattr(request, _FOUND):
            session_id = self.session_id(request) if self.enabled else None
            session = None if session_id is None else self.store.get_session(session_id)
            setattr(request, _FOUND, session)
        return cast("UserSession | None", getattr(request, _FOUND))

    def forget(self, request: Request) -> None:
        """Look a request's session up again when it is next needed."""
        if hasattr(request, _FOUND):
            delattr(request, _FOUND)

    def mark(self, request: Request, response: Response) -> None:
        """Tell caches that a response depends on the session, if the session was looked up."""
        if hasattr(request, _FOUND):
            response.vary.update(("Cookie", self.auth_header))
