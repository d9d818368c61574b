"""Guards of Flask on any view, and before the views of a whole application."""

from __future__ import annotations

import json
from collections.abc import Callable
from inspect import iscoroutinefunction
from typing import Any, ClassVar

import pytest
from flask import Blueprint, Flask, Response, g, request
from flask.typing import ResponseReturnValue
from flask.views import MethodView, View
from werkzeug.exceptions import HTTPException, Unauthorized
from werkzeug.test import TestResponse

from pywry_auth.backends.memory import MemoryBackend
from pywry_auth.config import DeploySettings
from pywry_auth.deploy_routes import create_auth_blueprint
from pywry_auth.exceptions import AuthenticationError, StoreUnavailable
from pywry_auth.flask import (
    current_session,
    login_required,
    permission_required,
    protect_from_csrf,
    roles_required,
)
from pywry_auth.providers.oidc import GenericOIDCProvider
from pywry_auth.state.auth import AuthConfig
from pywry_auth.state.sessions import SessionStore, issue_session_token
from tests.deploy.web import HTML, SECRET, WatchedBackend

GUARDS: dict[str, Callable[..., Any]] = {
    "login": login_required,
    "roles": roles_required("viewer"),
    "permission": permission_required("read"),
    "nested": lambda view: login_required(roles_required("viewer")(permission_required("read")(view))),
}


def _text(text: str) -> Callable[..., str]:
    """Return a view, or a function to guard, that returns a text."""
    return lambda **arguments: text


def _nothing() -> None:
    """Let the request through."""


