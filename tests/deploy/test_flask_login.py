"""Flask-Login on top of the session."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask import session as own_session
from flask_login import (  # type: ignore[import-untyped]
    LoginManager,
    UserMixin,
    current_user,
    login_required,
    login_user,
    logout_user,
    user_unauthorized,
)
from markupsafe import escape

from pywry_auth.backends.memory import MemoryBackend
from pywry_auth.flask import current_session
from pywry_auth.flask_login import init_login_manager
from pywry_auth.models import UserSession
from pywry_auth.state.sessions import issue_session_token
from tests.backends.threads import together
from tests.deploy.web import Browser, SiteResponse, WatchedBackend, Web

MakeWeb = Callable[..., Web]


class User(UserMixin):  # type: ignore[misc]
    """A user of the application's own table."""

    def __init__(self, user_id: str) -> None:
        self.id = user_id


def load(session: UserSession) -> User | None:
    return None if session.user_id == "user-bob" else User(session.user_id)


def connect(web: Web, manager: LoginManager | None = None, load_user: Any = load) -> LoginManager:
    """Add Flask-Login and its views to an application."""
    app: Flask = web.app
    app.secret_key = "a secret for tests"
    manager = LoginManager() if manager is None else manager
    manager.init_app(app)
    init_login_manager(manager, load_user)

    @app.get("/me")
    def me() -> str:
        return str(escape(current_user.get_id() or "anonymous"))

    @app.route("/mine", methods=["GET", "POST"])
    @login_required  # type: ignore[untyped-decorator]
    def mine() -> str:
        return me()

    @app.get("/leave")
    def leave() -> str:
        logout_user()
        return me()

    @app.get("/password/<user_id>")
    def password(user_id: str) -> str:
        login_user(User(user_id), remember=True)
        return me()

    @app.get("/kept")
    def kept() -> str:
        return str(escape(own_session.get("_user_id", "nothing")))

    return manager


def own_users(manager: LoginManager) -> None:
    manager.user_loader(lambda user_id: User(user_id) if user_id == "carol" else None)


@pytest.mark.parametrize("how", ["other browser", "store", "sign-out"])
def test_the_user_is_that_of_the_session_and_ends_with_it(web: Web, how: str) -> None:
    """Flask's own session keeps nothing."""
    connect(web)
    browser = web.browser()
    assert browser.get("/me").text == "anonymous"
    browser.sign_in("/auth/login?next=/mine")
    assert browser.get("/me").text == browser.get("/mine").text == "user-alice"
    assert browser.get("/kept").text == "nothing"
    assert browser.get("/leave").text == "user-alice", "logout_user() does not end the session"
    if how == "store":
        web.sessions.delete_user_sessions("user-alice")
    elif how == "sign-out":
        browser.post("/auth/logout")
    else:
        browser = web.browser()
    assert browser.get("/me").text == "anonymous"
    assert browser.get("/mine", html=False).status_code == 401


def test_a_visitor_is_sent_to_the_login_and_returned(web: Web) -> None:
    connect(web)
    sent: list[object] = []
    note = sent.append
    user_unauthorized.connect(note, sender=web.app)
    browser = web.browser()
    assert browser.get("/mine?page=2", html=True).location == "/auth/login?next=%2Fmine%3Fpage%3D2"
    assert browser.sign_in("/auth/login?next=/mine?page%3D2").location == "http://127.0.0.1/mine?page=2"
    visitor = web.browser()
    script = visitor.get("/mine")
    assert (script.status_code, script.json["error"]) == (401, "login_required")
    form = visitor.post("/mine", html=True, Sec_Fetch_Mode="navigate")
    assert (form.status_code, "the form was not saved" in form.text) == (401, True)
    assert visitor.client.open("/mine", method="OPTIONS").status_code == 200
    assert sent == [web.app] * 3


def test_a_guard_of_every_view_leaves_the_routes_open(web: Web) -> None:
    connect(web)
    web.app.before_request(login_required(lambda: None))
    browser = web.browser()
    assert browser.get("/public", html=True).location == "/auth/login?next=%2Fpublic"
    browser.sign_in("/auth/login?next=/public")
    assert browser.get("/public").text == "for all visitors"


def test_a_login_view_and_a_handler_of_the_application_stay(make_web: MakeWeb) -> None:
    with_view, with_handler = LoginManager(), LoginManager()
    with_view.login_view = "public"
    with_handler.unauthorized_handler(lambda: ("own", 401))
    first, second = make_web(), make_web()
    connect(first, with_view)
    connect(second, with_handler)
    assert (first.browser().get("/mine", html=True).location or "").startswith("/public?next=")
    assert second.browser().get("/mine").text == "own"


def test_a_user_whom_the_application_does_not_know_is_anonymous(web: Web) -> None:
    connect(web)
    browser = web.browser()
    browser.sign_in(username="bob")
    assert (browser.user, browser.get("/me").text) == ("user-bob", "anonymous")


def test_an_error_of_the_application_is_its_own(web: Web) -> None:
    def fails(session: UserSession) -> User:
        raise LookupError(session.user_id)

    connect(web, load_user=fails)
    browser = web.browser()
    assert browser.get("/me").text == "anonymous"
    browser.sign_in()
    assert browser.get("/me").status_code == 500
    assert browser.user == "user-alice"


