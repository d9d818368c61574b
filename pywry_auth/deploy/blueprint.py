"""The routes under ``/auth``, as methods of one class: each reads, calls the flow, stores, answers."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, cast

from flask import Blueprint, Response, g, request
from flask.blueprints import BlueprintSetupState
from werkzeug.exceptions import MethodNotAllowed, NotFound

from pywry_auth.deploy import signals
from pywry_auth.deploy.answers import answer, prefers_html, redirect_to, refusal, refusal_for, store_down
from pywry_auth.deploy.choice import choice_page
from pywry_auth.deploy.csrf import require_own_request
from pywry_auth.deploy.current import (
    CurrentSessions,
    find_current,
    forget_current,
    login_path,
)
from pywry_auth.deploy.pending_login import PendingLogins
from pywry_auth.deploy.query import query_parameters, query_value
from pywry_auth.deploy.rate_limit import RateLimit
from pywry_auth.deploy.return_to import safe_path
from pywry_auth.deploy.site import Site, behind_proxies
from pywry_auth.exceptions import (
    AuthenticationError,
    ErrorCode,
    StoreUnavailable,
    TokenError,
    TokenRefreshError,
    printable,
)
from pywry_auth.flow import token_lifecycle
from pywry_auth.flow.authorization_code import complete
from pywry_auth.models import OAuthTokenSet, UserSession
from pywry_auth.state.pending import STALE_STATES, PendingAuthorization

if TYPE_CHECKING:
    from flask import Flask

    from pywry_auth.deploy.options import DeployOptions
    from pywry_auth.deploy.providers import Providers
    from pywry_auth.deploy.session_lifecycle import SessionLifecycle
    from pywry_auth.state.tokens import TokenStore

_logger = logging.getLogger("pywry_auth.deploy")
_NEXT = "_pywry_auth_next"


@dataclass(frozen=True)
class AuthRoutes:
    """Sign in, back from the provider, refresh, sign out, and two that tell who is signed in.

    Args:
        providers: Where users sign in.
        tokens: Where their OAuth tokens are, under their user IDs.
        sessions: Where their sessions are, and which one a request belongs to.
        life: Begins and ends them.
        sign_in: Logins under way.
        limit: How many may begin.
        site: The site's own addresses.
        options: The application's choices.
    """

    providers: Providers
    tokens: TokenStore
    sessions: CurrentSessions
    life: SessionLifecycle
    sign_in: PendingLogins
    limit: RateLimit
    site: Site
    options: DeployOptions

    def blueprint(self) -> Blueprint:
        """Return the routes as a blueprint for one application."""
        blueprint = Blueprint("auth", __name__, url_prefix="/auth")
        callback = "/callback/<name>" if self.providers.several else "/callback"
        for path, view, method in (
            ("/login", self.login, "GET"),
            (callback, self.callback, "GET"),
            ("/refresh", self.refresh, "POST"),
            ("/logout", self.logout, "POST"),
            ("/userinfo", self.userinfo, "GET"),
            ("/status", self.status, "GET"),
        ):
            blueprint.add_url_rule(path, view.__name__, view, methods=[method])
        blueprint.before_request(self._before)
        blueprint.after_request(_private)
        blueprint.register_error_handler(AuthenticationError, self._failed)
        # A guard in one of the application's own views meets the store too.
        blueprint.app_errorhandler(StoreUnavailable)(store_down)
        blueprint.record_once(self._install)
        return blueprint

    def login(self) -> Response:
        """Send the browser to the provider; where there are several, to the one that it chooses."""
        next_path = safe_path(query_value("next"), self._home)
        name = (query_value("provider") or "") if self.providers.several else ""
        if self.providers.several and not name:
            return choice_page(self.providers.by_name, next_path)
        self.limit.spend(request.remote_addr)
        return self.sign_in.begin(name, next_path)

    def callback(self, name: str = "") -> Response:
        """Take the browser back from a provider: a new session, its cookie, and on to the application.

        Args:
            name: Which of several providers.
        """
        provider = self.providers.named(name)
        parameters = query_parameters()
        try:
            pending = self.sign_in.take(name, parameters)
        except AuthenticationError as error:
            # A reload, the back button, or the slower of two tabs.
            if error.error in STALE_STATES and find_current() is not None:
                return redirect_to(self.site.absolute(self._home))
            raise
        setattr(g, _NEXT, pending.next_url)
        if pending.expired:
            return self._late(pending)
        result = complete(provider, pending.request, parameters)
        value, session = self.life.begin(name, result, self.sessions.cookie.read(request))
        response = redirect_to(self.site.absolute(pending.next_url))
        self.sessions.cookie.set(response, value, self.options.session_ttl, self.site.secure_cookies)
        signals.user_logged_in.send(self, session=session)
        signals.audit("login", user=session.user_id, session=session.session_id, client=request.remote_addr)
        return response

    def refresh(self) -> Response:
        """Refresh the user's access token; all who ask at once get the result of one call."""
        session = _require_session()
        provider = self.providers.of_session(session)
        if provider is None:
            raise _reauthenticate()
        seen, called = self.tokens.load(session.user_id), False

        def is_due(tokens: OAuthTokenSet) -> bool:
            # Who waited while somebody else was given new tokens, or asks just after that, gets those.
            nonlocal called
            fresh = token_lifecycle.was_just_refreshed(tokens, time.time(), session.created_at)
            called = tokens == seen and not fresh
            return called

        try:
            tokens = token_lifecycle.refresh_stored(provider, self.tokens, session.user_id, is_due)
        except TokenRefreshError as error:
            raise _reauthenticate() from error
        except TokenError as error:
            if error.error == ErrorCode.NOT_SIGNED_IN:
                raise _reauthenticate() from error
            if error.error == ErrorCode.NO_REFRESH_TOKEN:
                raise
            return refusal(502, error.error, str(error))
        if called:
            signals.token_refreshed.send(self, user_id=session.user_id)
            signals.audit("refresh", user=session.user_id, session=session.session_id)
        return answer(refreshed=True, expires_at=tokens.expires_at)

    def logout(self) -> Response:
        """End this session, or all of the user's, and with the last one the tokens."""
        session = find_current()
        # Only a URL of the provider's metadata or a path of the settings: nothing that the request says.
        home = self.site.absolute(self.site.root + self.options.after_logout_url)
        logout_url = None if session is None else self._end(session, home)
        if prefers_html():
            response = redirect_to(logout_url or home)
        else:
            response = answer(logged_out=True, logout_url=logout_url)
        self.sessions.cookie.clear(response, self.site.secure_cookies)
        return response

    def userinfo(self) -> Response:
        """Tell who is signed in, with the provider's profile as it came."""
        session = _require_session()
        info = session.metadata.get("user_info", {})
        return answer(user_id=session.user_id, roles=session.roles, user_info=info)

    def status(self) -> Response:
        """Tell whether somebody is signed in, and until when."""
        session = find_current()
        return answer(
            authenticated=session is not None,
            user_id=session.user_id if session else None,
            roles=session.roles if session else [],
            expires_at=session.expires_at if session else None,
        )

    @property
    def _home(self) -> str:
        return self.site.root + self.options.after_login_url

    def _late(self, pending: PendingAuthorization) -> Response:
        """Answer a response that came too late: its code is not used."""
        if find_current() is not None:  # by another tab
            return redirect_to(self.site.absolute(pending.next_url))
        if pending.restarted:
            raise AuthenticationError(
                "The sign-in took too long: start again.", error=ErrorCode.STATE_EXPIRED
            )
        return self.sign_in.begin(pending.provider, pending.next_url, restarted=True)

    def _end(self, session: UserSession, home: str) -> str | None:
        ended, tokens = self.life.end(session, everywhere=query_value("everywhere") == "1")
        forget_current()
        signals.user_logged_out.send(self, user_id=session.user_id, sessions=ended)
        signals.audit("logout", user=session.user_id, session=session.session_id, sessions=ended)
        return self.life.logout_url(session, tokens, home)

    def _before(self) -> Response | None:
        if request.method == "HEAD" and _view() in ("login", "callback"):
            return Response(status=204)  # a look ahead must neither begin nor use up a login
        if request.method == "POST":
            require_own_request(request, self.site.origin)
        if not self.options.enabled and _view() != "status":
            return refusal(503, ErrorCode.AUTH_DISABLED, "Signing in is switched off on this site.")
        return None

    def _failed(self, error: AuthenticationError) -> Response:
        if _view() in ("login", "callback"):
            code = printable(error.error, 60)  # it may be the provider's own
            signals.login_failed.send(self, error=code)
            signals.audit("login_failed", error=code, client=request.remote_addr)
        response = refusal_for(error, login_path(safe_path(g.get(_NEXT) or query_value("next"), "")))
        if response.status_code == 401:
            response.headers["WWW-Authenticate"] = 'Bearer realm="session"'
        return response

    def _install(self, state: BlueprintSetupState) -> None:
        app = cast("Flask", state.app)
        self.sessions.install(app, f"{state.name_prefix}.{state.name}".lstrip("."))
        if state.url_prefix:
            app.after_request(partial(_answer_unrouted, f"{state.url_prefix}/"))
        hops = self.options.trusted_proxy_hops
        if hops:
            # Flask's documentation puts middleware on like this.
            app.wsgi_app = behind_proxies(app.wsgi_app, hops)  # type: ignore[method-assign]
        if not self.options.enabled:
            _logger.warning("nobody can sign in: PYWRY_DEPLOY__AUTH_ENABLED is not true")


def _view() -> str:
    return (request.endpoint or "").rpartition(".")[2]  # an application may name the blueprint as it likes


def _require_session() -> UserSession:
    session = find_current()
    if session is None:
        raise AuthenticationError("Sign in first.", error=ErrorCode.NOT_SIGNED_IN)
    return session


def _reauthenticate() -> AuthenticationError:
    return AuthenticationError(
        "The provider ended the sign-in: sign in again.", error=ErrorCode.REAUTH_REQUIRED
    )


def _private(response: Response) -> Response:
    response.headers["Cache-Control"] = "no-store"
    response.vary.add("Cookie")
    return response


def _answer_unrouted(prefix: str, response: Response) -> Response:
    """Answer like the routes what Flask found none for, and so never gave to the blueprint."""
    fault = request.routing_exception
    if not isinstance(fault, NotFound | MethodNotAllowed) or not request.path.startswith(prefix):
        return response
    told = refusal(fault.code, fault.name.lower().replace(" ", "_"), fault.description)
    if isinstance(fault, MethodNotAllowed):
        told.headers["Allow"] = ", ".join(sorted(fault.valid_methods or ()))
    return _private(told)
