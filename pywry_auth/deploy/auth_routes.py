"""The sign-in routes for any framework, from request to response."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound
from werkzeug.wrappers import Request, Response

from pywry_auth.deploy.account_sessions import AccountSessions
from pywry_auth.deploy.answers import refusal, refusal_for
from pywry_auth.deploy.backchannel_views import BackchannelViews
from pywry_auth.deploy.background import Retries
from pywry_auth.deploy.capacity import Capacity, this_process
from pywry_auth.deploy.changed_rules import ChangedRules
from pywry_auth.deploy.cookies import Cookie, TokenSigner
from pywry_auth.deploy.csrf import require_own_request
from pywry_auth.deploy.current import CurrentSessions
from pywry_auth.deploy.granted_scopes import GrantedScopes
from pywry_auth.deploy.login_demand import DemandSigner
from pywry_auth.deploy.login_views import LoginViews
from pywry_auth.deploy.logout_state import LogoutStates
from pywry_auth.deploy.metrics_views import MetricsViews
from pywry_auth.deploy.navigation import opens_a_page
from pywry_auth.deploy.operator_end import OperatorEnd
from pywry_auth.deploy.own_sessions_views import OF_SESSIONS, OwnSessionsViews
from pywry_auth.deploy.pending_login import BINDING_SECONDS, PendingLogins
from pywry_auth.deploy.proxies import UntrustedProxies
from pywry_auth.deploy.rate_limit import RateLimit
from pywry_auth.deploy.readiness import Readiness
from pywry_auth.deploy.ready_views import ReadyViews
from pywry_auth.deploy.routes import ROUTES, Route
from pywry_auth.deploy.session_end import SessionEnd
from pywry_auth.deploy.session_lifecycle import SessionLifecycle
from pywry_auth.deploy.session_refresh import SessionRefresh
from pywry_auth.deploy.session_tokens import EarlyRefreshes, SessionTokens
from pywry_auth.deploy.session_views import SessionViews
from pywry_auth.deploy.signed_out_views import SignedOutViews
from pywry_auth.deploy.site import Mount, Renderer, Site
from pywry_auth.deploy.step_up import StepUps
from pywry_auth.deploy.tracing import trace_calls
from pywry_auth.deploy.verify_views import VerifyViews
from pywry_auth.deploy.workers import WorkerCheck
from pywry_auth.digests import digest_of
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError
from pywry_auth.flow.authorization_code import require_binding
from pywry_auth.flow.events import emit
from pywry_auth.flow.sign_in_hook import SignInHook, require_hook
from pywry_auth.flow.user_tokens import UserTokens
from pywry_auth.measures import FAILED, measured
from pywry_auth.models import UserSession
from pywry_auth.per_process import OncePerProcess
from pywry_auth.state.browsers import BrowserSessions

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

    from pywry_auth.backends.base import Backend
    from pywry_auth.deploy.login_demand import LoginDemand
    from pywry_auth.deploy.options import DeployOptions
    from pywry_auth.deploy.providers import Providers
    from pywry_auth.flow.events import Event
    from pywry_auth.state.pending import PendingStore
    from pywry_auth.state.sessions import SessionStore
    from pywry_auth.state.tokens import TokenStore

_logger = logging.getLogger("pywry_auth.deploy")
_BY_NAME: Mapping[str, Route] = {route.name: route for route in ROUTES}
_LOGINS = ("login", "callback")
_BACK_CHANNEL = "backchannel_logout"
_METRICS = "metrics"
_NO_NAVIGATION = (
    "A sign-in begins and ends in a tab or window of its own, not in a frame, a script or a prefetch: open "
    "this site's sign-in link there."
)
_DISABLED = "Sign-in is switched off: set PYWRY_DEPLOY__AUTH_ENABLED=true, or pass AuthConfig(enabled=True)."
_WITHOUT_SIGN_IN = ("status", "ready", _METRICS)  # they answer also if sign-in is switched off
_ENDING_SESSIONS = ("end_session", "end_other_sessions")
_MEASURED = (*_LOGINS, "logout", _BACK_CHANNEL)  # the flow itself measures each refresh
_CALLING_PROVIDER = ("callback", "refresh", "logout", *_ENDING_SESSIONS, _BACK_CHANNEL)


class AuthRoutes:
    """Serves the routes of ``ROUTES``, and finds requests' sessions.

    Args:
        options: The application's options.
        providers: The providers where users sign in.
        sessions: The store of sessions.
        tokens: The store of users' OAuth tokens, by user ID.
        pending: The store of pending logins.
        render: Makes the site's own pages (``error``, ``choose_provider``, ``sessions``, ``signed_out``). It
            returns a whole HTML document, or None for the built-in page. It is also an attribute.
        on_sign_in: The site's own decision about each sign-in; None for none.
    """

    def __init__(
        self,
        options: DeployOptions,
        providers: Providers,
        sessions: SessionStore,
        tokens: TokenStore,
        pending: PendingStore,
        render: Renderer | None = None,
        on_sign_in: SignInHook | None = None,
    ) -> None:
        _check(options, providers, on_sign_in)
        self.options = replace(options, other_account_prompt=providers.other_account_prompt)
        self.providers = providers
        self.tokens = tokens
        early = options.refresh_buffer
        self.user_tokens = UserTokens(providers.by_name, tokens, refresh_buffer_seconds=early)
        self.render = render
        self._workers = WorkerCheck(options.is_secret_generated, sessions.shared, tokens.backend.shared)
        self._asked = OncePerProcess()
        accounts = AccountSessions(providers, tokens, sessions, has_own_ids=on_sign_in is not None)
        ends = self._ends = SessionEnd(accounts)
        later = replace(ends, revoke_later=True)  # neither a visitor nor the provider waits
        current = _current_sessions(options, sessions, self._workers)
        self.sessions = replace(current, admit=ChangedRules(later, options.rules))
        demands = DemandSigner(TokenSigner(options.secrets, f"demand:{digest_of(options.site_name)}"))
        self.scopes = GrantedScopes(providers, tokens, demands)
        self.step_ups = StepUps(providers, demands)
        browsers = BrowserSessions(sessions.backend, BINDING_SECONDS)
        lifecycle = SessionLifecycle(ends, self.sessions, browsers, options, on_sign_in)
        self._retries = Retries(lifecycle.finish_work)
        tokens.revocations.on_postponed(self._retries.wake)
        tokens.keep_for(options.session_ttl)
        self._renew = SessionRefresh(providers, lifecycle, options, _refresh_limit(sessions.backend, options))
        self._early = EarlyRefreshes()
        binding = _cookie(options, "login")
        logins = PendingLogins(providers, pending, binding, options.use_pkce, self._workers)
        self._logins = self._login_views(logins, lifecycle)
        self.logout_states = LogoutStates(_cookie(options, "logout"))
        views = SessionViews(providers, self.sessions, lifecycle, logins, self._renew, self.logout_states)
        self.end_in_browser = views.end_in_browser
        self._back_channel = BackchannelViews(later)
        self._views = self._views_by_name(views)
        self.limit_calls(this_process)

    def _login_views(self, logins: PendingLogins, lifecycle: SessionLifecycle) -> LoginViews:
        limit = _login_limit(self.sessions.store.backend, self.options)
        # A counter of its own: logins that were begun over hours can be finished all at once.
        returns = replace(limit, kind="callback_rate", remedy="reload this page")
        untrusted = UntrustedProxies(self.options.trusted_proxy_hops)
        parts = (self.sessions, lifecycle, untrusted, self.scopes, self.step_ups)
        return LoginViews(self.providers, logins, limit, returns, *parts)

    def _views_by_name(self, views: SessionViews) -> Mapping[str, Callable[..., Response]]:
        own = OwnSessionsViews(self.sessions, self._ends, views.sign_out)
        signed_out = SignedOutViews(self.providers, self.sessions, self.logout_states)
        return {
            "login": self._logins.login,
            "callback": self._logins.callback,
            "refresh": views.refresh,
            "logout": views.logout,
            "signed_out": signed_out.signed_out,
            "userinfo": views.userinfo,
            "status": views.status,
            "verify": VerifyViews(self.sessions).verify,
            "ready": ReadyViews(Readiness(self.sessions.store.backend, self.tokens.backend)).ready,
            "sessions": own.sessions_of_user,
            "end_session": own.end_session,
            "end_other_sessions": own.end_other_sessions,
            _BACK_CHANNEL: self._back_channel.backchannel_logout,
            _METRICS: self._observed().metrics,
        }

    def _observed(self) -> MetricsViews:
        """Let metrics and traces see the calls of this process, and return the view of the metrics."""
        self._is_traced = trace_calls()
        labels = [self.providers.label(name) for name in self.providers.by_name]
        self._metrics = MetricsViews(self.options.metrics_tokens, labels)
        return self._metrics

    def limit_calls(self, capacity: Capacity) -> None:
        """Bound the threads that an unresponsive provider can occupy.

        Args:
            capacity: The threads that serve requests; its number may change until the first request.
        """
        chosen = self.options.provider_calls_at_once
        for name, provider in self.providers.by_name.items():
            provider.gate.name = self.providers.label(name)
            provider.gate.limit(lambda: capacity.calls_at_once(chosen), lambda: capacity.threads)

    def look_at_server(self, environ: WSGIEnvironment) -> None:
        """Look at the WSGI server that runs this process, and log what is wrong with it.

        Args:
            environ: The environment of a request. That of an adapter from ASGI means nothing here.
        """
        if self._asked.is_first():
            this_process.ask_server()
        self._workers.look_at(environ)

    def handle(self, name: str, request: Request, mount: Mount, /, **path: str) -> Response:
        """Return the response of one route.

        Args:
            name: The route's name in ``ROUTES``.
            request: The request.
            mount: Where the routes are mounted.
            path: Parameters of the path: the ``handle`` of a session, or the ``name`` of one of several
                providers in the path of the callback.
        """
        self._is_traced = self._is_traced or trace_calls()
        site = self.site(request, mount)
        try:
            response = self._before(name, site) or self._view(name, site, path)
        except AuthenticationError as error:
            if name in _LOGINS:
                response = self._logins.failed(site, error, **path)
            elif name == _BACK_CHANNEL:
                response = self._back_channel.failed(site, error)
            else:
                response = refusal_for(site, error, _again(name, site, error))
        return self.private(response)

    def handle_fault(self, fault: HTTPException, request: Request, mount: Mount) -> Response:
        """Return the response to a request that matches no route.

        Args:
            fault: The error that the router raised (404 or 405).
            request: The request.
            mount: Where the routes are mounted.
        """
        code = fault.name.lower().replace(" ", "_")
        response = refusal(
            self.site(request, mount), code, fault.description or fault.name, fault.code or 404
        )
        if isinstance(fault, MethodNotAllowed):
            response.headers["Allow"] = ", ".join(sorted(fault.valid_methods or ()))
        return self.private(response)

    def session_of(self, request: Request, application: object = None) -> UserSession | None:
        """Return a request's session, or None.

        The request keeps the result, so that further calls need no look-up.

        Args:
            request: Any request to the application.
            application: The application, which is the sender of events.

        Raises:
            StoreUnavailable: The store is down. No user is let in, and no user is signed out.
        """
        self.sessions.note_sender(request, application)
        return self.sessions.of(request)

    def is_monitoring(self, request: Request) -> bool:
        """Return whether a request has the token of the metrics.

        It is no session token, so it needs no look-up, which would fail while the store is down.

        Args:
            request: Any request to the application.
        """
        return self._metrics.admits(request)

    def end_user(self, user_id: str, application: object) -> int:
        """End all sessions of a user, and revoke the tokens.

        Args:
            user_id: The user's ID.
            application: The sender of the event.

        Returns:
            The number of sessions.

        Raises:
            StoreUnavailable: See :meth:`OperatorEnd.end_user`.
        """
        return OperatorEnd(self._ends, partial(emit, application)).end_user(user_id)

    def tokens_of(self, session: UserSession, notify: Callable[[Event], object]) -> SessionTokens:
        """Return the source of a session's access token.

        Args:
            session: The session of a request.
            notify: Receives the events of refreshes, perhaps in a thread without a request.
        """
        return SessionTokens(session, self._renew, self._early, notify)

    def satisfied(self, session: UserSession, demand: LoginDemand) -> bool:
        """Return whether a sign-in satisfies the demand of a guard.

        Args:
            session: The session of a request.
            demand: The demand.

        Raises:
            StoreUnavailable: The store is down.
        """
        if demand.is_step_up and not self.step_ups.suffice(session, demand):
            return False
        return not demand.scopes or self.scopes.suffice(session, demand)

    def ask(
        self,
        site: Site,
        session: UserSession,
        demand: LoginDemand,
        is_page: bool = False,
        whole: LoginDemand | None = None,
    ) -> Response:
        """Return the response to an insufficient sign-in.

        Args:
            site: The site.
            session: The session of the request.
            demand: The demand.
            is_page: Whether the request's path is that of a page, so that GET leads to it.
            whole: The demand of all guards of the page; None for that of the guard.

        Raises:
            StoreUnavailable: The store is down.
        """
        asks = self.step_ups if demand.is_step_up else self.scopes
        return asks.refuse(site, session, demand, is_page, whole)

    def site(self, request: Request, mount: Mount) -> Site:
        """Return the site for one request, for guards' responses."""
        self.sessions.note_sender(request, mount.application)
        return Site(self.options, request, mount, self.render)

    def path_of(self, route: Route) -> str:
        """Return a route's path below the prefix.

        It has a parameter for the name of one of several providers.

        Args:
            route: The route.
        """
        return f"{route.path}/<name>" if route.per_provider and self.providers.several else route.path

    def query_of(self, route: Route) -> Mapping[str, str]:
        """Return the meanings of a route's query parameters by name, with those of ``LOGIN_PARAMS``."""
        passed_on = self.options.login_params if route.name == "login" else ()
        return {**route.query, **dict.fromkeys(passed_on, "Passed on to the provider.")}

    def _view(self, name: str, site: Site, path: Mapping[str, str]) -> Response:
        if name in _CALLING_PROVIDER:
            self._retries.look()
        if name not in _MEASURED:
            return self._views[name](site, **path)
        with measured("step", name) as measure:
            response = self._views[name](site, **path)
            if response.status_code >= 400:
                measure.outcome = FAILED if response.status_code >= 500 else "refused"
            return response

    def _before(self, name: str, site: Site) -> Response | None:
        method = site.request.method
        if method == "HEAD" and name in _LOGINS:
            return Response(status=204)  # a prefetch must neither begin nor finish a login
        if method == "POST" and name != _BACK_CHANNEL:  # a token in its body authenticates the provider
            require_own_request(site)
        if name == _METRICS and not self.options.metrics_tokens:
            return self.handle_fault(NotFound(), site.request, site.mount)
        if not self.options.enabled and name not in _WITHOUT_SIGN_IN:
            disabled = AuthenticationError(_DISABLED, error=ErrorCode.AUTH_DISABLED)
            return (
                self._back_channel.failed(site, disabled)
                if name == _BACK_CHANNEL
                else refusal_for(site, disabled)
            )
        if method == "GET" and name in _LOGINS and not self._opens_a_page(name, site.request):
            # Any site's page can send this request, as often as it wants. So it counts as nothing, not even
            # as a failed login.
            error = AuthenticationError(_NO_NAVIGATION, error=ErrorCode.NOT_A_NAVIGATION)
            return refusal_for(site, error, site.login_path(site.next_path))
        if method == "OPTIONS" and name != "verify":  # a proxy may ask with the method of its own request
            return Response(headers={"Allow": _allow(_BY_NAME[name])})
        return None

    def _opens_a_page(self, name: str, request: Request) -> bool:
        return opens_a_page(request, from_other_sites=name == "callback")

    def private(self, response: Response) -> Response:
        """Return the response with headers that forbid caching."""
        response.headers["Cache-Control"] = "no-store"
        response.vary.update(("Cookie", self.options.auth_header))
        return response


