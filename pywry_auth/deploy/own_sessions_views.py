"""The views ``sessions``, ``end_session`` and ``end_other_sessions``: the user's own sessions.

A handle is looked up only among the sessions of the signed-in user, so that no user sees or ends those of
another one.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from pywry_auth.deploy.answers import (
    answer,
    challenge,
    page_response,
    prefers_html,
    redirect_to,
    refusal,
)
from pywry_auth.deploy.providers import readable
from pywry_auth.deploy.routes import ListedSession, Sessions, SessionsEnded
from pywry_auth.deploy.sign_out_form import sign_out_sources
from pywry_auth.digests import handle_of
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError, StoreUnavailable
from pywry_auth.flow.events import ENDED_BY_USER, SignedOut, emit
from pywry_auth.pages.sessions import ShownSession, sessions_page

if TYPE_CHECKING:
    from werkzeug.wrappers import Response

    from pywry_auth.deploy.current import CurrentSessions
    from pywry_auth.deploy.session_end import SessionEnd
    from pywry_auth.deploy.site import Site
    from pywry_auth.models import UserSession

OF_SESSIONS = "/sessions"
"""The path of the page below the prefix of the routes."""

_UNKNOWN_BROWSER, _API_TOKEN = "Unknown browser", "API token"
_COUNT = re.compile(r"[0-9]{1,4}")
_UNREADABLE = (
    "A session of the user cannot be read, so it was not ended: check that all workers run the same version "
    "and have the same PYWRY_DEPLOY__ENCRYPTION_KEYS."
)
_NOT_ALL = "Not all of your sessions could be signed out: try again in a few minutes."
_NOT_THIS = "This session could not be signed out: try again in a few minutes."


@dataclass(frozen=True)
class _Own:
    """The sessions of one person.

    Args:
        current: The session of the request.
        listed: The sessions that this process can read, the newest first, each with the time of its last
            recorded use.
        unreadable: The IDs of the other ones.
    """

    current: UserSession
    listed: list[tuple[UserSession, float | None]]
    unreadable: list[str]

    @property
    def others(self) -> list[UserSession]:
        """The sessions other than that of the request, which this process can read."""
        return [each for each, _ in self.listed if each.session_id != self.current.session_id]


@dataclass(frozen=True)
class OwnSessionsViews:
    """The routes with the sessions of the signed-in user.

    Args:
        sessions: Finds the session of a request.
        ends: Ends sessions.
        sign_out: Signs the browser that sent a request out, as the route ``logout`` does. It gets the site,
            and a function that makes the JSON from the URL of the provider's sign-out.
        clock: Unix time in seconds.
    """

    sessions: CurrentSessions
    ends: SessionEnd
    sign_out: Callable[[Site, Callable[[str | None], SessionsEnded]], Response]
    clock: Callable[[], float] = time.time

    def sessions_of_user(self, site: Site) -> Response:
        """Return the user's sessions, as JSON or as a page.

        Raises:
            AuthenticationError: A bearer token authenticates the request.
            StoreUnavailable: The store is down.
        """
        session = self._session(site)
        if session is None:
            return challenge(site, is_page=True)
        own = self._own(session)
        if not prefers_html(site.request):
            listed = [self._listed(each, used, own.current) for each, used in own.listed]
            return answer(Sessions(listed, complete=not own.unreadable))
        shown = [self._shown(site, each, used, own.current) for each, used in own.listed]
        page = sessions_page(
            shown,
            site.own_path(f"{OF_SESSIONS}/others/end"),
            f"{site.root}/",
            now=self.clock(),
            ended=_count(site.parameter("ended")),
            complete=not own.unreadable,
            form_action=sign_out_sources(self.ends.accounts.providers.of_session(session)),
        )
        return page_response(page, render=site.render)

    def end_session(self, site: Site, handle: str) -> Response:
        """End one of the user's sessions.

        The end of the browser's own session is a sign-out, with the same answer to a form.

        Args:
            site: The site.
            handle: The handle of the session; any text.

        Raises:
            AuthenticationError: A bearer token authenticates the request.
            StoreUnavailable: The store is down, or this process cannot read the session.
        """
        session = self._session(site)
        if session is None:
            return self._stranger(site)
        if handle == session.handle:
            return self.sign_out(site, partial(SessionsEnded, 1, True))
        with self.ends.accounts.replicated():
            return self._end_other(site, session, handle)

    def _end_other(self, site: Site, session: UserSession, handle: str) -> Response:
        own = self._own(session)
        found = [each for each in own.others if each.handle == handle]
        if found and self._end(site, found):
            return self._ended(site, 1)
        if handle in map(handle_of, own.unreadable):
            raise _unreadable(_NOT_THIS)
        text = ErrorCode.UNKNOWN_SESSION.visitor
        return refusal(site, ErrorCode.UNKNOWN_SESSION, text, again=site.own_path(OF_SESSIONS))

    def end_other_sessions(self, site: Site) -> Response:
        """End all of the user's sessions except that of the request.

        Raises:
            AuthenticationError: A bearer token authenticates the request.
            StoreUnavailable: The store is down, or this process cannot read one of the sessions. All others
                have ended then.
        """
        session = self._session(site)
        if session is None:
            return self._stranger(site)
        with self.ends.accounts.replicated():
            own = self._own(session)
            ended = self._end(site, own.others)
        if own.unreadable:
            raise _unreadable(_NOT_ALL)
        return self._ended(site, ended)

    def _session(self, site: Site) -> UserSession | None:
        """Return the session of the browser, or None."""
        if self.sessions.is_bearer(site.request):
            raise AuthenticationError(
                "A bearer token may neither list nor end the user's sessions: sign in with a browser, and "
                "send its cookie.",
                error=ErrorCode.BROWSER_SESSION_REQUIRED,
            )
        return self.sessions.of(site.request)

    def _own(self, current: UserSession) -> _Own:
        """Return the sessions of the person who sent the request.

        After a change of the provider, two people can have the same user ID.
        """
        store, user = self.sessions.store, current.user_id
        found = store.list_sessions_with_use(user)
        ids = self.ends.accounts.others(user, [current], [each for each, _ in found])
        own = {*ids, current.session_id}
        known = {each.session_id for each, _ in found}
        listed = [each for each in reversed(found) if each[0].session_id in own]
        unreadable = [each for each in ids if each not in known and store.is_unreadable(each)]
        return _Own(current, listed, unreadable)

    def _end(self, site: Site, sessions: Iterable[UserSession]) -> int:
        """End sessions, and return their number; each that ended is reported, also if the store fails."""
        by_id = {each.session_id: each for each in sessions}
        ended: list[str] = []
        try:
            self.ends.end(by_id.values(), ended=ended)
        finally:
            for session in map(by_id.__getitem__, ended):
                provider = self.ends.accounts.providers.label_of(session)
                facts = {"user_id": session.user_id, "provider": provider, "reason": ENDED_BY_USER}
                emit(site.mount.application, SignedOut(mode="web", session=session, sessions=1, **facts))
        return len(ended)

    def _ended(self, site: Site, ended: int) -> Response:
        if prefers_html(site.request):
            return redirect_to(site.absolute(site.own_path(f"{OF_SESSIONS}?ended={ended}")))
        return answer(SessionsEnded(ended=ended, logged_out=False))

    def _stranger(self, site: Site) -> Response:
        again = site.sign_in_path(site.own_path(OF_SESSIONS))
        return refusal(site, ErrorCode.LOGIN_REQUIRED, "Sign in first.", again=again)

    def _listed(self, session: UserSession, used: float | None, current: UserSession) -> ListedSession:
        is_current = session.session_id == current.session_id
        return ListedSession(
            handle=session.handle,
            current=is_current,
            kind="browser" if session.grant or is_current else "api_token",
            browser=session.browser,
            network=session.network,
            provider=self.ends.accounts.providers.label_of(session),
            signed_in_at=session.created_at,
            expires_at=session.expires_at,
            last_used_at=used,
        )

    def _shown(
        self, site: Site, session: UserSession, used: float | None, current: UserSession
    ) -> ShownSession:
        listed = self._listed(session, used, current)
        is_token = listed.kind == "api_token"
        several = self.ends.accounts.providers.several and listed.provider
        return ShownSession(
            _API_TOKEN if is_token else listed.browser or _UNKNOWN_BROWSER,
            is_token,
            listed.network,
            readable(listed.provider) if several else "",
            listed.signed_in_at,
            listed.expires_at,
            used,
            listed.current,
            # The form of the present device is the one that the application itself has for a sign-out.
            site.own_path("/logout" if listed.current else f"{OF_SESSIONS}/{listed.handle}/end"),
        )


def _count(text: str | None) -> int | None:
    """Return the number in the address of the page, which any other site can choose."""
    return int(text) if text is not None and _COUNT.fullmatch(text) else None


def _unreadable(visitor: str) -> StoreUnavailable:
    error = StoreUnavailable(_UNREADABLE)
    error.visitor = visitor
    return error
