"""Flask's blueprint, ``current_session``, and the site's own templates and error pages."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from itertools import chain, product
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from flask import (
    Blueprint,
    Flask,
    Request,
    abort,
    after_this_request,
    current_app,
    has_request_context,
    render_template,
    url_for,
)
from flask import request as current_request
from flask.blueprints import BlueprintSetupState
from flask.typing import ResponseReturnValue
from jinja2 import TemplateNotFound
from werkzeug.exceptions import BadRequest, MethodNotAllowed, NotFound, default_exceptions
from werkzeug.local import LocalProxy
from werkzeug.routing import BuildError, RequestRedirect
from werkzeug.wrappers import Response

from pywry_auth.deploy.answers import VIEW_ERRORS, Refusal, kept_headers, refusal_for, view_failed
from pywry_auth.deploy.callback_path import aliases
from pywry_auth.deploy.login_demand import LoginDemand, demand_of
from pywry_auth.deploy.proxies import TrustedProxies
from pywry_auth.deploy.routes import ROUTES
from pywry_auth.deploy.site import DEMAND, Mount, Site
from pywry_auth.deploy.step_up import require_openid
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError, LoginRequired, StoreUnavailable
from pywry_auth.flow.events import Event, emit
from pywry_auth.models import UserSession
from pywry_auth.per_process import OncePerProcess

if TYPE_CHECKING:
    from flask.ctx import _AppCtxGlobals
    from flask.templating import Environment
    from werkzeug.routing import Rule

    from pywry_auth.deploy.auth_routes import AuthRoutes
    from pywry_auth.deploy.session_tokens import SessionTokens
    from pywry_auth.flow.user_tokens import UserTokens
    from pywry_auth.pages.html import Page
    from pywry_auth.state.sessions import SessionStore

_logger = logging.getLogger("pywry_auth.deploy")

_EXTENSION = "pywry_auth"
_TWICE = (
    "This application has the routes of sign-in already: call init_app once for each application, and do not "
    "register a blueprint of create_auth_blueprint as well."
)
_UNROUTED = (NotFound, MethodNotAllowed)
_NAMES = frozenset(route.name for route in ROUTES)
_CALLBACK = "callback"  # with @ and a provider's name after it, one at a path of the site's choice


_PREFIX = re.compile(r"/|(?:/[A-Za-z0-9._~@:+-]+)+/?")


class _Installed(NamedTuple):
    """The values of one application.

    Args:
        routes: The routes.
        blueprint: The full name of the blueprint.
        logged: The sentences about the application that were logged.
        callbacks: The endpoints of the callbacks at paths that the site chose, each with its path.
        protected: The endpoints that are open with ``protect=True``; None without.
        login_view: The endpoint of the application's own sign-in page; empty for none.
    """

    routes: AuthRoutes
    blueprint: str
    logged: set[str]
    callbacks: Mapping[str, str]
    protected: frozenset[str] | None = None
    login_view: str = ""


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
                auth_routes.path_of(route),
                route.name,
                _view_of(auth_routes, route.name),
                methods=[route.method, "OPTIONS"],
                provide_automatic_options=False,
            )
        self.record_once(lambda state: _install(auth_routes, state))


def require_free(app: Flask, prefix: str, name: str) -> None:
    """Check where the routes of an application are to be.

    Args:
        app: The application.
        prefix: The path at which they begin.
        name: The name of the blueprint.

    Raises:
        AuthenticationError: The application has the routes already, the name is taken or no name of a
            blueprint, or the prefix is no path.
    """
    if _EXTENSION in app.extensions:
        raise _wrong(_TWICE)
    if not isinstance(name, str) or not name or "." in name:
        raise _wrong("name= must be the name of a blueprint, without a dot, for example name='oauth'.")
    if name in app.blueprints:
        raise _wrong(
            f"This application has a blueprint called {name!r} already: pass another name=, for example "
            "name='oauth', and url_prefix='/oauth' if the path is taken too."
        )
    if not isinstance(prefix, str) or not _PREFIX.fullmatch(prefix) or {".", ".."} & set(prefix.split("/")):
        raise _wrong(
            "url_prefix= must be a path that begins with a slash, without parameters, .. or //, for example "
            "url_prefix='/oauth'."
        )


def require_free_callbacks(app: Flask, routes: AuthRoutes, prefix: str) -> None:
    """Check that no view of an application has a callback path of the site's choice.

    Args:
        app: The application, without the routes.
        routes: The routes.
        prefix: The path at which they begin, without a slash at its end.

    Raises:
        AuthenticationError: A path is taken; the text names it.
    """
    aliases(routes.options.callback_paths, prefix, [rule.rule for rule in app.url_map.iter_rules()])


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
    return _installed().routes.session_of(_request(), _app())


def end_session() -> None:
    """End this browser's session, because its user signs in to the application in another way.

    The rest of the request has no session. A bearer token stays. Without the store, the browser only loses
    its cookie.
    """
    site, sessions = current_site(), routes_of_app().sessions
    # A route of this package replaces the session itself, and sets another cookie.
    if is_own_route() or sessions.has_bearer(site.request):
        return

    def clear(response: Response) -> Response:
        sessions.cookie.clear(response, site.request.is_secure)
        return response

    if sessions.session_ids(site.request):
        after_this_request(clear)
    try:
        routes_of_app().end_in_browser(site)
    except StoreUnavailable as error:
        _logger.warning("a browser lost its session at login_user(), but it may still be stored: %s", error)
    except AuthenticationError:
        pass  # no sign-in begins at such an address, for example one without https
    finally:
        sessions.leave(site.request)


def require_known_host() -> None:
    """Refuse a request whose host Flask refuses; it has no URLs.

    Raises:
        BadRequest: The host is malformed, or not one of ``TRUSTED_HOSTS``.
    """
    if isinstance(current_request.routing_exception, BadRequest):
        raise current_request.routing_exception


def current_site() -> Site:
    """Return the site for the current request.

    Raises:
        BadRequest: Flask refuses the request's host.
    """
    require_known_host()
    installed = _installed()
    return installed.routes.site(_request(), _mount(installed.blueprint))


def get_session_store() -> SessionStore:
    """Return the session store of the current application.

    It needs an application context: a request, a command of ``flask``, or ``with app.app_context()``. It is
    the store that sign-in uses, also with settings in ``app.config``, in debug mode, and with a store that
    was passed in code.

    Raises:
        AuthenticationError: The application has no authentication routes.
        RuntimeError: There is no current application.
    """
    return routes_of_app().sessions.store


def end_user_sessions(user_id: str) -> int:
    """End all sessions of a user, and revoke the tokens.

    It does the same for another user as ``POST /auth/logout?everywhere=1`` for the own one. It also ends the
    sessions of API clients, and revokes tokens that ``delete_user_sessions`` of the session store has left.
    The user may sign in again. It needs an application context, as :func:`get_session_store` does.

    Args:
        user_id: The user's ID.

    Returns:
        How many sessions ended.

    Raises:
        AuthenticationError: The application has no authentication routes.
        UnreadableRecord: This process can read none of the user's sessions, which stay.
        StoreUnavailable: The store is down; a repeated call finishes the work.
        RuntimeError: There is no current application.
    """
    application = current_app._get_current_object()  # type: ignore[attr-defined]
    return routes_of_app().end_user(user_id, application)


def get_user_tokens() -> UserTokens:
    """Return the tokens of the current application's users, for jobs.

    It needs an application context, as :func:`get_session_store` does. All calls return the same object,
    which may be kept. It has the providers and the token store of the application.

    Raises:
        AuthenticationError: The application has no authentication routes.
        RuntimeError: There is no current application.
    """
    return routes_of_app().user_tokens


current_session = cast("UserSession | None", LocalProxy(find_session))
"""The current request's session; false when no user is signed in.

