"""Flask's blueprint, ``current_session``, guards and the site's own templates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec, TypeVar, cast, overload

from flask import Blueprint, Flask, Request, current_app, render_template, url_for
from flask import request as current_request
from flask.blueprints import BlueprintSetupState
from flask.typing import ResponseReturnValue
from jinja2 import TemplateNotFound
from werkzeug.exceptions import MethodNotAllowed, NotFound
from werkzeug.local import LocalProxy
from werkzeug.routing import RequestRedirect
from werkzeug.wrappers import Response

from pywry_auth.deploy.answers import challenge, forbidden, refusal_for, store_down
from pywry_auth.deploy.csrf import SAFE_METHODS, require_own_or_bearer, require_own_use_of_cookie
from pywry_auth.deploy.proxies import TrustedProxies
from pywry_auth.deploy.routes import ROUTES
from pywry_auth.deploy.site import Mount, Site
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError, StoreUnavailable
from pywry_auth.models import UserSession

if TYPE_CHECKING:
    from flask.ctx import _AppCtxGlobals

    from pywry_auth.deploy.auth_routes import AuthRoutes
    from pywry_auth.deploy.current import CurrentSessions
    from pywry_auth.pages.html import Page

_P = ParamSpec("_P")
_R = TypeVar("_R")
_View = Callable[_P, _R]
_Guarded = Callable[_P, _R | ResponseReturnValue]
_EXTENSION = "pywry_auth"
_EXEMPT = "_pywry_auth_exempt"  # attribute of a guarded view; true with csrf=False
_UNROUTED = (NotFound, MethodNotAllowed)


class _Installed(NamedTuple):
    routes: AuthRoutes
    blueprint: str


class AuthBlueprint(Blueprint):
    """The routes under ``/auth``, for ``app.register_blueprint()``.

    The application can choose any prefix and name.

    Args:
        auth_routes: The routes, which are also an attribute. The application's own templates can render
            their pages.
    """

    def __init__(self, auth_routes: AuthRoutes) -> None:
        super().__init__("auth", __name__, url_prefix="/auth")
        self.auth_routes = auth_routes
        auth_routes.render = auth_routes.render or _from_template
        for route in ROUTES:
            self.add_url_rule(
                auth_routes.path_of(route, "<name>"),
                route.name,
                _view_of(auth_routes, route.name),
                methods=[route.method, "OPTIONS"],
                provide_automatic_options=False,
            )
        # A guard in a view of the application can find that the store is down.
        self.app_errorhandler(StoreUnavailable)(lambda error: store_down(current_site(), error))
        self.record_once(lambda state: _install(auth_routes, state))


def routes_of_app() -> AuthRoutes:
    """Return the routes that the current application serves.

    Raises:
        AuthenticationError: The application has no authentication blueprint.
    """
    return _installed().routes


def find_session() -> UserSession | None:
    """Return the current request's session, or None.

    The request keeps the result, so that further calls need no look-up.

    Raises:
        AuthenticationError: The application has no authentication blueprint.
        StoreUnavailable: The store is down.
    """
    return _installed().routes.session_of(_request())


def current_site() -> Site:
    """Return the site for the current request."""
    routes, blueprint = _installed()
    return routes.site(_request(), _mount(blueprint))


current_session = cast("UserSession | None", LocalProxy(find_session))
"""The current request's session; false when no user is signed in.

Test ``if current_session``, not ``current_session is None``: it is a proxy object, also without a session.
"""


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

    Args:
        view: The view; without it, the guard is used as ``@login_required(csrf=False)``.
        csrf: Whether to refuse requests that another site's page caused.
    """

    def guard(view: _View[_P, _R]) -> _Guarded[_P, _R]:
        return _guard(view, lambda session, arguments: True, csrf)

    return guard if view is None else guard(view)


def roles_required(*roles: str, csrf: bool = True) -> Callable[[_View[_P, _R]], _Guarded[_P, _R]]:
    """Require all of the roles for a view.

    Users without them get 403.

    Args:
        roles: Names of roles.
        csrf: See :func:`login_required`.
    """
    return lambda view: _guard(view, lambda session, arguments: set(roles) <= set(session.roles), csrf)


