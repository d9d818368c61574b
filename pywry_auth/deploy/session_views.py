"""The views ``refresh``, ``logout``, ``userinfo`` and ``status``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from pywry_auth.deploy.answers import answer, prefers_html, redirect_to, refusal_for
from pywry_auth.deploy.routes import Body, LoggedOut, Refreshed, Status, UserInfo
from pywry_auth.deploy.session_end import by_user
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import (
    AuthenticationError,
    StoreUnavailable,
    TokenError,
    TokenExpiredError,
    own_copy,
)
from pywry_auth.flow.events import SignedOut, emit
from pywry_auth.models import OAuthTokenSet, UserSession

if TYPE_CHECKING:
    from werkzeug.wrappers import Request, Response

    from pywry_auth.deploy.current import CurrentSessions
    from pywry_auth.deploy.logout_state import LogoutStates
    from pywry_auth.deploy.pending_login import PendingLogins
    from pywry_auth.deploy.providers import Providers
    from pywry_auth.deploy.session_lifecycle import SessionLifecycle
    from pywry_auth.deploy.session_refresh import SessionRefresh
    from pywry_auth.deploy.site import Site

_NOT_REFRESHED = (
    "Your access could not be extended: try again in a minute. If this happens again, tell the site's "
    "administrator."
)


@dataclass(frozen=True)
class SessionViews:
    """The routes ``refresh``, ``logout``, ``userinfo`` and ``status``.

    Args:
        providers: The providers where users signed in.
        sessions: Finds the session of a request.
        lifecycle: Ends sessions.
        pending: Knows the cookies that bind logins to a browser.
        renew: Refreshes the tokens of a session's user.
        states: Binds sign-outs at the provider to a browser.
    """

    providers: Providers
    sessions: CurrentSessions
    lifecycle: SessionLifecycle
    pending: PendingLogins
    renew: SessionRefresh
    states: LogoutStates

    def refresh(self, site: Site) -> Response:
        """Refresh the user's access token.

        Simultaneous requests share the result of one call to the provider.
        """
        session = self._require(site.request)
        try:
            tokens = self.renew(session, partial(emit, site.mount.application))
        except TokenExpiredError:
            raise
        except TokenError as error:
            if error.error == ErrorCode.TEMPORARILY_UNAVAILABLE:
                raise
            # The provider failed, also if its code says otherwise.
            shown = own_copy(error)
            shown.visitor = _NOT_REFRESHED
            return refusal_for(site, shown, status=502)
        finally:
            self.sessions.forget(site.request)  # it may have ended, or have other roles
        return answer(Refreshed(refreshed=True, expires_at=tokens.expires_at))

    def logout(self, site: Site) -> Response:
        """End this browser's sessions, or all of the user's sessions.

        The user's tokens are removed and revoked with the last session.
        """
        return self.sign_out(site, partial(LoggedOut, True), site.parameter("everywhere") == "1")

    def sign_out(self, site: Site, body: Callable[[str | None], Body], everywhere: bool = False) -> Response:
        """Sign this browser out, and lead it to the provider's sign-out.

        Args:
            site: The site.
            body: Makes the JSON for a script, from the URL of the provider's sign-out.
            everywhere: Whether to end all of the user's sessions.

        Raises:
            StoreUnavailable: The store is down; a repeated request finishes the work.
        """
        with self.lifecycle.accounts.replicated():
            return self._signed_out(site, body, everywhere)

    def _signed_out(self, site: Site, body: Callable[[str | None], Body], everywhere: bool) -> Response:
        sessions = self.sessions.all_of(site.request)
        unknown = self.lifecycle.unknown_to(self.pending.browsers(site), sessions)
        # A path from the settings, or a URL from the provider's metadata, never request data.
        page = site.absolute(site.after_logout_path)
        # No browser of an API client returns from the provider.
        state = None if self.sessions.has_bearer(site.request) else self.states.new()
        logout_url = self._end(site, sessions, page, state, everywhere) if sessions else None
        # The cookie of a pending login proves less than that of a session: it ends no other session, and does
        # not open the ID token that a sign-out URL contains.
        self._end_each(site, unknown)
        is_form = prefers_html(site.request)
        response = redirect_to(logout_url or page) if is_form else answer(body(logout_url))
        self.sessions.cookie.clear(response, site.secure_cookies)
        if state is not None and state in (logout_url or ""):  # some providers have no such parameter
            self.states.keep(site, response, state)
        return response

    def end_in_browser(self, site: Site) -> None:
        """End this browser's sessions without a response, as :meth:`logout` does.

        Raises:
            StoreUnavailable: The store is down.
        """
        with self.lifecycle.accounts.replicated():
            sessions = self.sessions.all_of(site.request)
            unknown = self.lifecycle.unknown_to(self.pending.browsers(site), sessions)
            self._end_each(site, [*sessions, *unknown])

    def userinfo(self, site: Site) -> Response:
        """Return the signed-in user and the provider's unchanged profile."""
        session = self._require(site.request)
        info = session.metadata.get("user_info", {})
        return answer(UserInfo(session.user_id, session.roles, info))

    def status(self, site: Site) -> Response:
        """Return which user is signed in, and until when."""
        session = self.sessions.of(site.request)
        if session is None:
            return answer(Status(False, None, [], None, None, None))
        name, picture = session.name or None, session.picture or None
        return answer(Status(True, session.user_id, session.roles, session.expires_at, name, picture))

    def _require(self, request: Request) -> UserSession:
        session = self.sessions.of(request)
        if session is None:
            raise AuthenticationError("Sign in first.", error=ErrorCode.NOT_SIGNED_IN)
        return session

    def _end(
        self, site: Site, sessions: list[UserSession], page: str, state: str | None, everywhere: bool
    ) -> str | None:
        """End the sessions, and return the provider's sign-out URL for the first."""
        tokens = self._end_each(site, sessions, everywhere).get(sessions[0].user_id)
        id_token = tokens.id_token if tokens and _may_hint(tokens, sessions[0]) else None
        if self.sessions.has_bearer(site.request):
            id_token = None  # an API client's session may have less than the profile in the ID token
        return self.lifecycle.logout_url(sessions[0], id_token, page, state)

    def _end_each(
        self, site: Site, sessions: list[UserSession], everywhere: bool = False
    ) -> dict[str, OAuthTokenSet | None]:
        """End the sessions, and return the tokens of each user."""
        tokens_of = {}
        for user, own in by_user(sessions).items():
            ended: list[str] = []
            try:
                ((_, _, tokens_of[user]),) = self.lifecycle.ends.end(own, everywhere, ended)
            except StoreUnavailable:
                if ended:
                    self._report(site, own[0], len(ended))
                raise
            self._report(site, own[0], len(ended))
        self.sessions.forget(site.request)
        return tokens_of

    def _report(self, site: Site, session: UserSession, ended: int) -> None:
        event = SignedOut(mode="web", session=session, sessions=ended, **self._facts(session))
        emit(site.mount.application, event)

    def _facts(self, session: UserSession) -> dict[str, str]:
        return {"user_id": session.user_id, "provider": self.providers.label_of(session)}


def _may_hint(tokens: OAuthTokenSet, session: UserSession) -> bool:
    """Return whether an ID token is a hint about a session's own sign-in (OIDC RP-Initiated Logout §2).

    A later sign-in in another browser replaces the stored tokens. Its ``sid`` would name the session of that
    browser at the provider. Without a ``sid``, the hint names only the user, which some providers require.
    """
    claims, own = tokens.id_token_claims, session.grant
    if own is None:
        return claims.get("sid") is None
    if own.subject and claims.get("sub", own.subject) != own.subject:
        return False
    is_own = tokens.grant is not None and tokens.grant.grant_id == own.grant_id
    named = claims.get("sid")
    return named is None or named == own.sid or (own.sid is None and is_own)