Test ``if current_session``, not ``current_session is None``: it is a proxy object, also without a session.
"""


def current_tokens() -> SessionTokens:
    """Return the source of the access token of the current request's user.

    Raises:
        LoginRequired: No user is signed in (``login_required``).
        StoreUnavailable: The store is down.
    """
    session = find_session()
    if session is None:
        raise LoginRequired("Sign in first.", error=ErrorCode.LOGIN_REQUIRED)
    app = _app()

    def notify(event: Event) -> None:
        if has_request_context():
            emit(app, event)
            return
        with app.app_context():  # a thread of its own, or one that the view has started
            emit(app, event)

    return routes_of_app().tokens_of(session, notify)


def is_page() -> bool:
    """Return whether the current request's path can be visited with GET."""
    return current_request.method == "GET" or "GET" in current_app.make_default_options_response().allow


def is_own_route() -> bool:
    """Return whether a route of this package serves the current request.

    The application may have added views of its own to the blueprint.
    """
    name = current_request.endpoint or ""
    if name.rpartition(".")[2] in _NAMES:
        return _is_own_blueprint()
    return "@" in name and name in _installed().callbacks


def is_login_view() -> bool:
    """Return whether the current request is for the application's own sign-in page."""
    return bool(current_request.endpoint) and current_request.endpoint == _installed().login_view


