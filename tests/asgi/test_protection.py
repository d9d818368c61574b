"""``AuthMiddleware`` with ``protect=True``: every request needs a session, except for public routes."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi import APIRouter, Depends, FastAPI, WebSocket
from fastapi.responses import PlainTextResponse
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Mount, Route
from starlette.staticfiles import StaticFiles

from pywry_auth.asgi import AuthMiddleware, require_role
from pywry_auth.deploy_routes import create_auth_router
from pywry_auth.exceptions import AuthenticationError
from pywry_auth.state.sessions import issue_session_token
from tests.asgi.client import Client
from tests.deploy.web import HTML, Web

_PUBLIC = ("home", "shop:item", "health", "assets", "ws", "twice", "pin")


async def _inside(request: Request) -> Response:
    return PlainTextResponse("inside")


def _app(web: Web, folder: Path, public: Any = _PUBLIC, prefix: str = "") -> FastAPI:
    router = create_auth_router(web.provider, web.sessions, web.tokens, web.deploy_settings, web.config)
    app = FastAPI()

    @app.get("/", name="home")
    def home() -> str:
        return "open"

    @app.post("/")
    def save() -> str:
        return "inside"

    part = APIRouter(prefix="/part")
    part.add_api_route("/health", lambda: "open", name="health")
    part.add_api_route(
        "/{name}", lambda name: "inside", name="page", methods=["GET", "POST"], include_in_schema=False
    )
    part.add_api_route("/a/twice", lambda: "inside", name="twice")
    part.add_api_route("/b/twice", lambda: "inside", name="twice")
    app.include_router(part, prefix="/api")
    app.include_router(router, prefix=prefix)
    app.add_route("/plain", _inside)
    shop = FastAPI()
    shop.add_api_route("/item", lambda: "inside", name="item")
    app.mount("/shop", shop, name="shop")
    app.mount("/files", StaticFiles(directory=folder), name="files")
    app.mount("/assets", StaticFiles(directory=folder), name="assets")
    app.mount("/unnamed", Mount("", routes=[Route("/home", _inside, name="home")]))

    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.close()

    app.add_api_websocket_route("/ws", socket, name="ws")
    app.add_api_websocket_route("/private", socket, name="private")
    app.add_middleware(AuthMiddleware, router=router, protect=True, public=public)
    return app


@pytest.fixture
def client(web: Web, tmp_path: Path) -> Client:
    (tmp_path / "a.txt").write_text("inside")
    return Client(_app(web, tmp_path))


@pytest.fixture
def token(web: Web) -> dict[str, str]:
    return {"Authorization": f"Bearer {issue_session_token(web.sessions, 'robot', ['viewer'])}"}


_GUARDED = (
    *("/part/health", "/api/part/health/", "//api/part/health", "/api/part/Health", "/api//part/health"),
    *("/api/part/x", "/api/part/a/twice", "/plain", "/shop/item", "/shop/", "/files/a.txt", "/unnamed/home"),
    *(
        "/docs",
        "/redoc",
        "/openapi.json",
        "/nowhere",
        "//",
        "/%2f",
        "/home",
        "/auth/other",
        "/auth",
        "//auth/login",
    ),
    *("/x/../", "/assets", "/assetsx", "/files/../assets/a.txt", "/API/PART/health", "/auth/login/", "/;/"),
    *("/ws", "/private"),
)


def test_what_is_not_public_is_guarded_however_it_is_spelt(client: Client, token: dict[str, str]) -> None:
    """The routes decide, never a prefix or a header. [T26]"""
    headers = {"X-Original-URL": "/", "X-Rewrite-URL": "/", "X-HTTP-Method-Override": "GET"}
    for path in _GUARDED:
        for method in ("GET", "HEAD", "POST", "OPTIONS", "X"):
            answer = client.request(method, path, headers)
            assert answer.status_code == 401, (method, path)
            assert "inside" not in answer.text
        page = client.get(path, headers={"Accept": HTML})
        assert page.status_code == 302, path
        assert page.headers["Location"].startswith("/auth/login?next="), path
        assert client.get(path, headers=token).status_code != 401, path


def test_public_routes_and_those_of_sign_in_are_open(client: Client, token: dict[str, str]) -> None:
    for path in ("/", "/api/part/health", "/assets/a.txt", "/auth/status"):
        assert client.get(path).status_code == 200, path
    assert client.post("/").status_code == 401, "another route has the same path"
    assert client.get("/auth/login", headers={"Accept": HTML}).headers["Location"].startswith("http")
    assert client.post("/auth/logout").status_code == 200
    assert client.request("OPTIONS", "/auth/status").status_code == 200
    assert client.get("/auth/verify").json()["error"] == "not_signed_in"
    assert client.get("/auth/ready").json() == {"ready": True}
    verified = client.get("/auth/verify?roles=viewer", headers=token)
    assert (verified.status_code, verified.headers["X-Auth-User"], verified.text) == (204, "robot", "")
    assert client.request("OPTIONS", "/auth/verify").status_code == 401


def test_the_rules_are_those_of_the_guards(client: Client, token: dict[str, str], web: Web) -> None:
    browser = web.browser()
    browser.sign_in()
    cookie = {"Cookie": f"pywry_session={browser.cookie()}"}
    assert client.post("/", headers=cookie).json() == "inside"
    cross = {"Origin": "https://evil.example.com"}
    assert client.post("/", headers=cookie | cross).json()["error"] == "cross_site_request"
    assert client.post("/", headers=token | cross).status_code == 200
    preflight = cross | {"Access-Control-Request-Method": "POST"}
    answer = client.request("OPTIONS", "/api/part/x", preflight)
    assert (answer.status_code, answer.headers["Allow"]) == (204, "GET, POST")
    assert client.request("OPTIONS", "/nowhere", preflight).status_code == 204
    frame = client.get("/files/a.txt", headers={"Accept": HTML, "Sec-Fetch-Dest": "iframe"})
    assert (frame.status_code, 'target="_top"' in frame.text) == (401, True)
    assert (client.websocket("/ws"), client.websocket("/private", token)) == (0, 0)
    for path in ("/private", "/nowhere", "/shop/x", "/"):
        assert client.websocket(path) == 1008


@pytest.mark.parametrize("prefix", ["", "/api/v1"])
def test_sign_in_is_open_below_any_prefix_and_mount(web: Web, tmp_path: Path, prefix: str) -> None:
    app = _app(web, tmp_path, (), prefix)
    assert Client(app).get(f"{prefix}/auth/status").status_code == 200
    assert Client(app).get("/").status_code == 401
    router = create_auth_router(web.provider, web.sessions, web.tokens, web.deploy_settings, web.config)
    inner, outer = FastAPI(), FastAPI()
    inner.include_router(router, prefix=prefix)
    outer.mount("/in", inner)
    outer.add_middleware(AuthMiddleware, router=router, protect=True)
    client = Client(outer)
    assert client.get(f"/in{prefix}/auth/status").status_code == 200
    location = client.get("/in/other", headers={"Accept": HTML}).headers["Location"]
    assert location == f"/in{prefix}/auth/login?next=%2Fin%2Fother"
    whole = Client(FastAPI(routes=[Mount("/site", outer)]))
    assert whole.get(f"/site/in{prefix}/auth/status").status_code == 200
    assert whole.get("/site/in/other").status_code == 401


class _OfHeader(APIRoute):
    """Serves clients that send a header."""

    def matches(self, scope: Any) -> Any:
        match, child = super().matches(scope)
        return (match, child) if (b"x-version", b"1") in scope["headers"] else (Match.NONE, {})


class _OfOtherPath(APIRoute):
    """Serves the path ``/other`` too."""

    def matches(self, scope: Any) -> Any:
        served = scope.get("path") == "/other"
        return (Match.FULL, {"endpoint": self.endpoint}) if served else super().matches(scope)


@pytest.mark.parametrize("how", ["included", "beside", "nested", "own"])
@pytest.mark.parametrize(("kind", "first"), [(_OfHeader, "v1"), (_OfOtherPath, "inside")])
def test_a_route_with_rules_of_its_own_opens_no_other(
    web: Web, how: str, kind: type[APIRoute], first: str
) -> None:
    """Also in front of the route that the names and paths by themselves would select. [T26]"""
    app, part = FastAPI(), APIRouter(route_class=kind)
    part.add_api_route("/x", lambda: first, name=first)
    if how == "own":
        app.router.routes.extend(part.routes)
    elif how == "nested":
        around = APIRouter()
        around.include_router(part)
        around.add_api_route("/x", lambda: "inside", name="around")
        app.include_router(around)
    else:
        if how == "beside":
            part.add_api_route("/x", lambda: "inside", name="beside", route_class_override=APIRoute)
        app.include_router(part)
    app.add_api_route("/x", lambda: "inside", name="behind")
    app.add_api_route("/other", lambda: "open", name="open")
    router = create_auth_router(web.provider, web.sessions, web.tokens, web.deploy_settings, web.config)
    app.include_router(router)
    app.add_middleware(AuthMiddleware, router=router, protect=True, public=("v1", "open"))
    client = Client(app)
    for headers in ({}, {"X-Version": "1"}):
        for path in ("/x", "/other"):
            assert "inside" not in client.get(path, headers).text
    assert client.get("/other").status_code == (200 if kind is _OfHeader else 401)
    assert client.get("/auth/status").status_code == 200


class _RouterOfHeader(APIRouter):
    """Serves clients that send a header."""

    def matches(self, scope: Any) -> Any:
        return super().matches(scope) if (b"x-version", b"1") in scope["headers"] else (Match.NONE, {})


def test_a_router_with_rules_of_its_own_opens_no_other(web: Web) -> None:
    """At any depth. Older versions of FastAPI copy its routes and ask it nothing. [T26]"""
    app, around, part = FastAPI(), APIRouter(), _RouterOfHeader()
    part.add_api_route("/x", lambda: "open", name="v1")
    around.include_router(part)
    around.add_api_route("/x", lambda: "inside", name="behind")
    app.include_router(around)
    router = create_auth_router(web.provider, web.sessions, web.tokens, web.deploy_settings, web.config)
    app.include_router(router)
    app.add_middleware(AuthMiddleware, router=router, protect=True, public=("v1",))
    assert "inside" not in Client(app).get("/x").text
    assert Client(app).get("/auth/status").status_code == 200


def test_names_that_open_nothing_are_reported_once(
    web: Web, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "pywry_auth.asgi")
    client = Client(_app(web, tmp_path))
    client.start()
    client.get("/")
    (record,) = [record for record in caplog.records if "public" in record.getMessage()]
    assert record.getMessage().endswith("stay guarded: pin, shop:item, twice")


def test_only_the_routes_of_the_first_request_are_public(web: Web, tmp_path: Path) -> None:
    """Those of the lifespan count, and another route with the name of one of them stays closed."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.add_api_route("/begun/pin", lambda: "open", name="pin")
        app.add_api_route("/begun/home", lambda: "inside", name="home")
        yield

    app = _app(web, tmp_path)
    app.router.lifespan_context = lifespan
    client = Client(app)
    client.start()
    found = {path: client.get(path).status_code for path in ("/begun/pin", "/begun/home", "/")}
    assert found == {"/begun/pin": 200, "/begun/home": 401, "/": 401}
    app.add_api_route("/late", lambda: "inside", name="pin")
    assert (client.get("/late").status_code, client.get("/begun/pin").status_code) == (401, 200)


