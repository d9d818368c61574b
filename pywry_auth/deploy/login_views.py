"""The views of a login: off to the provider, and back from it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pywry_auth.deploy.answers import page_response, redirect_to, refusal_for
from pywry_auth.deploy.providers import readable
from pywry_auth.deploy.return_to import safe_path
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError, printable
from pywry_auth.flow.authorization_code import ResponseParameters, complete
from pywry_auth.flow.events import LoginFailed, LoginSucceeded, emit
from pywry_auth.pages.web import choose_provider
from pywry_auth.state.pending import STALE_STATES, PendingAuthorization

if TYPE_CHECKING:
    from werkzeug.wrappers import Response

    from pywry_auth.deploy.current import CurrentSessions
    from pywry_auth.deploy.pending_login import PendingLogins
    from pywry_auth.deploy.providers import Providers
    from pywry_auth.deploy.rate_limit import RateLimit
    from pywry_auth.deploy.session_lifecycle import SessionLifecycle
    from pywry_auth.deploy.site import Site


@dataclass(frozen=True)
class LoginViews:
    """The routes ``login`` and ``callback``.

    Args:
        providers: Where users sign in.
        pending: Logins that wait for the provider's response.
        limit: How many logins a client may begin.
        sessions: Finds the session of a request.
        lifecycle: Begins sessions.
    """

    providers: Providers
    pending: PendingLogins
    limit: RateLimit
    sessions: CurrentSessions
    lifecycle: SessionLifecycle

    def login(self, site: Site) -> Response:
        """Send the browser to the provider; if there are several, to the one that the visitor chooses."""
        next_path = safe_path(site.parameter("next"), site.home)
        name = self._wanted(site)
        if self.providers.several and not name:
            names = self.providers.by_name
            page = choose_provider({site.login_path(next_path, name): readable(name) for name in names})
            return page_response(page, render=site.render)
        self.limit.spend(site.request.remote_addr)
        return self.pending.begin(site, name, next_path)

    def callback(self, site: Site, name: str = "") -> Response:
        """Receive the browser from a provider: begin a session, and return to the application.

        Args:
            site: The site.
            name: Which of several providers.
        """
        self.providers.named(name)
        parameters = site.parameters
        try:
            pending = self.pending.take(site.request, name, parameters)
        except AuthenticationError as error:
            # A reload, the back button, or the slower of two tabs.
            if error.error in STALE_STATES and self.sessions.of(site.request) is not None:
                return redirect_to(site.absolute(site.home))
            raise
        try:
            return self._late(site, pending) if pending.expired else self._finish(site, pending, parameters)
        except AuthenticationError as error:
            return self.failed(site, error, name, pending.next_url)

    def failed(
        self, site: Site, error: AuthenticationError, name: str = "", next_path: str | None = None
    ) -> Response:
        """Return the response to a login that failed.

        Args:
            site: The site.
            error: Why it failed.
            name: Which of several providers, if the path names it.
            next_path: Where the login was to lead; None takes the request's ``next``.
        """
        code = printable(error.error, 60)  # it may be the provider's own
        provider = self.providers.label(name or self._wanted(site))
        client = site.request.remote_addr
        emit(site.mount.application, LoginFailed(mode="web", provider=provider, client=client, error=code))
        wanted = next_path or site.parameter("next")
        return refusal_for(site, error, site.login_path(safe_path(wanted, "")))

    def _wanted(self, site: Site) -> str:
        return (site.parameter("provider") or "") if self.providers.several else ""

    def _finish(self, site: Site, pending: PendingAuthorization, parameters: ResponseParameters) -> Response:
        name, cookie = pending.provider, self.sessions.cookie
        result = complete(self.providers.named(name), pending.request, parameters)
        value, session = self.lifecycle.begin(name, result, cookie.read(site.request))
        response = redirect_to(site.absolute(pending.next_url))
        cookie.set(response, value, site.options.session_ttl, site.secure_cookies)
        event = LoginSucceeded(
            mode="web",
            session=session,
            user_id=session.user_id,
            provider=self.providers.label(name),
            client=site.request.remote_addr,
            seconds=round(time.time() - pending.request.created_at, 3),
        )
        emit(site.mount.application, event)
        return response

    def _late(self, site: Site, pending: PendingAuthorization) -> Response:
        """Return the response to a provider's response that came too late: its code is not used."""
        if self.sessions.of(site.request) is not None:  # another tab signed in
            return redirect_to(site.absolute(pending.next_url))
        if pending.restarted:
            raise AuthenticationError(
                "The sign-in took too long: start again.", error=ErrorCode.STATE_EXPIRED
            )
        return self.pending.begin(site, pending.provider, pending.next_url, restarted=True)