def login_url(next: str | None = None, provider: str = "") -> str:
    """Return the address of the login, for a link.

    On the page of ``login_view``, the login returns to the page that the visitor asked for, and asks for the
    scopes which that page needs. On any other page it returns to that page.

    Args:
        next: The path that follows the login; None for the page above. The login checks it.
        provider: The name of one of several providers; empty to let the visitor choose.

    Raises:
        AuthenticationError: The application has no authentication routes.
        RuntimeError: There is no current request.
    """
    site, asked = current_site(), is_login_view()
    if next is None and (asked or is_own_route()):  # the address of a callback has a code
        next = site.next_path
    elif next is None:
        next = site.current_path if current_request.method in ("GET", "HEAD") else ""
    return site.login_path(next, provider, demand=(site.parameter(DEMAND) or "") if asked else "")


def use_views(app: Flask, login_view: str, protected: frozenset[str] | None) -> None:
    """Set the endpoints of an application's own views.

    Args:
        app: The application, with the routes.
        login_view: The endpoint of its sign-in page; empty for none.
        protected: The endpoints that are open to every visitor if the others are protected; otherwise None.
    """
    installed = cast(_Installed, app.extensions[_EXTENSION])
    app.extensions[_EXTENSION] = installed._replace(login_view=login_view, protected=protected)


def log_once(level: int, text: str) -> None:
    """Log a sentence about the current application, once in each process."""
    logged = _installed().logged
    if text not in logged:
        logged.add(text)
        _logger.log(level, "%s", text)


def _is_own_blueprint() -> bool:
    # The application chooses the name, and can register the blueprint inside another one.
    return isinstance(current_app.blueprints.get(current_request.blueprint or ""), AuthBlueprint)


def answered(response: Response) -> Response:
    """Return a response of this package, or the application's own page in place of a refusal.

    As with ``abort()``, the application's error handler can be one for the status, for ``HTTPException`` or
    for ``Exception``. The handler is called. An exception could be caught by a decorator of the view, and
    ``TRAP_HTTP_EXCEPTIONS`` would turn it into status 500.

    Args:
        response: The package's response.
    """
    if not isinstance(response, Refusal):  # a redirect to the login is no error
        return response
    kind = default_exceptions[response.status_code]
    error = kind(description=response.description, response=response)
    made = current_app.handle_http_exception(error)
    if made is error:
        return response
    own = current_app.make_response(made)
    for name in kept_headers(response.status_code, own.status_code):
        if name in response.headers:
            own.headers.setdefault(name, response.headers[name])
    return own


