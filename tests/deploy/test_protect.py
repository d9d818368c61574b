"""Guards on a whole application, its own sign-in page, and Flask-WTF beside the routes."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import pytest
from flask import Blueprint, Flask, abort, render_template_string
from flask.views import MethodView
from flask_wtf import CSRFProtect, FlaskForm  # type: ignore[import-untyped]
from werkzeug.test import TestResponse
from wtforms import StringField  # type: ignore[import-untyped]

from pywry_auth.deploy_routes import create_auth_blueprint
from pywry_auth.exceptions import AuthenticationError, StoreUnavailable
from pywry_auth.flask import (
    any_role_required,
    current_session,
    init_app,
    login_required,
    login_url,
    roles_required,
    scopes_required,
)
from pywry_auth.state import get_session_store
from pywry_auth.state.sessions import issue_session_token
from pywry_auth.testing.identity_provider import IdentityProvider
from tests.deploy.web import CLIENT_SECRET, HTML, SECRET, SITE, Browser

GO = {"Accept": HTML, "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
SECRET_TEXT = "for members only"
WELCOME = '<a href="{{ login_url() }}">Sign in</a>'


def _text(text: str = SECRET_TEXT) -> Callable[..., str]:
    return lambda **arguments: text


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The settings of a site whose provider is never called."""
    for name, value in {
        "OAUTH2__PROVIDER": "oidc",
        "OAUTH2__ISSUER_URL": "https://id.example.com",
        "OAUTH2__CLIENT_ID": "site",
        "OAUTH2__CLIENT_SECRET": CLIENT_SECRET,
        "DEPLOY__AUTH_ENABLED": "true",
        "DEPLOY__TOKEN_SECRET": SECRET,
        "DEPLOY__LOGIN_RATE_LIMIT": "100000/minute",
    }.items():
        monkeypatch.setenv(f"PYWRY_{name}", value)
    return monkeypatch


