"""The session of a request, looked up on first use."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from pywry_auth.exceptions import StoreUnavailable
from pywry_auth.state.sessions import SessionStore, session_id_of_bearer

if TYPE_CHECKING:
    from werkzeug.wrappers import Request, Response

    from pywry_auth.deploy.cookies import Cookie
    from pywry_auth.models import UserSession

_FOUND = "_pywry_auth_session"  # attributes of a request
_SENDER = "_pywry_auth_sender"

Admission = Callable[["UserSession", object], "UserSession | None"]
"""Returns a session with its present roles, or None. It also gets the sender of events."""


@dataclass(frozen=True)
class CurrentSessions:
    """Finds the session of a request.

    Args:
        store: The store of sessions.
        cookie: The cookie with a browser's session token.
        auth_header: Name of the header with an API client's session token, as ``Bearer …``.
        enabled: Whether users can sign in at all.
        sites: The digests of the site. A bearer token of another site is ignored; a cookie is signed.
        admit: Applies rules that have changed since the sign-in.
    """

    store: SessionStore
    cookie: Cookie
    auth_header: str
    enabled: bool
    sites: Collection[str]
    admit: Admission = lambda session, sender: session

    @staticmethod
    def note_sender(request: Request, application: object) -> None:
        """Note a request's application, the sender of events."""
        setattr(request, _SENDER, application)

    def session_id(self, request: Request) -> str | None:
        """Return the session ID of a request, without a look-up.

        A bearer token takes precedence over the cookie.
        """
        return self._bearer(request) or self.cookie.read(request)

    def session_ids(self, request: Request) -> list[str]:
        """Return the session IDs of all genuine credentials of a request.

        An attacker who controls a neighbouring domain can add a genuine cookie of another session. No such
        request is signed in, but a sign-out ends all of its sessions.
        """
        if not self.enabled:
            return []
        bearer = self._bearer(request)
        return [*([bearer] if bearer else []), *self.cookie.read_all(request)]

    def all_of(self, request: Request) -> list[UserSession]:
        """Return the sessions of all genuine credentials of a request.

        Raises:
            StoreUnavailable: The store is down, or this worker cannot read one of the sessions. It may be a
                record of a newer version, or encrypted with a key that this worker does not have yet.
        """
        found = []
        for session_id in self.session_ids(request):
            session = self._find(request, session_id)
            if session is not None:
                found.append(session)
            elif self.store.is_unreadable(session_id):
                raise StoreUnavailable(
                    "A session cannot be read: check that all workers run the same version and have the same "
                    "PYWRY_DEPLOY__ENCRYPTION_KEYS."
                )
        return found

    def of(self, request: Request) -> UserSession | None:
        """Return a request's session, or None.

        The request keeps the result, so that further calls need no look-up.

        Raises:
            StoreUnavailable: The store is down. No user is let in, and no user is signed out.
        """
        if not hasattr(request, _FOUND):
            session_id = self.session_id(request) if self.enabled else None
            session = None if session_id is None else self._find(request, session_id)
            if session is not None and session.grant is not None:
                session = self.admit(session, getattr(request, _SENDER, None))
            setattr(request, _FOUND, session)
        return cast("UserSession | None", getattr(request, _FOUND))

    def relies_on_cookie(self, request: Request) -> bool:
        """Return whether only the cookie can identify the user, without a look-up."""
        return self._bearer(request) is None and self.cookie.read(request) is not None

    def is_bearer(self, request: Request) -> bool:
        """Return whether the session of a request is that of its bearer token.

        Raises:
            StoreUnavailable: The store is down.
        """
        return self._bearer(request) is not None and self.of(request) is not None

    def forget(self, request: Request) -> None:
        """Forget a request's session; the next use reads it again."""
        if hasattr(request, _FOUND):
            delattr(request, _FOUND)

    def leave(self, request: Request) -> None:
        """Let the rest of a request have no session."""
        setattr(request, _FOUND, None)

    def has_bearer(self, request: Request) -> bool:
        """Return whether a request has a bearer session token, valid or not.

        Such a request comes from an API client, even if it also has a cookie.
        """
        return self._bearer(request) is not None

    def _find(self, request: Request, session_id: str) -> UserSession | None:
        if session_id == self._bearer(request):
            return self.store.find_bearer(session_id, self.sites)
        return self.store.get_session(session_id)

    def _bearer(self, request: Request) -> str | None:
        scheme, _, token = request.headers.get(self.auth_header, "").partition(" ")
        return session_id_of_bearer(token.strip()) if scheme.lower() == "bearer" else None

    def mark(self, request: Request, response: Response) -> None:
        """Mark a response for caches as dependent on the session.

        A response for which the session was not looked up remains unchanged.
        """
        if hasattr(request, _FOUND):
            response.vary.update(("Cookie", self.auth_header))