def test_a_sign_in_by_password_continues_until_one_at_the_provider(web: Web) -> None:
    """The cookie that remembers the user ends too."""
    own_users(connect(web))
    browser = web.browser()
    assert browser.get("/password/carol").text == "carol"
    assert (browser.get("/me").text, browser.user) == ("carol", None)
    browser.client.delete_cookie("session", domain="127.0.0.1")
    assert browser.get("/me").text == "carol", "remembered"
    assert browser.cookie("remember_token")
    browser.sign_in()
    assert browser.get("/me").text == browser.user == "user-alice"
    assert not browser.cookie("remember_token")
    browser.post("/auth/logout")
    assert browser.get("/me").text == "anonymous"


def test_a_sign_in_at_the_provider_ends_one_by_password_although_the_loaders_fail(make_web: MakeWeb) -> None:
    """The table of users may be away for a moment, or the manager's own loader of requests may come later."""
    is_away = False

    def find(user_id: str) -> User:
        if is_away:
            raise LookupError(user_id)
        return User(user_id)

    for late in (False, True):
        web = make_web()
        manager = connect(web)
        manager.user_loader(find)
        if late:
            manager.request_loader(lambda request: None)
        browser = web.browser()
        browser.get("/password/carol")
        callback = browser.authorize()
        is_away = not late
        assert browser.get(callback).status_code == 303
        is_away = False
        assert (browser.get("/me").text, browser.user) == ("user-alice", "user-alice")
        assert not browser.cookie("remember_token")


def test_a_sign_in_by_password_ends_the_session(web: Web) -> None:
    """The tokens are revoked with it, as at a sign-out. Only this browser is concerned."""
    own_users(connect(web))
    browser, other, stranger = web.browser(), web.browser(), web.browser()
    for each in (browser, other):
        each.sign_in()
    kept = browser.cookie()
    browser.get("/password/carol")
    assert (browser.get("/me").text, browser.user, browser.cookie()) == ("carol", None, None)
    browser.plant("pywry_session", kept or "")
    assert browser.user is None, "the session has ended in the store"
    assert other.user == "user-alice"
    assert web.tokens.load("user-alice"), "the other browser needs them"
    other.get("/password/carol")
    assert (web.tokens.load("user-alice"), web.calls()["revoke"]) == (None, 2)
    stranger.get("/password/carol")
    assert stranger.get("/me").text == "carol"
    browser.sign_in()
    assert browser.get("/me").text == browser.user == "user-alice"


def test_the_request_of_a_sign_in_by_password_has_one_user(web: Web) -> None:
    own_users(connect(web))
    app: Flask = web.app

    @app.get("/both")
    def both() -> list[str | None]:
        before = current_session.user_id if current_session else None
        login_user(User("carol"))
        return [before, current_session.user_id if current_session else None, current_user.get_id()]

    browser = web.browser()
    browser.sign_in()
    assert browser.get("/both").json == ["user-alice", None, "carol"]
    assert (browser.user, browser.get("/me").text) == (None, "carol")
    assert browser.get("/both").json == [None, None, "carol"]


def test_sign_ins_in_many_threads_have_one_user_each(web: Web) -> None:
    own_users(connect(web))
    callbacks = []
    for _ in range(6):
        browser = web.browser()
        callbacks.append((browser, browser.authorize()))

    def sign_in(number: int) -> tuple[str, str | None]:
        browser, callback = callbacks[number]
        browser.get("/password/carol")
        browser.get(callback)
        if number % 2:
            browser.get("/password/carol")
        return browser.get("/me").text, browser.user

    assert together(6, sign_in) == [("user-alice", "user-alice"), ("carol", None)] * 3


def test_a_browser_with_two_sign_ins_keeps_that_at_the_provider(web: Web) -> None:
    """A form of another site sends a password, without the cookies of this package."""
    own_users(connect(web))
    browser, without_cookies = web.browser(), web.browser()
    browser.sign_in()
    without_cookies.get("/password/carol")
    browser.plant("session", without_cookies.cookie("session") or "")
    assert (browser.get("/me").text, browser.user) == ("user-alice", "user-alice")
    browser.plant("pywry_session", "")
    assert browser.get("/me").text == "anonymous", "the sign-in by password has ended"


def test_during_an_outage_a_sign_in_by_password_takes_the_cookie_away(
    make_web: MakeWeb, caplog: pytest.LogCaptureFixture
) -> None:
    """Otherwise the session would be back afterwards, beside the other user."""
    watched = WatchedBackend(MemoryBackend())
    web = make_web(watched)
    own_users(connect(web))
    browser = web.browser()
    browser.sign_in()
    watched.fails = lambda number: True
    assert browser.get("/password/carol").text == "carol"
    watched.fails = lambda number: False
    assert (browser.user, browser.get("/me").text) == (None, "carol")
    assert "lost its session at login_user()" in caplog.text