def _open(app: Flask, path: str, method: str = "GET", *roles: str, **headers: str) -> TestResponse:
    """Send a request, for a user if there are roles."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    if roles:
        sent["Authorization"] = f"Bearer {issue_session_token(get_session_store(), 'robot', list(roles))}"
    return app.test_client().open(path, method=method, headers=sent)


class Notes(MethodView):
    """A class-based view with a guarded method, and an own response to OPTIONS."""

    init_every_request: ClassVar[bool] = False

    def get(self) -> str:
        """Return a text."""
        return SECRET_TEXT

    @roles_required("editor")
    async def post(self) -> str:
        """Return a text."""
        return SECRET_TEXT

    def options(self) -> str:
        """Return a text."""
        return "own options"


def _site(*, early: bool = True, **arguments: Any) -> Flask:
    """Return an application with views of all kinds; ``early`` calls ``init_app`` before they exist."""
    app = Flask("site")
    if early:
        init_app(app, **{"protect": True, **arguments})

    async def later() -> str:
        return SECRET_TEXT

    inner, outer = Blueprint("inner", __name__), Blueprint("outer", __name__, url_prefix="/outer")
    inner.add_url_rule("/open", "open", _text("for all"))
    inner.add_url_rule("/closed", "closed", _text())
    outer.register_blueprint(inner, url_prefix="/inner")
    app.register_blueprint(outer)
    app.add_url_rule("/", "home", _text("for all"))
    app.add_url_rule("/page", "page", _text(), methods=["GET", "POST"])
    app.add_url_rule("/folder/", "folder", _text())
    app.add_url_rule("/home/<path:rest>", "homepage", _text())
    app.add_url_rule("/later", "later", later)
    app.add_url_rule("/notes", view_func=Notes.as_view("notes"))
    app.add_url_rule("/hook", "hook", login_required(_text(), csrf=False), methods=["POST"])
    app.add_url_rule("/admin", "admin", roles_required("admin")(_text()))
    app.add_url_rule("/team", "team", any_role_required("editor", "admin")(_text()))
    app.add_url_rule("/post", "post", _text("for all"), methods=["POST"])
    app.add_url_rule("/blog", "blog", _text(), subdomain="blog")
    if not early:
        init_app(app, **{"protect": True, **arguments})
    return app


PUBLIC = ("home", "outer.inner.open", "post")


@pytest.mark.parametrize("early", [True, False])
def test_every_request_but_the_public_endpoints_needs_a_user(early: bool) -> None:
    """No spelling of a path, header or method opens another view, or tells which paths exist. [T26]"""
    app = _site(early=early, public=PUBLIC)
    assert app.extensions["pywry_auth"].protected == frozenset(PUBLIC)
    for path in ("/", "/outer/inner/open", "/?next=/page", "/#/page"):
        assert _open(app, path).text == "for all", path
    assert _open(app, "/post", "POST", Sec_Fetch_Site="cross-site").text == "for all"
    paths = ["/page", "/outer/inner/closed", "/later", "/notes", "/admin", "/static/site.css", "/nothing"]
    paths += [
        "/folder",
        "/folder/",
        "//",
        "//page",
        "/%2fpage",
        "/page/",
        "/page;x",
        "/PAGE",
        "/page.",
        "/./page",
    ]
    paths += [
        "/home",
        "/home/x",
        "/outer/inner/open/",
        "/outer/inner/open;x",
        "/OUTER/inner/open",
        "/authx/login",
    ]
    paths += ["/post", "/outer/inner/open%00", "/Auth/login", "/outer//inner/open"]
    headers = {"X-Original-URL": "/", "X-Rewrite-URL": "/", "X-HTTP-Method-Override": "OPTIONS"}
    for path in paths:
        refused = _open(app, path, **headers)
        assert (refused.status_code, refused.is_json) == (401, True), path
        assert SECRET_TEXT not in refused.text
        page = _open(app, path, **GO)
        assert page.status_code == 302, path
        assert (page.location or "").startswith("/auth/login?next=%2F"), path
    for path in ("/page", "/nothing", "/", "/later"):
        for method in ("PUT", "DELETE", "PROPFIND", "HEAD"):
            assert _open(app, path, method).status_code == (200 if (path, method) == ("/", "HEAD") else 401)
    assert _open(app, "/auth/status").json["authenticated"] is False  # type: ignore[index]
    assert _open(app, "/auth/userinfo").json["error"] == "not_signed_in"  # type: ignore[index]
    assert _open(app, "/auth/nothing").status_code == 404
    assert _open(app, "/auth/status", "POST").status_code == 405


def test_a_user_gets_the_responses_of_the_application() -> None:
    app = _site(public=PUBLIC)
    expected = {"/page": 200, "/later": 200, "/notes": 200, "/nothing": 404, "/folder": 308, "/post": 405}
    expected |= {"/admin": 403, "/team": 200, "/outer/inner/closed": 200, "/static/none": 404}
    assert {path: _open(app, path, "GET", "editor").status_code for path in expected} == expected
    assert _open(app, "/team", "GET", "viewer").status_code == 403
    assert _open(app, "/notes", "POST", "viewer").status_code == 403
    assert _open(app, "/notes", "POST", "editor").text == SECRET_TEXT


def test_a_preflight_is_answered_as_with_a_guard_on_each_view() -> None:
    app = _site(public=PUBLIC)
    assert sorted(_open(app, "/page", "OPTIONS").allow) == ["GET", "HEAD", "OPTIONS", "POST"]
    assert _open(app, "/notes", "OPTIONS").text == "own options"
    assert _open(app, "/auth/login", "OPTIONS").status_code == 200


def test_the_session_is_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    app = _site()
    store = app.extensions["pywry_auth"].routes.sessions.store
    calls: list[str] = []
    find = type(store).find_bearer

    def counted(*arguments: Any) -> Any:
        calls.append("find")
        return find(*arguments)

    monkeypatch.setattr(type(store), "find_bearer", counted)
    assert _open(app, "/admin", "GET", "admin").text == SECRET_TEXT
    assert calls == ["find"]


def test_an_outage_of_the_store_admits_no_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """The public pages need no session."""

    def fail(*arguments: Any) -> None:
        raise StoreUnavailable("The store is down: a simulated failure.")

    app = _site(public=PUBLIC)
    monkeypatch.setattr(type(app.extensions["pywry_auth"].routes.sessions.store), "find_bearer", fail)
    expected = {"/": 200, "/page": 503, "/nothing": 503}
    assert {path: _open(app, path, "GET", "viewer").status_code for path in expected} == expected


def test_protection_comes_before_the_functions_of_the_application() -> None:
    """They may abort, read data or set a cookie; a blueprint may redirect."""
    seen: list[str] = []

    def note(name: str) -> Callable[[], None]:
        def before() -> None:
            seen.append(name)
            if name == "stop":
                abort(418)

        return before

    app = Flask("site")
    app.before_request(note("early"))
    init_app(app, protect=True, public=["home"])
    app.before_request(note("stop"))
    app.add_url_rule("/", "home", _text("for all"))
    app.add_url_rule("/page", "page", _text())
    assert _open(app, "/page").status_code == 401
    assert seen == []
    assert _open(app, "/").status_code == 418
    assert _open(app, "/page", "GET", "viewer").status_code == 418
    assert seen == ["early", "stop"] * 2


def test_a_request_of_another_site_is_refused_unless_the_view_allows_it(
    idp: IdentityProvider, settings: Any
) -> None:
    settings.setenv("PYWRY_OAUTH2__ISSUER_URL", idp.issuer)
    app = _site(public=PUBLIC)
    browser = Browser(app.test_client(), SITE)
    browser.sign_in()
    cross = "cross-site"
    assert browser.post("/page").text == SECRET_TEXT
    assert browser.post("/page", Sec_Fetch_Site=cross).json["error"] == "cross_site_request"
    assert browser.post("/nothing", Sec_Fetch_Site=cross).status_code == 403
    assert browser.post("/hook", Sec_Fetch_Site=cross).text == SECRET_TEXT
    assert browser.post("/post", Sec_Fetch_Site=cross).text == "for all"
    assert browser.get("/page", Sec_Fetch_Site=cross).text == SECRET_TEXT
    assert browser.post("/auth/logout", Sec_Fetch_Site=cross).status_code == 403
    assert browser.post("/auth/logout").json["logged_out"] is True
    assert browser.get("/page").status_code == 401
    assert browser.post("/hook").status_code == 401


@pytest.mark.parametrize("protect", [True, False])
def test_a_view_with_a_name_like_a_route_is_guarded(protect: bool) -> None:
    """On the library's blueprint, only the library's own endpoints are open."""
    app, blueprint = Flask("site"), create_auth_blueprint()
    names = ("status@x", "callback@x", "callback@", "login@")
    for name in names:
        blueprint.add_url_rule(f"/{name}", name, login_required(_text()))
    app.register_blueprint(blueprint)
    if protect:
        app.before_request(login_required(lambda: None))
    assert [_open(app, f"/auth/{name}").status_code for name in names] == [401] * 4


def test_views_of_another_subdomain_are_protected() -> None:
    app = Flask("site", subdomain_matching=True)
    app.config["SERVER_NAME"] = "example.com"
    init_app(app, protect=True, public=("blog",), login_view="blog")
    app.add_url_rule("/", "blog", _text("for all"), subdomain="blog")
    app.add_url_rule("/", "home", _text())
    assert _open(app, "/", Host="blog.example.com").text == "for all"
    assert _open(app, "/", Host="example.com").status_code == 401
    page = _open(app, "/", Host="example.com", **GO)
    assert page.location == "http://blog.example.com/"
    assert _open(app, "/", "GET", "viewer", Host="example.com").text == SECRET_TEXT


def test_an_unknown_public_name_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    app = _site(public=("home", "/page", "Home"))
    for path in ("/", "/page", "/"):
        _open(app, path)
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert sorted(re.findall(r"has ('.*?'), which is no endpoint", " ".join(told))) == ["'/page'", "'Home'"]
    assert len(told) == 2
    assert _open(app, "/page").status_code == 401


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"public": ("home",)}, "protect=True"),
        ({"protect": True, "public": "home"}, "collection of endpoints"),
        ({"protect": True, "public": None}, "collection of endpoints"),
        ({"protect": True, "public": ["home", ""]}, "each name"),
        ({"protect": True, "public": [_text]}, "each name"),
        ({"login_view": None}, "login_view="),
    ],
)
def test_an_argument_that_cannot_be_used_is_refused(arguments: dict[str, Any], reason: str) -> None:
    app = Flask("site")
    with pytest.raises(AuthenticationError, match=reason) as caught:
        init_app(app, **arguments)
    assert caught.value.error == "invalid_configuration"
    assert "auth" not in app.blueprints


def test_an_application_without_protection_has_no_public_endpoints() -> None:
    app = _site(protect=False)
    assert app.extensions["pywry_auth"].protected is None
    assert _open(app, "/page").text == SECRET_TEXT


@pytest.mark.parametrize("roles", [(), ("",), (["admin"],), (_text,)])
def test_a_guard_for_one_of_several_roles_needs_names(roles: Any) -> None:
    with pytest.raises(AuthenticationError, match="any_role_required"):
        any_role_required(*roles)


# The application's own sign-in page


def _welcoming(**arguments: Any) -> Flask:
    app = _site(early=False, **{"login_view": "welcome", **arguments})
    app.jinja_env.globals["login_url"] = login_url
    app.add_url_rule("/welcome", "welcome", lambda: render_template_string(WELCOME), methods=["GET", "POST"])
    app.add_url_rule("/scoped", "scoped", scopes_required("calendar")(_text()))
    app.add_url_rule("/link", "link", lambda: login_url(provider="corp"))
    return app


def _link(page: TestResponse) -> tuple[str, dict[str, list[str]]]:
    """Return the path and query of the link on the welcome page."""
    found = re.search(r'href="([^"]*)"', page.text)
    assert found, page.text
    parts = urlsplit(found[1].replace("&amp;", "&"))
    return parts.path, parse_qs(parts.query)


@pytest.mark.parametrize("protect", [True, False])
def test_a_visitor_is_sent_to_the_sites_own_page_and_returns(protect: bool) -> None:
    app = _welcoming(protect=protect)
    page = _open(app, "/admin?x=%26y", **GO)
    assert (page.status_code, page.location) == (302, "/welcome?next=%2Fadmin%3Fx%3D%2526y")
    assert page.headers["Cache-Control"] == "no-store"
    assert _link(_open(app, page.location or "", **GO)) == ("/auth/login", {"next": ["/admin?x=%26y"]})
    scoped = _open(app, "/scoped", **GO).location or ""
    path, query = _link(_open(app, scoped, **GO))
    assert (path, query["next"]) == ("/auth/login", ["/scoped"])
    assert query["demand"], "one sign-in brings the scopes too"
    assert _open(app, "/welcome", "POST").status_code == 200
    assert _link(_open(app, "/welcome", **GO)) == ("/auth/login", {})
    frame = _open(app, "/admin", **(GO | {"Sec-Fetch-Dest": "iframe"}))
    assert 'href="/welcome?next=%2Fadmin"' in frame.text
    assert 'href="/welcome' in _open(app, "/hook", "POST", **GO).text
    assert _open(app, "/admin").json["error"] == "login_required"  # type: ignore[index]
    assert "welcome" in (app.extensions["pywry_auth"].protected or ["welcome"])


@pytest.mark.parametrize(
    "hostile",
    [
        "https://evil.example",
        "//evil.example",
        "/\\evil.example",
        "javascript:alert(1)",
        "/\t/evil.example",
        "x" * 9000,
    ],
)
def test_the_link_of_the_page_keeps_only_a_safe_path(hostile: str) -> None:
    """[T7]."""
    app = _welcoming()
    page = app.test_client().get("/welcome", query_string={"next": hostile})
    assert _link(page) == ("/auth/login", {})
    page = app.test_client().get("/welcome", query_string={"next": "/page", "demand": "d" * 9000})
    assert _link(page) == ("/auth/login", {})
    page = app.test_client().get("/welcome", query_string={"demand": '"><script>'})
    assert _link(page) == ("/auth/login", {"demand": ['"><script>']})
    assert "<script>" not in page.text


def test_a_link_on_another_page_returns_to_that_page() -> None:
    app = _welcoming(protect=False)
    assert _open(app, "/link?demand=x&next=2").text == (
        "/auth/login?provider=corp&next=%2Flink%3Fdemand%3Dx%26next%3D2"
    )
    with app.test_request_context("/link", method="POST"):
        assert login_url() == "/auth/login"
        assert login_url("/page") == "/auth/login?next=%2Fpage"
    with app.test_request_context("/auth/callback?code=secret&state=secret"):
        assert login_url() == "/auth/login"


def test_the_page_stays_below_the_sites_public_address(settings: pytest.MonkeyPatch) -> None:
    settings.setenv("PYWRY_DEPLOY__PUBLIC_BASE_URL", "https://app.example.com/shop")
    app = _welcoming()
    assert _open(app, "/page", **GO).location == "https://app.example.com/shop/welcome?next=%2Fshop%2Fpage"
    assert _link(_open(app, "/welcome?next=/shop/page")) == ("/shop/auth/login", {"next": ["/shop/page"]})
    settings.delenv("PYWRY_DEPLOY__PUBLIC_BASE_URL")
    client = _welcoming().test_client()
    page = client.get("/page", headers=GO, base_url="http://localhost/shop")
    assert page.location == "/shop/welcome?next=%2Fshop%2Fpage"


def test_a_guard_before_the_request_leaves_the_sign_in_page_open() -> None:
    app = _site(protect=False, login_view="welcome")
    ran: list[int] = []
    app.before_request(roles_required("admin")(lambda: ran.append(1)))
    app.add_url_rule("/welcome", "welcome", _text("welcome"))
    assert _open(app, "/welcome", **GO).text == "welcome"
    assert _open(app, "/page", **GO).location == "/welcome?next=%2Fpage"
    assert ran == []


def test_links_of_the_routes_lead_to_the_sign_in_page() -> None:
    app = _welcoming()
    asked = {"X_Forwarded_Method": "GET", "X_Forwarded_Uri": "/page"}
    assert 'href="/welcome?next=%2Fpage"' in _open(app, "/auth/verify", **GO, **asked).text
    assert 'href="/welcome"' in _open(app, "/auth/userinfo", **GO).text
    assert 'href="/welcome"' in _open(app, "/auth/refresh", "POST", **GO).text


def test_a_guard_on_the_sign_in_page_itself_leads_to_the_login() -> None:
    """Otherwise, the page would redirect to itself."""
    app = _site(login_view="admin")
    assert _open(app, "/page", **GO).location == "/admin?next=%2Fpage"
    assert _open(app, "/admin", **GO).location == "/auth/login?next=%2Fadmin"


@pytest.mark.parametrize("name", ["wellcome", "/welcome", "homepage"])
def test_an_unusable_sign_in_page_is_logged_once(name: str, caplog: pytest.LogCaptureFixture) -> None:
    app = _site(login_view=name)
    for _ in range(2):
        assert _open(app, "/page", **GO).location == "/auth/login?next=%2Fpage"
    (error,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert f"login_view={name!r}" in error.getMessage()


# Flask-WTF


class NoteForm(FlaskForm):  # type: ignore[misc]  # it has no types
    """A form with a token."""

    text = StringField()


def _with_forms(order: str, protect: bool) -> Flask:
    app = Flask("site")
    app.secret_key = "a secret of the application"
    csrf = CSRFProtect()
    if order == "first":
        csrf.init_app(app)
    blueprint = create_auth_blueprint() if order == "own blueprint" else None
    if blueprint is None:
        init_app(app, protect=protect)
    else:
        blueprint.add_url_rule("/own", "logout_all", _text("done"), methods=["POST"])
        app.register_blueprint(blueprint, name="oauth")
    if order != "first":
        csrf.init_app(app)

    @app.route("/form", methods=["GET", "POST"])
    @login_required
    def form() -> str:
        form = NoteForm()
        if form.validate_on_submit():
            return f"saved {form.text.data} for {current_session.user_id}"  # type: ignore[union-attr]
        return render_template_string("{{ form.csrf_token }}", form=form)

    return app


@pytest.mark.parametrize("protect", [True, False])
@pytest.mark.parametrize("order", ["first", "later", "own blueprint"])
def test_flask_wtf_checks_the_applications_forms_only(
    order: str, protect: bool, idp: IdentityProvider, settings: pytest.MonkeyPatch
) -> None:
    """The routes have a check of their own, in whichever order the two are added."""
    settings.setenv("PYWRY_OAUTH2__ISSUER_URL", idp.issuer)
    settings.setenv("PYWRY_OAUTH2__SCOPES", "openid offline_access")
    app = _with_forms(order, protect)
    browser = Browser(app.test_client(), SITE)
    browser.sign_in()
    assert browser.post("/form").status_code == 400
    if order == "own blueprint":
        assert browser.post("/auth/own").status_code == 400, "a view that the application added"
    found = re.search(r'value="([^"]+)"', browser.get("/form", html=True).text)
    assert found
    sent = {"csrf_token": found[1], "text": "note"}
    saved = browser.client.post("/form", base_url=SITE, data=sent)
    assert saved.text == "saved note for user-alice"
    cross = browser.client.post("/form", base_url=SITE, data=sent, headers={"Sec-Fetch-Site": "cross-site"})
    assert cross.status_code == 403
    assert browser.post("/auth/refresh").json["refreshed"] is True
    assert browser.post("/auth/logout", Sec_Fetch_Site="cross-site").status_code == 403
    assert browser.post("/auth/logout", html=True).status_code == 303
    assert browser.user is None


def test_a_decorator_of_the_application_exempts_no_view_from_flask_wtf() -> None:
    """Flask-WTF knows views by name, and such views have the name of the decorator's function."""

    def decorated(view: Callable[..., Any]) -> Callable[..., Any]:
        def run() -> Any:
            return view()

        return run

    app = Flask("site")
    app.secret_key = "a secret of the application"
    CSRFProtect(app)
    init_app(app)
    app.view_functions["auth.logout"] = decorated(app.view_functions["auth.logout"])
    app.add_url_rule("/own", "own", decorated(_text()), methods=["POST"])
    assert [_open(app, path, "POST").status_code for path in ("/auth/logout", "/own")] == [400, 400]
