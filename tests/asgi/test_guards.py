"""Guards on whole applications, with overrides, and before preflights."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any

import pytest
import requests
from fastapi import APIRouter, Depends, FastAPI, HTTPException, WebSocket
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Host as HostRoute
from starlette.routing import Mount

from pywry_auth.asgi import (
    AuthMiddleware,
    current_session,
    protect_from_csrf,
    require_any_role,
    require_fresh_login,
    require_permission,
    require_role,
    require_scope,
)
from pywry_auth.asgi.router import AuthRouter
from pywry_auth.backends.memory import MemoryBackend
from pywry_auth.deploy_routes import create_auth_router
from pywry_auth.exceptions import AuthenticationError, StoreUnavailable
from pywry_auth.models import Grant, OAuthTokenSet, UserSession
from pywry_auth.providers.github import GitHubProvider
from pywry_auth.state.sessions import issue_session_token
from tests.asgi.client import Client
from tests.deploy.hosts import Host, served_by_wsgi
from tests.deploy.test_signals import Received
from tests.deploy.web import SITE, Browser, WatchedBackend, Web, parameter
from tests.peers.asgi_server import served

ALICE = UserSession("a session", "alice", ["editor"])
_SPA = "https://spa.example.com"
_PREFLIGHT = {"Origin": _SPA, "Access-Control-Request-Method": "GET"}


def router_of(web: Web) -> AuthRouter:
    return create_auth_router(web.provider, web.sessions, web.tokens, web.deploy_settings, web.config)


def browser_of(web: Web, app: FastAPI) -> Browser:
    browser = web.browser()
    browser.client.application = served_by_wsgi(app, web.host)
    return browser


def _page(request: Request) -> str:
    session = request.state.session
    return f"for {session.user_id}"


def guarded_app(place: str, auth: AuthRouter, guard: Callable[..., Any]) -> FastAPI:
    """Return an application with a guard on everything, and a page.

    Args:
        place: Where the routes and the guard are.
        auth: The routes.
        guard: The guard.
    """
    guards = [Depends(guard)]
    everywhere = place in ("application", "prefix", "twice", "nested")
    app = FastAPI(dependencies=guards if everywhere else None)
    app.add_middleware(AuthMiddleware, router=auth)
    inner = app
    if place == "mounted":
        inner = FastAPI(dependencies=guards)
        app.mount("/app", inner, name="part")
    if place == "inclusion":
        inner.include_router(auth, dependencies=guards)
        inner.get("/page", dependencies=guards)(_page)
        return app
    if place == "nested":
        outer = APIRouter(prefix="/api", dependencies=guards)
        outer.include_router(auth, prefix="/v1")
        app.include_router(outer)
    else:
        inner.include_router(auth, prefix="/api/v1" if place == "prefix" else "")
    if place == "twice":
        app.include_router(auth, prefix="/elsewhere")
    inner.get("/page")(_page)
    return app


PLACES: dict[str, tuple[str, Callable[..., Any]]] = {
    "application": ("", current_session),
    "inclusion": ("", require_role("viewer", csrf=False)),
    "prefix": ("/api/v1", require_permission("read")),
    "nested": ("/api/v1", require_role()),
    "twice": ("", current_session),
    "mounted": ("/app", require_role("viewer")),
}
"""The prefix of the routes, and the guard, for each place."""


@pytest.mark.parametrize("place", PLACES)
def test_a_guard_on_everything_leaves_the_routes_of_sign_in_open(web: Web, place: str) -> None:
    """A visitor signs in and out; paths that only resemble the routes stay guarded."""
    at, guard = PLACES[place]
    browser = browser_of(web, guarded_app(place, router_of(web), guard))
    page = "/app/page" if place == "mounted" else "/page"
    status = f"{at}/auth/status"
    assert browser.get(page).status_code == 401
    assert browser.get(status).json["authenticated"] is False
    assert browser.head(status).status_code == 200
    assert browser.post(f"{at}/auth/login").status_code == 405
    assert browser.post(f"{at}/auth/refresh").json["error"] == "not_signed_in"
    if place == "twice":
        assert browser.get("/elsewhere/auth/status").json["authenticated"] is False
        assert browser.get("/elsewhere/auth/nothing").json["error"] == "login_required"
    for path in ("/auth/nothing", "/auth/login/x", "/auth//login", "/auth/status/", "/auth/callback/corp"):
        assert browser.get(at + path).json["error"] == "login_required", path
    for path in (f"{page}/auth/login", "/authx/login"):
        assert browser.get(path).status_code == 404, path
    response = browser.get(page, html=True)
    assert response.status_code == 302
    assert response.location.startswith(f"{at}/auth/login?next=")
    assert browser.sign_in(response.location).location == SITE + page
    assert browser.get(page).json == "for user-alice"
    assert browser.get(status).json["user_id"] == "user-alice"
    assert browser.get(f"{at}/auth/nothing").json["error"] == "not_found"
    assert browser.post(f"{at}/auth/logout").json["logged_out"]
    assert browser.get(page).status_code == 401


def test_a_path_operation_below_the_prefix_is_guarded(web: Web) -> None:
    """The application may have its own path operations there."""
    auth = router_of(web)
    own = APIRouter(prefix="/auth")
    own.get("/me")(_page)
    app = FastAPI(dependencies=[Depends(current_session)])
    app.include_router(own)
    app.include_router(auth)
    app.add_middleware(AuthMiddleware, router=auth)
    assert browser_of(web, app).get("/auth/me").status_code == 401


@dataclass
class Editable:
    """An endpoint without a hash."""

    def __call__(self) -> str:
        """Return the content."""
        return "content"


def test_an_endpoint_needs_no_hash(web: Web) -> None:
    app = guarded_app("application", router_of(web), current_session)
    app.get("/editable")(Editable())
    browser = browser_of(web, app)
    assert browser.get("/editable").status_code == 401
    browser.sign_in()
    assert browser.get("/editable").json == "content"


def test_a_guard_of_the_application_finds_an_empty_session_on_the_routes(web: Web) -> None:
    """It can be built on a guard of the library without a check for None."""
    seen = []

    async def staff(session: Annotated[UserSession, Depends(current_session)]) -> None:
        seen.append((session.user_id, session.roles))

    browser = browser_of(web, guarded_app("application", router_of(web), staff))
    browser.sign_in()
    assert browser.get("/page").json == "for user-alice"
    assert seen == [("", []), ("", []), ("user-alice", ["viewer"])]


def test_the_check_of_cross_site_requests_can_stand_on_everything(web: Web) -> None:
    """The routes have a check of their own."""
    browser = browser_of(web, guarded_app("application", router_of(web), protect_from_csrf))
    browser.sign_in()
    refused = browser.post("/auth/logout", Sec_Fetch_Site="cross-site")
    assert (refused.status_code, refused.json["error"]) == (403, "cross_site_request")
    assert browser.post("/auth/logout", Sec_Fetch_Site="same-origin").json["logged_out"]


def overridden_app(web: Web, found: Callable[..., Any]) -> FastAPI:
    """Return an application, and one below ``/part``, both with an override of ``current_session``."""
    auth, app, part = router_of(web), FastAPI(), FastAPI()
    app.include_router(auth)
    app.mount("/part", part)
    app.add_middleware(AuthMiddleware, router=auth)
    for each in (app, part):
        each.get("/edit", dependencies=[Depends(require_role("editor"))])(lambda: "done")
        each.get("/admin", dependencies=[Depends(require_role("admin"))])(lambda: "done")
        each.get("/write", dependencies=[Depends(require_permission("write"))])(lambda: "done")
        each.get("/either", dependencies=[Depends(require_any_role("admin", "editor"))])(lambda: "done")
        each.get("/neither", dependencies=[Depends(require_any_role("admin", "owner"))])(lambda: "done")
        each.post("/post", dependencies=[Depends(require_role())])(lambda: "done")
        each.post("/hook", dependencies=[Depends(require_role(csrf=False))])(lambda: "done")
        each.dependency_overrides[current_session] = found
    return app


def test_an_override_of_the_session_reaches_the_other_guards(web: Web) -> None:
    """Each application has its own overrides, also a mounted one."""
    app = overridden_app(web, lambda: ALICE)
    browser = browser_of(web, app)
    for place in ("", "/part"):
        for path in ("/edit", "/write", "/either"):
            assert browser.get(place + path).json == "done", path
        assert browser.post(f"{place}/post").json == browser.post(f"{place}/hook").json == "done"
        assert browser.get(f"{place}/admin").status_code == 403
        assert browser.get(f"{place}/neither").status_code == 403
    assert browser.get("/auth/status").json["authenticated"] is False
    app.dependency_overrides.clear()
    assert browser.get("/edit").status_code == 401
    assert browser.get("/part/edit").json == "done"


@pytest.mark.parametrize("roles", [(), ("",), (["admin"],)])
def test_a_guard_for_one_of_several_roles_needs_names(roles: Any) -> None:
    with pytest.raises(AuthenticationError, match="require_any_role"):
        require_any_role(*roles)


def test_an_override_of_the_session_still_needs_the_scopes(web: Web) -> None:
    """A mounted application too: a request without the tokens is refused, and a navigation asks for them."""
    app, inner = FastAPI(), FastAPI()
    app.include_router(router := router_of(web))
    app.add_middleware(AuthMiddleware, router=router)
    app.mount("/part", inner)
    inner.get("/groups", dependencies=[Depends(require_scope("groups"))])(lambda: "done")
    inner.dependency_overrides[current_session] = lambda: ALICE
    browser = browser_of(web, app)
    assert browser.get("/part/groups").json["missing_scopes"] == ["groups"]
    sent = browser.get("/part/groups", html=True).location or ""
    assert parameter(sent, "next") == "/part/groups"
    assert "groups" in parameter(browser.begin(sent), "scope").split()
    inner.dependency_overrides[current_session] = lambda: None
    assert parameter(browser.get("/part/groups", html=True).location or "", "demand")
    web.tokens.save("alice", OAuthTokenSet("token", scope="groups"))
    inner.dependency_overrides[current_session] = lambda: ALICE
    assert browser.get("/part/groups").json == "done"


def test_an_override_without_a_session_stands_for_a_visitor(web: Web) -> None:
    browser = browser_of(web, overridden_app(web, lambda: None))
    for path in ("/edit", "/admin", "/write", "/part/edit", "/part/write"):
        assert browser.get(path).json["error"] == "login_required", path
        assert browser.get(path, html=True).status_code == 302
    assert browser.post("/hook").status_code == browser.post("/part/hook").status_code == 401


def test_an_override_does_not_switch_off_the_other_checks(make_web: Callable[..., Web]) -> None:
    """Another site's use of a cookie and an outage are refused as without it. [P15, T60]"""
    watched = WatchedBackend(MemoryBackend())
    web = make_web(watched)
    browser = browser_of(web, overridden_app(web, lambda: ALICE))
    browser.sign_in()
    assert browser.post("/post", Sec_Fetch_Site="cross-site").json["error"] == "cross_site_request"
    assert browser.post("/hook", Sec_Fetch_Site="cross-site").json == "done"
    watched.fails = lambda number: True
    for path in ("/edit", "/write"):
        assert browser.get(path).status_code == 503
    assert web.browser().get("/public").status_code == 200


