"""``unguarded_routes``: every route that no guard protects is listed."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Depends, FastAPI, Security, WebSocket
from flask import Blueprint, Flask
from flask.views import MethodView, View
from flask_login import login_required as other_login_required  # type: ignore[import-untyped]
from starlette.responses import PlainTextResponse
from starlette.routing import Host, Mount, Router, WebSocketRoute
from starlette.staticfiles import StaticFiles

from pywry_auth.asgi import (
    AuthMiddleware,
    access_token,
    current_session,
    protect_from_csrf,
    require_permission,
    require_role,
    require_scope,
)
from pywry_auth.deploy_routes import create_auth_router
from pywry_auth.flask import login_required, permission_required, roles_required, scopes_required
from pywry_auth.testing import LocalProvider, unguarded_routes
from tests.testing.sites import fastapi_site, flask_site, parts_of


def _view() -> str:
    return ""


def _traced(view: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(view)
    def traced(*args: Any, **kwargs: Any) -> Any:
        return view(*args, **kwargs)

    return traced


@pytest.fixture
def app() -> Flask:
    return Flask("site", static_folder=None)


def test_the_routes_of_sign_in_are_left_out(local_provider: LocalProvider) -> None:
    assert unguarded_routes(flask_site(local_provider, {"url_prefix": "/oauth", "name": "oauth"})) == [
        "GET /static/<path:filename>"
    ]
    app = fastapi_site(local_provider)
    assert unguarded_routes(app) == [
        "GET /docs",
        "GET /docs/oauth2-redirect",
        "GET /openapi.json",
        "GET /redoc",
    ]


def test_a_guard_above_the_route_has_no_effect(app: Flask) -> None:
    login_required(app.get("/trap")(_view))
    app.get("/inside", endpoint="inside")(login_required(_view))
    assert unguarded_routes(app) == ["GET /trap"]


def test_each_guard_is_seen_below_other_decorators(app: Flask) -> None:
    guards: list[Callable[..., Any]] = [
        login_required,
        login_required(csrf=False),
        roles_required("admin"),
        permission_required("write"),
        scopes_required("calendar"),
    ]
    for number, each in enumerate(guards):
        app.add_url_rule(f"/{number}", f"{number}", _traced(_traced(each(_traced(_view)))))
        app.add_url_rule(f"/p{number}", f"p{number}", functools.partial(each(_view)))
    assert unguarded_routes(app) == []


def test_the_methods_of_one_path_are_told_apart(app: Flask) -> None:
    app.add_url_rule("/form", "show", _view)
    app.add_url_rule("/form", "send", login_required(_view), methods=["POST"])
    app.add_url_rule("/all", "all", _view, methods=["GET", "POST", "OPTIONS"])
    app.add_url_rule("/none", "none")  # no view function
    assert unguarded_routes(app) == ["GET /all", "POST /all", "GET /form", "GET /none"]


class _Partly(MethodView):
    @login_required
    def get(self) -> str:
        return ""

    def post(self) -> str:
        return ""


class _Head(MethodView):
    @login_required
    def get(self) -> str:
        return ""

    def head(self) -> str:
        return ""


class _Task:
    """Has the attribute of a partial, and does not call the function in it."""

    def __init__(self, func: object) -> None:
        self.func = func

    def __call__(self) -> str:
        return ""


class _Wholly(MethodView):
    decorators = [login_required]  # noqa: RUF012 - as users write it

    def get(self) -> str:
        return ""


class _Dispatched(View):
    @login_required
    def dispatch_request(self) -> str:
        return ""


class _OwnDispatch(_Partly):
    def dispatch_request(self, **arguments: Any) -> Any:
        return "without the method"


def test_class_based_views_are_read_by_method(app: Flask) -> None:
    for kind in (_Partly, _Head, _Wholly, _Dispatched, _OwnDispatch):
        app.add_url_rule(f"/{kind.__name__}", view_func=kind.as_view(kind.__name__))
    app.add_url_rule("/task", "task", _Task(login_required(_view)))
    assert unguarded_routes(app) == [
        "HEAD /_Head",
        "GET /_OwnDispatch",
        "POST /_OwnDispatch",
        "POST /_Partly",
        "GET /task",
    ]


def test_a_function_of_before_request_guards_its_views(app: Flask) -> None:
    outer, inner, other = (Blueprint(name, __name__) for name in ("outer", "inner", "other"))
    outer.before_request(login_required(lambda: None))
    other.before_request(lambda: None)
    for each in (inner, outer, other):
        each.add_url_rule("/view", "view", _view)
    outer.register_blueprint(inner, url_prefix="/inner")
    app.register_blueprint(outer, url_prefix="/outer", name="renamed")
    app.register_blueprint(other, url_prefix="/other")
    app.add_url_rule("/", "index", _view)
    app.before_request(_traced(login_required(_view)))  # a decorator can leave routes out
    assert unguarded_routes(app) == ["GET /", "GET /other/view"]
    app.before_request(roles_required("admin")(lambda: None))
    assert unguarded_routes(app) == []


def test_the_sign_in_page_of_the_application_is_open(app: Flask) -> None:
    """The guards of ``before_request`` let every visitor pass there."""
    app.before_request(login_required(lambda: None))
    app.add_url_rule("/welcome", "welcome", _view, methods=["GET", "POST"])
    app.add_url_rule("/inside", "inside", _view)
    installed = {"protected": None, "login_view": "welcome"}
    app.extensions["pywry_auth"] = type("Installed", (), installed)()
    assert unguarded_routes(app) == ["GET /welcome", "POST /welcome"]


def test_protect_is_read_with_its_public_endpoints(app: Flask) -> None:
    app.add_url_rule("/", "home", _view)
    app.add_url_rule("/inside", "inside", _view)
    app.extensions["pywry_auth"] = type("Installed", (), {"protected": frozenset({"home"})})()
    assert unguarded_routes(app) == ["GET /"]
    app.extensions["pywry_auth"] = type("Installed", (), {"protected": None})()
    assert unguarded_routes(app) == ["GET /", "GET /inside"]


def test_guards_of_the_application_are_named(app: Flask) -> None:
    def check() -> None: ...

    blueprint = Blueprint("shop", __name__)
    blueprint.before_request(check)
    blueprint.add_url_rule("/shop", "view", _view)
    app.register_blueprint(blueprint)
    app.add_url_rule("/me", "me", _traced(other_login_required(_view)))
    app.add_url_rule("/open", "open", _traced(_view))
    assert unguarded_routes(app) == ["GET /me", "GET /open", "GET /shop"]
    assert unguarded_routes(app, guards=[check, other_login_required]) == ["GET /open"]


def test_a_subdomain_and_a_websocket_are_shown() -> None:
    app = Flask("site", static_folder=None, subdomain_matching=True)
    app.add_url_rule("/", "index", _view, subdomain="admin")
    app.add_url_rule("/ws", "ws", _view, websocket=True)
    assert unguarded_routes(app) == ["WEBSOCKET /ws", "GET admin./"]


def _own_guard(session: Annotated[Any, Depends(current_session)]) -> Any:
    return session


def _bare_app(**arguments: Any) -> FastAPI:
    return FastAPI(docs_url=None, redoc_url=None, openapi_url=None, **arguments)


def test_dependencies_guard_at_each_level() -> None:
    app = _bare_app()
    dependencies: list[Any] = [
        *(Depends(current_session), Security(current_session, scopes=["x"]), Depends(access_token)),
        *(Depends(require_role("a")), Depends(require_permission("w")), Depends(require_scope("c"))),
        Depends(_own_guard),
    ]
    for number, each in enumerate(dependencies):
        app.add_api_route(f"/route/{number}", _view, dependencies=[each])
        router = APIRouter(prefix=f"/router/{number}", dependencies=[each])
        router.add_api_route("/in", _view)
        outer = APIRouter(prefix="/outer")
        outer.include_router(router)
        app.include_router(outer)
        included = APIRouter(prefix=f"/included/{number}")
        included.add_api_route("/in", _view)
        app.include_router(included, dependencies=[each])
    assert unguarded_routes(app) == []
    app.add_api_route("/csrf", _view, methods=["GET", "POST"], dependencies=[Depends(protect_from_csrf)])
    app.add_api_route("/trap", _view)
    assert unguarded_routes(app) == ["GET /csrf", "POST /csrf", "GET /trap"]


def test_an_applications_dependencies_guard_its_own_operations_only() -> None:
    app = _bare_app(dependencies=[Depends(current_session)])
    app.add_api_route("/in", _view)
    app.add_route("/plain", lambda request: PlainTextResponse(""))
    later = APIRouter()
    later.add_api_route("/later", _view)
    app.include_router(later)
    guarded, unguarded = _bare_app(dependencies=[Depends(current_session)]), _bare_app()
    guarded.add_api_route("/in", _view)
    unguarded.add_api_route("/in", _view)
    app.mount("/guarded", guarded)
    app.mount("/unguarded", unguarded)
    app.mount("/files", StaticFiles(directory="."))
    app.router.routes.append(Host("api.example.com", Router([Mount("/v1", unguarded)])))
    assert unguarded_routes(app) == [
        "MOUNT /files",
        "GET /plain",
        "GET /unguarded/in",
        "GET api.example.com/v1/in",
    ]


def test_with_protect_the_public_names_are_those_of_one_path(local_provider: LocalProvider) -> None:
    """A name of two paths, and a route below a guarded mount, are guarded."""
    app, inner = _bare_app(), _bare_app()
    router = create_auth_router(**parts_of(local_provider))
    app.include_router(router)
    for name in ("home", "twice", "inside"):
        app.add_api_route(f"/{name}", _view, name=name)
    app.add_api_route("/again", _view, name="twice")
    inner.add_api_route("/home", _view, name="home")
    app.mount("/guarded", inner, name="guarded")
    app.mount("/shop", inner, name="shop")
    app.add_middleware(AuthMiddleware, router=router, protect=True, public=("home", "twice", "shop"))
    assert unguarded_routes(app) == ["GET /home", "GET /shop/home"]


def test_websockets_need_a_guard_too() -> None:
    app = _bare_app()

    async def socket(websocket: WebSocket) -> None: ...

    app.add_api_websocket_route("/open", socket)
    app.add_api_websocket_route("/guarded", socket, dependencies=[Depends(current_session)])
    app.router.routes.append(WebSocketRoute("/plain", socket))
    assert unguarded_routes(app) == ["WEBSOCKET /open", "WEBSOCKET /plain"]


def test_another_application_is_an_error() -> None:
    with pytest.raises(TypeError, match="not an object of the type str"):
        unguarded_routes("app")