def test_a_sign_in_by_password_works_without_https(web: Web) -> None:
    """There the provider's sign-in is refused, but the application's own may be allowed."""
    own_users(connect(web))
    response = web.client().get("/password/carol", base_url="http://site.example.com")
    assert (response.status_code, response.text) == (200, "carol")


def test_a_bearer_token_stays(web: Web) -> None:
    """An API client does not sign in by password, but a function of the application may call this for it."""
    own_users(connect(web))
    token = issue_session_token(web.sessions, "robot")
    browser = web.browser()
    for _ in range(2):
        assert browser.get("/password/carol", Authorization=f"Bearer {token}").status_code == 200
        assert browser.get("/members", Authorization=f"Bearer {token}").json["user_id"] == "robot"


@pytest.mark.parametrize("login_view", ["", "auth.login"])
@pytest.mark.parametrize("user", [None, "inactive"])
def test_a_user_without_an_account_is_refused_and_not_sent_to_the_login_again(
    web: Web, user: str | None, login_view: str
) -> None:
    """The provider would return the same user at once, and so on without an end."""

    class Inactive(User):
        is_active = False

    manager = connect(web, load_user=lambda session: Inactive(user) if user else None)
    manager.login_view = login_view or None
    browser = web.browser()
    assert browser.get("/mine", html=True).status_code == 302
    browser.sign_in()
    page = browser.get("/mine", html=True, Sec_Fetch_Mode="navigate")
    assert (page.status_code, "Use another account" in page.text) == (403, True)
    assert browser.get("/mine").json["error"] == "access_denied"


def test_a_login_view_may_be_set_later(web: Web) -> None:
    manager = connect(web)
    manager.login_view = "public"
    assert (web.browser().get("/mine", html=True).location or "").startswith("/public?next=")


def test_requests_in_one_application_context_have_their_own_users(web: Web) -> None:
    """A fixture of many test suites pushes such a context."""
    connect(web)
    alice, bob = web.browser(), web.browser()
    with web.app.app_context():
        assert alice.get("/me").text == "anonymous"
        alice.sign_in()
        assert alice.get("/me").text == "user-alice"
        assert bob.get("/me").text == "anonymous"


@pytest.mark.parametrize("cookie", ["carol|wrong", "nothing", "dave"])
@pytest.mark.parametrize("with_users", [True, False])
def test_an_invalid_cookie_that_remembers_a_user_does_not_hide_the_session(
    web: Web, cookie: str, with_users: bool
) -> None:
    """Otherwise the browser would go back and forth between the site and the provider."""
    manager = connect(web)
    if with_users:
        own_users(manager)
    browser = web.browser()
    browser.sign_in()
    if cookie == "dave":  # signed, but the user is gone
        other = web.browser()
        other.get("/password/dave")
        cookie = other.cookie("remember_token") or ""
    browser.plant("remember_token", cookie)
    for _ in range(2):
        assert browser.get("/mine").text == "user-alice"


def test_an_earlier_request_loader_comes_first(web: Web) -> None:
    manager = LoginManager()
    manager.request_loader(lambda request: User("robot") if request.headers.get("X-Key") == "key" else None)
    connect(web, manager)
    browser = web.browser()
    browser.sign_in()
    assert (browser.get("/me", X_Key="key").text, browser.get("/me").text) == ("robot", "user-alice")


def test_several_applications_share_a_manager(make_web: MakeWeb) -> None:
    """A factory calls ``init_login_manager`` for each application."""
    manager = LoginManager()
    asked: list[str] = []

    def count(session: UserSession) -> None:
        asked.append(session.user_id)

    sites = [make_web(), make_web()]
    for site in sites:
        connect(site, manager, count)
    browser = sites[0].browser()
    browser.sign_in()
    assert browser.get("/me").text == "anonymous"
    assert len(asked) <= 2, "the first call is replaced"
    assert sites[1].browser().get("/me").text == "anonymous"


def test_the_manager_may_come_before_the_routes(make_web: MakeWeb) -> None:
    app = Flask("early")
    manager = LoginManager(app)
    init_login_manager(manager, load)
    web = make_web()
    app.register_blueprint(web.app.blueprints["auth"])

    @app.get("/me")
    @login_required  # type: ignore[untyped-decorator]
    def me() -> str:
        return str(escape(current_user.get_id()))

    browser = Browser(app.test_client(), web.base_url)
    browser.sign_in("/auth/login?next=/me")
    assert browser.get("/me").text == "user-alice", "also without a secret key"


def test_during_an_outage_pages_are_not_available(make_web: MakeWeb) -> None:
    watched = WatchedBackend(MemoryBackend())
    web = make_web(watched)
    connect(web)
    browser = web.browser()
    browser.sign_in()
    watched.fails = lambda number: True
    responses: list[SiteResponse] = [browser.get(path) for path in ("/me", "/mine")]
    assert [response.status_code for response in responses] == [503, 503]
    assert web.browser().get("/me").text == "anonymous"


def test_the_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "pywry_auth.flask_login")
    monkeypatch.setitem(sys.modules, "flask_login", None)
    with pytest.raises(ImportError, match="pip install flask-login"):
        __import__("pywry_auth.flask_login")