class _Visitor:
    """The session in templates while no user is signed in: false, with an empty profile."""

    name = email = picture = ""
    roles: tuple[str, ...] = ()

    @property
    def user_info(self) -> dict[str, Any]:
        return {}

    def __bool__(self) -> bool:
        return False


def _session_for_templates() -> UserSession | _Visitor:
    # A template can also make a mail outside of a request.
    return (find_session() if has_request_context() else None) or _Visitor()


def _offer_to_templates(app: Flask) -> None:
    """Add ``current_session`` and ``login_url`` to the names of all templates and macros.

    The environment is not created here, because it fixes settings that the application may change later.
    """
    names = {"current_session": LocalProxy(_session_for_templates), "login_url": login_url}
    if "jinja_env" in vars(app):
        app.jinja_env.globals.update(names | app.jinja_env.globals)
        return

    kind = app.jinja_environment

    def environment(owner: Flask, **options: Any) -> Environment:
        made = kind(owner, **options)
        made.globals.update(names | made.globals)
        return made

    app.jinja_environment = cast("type[Environment]", environment)


class _LazySession:
    """The session as ``g.session``, unless the application assigns another value."""

    def __get__(self, instance: object, owner: type) -> UserSession | None:
        return find_session()


def _install(routes: AuthRoutes, state: BlueprintSetupState) -> None:
    app = cast("Flask", state.app)
    if _EXTENSION in app.extensions:
        raise _wrong(_TWICE)
    if app.url_map.host_matching:  # a blueprint has no host
        raise _wrong(
            "This application has host_matching=True, so no host would have the routes of sign-in: leave it "
            "out, or use subdomain_matching=True."
        )
    name = f"{state.name_prefix}.{state.name}".lstrip(".")
    callbacks = _add_callbacks(routes, state, name)
    app.extensions[_EXTENSION] = _Installed(routes, name, set(), callbacks)
    lazy = type("Globals", (app.app_ctx_globals_class,), {"session": _LazySession()})
    app.app_ctx_globals_class = cast("type[_AppCtxGlobals]", lazy)
    # In front of the functions of the application: that of Flask-WTF may be there already, or come later.
    app.before_request_funcs.setdefault(None, []).insert(0, _exempt_from_form_tokens)
    _require_able_providers(app, routes)
    _offer_to_templates(app)
    paths = frozenset(callbacks.values())
    app.after_request(lambda response: _finish(routes, state.url_prefix, paths, response))
    for kind in VIEW_ERRORS:
        if kind not in app.error_handler_spec[None][None]:
            app.register_error_handler(kind, _answer_failure)
    first = OncePerProcess()
    # A function of before_request may be preceded by one that responds.
    app.after_request(lambda response: _with_clashes_reported(response) if first.is_first() else response)
    hops = routes.options.trusted_proxy_hops
    if hops:
        proxies = TrustedProxies(hops, routes.options.trust_forwarded_prefix)
        # Flask's documentation installs middleware like this.
        app.wsgi_app = proxies.around(app.wsgi_app)  # type: ignore[method-assign, assignment]


def _require_able_providers(app: Flask, routes: AuthRoutes) -> None:
    """Refuse views that need more than the providers report.

    The views that exist now are checked at once, and the others before the first request is served. A site
    with such a view answers 503 to every request. In tests and in debug mode, the developer sees the error.

    Raises:
        AuthenticationError: A view has a demand that no provider can satisfy; the text names the view.
    """
    require_openid(routes.providers, _demands(app))
    checked = False

    @app.url_value_preprocessor  # in front of the functions of before_request, one of which may respond
    def check(endpoint: str | None, values: dict[str, Any] | None) -> None:
        nonlocal checked
        if checked:
            return
        try:
            require_openid(routes.providers, _demands(app))
        except AuthenticationError as error:
            if app.testing or app.debug:
                raise
            abort(answered(refusal_for(current_site(), error)))
        checked = True