GO = {"Accept": HTML, "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
FRAMES = ["iframe", "frame", "embed", "object"]
PREFLIGHT = {"Origin": "https://spa.example.com", "Access-Control-Request-Method": "GET"}


class Site:
    """A Flask application whose provider is never called.

    Args:
        register: The arguments of ``register_blueprint``, and ``public_base_url``. An application with a
            ``subdomain`` matches subdomains.
    """

    def __init__(self, **register: Any) -> None:
        self.backend = WatchedBackend(MemoryBackend())
        self.sessions = SessionStore(self.backend)
        self.settings = DeploySettings(public_base_url=register.pop("public_base_url", ""))
        self.app = Flask("site", subdomain_matching="subdomain" in register)
        self.blueprint = self.new_blueprint()
        if register.get("registered", True):
            self.app.register_blueprint(self.blueprint, **register)

    def new_blueprint(self) -> Blueprint:
        """Return the routes of sign-in, which are not registered."""
        return create_auth_blueprint(
            GenericOIDCProvider("c", issuer_url="https://id.example.com"),
            self.sessions,
            deploy_settings=self.settings,
            auth_config=AuthConfig(enabled=True, token_secret=SECRET),
        )

    def open(self, path: str, method: str = "GET", user: str = "", **headers: str) -> TestResponse:
        """Send a request, for a user with the role ``user``."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if user:
            sent["Authorization"] = f"Bearer {issue_session_token(self.sessions, 'robot', [user])}"
        return self.app.test_client().open(path, method=method, headers=sent)


@pytest.fixture
def site() -> Site:
    return Site()


# A guard on everything


@pytest.mark.parametrize("prefix", ["/auth", "/outer/oauth"])
@pytest.mark.parametrize("guard", GUARDS.values(), ids=GUARDS)
def test_a_guard_on_everything_leaves_the_routes_of_sign_in_alone(
    guard: Callable[..., Any], prefix: str
) -> None:
    """Exactly these routes, also in a blueprint inside another one. [T26]"""

    def load_user() -> None:
        g.user = current_session.user_id  # type: ignore[union-attr]  # fails without a session

    site = Site(registered=False)
    site.blueprint.add_url_rule("/own", "own", _text("secret"))
    inner = Blueprint("inner", __name__)
    inner.add_url_rule("/login", "login", _text("secret"))
    site.blueprint.register_blueprint(inner, url_prefix="/inner")
    outer = Blueprint("outer", __name__, url_prefix="/outer")
    outer.before_request(guard(load_user))
    site.app.before_request(guard(load_user))
    if prefix == "/auth":
        site.app.register_blueprint(site.blueprint)
    else:
        outer.register_blueprint(site.blueprint, name="oauth", url_prefix="/oauth")
    site.app.register_blueprint(outer)
    site.app.add_url_rule("/page", "login", _text("secret"))  # an endpoint that is named like a route
    assert site.open(f"{prefix}/status").json["authenticated"] is False  # type: ignore[index]
    assert site.open(f"{prefix}/logout", "POST").json == {"logged_out": True, "logout_url": None}
    assert site.open(f"{prefix}/callback").status_code == 400
    assert site.open(f"{prefix}/userinfo").json["error"] == "not_signed_in"  # type: ignore[index]
    assert site.open(f"{prefix}/login", "OPTIONS").status_code == 200
    guarded = [
        "/page",
        f"{prefix}/own",
        f"{prefix}/inner/login",
        "/nothing",
        "/static/x",
        f"{prefix}2/status",
    ]
    for path in [*guarded, prefix.upper() + "/status"]:
        refused = site.open(path)
        assert refused.status_code == 401, path
        assert refused.json["error"] == "login_required", path  # type: ignore[index]
    for path in (f"/{prefix}/status", f"{prefix}/status/", f"{prefix}//status", f"{prefix}/../page"):
        assert site.open(path).status_code in (308, 401, 404), path
    assert site.open("/page", **GO).location == f"{prefix}/login?next=%2Fpage"
    assert site.open("/page", user="viewer").text == "secret"


def _writer_of_7(site: Site) -> dict[str, str]:
    """Return the headers of a user who may write only document 7."""
    token = issue_session_token(site.sessions, "robot", ["viewer"])
    (session,) = site.sessions.list_user_sessions("robot")
    grants = {"permissions": {"document:7": ["write"]}}
    site.sessions.create_session(session.session_id, "robot", ["viewer"], metadata=grants)
    return {"Authorization": f"Bearer {token}"}


def test_a_guard_before_the_request_knows_the_resource(site: Site) -> None:
    site.app.before_request(login_required(permission_required("write", "document", "document")(_nothing)))
    site.app.add_url_rule("/documents/<document>", "edit", lambda document: document)
    headers = _writer_of_7(site)
    client = site.app.test_client()
    answers = [client.get(f"/documents/{number}", headers=headers).status_code for number in (7, 8)]
    assert answers == [200, 403]


def test_a_guarded_function_is_not_checked_for_the_resource_of_the_view(site: Site) -> None:
    """A view may call it for another resource than the one in its URL."""
    guard = permission_required("write", "document", "document")

    @guard
    def save(document: str = "8") -> str:
        return f"saved {document}"

    calls: list[Callable[[], Any]] = [
        lambda: save("8"),
        lambda: save(),
        lambda: save(document="8"),
        lambda: guard(lambda: "saved 8")(),
        lambda: save(document="7"),
    ]
    site.app.add_url_rule("/<document>/<int:number>", "call", lambda document, number: calls[number]())
    headers, client = _writer_of_7(site), site.app.test_client()
    answers = [client.get(f"/7/{number}", headers=headers).status_code for number in range(5)]
    assert answers == [403, 403, 403, 403, 200]


@pytest.mark.parametrize("host", ["evil.example.com", f"{'x' * 64}.example.com", "a b", "localhost:99999"])
def test_a_host_that_flask_refuses_gets_status_400(site: Site, host: str) -> None:
    """Such a request has no URLs, so the guard has no login to offer. [P15]"""
    site.app.config["TRUSTED_HOSTS"] = ["localhost", "example.com"]
    protect_from_csrf(site.app)
    site.app.before_request(lambda: g.session and None if "ask" in request.args else None)
    site.app.before_request(login_required(_nothing))
    site.app.add_url_rule("/page", "page", login_required(_text("secret")), methods=["GET", "POST"])
    site.app.register_error_handler(400, _own)
    token = {"Authorization": f"Bearer {issue_session_token(site.sessions, 'robot', [])}"}
    site.backend.fails = lambda number: True
    for path in ("/page", "/auth/status", "/nothing", "/page?ask", "/auth/login?ask"):
        for method in ("GET", "POST", "OPTIONS"):
            for headers in (GO, token):
                answer = site.app.test_client().open(path, method=method, headers={**headers, "Host": host})
                assert (answer.status_code, answer.text[:8]) == (400, "own: 400"), (path, method, headers)


@pytest.mark.parametrize(
    ("subdomain", "public", "login"),
    [
        ("", "", "http://localhost/oauth/login"),
        ("id", "", "http://id.localhost/oauth/login"),
        ("", "https://app.example.com", "https://app.example.com/oauth/login?moved=1"),
    ],
)
def test_a_guard_on_another_subdomain_leads_to_the_login(subdomain: str, public: str, login: str) -> None:
    """The routes are not on that host, and the host of the routes does not have the page."""
    site = Site(url_prefix="/oauth", subdomain=subdomain, public_base_url=public)
    site.app.config["SERVER_NAME"] = "localhost"
    site.app.add_url_rule(
        "/page", "page", login_required(_text("")), subdomain="blog", methods=["GET", "POST"]
    )
    host = {"Host": "blog.localhost", "Referer": "http://blog.localhost/form"}
    assert site.open("/page", **GO, **host).location == login
    frame = GO | host | {"Sec-Fetch-Dest": "iframe"}
    for page in (site.open("/page", "POST", **GO, **host), site.open("/page", **frame)):
        assert f'href="{login.partition("?")[0]}"' in page.text


# Coroutine functions


class Notes(MethodView):
    """A class-based view with a coroutine and a guarded method."""

    decorators: ClassVar[list[Callable[..., Any]]] = [roles_required("viewer")]

    async def get(self) -> str:
        """Return a text."""
        return f"for {current_session.user_id}" if current_session else ""

    @roles_required("editor")
    async def post(self) -> str:
        """Return a text."""
        return "posted"


@pytest.mark.parametrize("guard", GUARDS.values(), ids=GUARDS)
def test_a_guard_runs_a_coroutine_function(site: Site, guard: Callable[..., Any]) -> None:
    from asgiref.sync import markcoroutinefunction

    async def view() -> str:
        assert current_session
        return f"for {current_session.user_id}"

    async def before() -> None:
        g.ran = True

    marked = markcoroutinefunction(lambda: view())
    marked.__name__ = "marked"
    guarded = guard(view)
    assert not iscoroutinefunction(guarded)
    site.app.before_request(guard(before))
    site.app.add_url_rule("/view", "view", guarded)
    site.app.add_url_rule("/plain", "plain", guard(lambda: f"for {current_session.user_id}"))  # type: ignore[union-attr]
    site.app.add_url_rule("/notes", view_func=Notes.as_view("notes"))
    protect_from_csrf(site.app)
    assert not iscoroutinefunction(guard(marked))
    for path in ("/view", "/plain", "/notes"):
        assert site.open(path).status_code == 401
        assert site.open(path, user="viewer").text == "for robot"
    assert site.open("/notes", "POST", user="viewer").status_code == 403


# Preflights


class Items(MethodView):
    """A class-based view with an ``options`` method of its own."""

    def get(self, **arguments: str) -> ResponseReturnValue:
        """Return the content."""
        return "secret"

    def options(self, **arguments: str) -> ResponseReturnValue:
        """Return a preflight's response."""
        return "", 204, {"Access-Control-Allow-Methods": "GET"}


class Guarded(Items):
    """One with a guard on everything."""

    decorators: ClassVar[list[Callable[..., Any]]] = [login_required, roles_required("admin")]


class GuardedMethods(Items):
    """One with guards on its methods."""

    @login_required
    def get(self, **arguments: str) -> str:
        """Return the content."""
        return "secret"

    @login_required
    def options(self, **arguments: str) -> ResponseReturnValue:
        """Return a preflight's response."""
        return "", 204, {"Access-Control-Allow-Methods": "GET", "X-Also": str(self.get())}


class NoOptions(View):
    """A class-based view that does not choose by method."""

    methods: ClassVar[list[str]] = ["GET", "OPTIONS"]
    options = "not a method"

    def dispatch_request(self) -> str:
        """Return the content."""
        return "secret"


def _fails() -> None:
    raise AssertionError("the guarded function ran")


@pytest.mark.parametrize("everywhere", [None, *GUARDS])
@pytest.mark.parametrize("guard", GUARDS.values(), ids=GUARDS)
def test_a_preflight_is_neither_challenged_nor_answered_by_the_view(
    site: Site, guard: Callable[..., Any], everywhere: str | None
) -> None:
    app = site.app
    if everywhere:
        app.before_request(GUARDS[everywhere](_fails))
    explicit: dict[str, Any] = {"methods": ["GET", "OPTIONS"]}
    app.add_url_rule("/automatic", "automatic", guard(_text("secret")))
    app.add_url_rule("/explicit", "explicit", guard(_text("secret")), **explicit)
    app.add_url_rule("/no-options", view_func=guard(NoOptions.as_view("no-options")))
    app.add_url_rule("/items/<a>", view_func=guard(Items.as_view("items")))
    app.add_url_rule("/guarded/<a>", view_func=Guarded.as_view("guarded"))
    app.add_url_rule("/methods/<a>", view_func=GuardedMethods.as_view("methods"))
    if everywhere:
        app.add_url_rule("/unguarded", "unguarded", lambda: "secret", **explicit)
        app.add_url_rule("/plain/<a>", view_func=Items.as_view("plain"))

    @app.after_request
    def add_cors(response: Response) -> Response:
        response.headers["Access-Control-Allow-Origin"] = "https://spa.example.com"
        return response

    own = [rule.rule for rule in app.url_map.iter_rules() if not rule.rule.startswith("/auth/")]
    plain = [rule for rule in own if rule.endswith(("tic", "it", "ns", "ed"))]
    assert len(plain) == (4 if everywhere else 3)
    for path in plain:
        response = site.open(path, "OPTIONS", **PREFLIGHT)
        assert (response.status_code, response.data) == (200, b""), path
        assert set(response.allow) == {"GET", "HEAD", "OPTIONS"}
        assert response.headers["Access-Control-Allow-Origin"] == "https://spa.example.com"
    for path in ("/items/1", "/guarded/1", "/methods/1", *(["/plain/1"] if everywhere else [])):
        response = site.open(path, "OPTIONS", **PREFLIGHT)
        assert (response.status_code, response.data) == (204, b""), path
        assert response.headers["Access-Control-Allow-Methods"] == "GET"
        assert "secret" not in response.headers.get("X-Also", "")
        assert response.headers["Access-Control-Allow-Origin"] == "https://spa.example.com"
    assert site.open("/nothing", "OPTIONS", **PREFLIGHT).status_code == 404
    assert site.backend.operations == [], "a preflight needs no look-up"


def test_a_guard_called_by_a_function_answers_a_preflight(site: Site) -> None:
    @site.app.before_request
    def guard() -> Any:
        return login_required(_fails)()

    site.app.add_url_rule("/items", view_func=Items.as_view("items"))
    response = site.open("/items", "OPTIONS", **PREFLIGHT)
    assert (response.status_code, set(response.allow)) == (200, {"GET", "HEAD", "OPTIONS"})


# Forms


@pytest.mark.parametrize(
    ("path", "referer", "target"),
    [
        ("/both", "http://localhost/form?a=1", "/form?a=1"),
        ("/send", "http://localhost/form", "/form"),
        ("/send?b=2", None, ""),
        ("/both?b=2", None, "/both?b=2"),
        ("/both", "https://evil.example.com/form", "/both"),
        ("/both", "http://localhost.evil.example.com/form", "/both"),
        ("/both", "http://localhost@evil.example.com/form", "/both"),
        ("/both", "http://localhost:81/form", "/both"),
        ("/both", "https://localhost/form", "/both"),
        ("/both", "http://localhost", "/both"),
        ("/both", "http://localhost//evil.example.com", "/both"),
        ("/both", "http://localhost/\\evil.example.com", "/both"),
        ("/both", "http://localhost/\u00e9", "/both"),
        ("/both", "/form", "/both"),
        ("/both", "x" * 9000, "/both"),
        ("/send", "https://evil.example.com/form", ""),
    ],
)
def test_a_refused_form_leads_back_to_its_page(
    site: Site, path: str, referer: str | None, target: str
) -> None:
    """Not to another site, and not to a path that has no page. [T7]"""
    from html import unescape
    from re import findall
    from urllib.parse import urlencode

    for prefix, guard in (("", login_required), ("/admin", roles_required("admin"))):
        site.app.add_url_rule(f"{prefix}/both", f"{prefix}page", guard(_text("form")))
        site.app.add_url_rule(f"{prefix}/both", f"{prefix}both", guard(_text("sent")), methods=["POST"])
        site.app.add_url_rule(f"{prefix}/send", f"{prefix}send", guard(_text("sent")), methods=["POST"])
    headers = {**GO, "Sec-Fetch-Site": "same-origin"} | ({} if referer is None else {"Referer": referer})
    for dest in ("document", "iframe"):
        page = site.open(path, "POST", **(headers | {"Sec-Fetch-Dest": dest}))
        assert page.status_code == 401
        assert "the form was not saved" in page.text
        assert "Back button may still lead to your text" in unescape(page.text)
        (link,) = findall(r'class="button" href="([^"]*)"', page.text)
        assert unescape(link) == ("/auth/login?" + urlencode({"next": target}) if target else "/auth/login")
    target = target if target.startswith("/form") or not target else f"/admin{target}"
    page = site.open(f"/admin{path}", "POST", user="viewer", **headers)
    (link,) = findall(r'class="button" href="([^"]*)"', page.text)
    assert page.status_code == 403
    another = {"prompt": "login"} | ({"next": target} if target else {})  # the provider asks for an account
    assert unescape(link) == f"/auth/login?{urlencode(another)}"
    script = site.open(path, "POST", Accept="application/json", Sec_Fetch_Mode="cors", Referer=referer or "")
    assert script.json == {"error": "login_required", "error_description": "Sign in first."}


# Frames


@pytest.mark.parametrize("dest", FRAMES)
@pytest.mark.parametrize("guard", GUARDS.values(), ids=GUARDS)
def test_a_frame_gets_a_link_out_of_it(site: Site, dest: str, guard: Callable[..., Any]) -> None:
    """The only page that may be framed shows nothing of the visitor. [T39]"""

    def render(page: Any) -> str:
        raise AssertionError("the site's own page could read the session")

    site.blueprint.auth_routes.render = render  # type: ignore[attr-defined]
    site.app.add_url_rule("/widget", "widget", guard(_text("secret")))
    headers = GO | {"Sec-Fetch-Dest": dest}
    board = {"Sec-Fetch-Site": "same-origin", "Referer": "http://localhost/board"}
    foreign = {"Sec-Fetch-Site": "cross-site", "Referer": "https://other.example.com/"}
    for more, target in ((board, "%2Fboard"), (foreign, "%2Fwidget")):
        page = site.open("/widget", **headers, **more)
        assert page.status_code == 401
        assert f'href="/auth/login?next={target}" target="_top">Sign in</a>' in page.text
        assert page.text.count("href=") == 1
        assert "Set-Cookie" not in page.headers
        assert "Sec-Fetch-Dest" in page.vary
        assert page.headers["Cache-Control"] == "no-store"
        policy = page.headers["Content-Security-Policy"].split("; ")
        assert {"default-src 'none'", "form-action 'none'", "frame-ancestors *"} <= set(policy)
    assert site.open("/widget", user="viewer", **headers).text == "secret"
    assert "frame-ancestors 'none'" in site.open("/auth/login", **headers).headers["Content-Security-Policy"]


# The application's own error pages


def _own(error: HTTPException) -> ResponseReturnValue:
    return f"own: {error.code} {error.description}", error.code or 0


async def _own_async(error: HTTPException) -> ResponseReturnValue:
    return _own(error)


def _in_json(error: HTTPException) -> Any:
    response: Any = error.get_response()
    response.data = json.dumps({"own": f"{response.error}: {error.description}"})
    return response


def _may_not(view: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a view with code that catches every exception."""

    def run() -> Any:
        try:
            return view()
        except Exception as error:  # noqa: BLE001
            return f"caught {error!r}"

    return run


def _site_with_pages(pages: Blueprint | None = None) -> Site:
    site = Site()
    pages = pages or Blueprint("pages", __name__)
    for method in ("GET", "POST"):
        for name, guard in (("member", login_required), ("admin", roles_required("admin"))):
            view = _may_not(guard(_text("secret")))
            pages.add_url_rule(f"/{name}", f"{name}{method}", view, methods=[method])
    site.app.register_blueprint(pages)
    return site


@pytest.mark.parametrize("trap", ["TRAP_HTTP_EXCEPTIONS", "TESTING", "PROPAGATE_EXCEPTIONS", "DEBUG"])
@pytest.mark.parametrize("key", [None, HTTPException, Exception])
@pytest.mark.parametrize("of_blueprint", [False, True])
@pytest.mark.parametrize("handler", [_own, _own_async])
def test_the_applications_own_error_handler_answers_for_a_guard(
    of_blueprint: bool, key: type[Exception] | None, trap: str, handler: Callable[..., Any]
) -> None:
    pages = Blueprint("pages", __name__)
    site = _site_with_pages(pages) if not of_blueprint else None
    for code in (401, 403) if key is None else (key,):
        (site.app if site else pages).register_error_handler(code, handler)
    site = site or _site_with_pages(pages)
    site.app.config[trap] = True
    refused = site.open("/member")
    assert (refused.status_code, refused.text) == (401, "own: 401 Sign in first.")
    assert refused.headers["WWW-Authenticate"] == 'Bearer realm="session"'
    assert refused.headers["Cache-Control"] == "no-store"
    assert {"Cookie", "Authorization"} <= set(refused.vary)
    assert site.open("/member", "POST", **GO).text.startswith("own: 401 You are not signed in, so the form")
    assert site.open("/member", **GO).status_code == 302, "a redirect is no error"
    assert site.open("/member", **(GO | {"Sec-Fetch-Dest": "iframe"})).text.startswith("<!doctype")
    refused = site.open("/admin", user="viewer")
    assert (refused.status_code, refused.text[:8]) == (403, "own: 403")
    assert refused.headers["Cache-Control"] == "no-store"
    assert site.open("/auth/userinfo").json["error"] == "not_signed_in"  # type: ignore[index]


def test_without_a_handler_for_it_the_guard_answers() -> None:
    site = _site_with_pages()
    site.app.register_error_handler(404, _own)
    site.app.register_error_handler(Exception, lambda error: error)
    other = Blueprint("other", __name__)
    other.register_error_handler(401, _own)
    site.app.register_blueprint(other)
    assert site.open("/member").json == {"error": "login_required", "error_description": "Sign in first."}
    assert site.open("/admin", "POST", user="viewer", **GO).text.startswith("<!doctype html>")


def test_a_handler_can_change_the_guards_response(site: Site) -> None:
    def redirect(error: HTTPException) -> ResponseReturnValue:
        return "", 303, {"Location": "/", "Cache-Control": "private"}

    pages = Blueprint("pages", __name__)
    pages.before_request(login_required(_nothing))
    pages.add_url_rule("/page", "page", lambda: "secret")
    pages.register_error_handler(401, redirect)
    site.app.register_blueprint(pages)
    site.app.add_url_rule("/member", "member", login_required(_text("secret")))
    site.app.register_error_handler(Unauthorized, _in_json)
    refused = site.open("/member")
    assert refused.json == {"own": "login_required: Sign in first."}
    assert refused.headers["WWW-Authenticate"]
    refused = site.open("/page")
    assert (refused.status_code, refused.headers["Cache-Control"]) == (303, "private")
    assert "WWW-Authenticate" not in refused.headers


def test_a_handler_answers_for_a_cross_site_request(site: Site) -> None:
    site.app.add_url_rule("/free", "free", lambda: "done", methods=["POST"])
    site.app.register_error_handler(403, _own)
    protect_from_csrf(site.app)
    refused = site.open("/free", "POST", Sec_Fetch_Site="cross-site")
    assert (refused.status_code, refused.text[:8]) == (403, "own: 403")
    assert site.open("/auth/logout", "POST", Sec_Fetch_Site="cross-site").json is not None


@pytest.mark.parametrize("key", [StoreUnavailable, 503])
@pytest.mark.parametrize("early", [False, True])
def test_the_applications_own_page_is_shown_during_an_outage(key: Any, early: bool) -> None:
    def own(error: Any) -> tuple[str, int]:
        return f"own: {error.response.error if key == 503 else type(error).__name__}", 503

    site = Site(registered=False)
    for register in (True, False):
        if register is early:
            site.app.register_error_handler(key, own)
        else:
            site.app.register_blueprint(site.blueprint)
    site.app.add_url_rule("/open", "open", lambda: str(bool(current_session)))
    site.app.add_url_rule("/member", "member", login_required(_text("secret")))
    token = issue_session_token(site.sessions, "robot")
    site.backend.fails = lambda number: True
    for path in ("/open", "/member"):
        page = site.app.test_client().get(path, headers={"Authorization": f"Bearer {token}"})
        expected = "temporarily_unavailable" if key == 503 else "StoreUnavailable"
        assert (page.status_code, page.text) == (503, f"own: {expected}")
        assert key != 503 or page.headers["Retry-After"]


def test_a_page_that_needs_the_session_cannot_hide_an_outage(site: Site) -> None:
    site.app.register_error_handler(503, lambda error: f"{current_session.user_id}")  # type: ignore[union-attr]
    site.app.add_url_rule("/member", "member", login_required(_text("secret")))
    token = issue_session_token(site.sessions, "robot")
    site.backend.fails = lambda number: True
    page = site.app.test_client().get("/member", headers={"Authorization": f"Bearer {token}"})
    assert page.status_code == 503
    assert page.json["error"] == "temporarily_unavailable"  # type: ignore[index]


def test_an_application_without_the_routes_is_told_to_add_them() -> None:
    with (
        Flask(__name__).test_request_context(),
        pytest.raises(AuthenticationError, match=r"pywry_auth\.flask\.init_app\(app\)"),
    ):
        login_required(_text("secret"))()
