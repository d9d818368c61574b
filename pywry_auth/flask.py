"""Sessions, guards and signals for a Flask application."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import wraps
from inspect import iscoroutinefunction
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from flask import Blueprint, Flask, current_app
from flask import request as current_request
from flask.typing import ResponseReturnValue
from flask.views import MethodView
from werkzeug.wrappers import Response

from pywry_auth.deploy.answers import challenge, forbidden, refusal_for
from pywry_auth.deploy.csrf import SAFE_METHODS, require_own_or_bearer, require_own_use_of_cookie
from pywry_auth.deploy.flask_adapter import (
    AuthBlueprint,
    answered,
    current_session,
    current_site,
    current_tokens,
    end_user_sessions,
    find_session,
    get_session_store,
    get_user_tokens,
    is_login_view,
    is_own_route,
    is_page,
    log_once,
    login_url,
    require_free,
    require_free_callbacks,
    require_known_host,
    routes_of_app,
    use_views,
)
from pywry_auth.deploy.login_demand import LoginDemand, demand_of, mark_demand
from pywry_auth.deploy.parts import SiteParts
from pywry_auth.deploy_routes import routes_from
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError, StoreUnavailable
from pywry_auth.flow.sign_in_hook import SignInAttempt, SignInDecision, SignInHook
from pywry_auth.flow.signals import login_failed, token_refreshed, user_logged_in, user_logged_out
from pywry_auth.models import UserSession
from pywry_auth.state.auth import check_roles

if TYPE_CHECKING:
    from pywry_auth.config import DeploySettings
    from pywry_auth.deploy.current import CurrentSessions
    from pywry_auth.deploy.site import Site
    from pywry_auth.flow.request_session import RequestSession
    from pywry_auth.providers.base import OAuthProvider
    from pywry_auth.state.auth import AuthConfig
    from pywry_auth.state.sessions import SessionStore
    from pywry_auth.state.tokens import TokenStore

__all__ = [
    "SignInAttempt",
    "SignInDecision",
    "any_role_required",
    "current_session",
    "end_user_sessions",
    "fresh_login_required",
    "get_access_token",
    "get_session_store",
    "get_user_tokens",
    "init_app",
    "login_failed",
    "login_required",
    "login_url",
    "permission_required",
    "protect_from_csrf",
    "request_session",
    "roles_required",
    "scopes_required",
    "token_refreshed",
    "user_logged_in",
    "user_logged_out",
]

_P = ParamSpec("_P")
_R = TypeVar("_R")
_View = Callable[_P, _R]
_Guarded = Callable[_P, _R | ResponseReturnValue]
_EXEMPT = "_pywry_auth_exempt"  # attribute of a guarded view; true with csrf=False
# What inspect and asyncio read from a callable that is marked as a coroutine function; wraps() copies them.
_COROUTINE_MARKS = ("_is_coroutine_mark", "_is_coroutine")


def init_app(
    app: Flask,
    provider: OAuthProvider | Mapping[str, OAuthProvider] | None = None,
    *,
    session_store: SessionStore | None = None,
    token_store: TokenStore | None = None,
    deploy_settings: DeploySettings | None = None,
    auth_config: AuthConfig | None = None,
    use_pkce: bool | None = None,
    on_sign_in: SignInHook | None = None,
    url_prefix: str = "/auth",
    name: str = "auth",
    callback_path: str | Mapping[str, str] | None = None,
    login_view: str = "",
    protect: bool = False,
    public: Collection[str] = (),
) -> None:
    """Add the routes of sign-in and sessions to an application.

    The settings replace the arguments that are None. Those in ``app.config``, under the names of the
    variables, take precedence over the environment; they are read now.

    In debug mode, without a store or a secret in settings or code, sessions and tokens are kept in a file of
    ``app.instance_path``, and survive the reloader.

    Args:
        app: The application. ``app.debug`` and ``app.testing`` are read now.
        provider: See :func:`~pywry_auth.deploy_routes.create_auth_blueprint`.
        session_store: See there.
        token_store: See there.
        deploy_settings: See there.
        auth_config: See there.
        use_pkce: See there.
        on_sign_in: See there.
        url_prefix: The path at which the routes begin. The redirect URI follows it.
        name: The name of the blueprint, for example in ``url_for("auth.login")``.
        callback_path: See :func:`~pywry_auth.deploy_routes.create_auth_blueprint`. The path may be outside
            ``url_prefix``.
        login_view: The endpoint of the application's own sign-in page, such as ``welcome``. Visitors without
            a session are sent there. It is open to every visitor, and links to :func:`login_url`.
        protect: Whether each request needs a signed-in user, see :func:`login_required`, also for a path that
            does not exist. The routes of sign-in stay open.
        public: With ``protect``, the endpoints of the views that are open to every visitor, such as ``home``,
            ``shop.index`` and ``static``. They are compared exactly.

    Raises:
        AuthenticationError: A setting or argument is missing or invalid, or the application has the routes or
            a blueprint of that name already; the text names it.
    """
    _check_views(login_view, protect, public)
    require_free(app, url_prefix, name)
    parts = SiteParts(
        provider,
        session_store,
        token_store,
        deploy_settings,
        auth_config,
        use_pkce,
        on_sign_in,
        callback_path,
        values=app.config,
        debug_folder=Path(app.instance_path) if app.debug and not app.testing else None,
        name=app.name,
    )
    blueprint = AuthBlueprint(routes_from(parts))
    require_free_callbacks(app, blueprint.auth_routes, url_prefix.rstrip("/"))
    app.register_blueprint(blueprint, name=name, url_prefix=url_prefix.rstrip("/"))
    opened = frozenset([*public, login_view]) - {""}
    use_views(app, login_view, opened if protect else None)
    if protect:
        # In front of all others, also those registered before: they may read data or stop a request.
        app.before_request_funcs.setdefault(None, []).insert(0, _protection(frozenset(public), opened))


def _check_views(login_view: object, protect: bool, public: object) -> None:
    text = ""
    if not isinstance(login_view, str):
        text = "login_view= is the endpoint of a view, such as 'welcome'"
    elif isinstance(public, str) or not isinstance(public, Collection):
        text = "public= is a collection of endpoints, such as ('home', 'static')"
    elif not all(isinstance(name, str) and name for name in public):
        text = "each name in public= is the endpoint of a view, such as 'home' or 'shop.index'"
    elif public and not protect:
        text = "public= has an effect only with protect=True, and without it every view is open: pass both"
    if text:
        raise AuthenticationError(f"init_app(): {text}.", error=ErrorCode.INVALID_CONFIGURATION)


def _protection(public: frozenset[str], opened: frozenset[str]) -> Callable[[], ResponseReturnValue | None]:
    """Return the function of ``before_request`` that guards an application."""
    guard = login_required(lambda: None, csrf=False)

    @wraps(guard)
    def protect() -> ResponseReturnValue | None:
        _report_unknown(public)
        if current_request.endpoint in opened:
            return None
        if not is_own_route() and not getattr(_current_view(), _EXEMPT, False):
            refused = _refusal_of(require_own_use_of_cookie)
            if refused is not None:
                return refused
        return guard()

    return protect


def _report_unknown(public: frozenset[str]) -> None:
    for name in [name for name in public if name not in current_app.view_functions]:
        log_once(
            logging.WARNING,
            f"public= of init_app() has {name!r}, which is no endpoint of a view: use a name such as 'home' "
            "or 'shop.index' (`flask routes` lists the endpoints)",
        )


def get_access_token() -> str:
    """Return the current user's access token, refreshed if necessary.

    All requests, workers and machines share one refresh. A token that expires within 60 s is returned and
    refreshed in the background, so that a request with a valid token never waits for the provider.

    The application answers the errors for its views, unless it has handlers of its own: a navigation
    to the page leads to the login and back, and other requests get 401.

    This function is no guard: it does not check cross-site requests, as :func:`login_required` does. On the
    routes of sign-in the token is empty, so that a function of ``before_request`` may call it.

    Raises:
        LoginRequired: No user is signed in (``login_required``); or the provider has ended the grant, or the
            token has expired and cannot be refreshed (``reauth_required``).
        AuthenticationError: The access rules do not admit the user any more (``access_denied``).
        TokenError: The token has expired, and the provider cannot be reached or refused for a reason that can
            be corrected.
        ProviderBusy: The token has expired, and too many requests wait for the provider.
        StoreUnavailable: The store is down.
        RuntimeError: There is no current request.
    """
    return "" if is_own_route() else current_tokens().get_access_token()


def request_session(*origins: str) -> RequestSession:
    """Return a ``requests`` session that sends the current user's access token (RFC 6750 §2.1).

    The token goes to the origins only. After a 401 the session refreshes once and repeats the request; such
    refreshes count for ``REFRESH_RATE_LIMIT``, and above it the 401 is returned. Each request can raise the
    errors of :func:`get_access_token`. The session also works in a thread that the view starts. Make one for
    each thread.

    Args:
        origins: For example ``https://api.example.com``.

    Raises:
        LoginRequired: No user is signed in (``login_required``).
        StoreUnavailable: The store is down.
        AuthenticationError: An origin is not valid, or none was given.
        RuntimeError: There is no current request.
    """
    from pywry_auth.flow.request_session import RequestSession

    tokens = current_tokens()
    return RequestSession(tokens.http_options, origins, tokens)


@overload
def login_required(view: _View[_P, _R], *, csrf: bool = True) -> _Guarded[_P, _R]: ...
@overload
def login_required(
    view: None = None, *, csrf: bool = True
) -> Callable[[_View[_P, _R]], _Guarded[_P, _R]]: ...
def login_required(
    view: _View[_P, _R] | None = None, *, csrf: bool = True
) -> _Guarded[_P, _R] | Callable[[_View[_P, _R]], _Guarded[_P, _R]]:
    """Require a signed-in user for a view.

    A visitor who navigates to the page is sent to the login and then returned; other requests get 401. A
    request other than GET, HEAD and OPTIONS that another site's page caused gets 403, unless a bearer token
    authenticates it.

    OPTIONS is open to every visitor, also with the other guards: the response is the list of allowed methods,
    or that of a class-based view's own ``options`` method. A guard on this method has no effect.

    Args:
        view: The view; without it, the guard is used as ``@login_required(csrf=False)``.
        csrf: Whether to refuse requests that another site's page caused.
    """

    def guard(view: _View[_P, _R]) -> _Guarded[_P, _R]:
        return _guard(view, lambda session, arguments: True, csrf)

    return guard if view is None else guard(view)


def roles_required(*roles: str, csrf: bool = True) -> Callable[[_View[_P, _R]], _Guarded[_P, _R]]:
    """Require all of the roles for a view.

    Users without them get 403. OPTIONS is open, see :func:`login_required`.

    Args:
        roles: Names of roles.
        csrf: See :func:`login_required`.
    """
    return lambda view: _guard(view, lambda session, arguments: set(roles) <= set(session.roles), csrf)


def any_role_required(*roles: str, csrf: bool = True) -> Callable[[_View[_P, _R]], _Guarded[_P, _R]]:
    """Require one of the roles for a view.

    Users without any of them get 403. OPTIONS is open, see :func:`login_required`.

    Args:
        roles: Names of roles, at least one.
        csrf: See :func:`login_required`.

    Raises:
        AuthenticationError: There is no role, or a role is not a text.
    """
    check_roles(roles, "any_role_required")

    def allows(session: UserSession, arguments: Mapping[str, Any]) -> bool:
        return not set(roles).isdisjoint(session.roles)

    return lambda view: _guard(view, allows, csrf)


def permission_required(
    permission: str, resource_type: str = "", resource_argument: str = "", *, csrf: bool = True
) -> Callable[[_View[_P, _R]], _Guarded[_P, _R]]:
    """Require a permission for a view.

    Users have permissions through their roles or through a grant on the resource. Other users get 403.
    OPTIONS is open, see :func:`login_required`.

    Args:
        permission: For example ``write``.
        resource_type: Kind of resource, for grants on single resources.
        resource_argument: The argument of the view that holds the resource's ID. A function that you call
            yourself must get it by name. A function of ``before_request`` needs no argument: the guard reads
            that of the view.
        csrf: See :func:`login_required`.
    """

    def allows(session: UserSession, arguments: Mapping[str, Any]) -> bool:
        resource = str(arguments.get(resource_argument, ""))
        return routes_of_app().sessions.store.allows(session, resource_type, resource, permission)

    return lambda view: _guard(view, allows, csrf)


def scopes_required(*scopes: str, csrf: bool = True) -> Callable[[_View[_P, _R]], _Guarded[_P, _R]]:
    """Require scopes of the user's OAuth tokens for a view.

    A navigation to the page leads to the provider and back. The request has the provider's own scopes,
    those that the user has granted before, and these. Other requests get 403, with ``missing_scopes`` and
    the address ``login_url`` (RFC 6750 §3.1). After a sign-in that did not bring the scopes, a page with
    a link follows in place of another redirect. OPTIONS is open, see :func:`login_required`.

    Args:
        scopes: Names of scopes at the provider.
        csrf: See :func:`login_required`.

    Raises:
        AuthenticationError: There is no scope, or a name is not valid (RFC 6749 §3.3).
    """
    demand = LoginDemand.of(scopes, "scopes_required")

    def allows(session: UserSession, arguments: Mapping[str, Any]) -> bool:
        return routes_of_app().satisfied(session, demand)

    return lambda view: _guard(view, allows, csrf, demand)


def fresh_login_required(
    max_age: int | None = 300, acr: str | Sequence[str] | None = None, *, csrf: bool = True
) -> Callable[[_View[_P, _R]], _Guarded[_P, _R]]:
    """Require a recent or a strong sign-in (RFC 9470).

    The time and the class of the user's sign-in at the provider count, not those of the session, and a
    refresh changes neither. A navigation to the page leads to the provider and back. The same user must sign
    in again there, and then gets a new session. Other requests get 401, with ``max_age``, ``acr_values`` and
    the address ``login_url``. After a sign-in that is not recent or not strong enough, an error page follows
    in place of another redirect, and the old session stays. OPTIONS is open, see :func:`login_required`.

    A session that the application created, for an API client, never suffices. The provider must use OpenID
    Connect: without such a provider, the application is refused when it starts, or at the first request.

    Args:
        max_age: The most seconds since the user authenticated (``auth_time``); None for any time. The
            provider's ``CLOCK_SKEW_SECONDS`` are added.
        acr: The authentication context classes of which one suffices: a sequence of names, or a text with
            spaces between them. None for any.
        csrf: See :func:`login_required`.

    Raises:
        AuthenticationError: Both are None, ``max_age`` is no positive whole number, or a name is not valid
            (``invalid_configuration``).
    """
    demand = LoginDemand.step_up(max_age, acr, "fresh_login_required")

    def allows(session: UserSession, arguments: Mapping[str, Any]) -> bool:
        return routes_of_app().satisfied(session, demand)

    return lambda view: _guard(view, allows, csrf, demand)


def protect_from_csrf(target: Flask | Blueprint) -> None:
    """Refuse cross-site requests to the views of an application or blueprint.

    A request other than GET, HEAD and OPTIONS that another site's page caused gets 403, unless a bearer token
    of a session authenticates it. The view and its decorators do not run then. Exempt are views with a guard
    that has ``csrf=False``, also below other decorators that use ``functools.wraps``. A class-based view is
    exempt with ``decorators = [login_required(csrf=False)]``, not by guards of its methods. The routes of
    sign-in have a check of their own.

    Args:
        target: The application, or a blueprint of it. The application needs the authentication routes.
    """
    target.before_request(_refuse_cross_site)


def _refuse_cross_site() -> ResponseReturnValue | None:
    view = _current_view()
    if view is None or getattr(view, _EXEMPT, False) or is_own_route():
        return None
    return _refusal_of(require_own_or_bearer)


def _refusal_of(require: Callable[[Site, CurrentSessions], None]) -> Response | None:
    """Return the response to a request that a rule refuses, or None."""
    if current_request.method in SAFE_METHODS:
        return None
    site = current_site()
    try:
        require(site, routes_of_app().sessions)
    except StoreUnavailable:
        raise
    except AuthenticationError as error:
        return answered(refusal_for(site, error, site.home))
    return None


def _guard(
    view: _View[_P, _R],
    allows: Callable[[UserSession, Mapping[str, Any]], bool],
    csrf: bool,
    demand: LoginDemand | None = None,
) -> _Guarded[_P, _R]:
    is_coroutine = iscoroutinefunction(view)

    @wraps(view)
    def guarded(*args: _P.args, **kwargs: _P.kwargs) -> Any:
        def run() -> Any:
            return (current_app.ensure_sync(view) if is_coroutine else view)(*args, **kwargs)

        require_known_host()
        if is_own_route():
            return run() if _is_layer(guarded, _current_view()) else None
        if current_request.method == "OPTIONS":
            return _answer_options(guarded, run)
        if is_login_view() and _is_before_request(guarded):
            return None
        refused = _refusal_of(require_own_use_of_cookie) if csrf else None
        if refused is not None:
            return refused
        session = find_session()
        if session is None:
            return answered(challenge(current_site(), is_page(), _signed(demand)))
        # A function of before_request gets no arguments. Any other function has only its own: it may act on
        # another resource than the one in the URL.
        is_check = not args and not kwargs and _is_before_request(guarded)
        if allows(session, (current_request.view_args or {}) if is_check else kwargs):
            return run()
        if demand is not None:
            whole = demand.merged_with(demand_of(_current_view()))
            return answered(routes_of_app().ask(current_site(), session, demand, is_page(), whole))
        return answered(forbidden(current_site(), is_page()))

    inner = demand_of(view)
    mark_demand(guarded, inner if demand is None else demand.merged_with(inner))
    setattr(guarded, _EXEMPT, not csrf)  # in any case, because wraps() copies the value of an inner guard
    for mark in _COROUTINE_MARKS:
        vars(guarded).pop(mark, None)
    return guarded


def _signed(demand: LoginDemand | None) -> str:
    """Return the signed demand on a sign-in; empty for none.

    Args:
        demand: The demand of the guard; None for none. That of the view, which is behind the guard, is added.
    """
    of_view = demand_of(_current_view())
    demand = of_view if demand is None else demand.merged_with(of_view)
    return routes_of_app().scopes.signer.sign(demand) if demand else ""


def _answer_options(guarded: object, run: Callable[[], Any]) -> Any:
    """Respond to OPTIONS, which browsers send without cookies before a request of another origin.

    The view does not run, except the own ``options`` method of a class-based view.

    Args:
        guarded: The guard around a view, a method or a function of ``before_request``.
        run: Calls the guarded function.
    """
    if current_request.routing_exception is not None:
        raise current_request.routing_exception
    view = _current_view()
    kind = getattr(view, "view_class", None)
    own = getattr(kind, "options", None) if isinstance(kind, type) and issubclass(kind, MethodView) else None
    if own is not None:
        if _is_layer(guarded, view) or _is_layer(guarded, own):
            return run()
        if _is_before_request(guarded):
            return None  # Flask goes on to the view
    return current_app.make_default_options_response()


def _is_before_request(guarded: object) -> bool:
    """Return whether a guard is around a function of ``before_request``."""
    functions = chain.from_iterable(current_app.before_request_funcs.values())
    return any(_is_layer(guarded, function) for function in functions)


def _is_layer(guarded: object, view: object) -> bool:
    """Return whether a guard is a view, or is below decorators of the view."""
    while view is not None and view is not guarded:
        view = getattr(view, "__wrapped__", None)
    return view is not None


def _current_view() -> Callable[..., Any] | None:
    return current_app.view_functions.get(current_request.endpoint or "")