def permission_required(
    permission: str, resource_type: str = "", resource_argument: str = "", *, csrf: bool = True
) -> Callable[[_View[_P, _R]], _Guarded[_P, _R]]:
    """Require a permission for a view.

    Users have permissions through their roles or through a grant on the resource. Other users get 403.

    Args:
        permission: For example ``write``.
        resource_type: Kind of resource, for grants on single resources.
        resource_argument: The view's argument that holds the resource's ID.
        csrf: See :func:`login_required`.
    """

    def allows(session: UserSession, arguments: Mapping[str, Any]) -> bool:
        resource = str(arguments.get(resource_argument, ""))
        return routes_of_app().sessions.store.allows(session, resource_type, resource, permission)

    return lambda view: _guard(view, allows, csrf)


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
    view = current_app.view_functions.get(current_request.endpoint or "")
    if view is None or getattr(view, _EXEMPT, False) or _is_own_route():
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
        return refusal_for(site, error, site.home)
    return None


def _is_own_route() -> bool:
    # The application may add views of its own to the blueprint.
    name = (current_request.endpoint or "").rpartition(".")[2]
    own = any(name == route.name for route in ROUTES)
    return own and current_request.blueprint == _installed().blueprint


def _guard(
    view: _View[_P, _R], allows: Callable[[UserSession, Mapping[str, Any]], bool], csrf: bool
) -> _Guarded[_P, _R]:
    @wraps(view)
    def guarded(*args: _P.args, **kwargs: _P.kwargs) -> _R | ResponseReturnValue:
        refused = _refusal_of(require_own_use_of_cookie) if csrf else None
        if refused is not None:
            return refused
        session = find_session()
        if session is None:
            return challenge(current_site())
        return view(*args, **kwargs) if allows(session, kwargs) else forbidden(current_site())

    setattr(guarded, _EXEMPT, not csrf)  # in any case, because wraps() copies the value of an inner guard
    return guarded


class _LazySession:
    """The session as ``g.session``, unless the application assigns another value."""

    def __get__(self, instance: object, owner: type) -> UserSession | None:
        return find_session()


def _install(routes: AuthRoutes, state: BlueprintSetupState) -> None:
    app = cast("Flask", state.app)
    app.extensions[_EXTENSION] = _Installed(routes, f"{state.name_prefix}.{state.name}".lstrip("."))
    lazy = type("Globals", (app.app_ctx_globals_class,), {"session": _LazySession()})
    app.app_ctx_globals_class = cast("type[_AppCtxGlobals]", lazy)
    app.after_request(lambda response: _finish(routes, state.url_prefix, response))
    hops = routes.options.trusted_proxy_hops
    if hops:
        proxies = TrustedProxies(hops, routes.options.trust_forwarded_prefix)
        # Flask's documentation installs middleware like this.
        app.wsgi_app = proxies.around(app.wsgi_app)  # type: ignore[method-assign, assignment]


def _finish(routes: AuthRoutes, prefix: str | None, response: Any) -> Any:
    """Replace Flask's own 404 and 405 below the routes' prefix.

    Mark every other response that depends on the session.
    """
    request = _request()
    fault = request.routing_exception
    if isinstance(fault, RequestRedirect):  # for a doubled slash, to a URL without PUBLIC_BASE_URL
        fault = NotFound()
    if prefix and isinstance(fault, _UNROUTED) and request.path.startswith(f"{prefix}/"):
        response = routes.handle_fault(fault, request, _mount(_installed().blueprint))
    elif request.blueprint == _installed().blueprint:
        routes.private(response)  # Flask made the response, because the view failed
    routes.sessions.mark(request, response)
    return response


def _view_of(routes: AuthRoutes, name: str) -> Callable[..., Response]:
    def view(**path: str) -> Response:
        return routes.handle(name, _request(), _mount(current_request.blueprint or ""), **path)

    view.__name__ = name
    return view


def _mount(blueprint: str) -> Mount:
    root = current_request.script_root
    prefix = url_for(f"{blueprint}.login").removeprefix(root).removesuffix("/login")
    app = cast("LocalProxy[Flask]", current_app)._get_current_object()
    return Mount(app, root, prefix, current_request.path)


def _request() -> Request:
    return cast("LocalProxy[Request]", current_request)._get_current_object()


def _installed() -> _Installed:
    try:
        return cast(_Installed, current_app.extensions[_EXTENSION])
    except KeyError:
        raise AuthenticationError(
            "This application has no authentication routes: call "
            "app.register_blueprint(create_auth_blueprint()).",
            error=ErrorCode.INVALID_CONFIGURATION,
        ) from None


def _from_template(page: Page) -> str | None:
    """Return a page rendered by the application's template, if any."""
    name = f"pywry_auth/{page.name}.html"
    try:
        template = current_app.jinja_env.get_template(name)
    except TemplateNotFound as error:
        if error.name != name:  # the template exists, but extends or includes a missing one
            raise
        return None
    return render_template(template, page=page)
