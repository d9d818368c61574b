"""Guards admit the right users and cannot be bypassed by unusual paths."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ClassVar

import pytest
from flask import Flask, Response, g, request
from flask.views import MethodView

from pywry_auth.backends.memory import MemoryBackend
from pywry_auth.config import DeploySettings
from pywry_auth.deploy_routes import create_auth_blueprint
from pywry_auth.flask import login_required, permission_required, protect_from_csrf, roles_required
from pywry_auth.providers.oidc import GenericOIDCProvider
from pywry_auth.state.auth import AuthConfig
from pywry_auth.state.sessions import issue_session_token
from pywry_auth.testing.identity_provider import DEFAULT_USERS
from tests.deploy.hosts import PROTECTED
from tests.deploy.web import HTML, SECRET, SITE, Browser, WatchedBackend, Web

GUARDED = ["/members", "/admin", "/write", "/documents/7"]
CHALLENGE = 'Bearer realm="session"'

NAVIGATIONS = [
    {"Sec-Fetch-Mode": "navigate"},
    {"Sec-Fetch-Mode": "navigate", "Accept": "*/*"},
    {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": "cross-site"},
    {"Accept": HTML},
    {"Accept": "text/html"},
]
OTHERS = [
    {},
    {"Accept": "*/*"},
    {"Accept": "application/json"},
    {"Accept": "application/json, text/html;q=0.5"},
    {"Sec-Fetch-Mode": "cors", "Accept": HTML},
    {"Sec-Fetch-Mode": "no-cors", "Accept": HTML},
    {"Sec-Fetch-Mode": "same-origin", "Accept": HTML},
    {"Sec-Fetch-Mode": "websocket", "Accept": HTML},
    {"Sec-Fetch-Mode": "", "Accept": HTML},
    {"X-Requested-With": "XMLHttpRequest"},
]


@pytest.mark.parametrize("path", GUARDED)
def test_a_navigating_visitor_signs_in_and_returns_to_the_page(web: Web, path: str) -> None:
    """A guard redirects the visitor to the login. [P14]"""
    for headers in NAVIGATIONS:
        response = web.client().get(path, base_url=SITE, headers=headers)
        assert response.status_code == 302, headers
        assert response.location == f"/auth/login?next={path.replace('/', '%2F')}"
        assert PROTECTED not in response.text
    browser = web.browser()
    assert browser.sign_in(response.location).location == f"{SITE}{path}"


@pytest.mark.parametrize("path", GUARDED)
def test_requests_that_are_not_navigation_get_401(web: Web, path: str) -> None:
    """Scripts and programs cannot follow a redirect to the provider. [P14]"""
    for headers in OTHERS:
        response = web.client().get(path, base_url=SITE, headers=headers)
        assert response.status_code == 401, headers
        assert response.headers["WWW-Authenticate"] == CHALLENGE
        assert response.headers["Cache-Control"] == "no-store"
        assert "Location" not in response.headers
        if "Accept" not in headers or headers["Accept"] != HTML:
            assert response.json["error"] == "login_required"


def test_a_form_is_never_redirected(web: Web) -> None:
    """The input in the form would be lost. [P14]"""
    for headers in (*NAVIGATIONS, *OTHERS):
        response = web.client().post("/members", base_url=SITE, headers=headers)
        assert response.status_code == 401
        assert response.headers["WWW-Authenticate"] == CHALLENGE
    page = web.client().post("/members", base_url=SITE, headers=NAVIGATIONS[3])
    assert page.content_type == "text/html; charset=utf-8"


def test_a_head_request_is_refused_without_a_session(web: Web) -> None:
    for path in GUARDED:
        assert web.browser().head(path, html=True).status_code == 401


def test_each_guard_admits_the_right_roles(web: Web) -> None:
    cases: list[tuple[list[str], str, int]] = [
        ([], "/members", 200),
        ([], "/admin", 403),
        ([], "/write", 403),
        (["viewer"], "/write", 403),
        (["editor"], "/write", 200),
        (["editor"], "/admin", 403),
        (["admin"], "/admin", 200),
        (["admin"], "/write", 200),
        (["anonymous"], "/write", 403),
        (["ADMIN", "Admin", "admin "], "/admin", 403),
        (["viewer", "editor"], "/documents/7", 200),
        (["viewer"], "/documents/7", 403),
        (["unknown-role"], "/write", 403),
    ]
    for roles, path, status in cases:
        token = issue_session_token(web.sessions, "robot", roles)
        response = web.browser().get(path, Authorization=f"Bearer {token}")
        assert response.status_code == status, (roles, path)
        assert (PROTECTED in response.text) == (status == 200)
        if status == 403:
            assert response.json["error"] == "access_denied"
            assert response.headers["Cache-Control"] == "no-store"
            assert "Location" not in response.headers


def test_a_grant_on_one_resource_opens_only_that_resource(web: Web) -> None:
    web.sessions.create_session("x", "robot", ["viewer"])
    token = issue_session_token(web.sessions, "robot", ["viewer"])
    session_id = next(s.session_id for s in web.sessions.list_user_sessions("robot") if s.session_id != "x")
    grants = {"permissions": {"document:7": ["write"]}}
    web.sessions.create_session(session_id, "robot", ["viewer"], metadata=grants)
    browser = web.browser()
    answers = [
        browser.get(path, Authorization=f"Bearer {token}").status_code
        for path in ("/documents/7", "/documents/8", "/documents/document:7", "/write")
    ]
    assert answers == [200, 403, 403, 403]


def test_a_signed_in_user_without_the_role_gets_a_page(alice: Browser) -> None:
    response = alice.get("/admin", html=True)
    assert response.status_code == 403
    assert "your account may not do this" in response.text
    assert "/auth/login?prompt=login&amp;next=%2Fadmin" in response.text, (
        "a login with another account returns here"
    )
    assert "default-src 'none'" in response.headers["Content-Security-Policy"]


def test_an_administrator_is_admitted_after_a_real_login(make_web: Callable[..., Web]) -> None:
    web = make_web(settings={"admin_users": "alice@example.com", "role_map": "", "default_roles": "viewer"})
    alice, bob = web.browser(), web.browser()
    alice.sign_in("/auth/login?next=/admin")
    bob.sign_in(username="bob")
    assert alice.get("/admin").text == PROTECTED
    assert bob.get("/admin").status_code == 403
    assert DEFAULT_USERS[0].claims["email_verified"]


ODD_PATHS = [
    "//members",
    "///members",
    "/members/",
    "/members//",
    "/./members",
    "/public/../members",
    "/public/..;/members",
    "/auth/status/../../members",
    "/auth/../members",
    "/%6dembers",
    "/%2fmembers",
    "/%2Fmembers",
    "/members%2f",
    "/members%20",
    "/members.",
    "/members.json",
    "/members;x=1",
    "/members%3b",
    "/members%00",
    "/members%0a",
    "/members?",
    "/members?a=b#c",
    "/members#",
    "/members%23",
    "/members%3F",
    "/MEMBERS",
    "/Members",
    "/public#/members",
    "/public%23/../members",
    "/public;/members",
    "/m%65mbers",
    "/%u006dembers",
    "/%c0%afmembers",
    "\\members",
    "/\\members",
    "members",
    "/documents/%2e%2e/members",
    "/documents/..%2fmembers",
    "/documents/7/",
    "/documents//7",
    "/documents/7%2f..%2f..%2fpublic",
    "/documents/7;public",
    "/documents/public",
    "/documents/auth",
]
ODD_HEADERS = [
    {},
    {"X-Original-URL": "/public", "X-Rewrite-URL": "/public"},
    {"X-Forwarded-Prefix": "/auth", "X-Forwarded-Path": "/public", "X-Forwarded-Uri": "/public"},
    {"User-Agent": "GoogleHC/1.0"},
    {"User-Agent": "kube-probe/1.29"},
    {"X-Forwarded-User": "user-alice", "Remote-User": "user-alice", "X-Remote-User": "user-alice"},
    {"Authorization": "Basic YWRtaW46YWRtaW4="},
    {"Host": "localhost"},
    {"Referer": f"{SITE}/auth/callback"},
    {"X-HTTP-Method-Override": "OPTIONS"},
    {"Accept": HTML, "Sec-Fetch-Mode": "navigate"},
]


@pytest.mark.parametrize("headers", ODD_HEADERS, ids=str)
def test_no_spelling_of_a_path_bypasses_a_guard(web: Web, headers: dict[str, str]) -> None:
    """Without a session no guarded view runs, also after redirects. [T26]"""
    client = web.client()
    for path in [*ODD_PATHS, *GUARDED]:
        for method in ("GET", "HEAD", "OPTIONS", "POST"):
            environ = {"PATH_INFO": path.partition("?")[0]} if "%" not in path else {}
            for overrides in ({}, environ):
                response = client.open(
                    path, method=method, base_url=SITE, headers=headers, environ_overrides=overrides
                )
                assert PROTECTED not in response.text, (method, path)
                assert response.status_code < 500
                if 300 <= response.status_code < 400:
                    followed = client.get(response.location, base_url=SITE, headers=headers)
                    assert PROTECTED not in followed.text, (method, path)


def test_a_guard_keeps_the_views_name_and_arguments(web: Web) -> None:
    def view(a: int, *, b: int) -> str:
        """Do something."""
        return f"{a + b}"

    guarded = login_required(view)
    assert (guarded.__name__, guarded.__doc__) == ("view", "Do something.")
    token = issue_session_token(web.sessions, "robot")
    with web.app.test_request_context("/", headers={"Authorization": f"Bearer {token}"}):
        assert guarded(1, b=2) == "3"


def test_a_whole_application_can_refuse_cross_site_requests(web: Web) -> None:
    """The guards' own argument and the routes of sign-in keep their meaning. [T60]"""
    app: Flask = web.app
    app.add_url_rule("/free", "free", lambda: "done", methods=["GET", "POST"])
    protect_from_csrf(app)
    alice = web.browser()
    alice.sign_in()
    foreign = {"Sec_Fetch_Site": "cross-site"}
    paths = {"/free": 403, "/change": 403, "/hook": 200, "/auth/refresh": 403, "/nothing": 404}
    assert {path: alice.post(path, html=False, **foreign).status_code for path in paths} == paths
    assert alice.post("/free").status_code == 200
    assert alice.get("/free", html=False, **foreign).status_code == 200