def _demands(app: Flask) -> Iterator[tuple[str, LoginDemand | None]]:
    """Yield the demands of an application's guards.

    They stand on its views and on its functions of ``before_request``.
    """
    for function in chain.from_iterable(app.before_request_funcs.values()):
        yield getattr(function, "__name__", "before_request"), demand_of(function)
    for name, view in app.view_functions.items():
        kind = getattr(view, "view_class", None)
        methods = [getattr(kind, method.lower(), None) for method in getattr(kind, "methods", None) or ()]
        yield from ((name, demand_of(each)) for each in (view, *methods))


def _exempt_from_form_tokens() -> None:
    """Exempt the view of a route from Flask-WTF's ``CSRFProtect``.

    The routes check which site sent a request. The views that the application has added to the blueprint
    are not exempt.
    """
    if not is_own_route():
        return
    exempt = getattr(current_app.extensions.get("csrf"), "exempt", None)
    view = current_app.view_functions[current_request.endpoint or ""]
    # The name of a decorator of the application would exempt all views with that decorator.
    if callable(exempt) and view.__module__ == __name__:
        exempt(view)


def _add_callbacks(routes: AuthRoutes, state: BlueprintSetupState, name: str) -> Mapping[str, str]:
    """Add the callbacks at the paths that the site chose, and return their endpoints with these paths.

    They belong to the blueprint, so that guards know them as its own routes.
    """
    app = cast("Flask", state.app)
    taken = [rule.rule for rule in app.url_map.iter_rules()]
    own = aliases(routes.options.callback_paths, (state.url_prefix or "").rstrip("/"), taken)
    callbacks = {f"{name}.{_CALLBACK}@{provider}": path for provider, path in own.items()}
    for provider, (endpoint, path) in zip(own, callbacks.items(), strict=True):
        app.add_url_rule(
            path,
            endpoint,
            _view_of(routes, _CALLBACK, {"name": provider} if provider else {}),
            methods=["GET", "OPTIONS"],
            provide_automatic_options=False,
            subdomain=state.subdomain,
        )
    return callbacks


def _answer_failure(error: AuthenticationError) -> ResponseReturnValue:
    """Respond for a view, guard or other function of the application that lacks a token or the store."""
    own = _own_handler(error)
    if own is not None:
        return cast("ResponseReturnValue", current_app.ensure_sync(own)(error))
    if isinstance(error, LoginRequired) and current_request.routing_exception is None:
        if current_request.method == "OPTIONS":  # browsers send it without cookies, see login_required
            return current_app.make_default_options_response()
        if is_own_route():  # a redirect would lead here again
            _logger.error("put @login_required on the function of before_request that needs a token")
            return answered(refusal_for(current_site(), error))
    try:
        session = _known_session() if isinstance(error, LoginRequired) else None
        response = view_failed(current_site(), error, session, is_page())
    except BadRequest as fault:
        return current_app.make_response(current_app.handle_http_exception(fault))
    try:
        return answered(response)
    except VIEW_ERRORS:  # the application's own page needs the session or a token too
        return response


def _own_handler(error: AuthenticationError) -> Callable[[Any], Any] | None:
    """Return the application's handler of a base class of an error, or None.

    A handler of ``Exception`` gets the refusal instead, see :func:`answered`.
    """
    handlers = current_app.error_handler_spec[None][None]
    kinds = (kind for kind in type(error).__mro__ if issubclass(kind, AuthenticationError))
    found = (handlers.get(kind) for kind in kinds)
    return next((each for each in found if each is not None and each is not _answer_failure), None)


def _known_session() -> UserSession | None:
    try:
        return find_session()
    except StoreUnavailable:
        return None