def test_a_guard_without_the_check_does_not_stand_for_one_with_it(web: Web) -> None:
    """FastAPI keeps a dependency's result during a request. [T60]"""
    guards = [Depends(require_role("viewer", csrf=False)), Depends(current_session)]
    auth, app = router_of(web), FastAPI()
    app.include_router(auth)
    app.post("/one", dependencies=guards)(lambda: "done")
    app.post("/two", dependencies=guards[::-1])(lambda: "done")
    app.add_middleware(AuthMiddleware, router=auth)
    browser = browser_of(web, app)
    browser.sign_in()
    for path in ("/one", "/two"):
        assert browser.post(path, Sec_Fetch_Site="cross-site").json["error"] == "cross_site_request"
        assert browser.post(path, Sec_Fetch_Site="same-origin").json == "done"


def test_a_guard_can_be_called_without_fastapi(web: Web) -> None:
    auth, app = router_of(web), FastAPI()
    app.include_router(auth)
    app.add_middleware(AuthMiddleware, router=auth)

    @app.get("/called")
    async def called(request: Request) -> str:
        return (await require_role("viewer")(request)).user_id

    browser = browser_of(web, app)
    assert browser.get("/called").status_code == 401
    browser.sign_in()
    assert browser.get("/called").json == "user-alice"