@pytest.mark.parametrize("kind", [HTTPException, 401])
def test_an_application_answers_with_its_own_handler(web: Web, tmp_path: Path, kind: Any) -> None:
    app = _app(web, tmp_path)

    @app.exception_handler(kind)
    async def refused(request: Request, error: HTTPException) -> Response:
        return PlainTextResponse(f"own {error.status_code} {request.url.path}", error.status_code)

    client = Client(app)
    answer = client.get("/nowhere")
    assert (answer.status_code, answer.text) == (401, "own 401 /nowhere")
    assert answer.headers["Cache-Control"] == "no-store"
    assert client.get("/nowhere", headers={"Accept": HTML}).status_code == 302


class _Layer:
    """Middleware that is no application of Starlette."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, *message: Any) -> None:
        await self.app(*message)


class _Own(AuthMiddleware):
    """Middleware with arguments of its own."""

    def __init__(self, app: Any, router: Any) -> None:
        super().__init__(app, router, protect=True, public=("home",))


@pytest.mark.parametrize("options", [{}, {"protect": True}])
def test_the_application_inside_the_middleware_decides(web: Web, options: Any) -> None:
    """Not one around it that has a middleware of its own, with other names. [T26]"""
    router = create_auth_router(web.provider, web.sessions, web.tokens, web.deploy_settings, web.config)
    child, parent = FastAPI(), FastAPI()
    child.add_api_route("/secret", lambda: "inside")
    child.add_api_route("/", lambda: "open", name="home")
    if options:
        options = {**options, "public": ("admin", "layer")}
    parent.add_middleware(AuthMiddleware, router=router, **options)
    guarded: dict[str, Any] = {"router": router, "protect": True, "public": ("home",)}
    parent.mount("/admin", AuthMiddleware(child, **guarded), name="admin")
    parent.mount("/layer", AuthMiddleware(_Layer(child), **guarded), name="layer")
    parent.add_api_route("/{path:path}", lambda path: "open", name="home")
    client = Client(parent)
    assert (client.get("/admin/secret").status_code, client.get("/admin/").status_code) == (401, 200)
    with pytest.raises(AuthenticationError, match="add_middleware"):
        client.get("/layer/secret")
    single = FastAPI(routes=child.routes)
    single.add_middleware(_Own, router=router)
    assert (Client(single).get("/secret").status_code, Client(single).get("/").status_code) == (401, 200)


class _Hiding:
    """Middleware that hides the application inside it."""

    def __init__(self, app: Any) -> None:
        self.hidden = app

    async def __call__(self, *arguments: Any) -> None:
        await self.hidden(*arguments)


@pytest.mark.parametrize("layer", [_Layer, _Hiding])
def test_the_routes_of_the_application_around_a_mount_do_not_decide(web: Web, layer: Any) -> None:
    """Also if both have the same public names."""
    router = create_auth_router(web.provider, web.sessions, web.tokens, web.deploy_settings, web.config)
    guard: dict[str, Any] = {"router": router, "protect": True, "public": ("home", "admin")}
    child, app = FastAPI(), FastAPI()
    child.add_api_route("/secret", lambda: "inside")
    app.mount("/admin", AuthMiddleware(layer(child), **guard), name="admin")
    app.include_router(router)
    app.add_api_route("/{path:path}", lambda path: "open", name="home")
    app.add_middleware(AuthMiddleware, **guard)
    app.add_middleware(layer)
    client = Client(app)
    assert client.get("/x").text == '"open"'
    with pytest.raises(AuthenticationError, match="add_middleware"):
        client.get("/admin/secret")


def test_arguments_that_would_open_or_close_the_wrong_pages_are_refused(web: Web) -> None:
    router = create_auth_router(web.provider, web.sessions, web.tokens, web.deploy_settings, web.config)
    app = FastAPI()
    wrong: tuple[Any, ...] = ("home", b"home", None, ["home", 3], ("",), iter(["home"]))
    for public in wrong:
        with pytest.raises(AuthenticationError, match="public"):
            AuthMiddleware(app, router, protect=True, public=public)
    with pytest.raises(AuthenticationError, match="protect=True"):
        AuthMiddleware(app, router, public=("home",))
    app.include_router(router)
    outside = Client(AuthMiddleware(app, router, protect=True))
    assert (outside.get("/auth/status").status_code, outside.get("/x").status_code) == (200, 401)
    inside = Mount("/x", routes=[Route("/", _inside, name="home")])
    inside.app = AuthMiddleware(inside.app, router, protect=True, public=("home",))
    with pytest.raises(AuthenticationError, match="add_middleware"):
        Client(FastAPI(routes=[Route("/", _inside, name="home"), inside])).get("/x/")


def test_a_role_is_demanded_beside_it(web: Web, token: dict[str, str], tmp_path: Path) -> None:
    app = _app(web, tmp_path)
    guard: Callable[..., Any] = require_role("admin")
    app.add_api_route("/admin", lambda: "inside", dependencies=[Depends(guard)])
    assert Client(app).get("/admin", headers=token).status_code == 403