def _finish(routes: AuthRoutes, prefix: str | None, callbacks: frozenset[str], response: Any) -> Any:
    """Replace Flask's own 404 and 405 below the routes' prefix and at the site's own callbacks.

    Mark every other response that depends on the session.
    """
    request = _request()
    fault = request.routing_exception
    if isinstance(fault, RequestRedirect):  # for a doubled slash, to a URL without PUBLIC_BASE_URL
        fault = NotFound()
    is_ours = request.path in callbacks or (prefix and request.path.startswith(f"{prefix}/"))
    if is_ours and isinstance(fault, _UNROUTED):
        response = routes.handle_fault(fault, request, _mount(_installed().blueprint))
    elif _is_own_blueprint():
        routes.private(response)  # Flask made the response, because the view failed
    elif routes.logout_states.may_concern(
        request.method, request.query_string, request.headers.get("Cookie", "")
    ):
        _settle_sign_out(routes, response)
    routes.sessions.mark(request, response)
    return response


def _settle_sign_out(routes: AuthRoutes, response: Response) -> None:
    """Accept a sign-out's state at a page of the application."""
    with suppress(BadRequest):  # Flask refused the host
        routes.logout_states.settle_page(current_site(), response)


def _with_clashes_reported(response: Any) -> Any:
    """Log each path of the routes that another view has too: Flask calls only one of the two."""
    own: list[Rule] = []
    others: list[Rule] = []
    for rule in current_app.url_map.iter_rules():
        blueprint, _, name = rule.endpoint.rpartition(".")
        is_own = blueprint == _installed().blueprint and name.partition("@")[0] in _NAMES
        (own if is_own else others).append(rule)
    names = list(routes_of_app().providers.by_name)
    for mine, other in product(own, others):
        both = (mine.methods or set()) & (other.methods or set()) - {"HEAD", "OPTIONS"}
        paths = {mine.rule, *(mine.rule.replace("<name>", name) for name in names)}
        if both and other.rule in paths and mine.subdomain == other.subdomain:
            _logger.error(
                "the view %r and the sign-in of this package have one path, %s %s, and Flask calls only one "
                "of them: pass another prefix to init_app(), for example url_prefix='/oauth'",
                other.endpoint,
                *both,
                other.rule,
            )
    return response


def _view_of(
    routes: AuthRoutes, name: str, fixed: Mapping[str, str] = MappingProxyType({})
) -> Callable[..., Response]:
    def view(**path: str) -> Response:
        routes.look_at_server(current_request.environ)
        return routes.handle(name, _request(), _mount(current_request.blueprint or ""), **path, **fixed)

    view.__name__ = name
    return view


def _mount(blueprint: str) -> Mount:
    root = current_request.script_root
    url = url_for(f"{blueprint}.login")
    # It is a path, unless the routes are on another host of the application.
    origin = "" if url.startswith("/") else "/".join(url.split("/", 3)[:3])
    prefix = url.removeprefix(origin + root).removesuffix("/login")
    protected = _installed().protected is not None
    page = _sign_in_page(root)
    return Mount(_app(), root, prefix, current_request.path, origin, page, protected=protected)


def _sign_in_page(root: str) -> str:
    """Return the address of the application's own sign-in page, see :class:`Mount`."""
    name = _installed().login_view
    if not name or is_login_view():  # a guard on the page itself would lead here again
        return ""
    try:
        return url_for(name).removeprefix(root)
    except BuildError:
        log_once(
            logging.ERROR,
            f"login_view={name!r} of init_app() has no address, so visitors are sent to the login of this "
            "package: name the endpoint of a view without arguments, such as 'welcome' (`flask routes` lists "
            "the endpoints)",
        )
        return ""


def _app() -> Flask:
    return cast("LocalProxy[Flask]", current_app)._get_current_object()


def _request() -> Request:
    return cast("LocalProxy[Request]", current_request)._get_current_object()


def _installed() -> _Installed:
    try:
        return cast(_Installed, current_app.extensions[_EXTENSION])
    except KeyError:
        raise _wrong(
            "This application has no authentication routes: call pywry_auth.flask.init_app(app)."
        ) from None


def _wrong(text: str) -> AuthenticationError:
    return AuthenticationError(text, error=ErrorCode.INVALID_CONFIGURATION)


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