@pytest.fixture(params=["no CORS", "CORS inside", "CORS outside"])
def preflighted(request: pytest.FixtureRequest, web: Web) -> tuple[Browser, bool]:
    """A browser at an application with operations for OPTIONS, and whether CORSMiddleware answers."""
    auth, app = router_of(web), FastAPI()
    app.include_router(auth)
    inside: list[Any] = [(AuthMiddleware, {"router": auth})]
    if request.param != "no CORS":
        cors = (CORSMiddleware, {"allow_origins": [_SPA], "allow_credentials": True})
        inside.insert(0 if request.param == "CORS inside" else 1, cors)
    for middleware, options in inside:
        app.add_middleware(middleware, **options)
    for path, guard in (("/session", current_session), ("/role", require_role("admin"))):
        app.api_route(path, methods=["GET", "OPTIONS"], dependencies=[Depends(guard)])(lambda: "content")
        app.options(f"{path}/own", dependencies=[Depends(guard)])(lambda: "content")
        app.options(f"{path}/open")(lambda: JSONResponse({}, 204, {"X-Own": "1"}))
    return browser_of(web, app), request.param != "no CORS"


def test_a_preflight_is_answered_without_the_path_operation(preflighted: tuple[Browser, bool]) -> None:
    """It has no credentials; a user without a session still gets nothing by OPTIONS."""
    browser, cors = preflighted
    for path in ("/session", "/role"):
        for place, methods in ((path, "GET, OPTIONS"), (f"{path}/own", "OPTIONS")):
            answer = browser.client.open(place, method="OPTIONS", headers=_PREFLIGHT)
            assert answer.status_code in (200, 204)
            assert "content" not in answer.text
            assert cors == ("Access-Control-Allow-Origin" in answer.headers)
            assert cors or answer.headers["Allow"] == methods
        unguarded = browser.client.open(f"{path}/open", method="OPTIONS", headers=_PREFLIGHT)
        assert cors or (unguarded.status_code, unguarded.headers["X-Own"]) == (204, "1")
        for other in (path, f"{path}/own"):
            assert browser.client.open(other, method="OPTIONS").status_code == 401, "no preflight"
        refused = browser.get(path, Origin=_SPA)
        assert refused.status_code == 401
        assert cors == ("Access-Control-Allow-Origin" in refused.headers), "scripts can read the refusal"