def _again(name: str, site: Site, error: AuthenticationError) -> str:
    """Return the public path for another attempt after an error."""
    if ErrorCode.status_of(error.error) == 401:
        return site.sign_in_path(site.next_path)
    about_sessions = name in ("sessions", *_ENDING_SESSIONS)
    return site.own_path(OF_SESSIONS) if about_sessions else site.login_path(site.next_path)


def _check(options: DeployOptions, providers: Providers, on_sign_in: SignInHook | None) -> None:
    if not options.enabled:
        _logger.warning("no user can sign in: PYWRY_DEPLOY__AUTH_ENABLED is not true")
    if on_sign_in is not None:
        require_hook(on_sign_in)
    for provider in providers.by_name.values():
        require_binding(provider, options.use_pkce)


def _login_limit(backend: Backend, options: DeployOptions) -> RateLimit:
    text = "Too many sign-ins from your network"
    return RateLimit(backend, "login_rate", options.login_limit, options.login_window, text)


def _refresh_limit(backend: Backend, options: DeployOptions) -> RateLimit:
    text = "Too many refreshes in this session"
    return RateLimit(backend, "refresh_rate", options.refresh_limit, options.refresh_window, text)


def _cookie(options: DeployOptions, purpose: str) -> Cookie:
    return Cookie(f"{options.session_cookie}_{purpose}", TokenSigner(options.secrets, purpose))


def _current_sessions(options: DeployOptions, store: SessionStore, workers: WorkerCheck) -> CurrentSessions:
    signer = TokenSigner(options.secrets, "session", workers.foreign_session)
    cookie = Cookie(options.session_cookie, signer)
    return CurrentSessions(store, cookie, options.auth_header, options.enabled, store.sites)


def _allow(route: Route) -> str:
    return "GET, HEAD, OPTIONS" if route.method == "GET" else f"OPTIONS, {route.method}"