def test_a_view_that_the_application_adds_to_the_blueprint_is_checked() -> None:
    """It is no route of this package. [T60]"""
    provider = GenericOIDCProvider("c", issuer_url="https://id.example.com")
    config = AuthConfig(enabled=True, token_secret=SECRET)
    blueprint = create_auth_blueprint(provider, auth_config=config, deploy_settings=DeploySettings())
    blueprint.add_url_rule("/own", "own", lambda: "done", methods=["POST"])
    app = Flask("site")
    app.register_blueprint(blueprint)
    protect_from_csrf(app)
    foreign = {"Sec-Fetch-Site": "cross-site"}
    assert app.test_client().post("/auth/own", headers=foreign).status_code == 403
    assert app.test_client().post("/auth/own").status_code == 200


def announced(view: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a view with code that runs before its guard."""

    @wraps(view)
    def run(*args: Any, **kwargs: Any) -> Any:
        g.ran = [*g.get("ran", []), "decorator"]
        return view(*args, **kwargs)

    return run


def public_if_asked(guard: Callable[..., Any]) -> Callable[..., Any]:
    """Return a decorator that uses the guard only for some requests."""

    def decorate(view: Callable[..., Any]) -> Callable[..., Any]:
        guarded = guard(view)

        @wraps(guarded)
        def run(*args: Any, **kwargs: Any) -> Any:
            return view(*args, **kwargs) if "public" in request.args else guarded(*args, **kwargs)

        return run

    return decorate


class Notes(MethodView):
    """A class-based view."""

    def post(self) -> str:
        """Return a text."""
        g.ran = ["view"]
        return "done"


class OpenNotes(Notes):
    """One for which the check is off."""

    decorators: ClassVar[list[Callable[..., Any]]] = [login_required(csrf=False)]


class GuardedNotes(Notes):
    """One with a guard."""

    decorators: ClassVar[list[Callable[..., Any]]] = [login_required]


def test_no_code_of_a_view_runs_for_a_cross_site_request(web: Web) -> None:
    """Neither an outer decorator nor an optional guard opens a protected application. [T60]"""
    app: Flask = web.app

    def view() -> str:
        g.ran = [*g.get("ran", []), "view"]
        return "done"

    off, role_off = login_required(csrf=False), roles_required("viewer", csrf=False)
    refused: dict[str, Callable[..., Any]] = {
        "outer": announced(login_required(view)),
        "outer-role": announced(roles_required("viewer")(view)),
        "outer-permission": announced(permission_required("read")(view)),
        "optional": public_if_asked(login_required)(view),
        "nested": announced(login_required(role_off(view))),
        "class": Notes.as_view("class"),
        "guarded-class": GuardedNotes.as_view("guarded-class"),
    }
    admitted: dict[str, Callable[..., Any]] = {
        "off": announced(off(view)),
        "off-twice": announced(off(role_off(view))),
        "off-class": OpenNotes.as_view("off-class"),
    }
    for name, decorated in (refused | admitted).items():
        app.add_url_rule(f"/{name}", name, decorated, methods=["POST"])
    protect_from_csrf(app)
    ran = []

    @app.after_request
    def note(response: Response) -> Response:
        ran.append(bool(g.get("ran")))
        return response

    alice = web.browser()
    alice.sign_in()
    ran.clear()
    for name in refused:
        assert alice.post(f"/{name}?public=1", Sec_Fetch_Site="cross-site").status_code == 403, name
        assert not ran.pop(), name
    for name in refused | admitted:
        assert alice.post(f"/{name}?public=1").status_code == 200, name
        assert ran.pop(), name
    for name in admitted:
        assert alice.post(f"/{name}?public=1", Sec_Fetch_Site="cross-site").status_code == 200, name


def test_a_cross_site_request_is_refused_without_a_look_up(make_web: Callable[..., Web]) -> None:
    """Another site cannot put load on the store. [T60]"""
    watched = WatchedBackend(MemoryBackend())
    alice = make_web(watched).browser()
    alice.sign_in()
    watched.forget()
    assert alice.post("/change", Sec_Fetch_Site="same-site").status_code == 403
    assert watched.operations == []


def test_a_script_gets_401_after_the_session_ended(web: Web, alice: Browser) -> None:
    web.sessions.delete_user_sessions("user-alice")
    assert alice.get("/members").status_code == 401
    assert alice.get("/members", html=True).status_code == 302