def test_own_pages_are_shown_during_an_outage(make_web: Callable[..., Web]) -> None:
    """The handler of HTTP errors or of status 503 gets the outage that a guard met. [P15]"""

    async def own(request: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({"own": error.detail}, error.status_code, error.headers)

    for kind in (HTTPException, 503):
        watched = WatchedBackend(MemoryBackend())
        web = make_web(watched)
        auth, app = router_of(web), FastAPI(exception_handlers={kind: own})
        app.include_router(auth)
        app.get("/write", dependencies=[Depends(require_permission("write"))])(lambda: "done")
        app.add_middleware(AuthMiddleware, router=auth)
        browser = browser_of(web, app)
        token = f"Bearer {issue_session_token(web.sessions, 'robot', ['editor'])}"
        watched.forget()
        watched.fails = lambda number: number == 1  # the session is found, the table of roles is not
        response = browser.get("/write", Authorization=token)
        assert (response.status_code, list(response.json)) == (503, ["own"])
        assert int(response.headers["Retry-After"]) > 0
        assert "simulated" not in response.text


def test_an_own_handler_of_outages_stays_in_force(web: Web) -> None:
    async def own(request: Request, error: StoreUnavailable) -> JSONResponse:
        return JSONResponse("own", 503)

    auth, app = router_of(web), FastAPI(exception_handlers={StoreUnavailable: own})
    app.include_router(auth)
    app.add_middleware(AuthMiddleware, router=auth)

    @app.get("/work", dependencies=[Depends(current_session)])
    async def work() -> None:
        raise StoreUnavailable("The store is down.")

    browser = browser_of(web, app)
    browser.sign_in()
    assert browser.get("/work").json == "own"


def test_middleware_functions_can_surround_everything(web: Web) -> None:
    """Their applications are served as without them, on both sides of ``AuthMiddleware``."""
    app = guarded_app("application", router_of(web), current_session)

    async def mark(request: Request, call_next: Any) -> Any:
        response = await call_next(request)
        response.headers["X-Mark"] = response.headers.get("X-Mark", "") + "+"
        return response

    app.middleware("http")(mark)
    app.user_middleware.append(app.user_middleware[0])  # and inside
    token = {"Authorization": f"Bearer {issue_session_token(web.sessions, 'robot', [])}"}
    with served(app) as address:
        for path, headers, status in (
            ("/page", {}, 401),
            ("/auth/status", {}, 200),
            ("/page", token, 200),
            ("/auth/userinfo", token, 200),
        ):
            answer = requests.get(f"http://{address}{path}", headers=headers, timeout=20)
            assert (answer.status_code, answer.headers["X-Mark"]) == (status, "++"), path
        large = iter([b"x" * 50_000] * 20)  # without a length, and larger than the server's buffer
        answer = requests.post(f"http://{address}/auth/logout", large, headers=token, timeout=20)
        assert answer.json()["logged_out"]


@pytest.mark.parametrize("root", ["", "/app"])
def test_the_public_url_is_that_of_the_application_with_the_middleware(
    make_web: Callable[..., Web], root: str
) -> None:
    """The routes stand below it, also in a mounted application. [P7]"""
    web = make_web(
        settings={"public_base_url": f"https://app.example.com{root}"}, host=Host("fastapi", path=root)
    )
    auth, app, part = router_of(web), FastAPI(), FastAPI()
    part.include_router(auth)
    app.mount("/account", part, name="account")
    app.get("/page", dependencies=[Depends(current_session)])(lambda: "done")
    app.add_middleware(AuthMiddleware, router=auth)
    browser = browser_of(web, app)
    login = browser.get("/page", html=True).location
    assert login.startswith(f"https://app.example.com{root}/account/auth/login?")
    assert parameter(login, "next") == f"{root}/page"
    location = browser.get("/account/auth/login?moved=1", html=True).location
    assert parameter(location, "redirect_uri") == f"https://app.example.com{root}/account/auth/callback"


def test_the_sender_of_a_signal_is_the_application_with_the_router(web: Web) -> None:
    auth, app, part = router_of(web), FastAPI(), FastAPI()
    part.include_router(auth)
    app.mount("/app", part)
    app.add_middleware(AuthMiddleware, router=auth)
    browser = browser_of(web, app)
    with Received() as received:
        browser.sign_in("/app/auth/login")
        browser.post("/app/auth/logout")
    assert received.senders == [part, part]


@pytest.mark.parametrize("place", ["operation", "router", "application", "mounted", "layered", "host"])
def test_a_guard_for_a_recent_sign_in_needs_openid_at_start_up(web: Web, place: str) -> None:
    """The application does not start, and the error names the route."""
    guards = [Depends(require_fresh_login())]
    app = FastAPI(dependencies=guards if place == "application" else None)
    router = create_auth_router(GitHubProvider("site", "secret"), auth_config=web.config)
    app.add_middleware(AuthMiddleware, router=router)
    inner, part = FastAPI(), APIRouter(dependencies=guards if place == "router" else None)
    of_operation = None if place in ("router", "application") else guards
    part.add_api_route("/erase", lambda: "", name="erase", dependencies=of_operation)
    (inner if place in ("mounted", "layered", "host") else app).include_router(part)
    layers = [Middleware(GZipMiddleware)] if place == "layered" else None
    app.router.routes += [
        HostRoute("inner.example.com", inner)
        if place == "host"
        else Mount("/inner", inner, middleware=layers)
    ]
    for _ in range(2):
        with pytest.raises(AuthenticationError, match=r"^the view 'erase' requires a recent"):
            Client(app).start()


def test_without_a_start_up_a_site_without_openid_is_not_available(
    web: Web, caplog: pytest.LogCaptureFixture
) -> None:
    """Some servers tell the application nothing of their start. The log names the route."""
    app = FastAPI()
    router = create_auth_router(GitHubProvider("site", "secret"), auth_config=web.config)
    app.include_router(router)
    app.add_middleware(AuthMiddleware, router=router)
    app.add_api_route("/erase", lambda: "", dependencies=[Depends(require_fresh_login())], name="erase")
    for path in ("/erase", "/elsewhere", "/auth/status"):
        for accept in ("text/html", "application/json"):
            caplog.clear()
            answer = Client(app).get(path, {"Accept": accept})
            assert (answer.status_code, "require_fresh_login" in answer.text) == (503, False)
            assert answer.headers["Content-Type"].partition(";")[0] == accept
            assert "the view 'erase' requires a recent" in caplog.text
    assert Client(app).websocket("/feed") == 1008


def test_a_websocket_and_an_override_meet_the_guard_for_a_recent_sign_in(web: Web) -> None:
    app, session = FastAPI(), replace(ALICE, grant=Grant("id", 0.0, auth_time=time.time()))
    app.add_middleware(AuthMiddleware, router=router_of(web))

    @app.websocket("/feed", dependencies=[Depends(require_fresh_login(acr="gold"))])
    async def feed(socket: WebSocket) -> None:
        await socket.accept()

    app.dependency_overrides[current_session] = lambda: session
    assert Client(app).websocket("/feed") == 1008
    session = replace(session, grant=Grant("id", 0.0, auth_time=time.time(), acr="gold"))
    assert Client(app).websocket("/feed") == 0
