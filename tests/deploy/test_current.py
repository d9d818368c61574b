"""``current_session`` and ``g.session``: looked up when first asked for, once, and for this request alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import time_machine
from flask import Flask, Response, g

from pywry_auth.backends.memory import MemoryBackend
from pywry_auth.exceptions import AuthenticationError, StoreUnavailable
from pywry_auth.flask import current_session, login_required
from pywry_auth.models import UserSession
from pywry_auth.state.auth import AuthConfig
from pywry_auth.state.sessions import issue_session_token
from tests.backends.threads import together
from tests.deploy.web import SECRET, WatchedBackend, Web, set_cookies


@pytest.fixture
def watched() -> WatchedBackend:
    return WatchedBackend(MemoryBackend())


def test_a_public_page_costs_nothing(make_web: Callable[..., Web], watched: WatchedBackend) -> None:
    browser = make_web(watched).browser()
    browser.sign_in()
    watched.forget()
    response = browser.get("/public")
    assert response.status_code == 200
    assert watched.operations == []
    assert "Vary" not in response.headers


@pytest.mark.parametrize("path", ["/members", "/who", "/auth/status", "/auth/userinfo"])
def test_a_page_that_asks_costs_one_look_up_however_often_it_asks(
    make_web: Callable[..., Web], watched: WatchedBackend, path: str
) -> None:
    browser = make_web(watched).browser()
    browser.sign_in()
    watched.forget()
    assert browser.get(path).status_code == 200
    assert watched.operations == ["get session"]


def test_a_visitor_without_a_cookie_costs_nothing(
    make_web: Callable[..., Web], watched: WatchedBackend
) -> None:
    browser = make_web(watched).browser()
    for path in ("/members", "/who", "/auth/status", "/auth/userinfo"):
        browser.get(path)
    assert watched.operations == []


def test_nobody_is_looked_up_once_too(make_web: Callable[..., Web], watched: WatchedBackend) -> None:
    web = make_web(watched)
    browser = web.browser()
    browser.sign_in()
    web.sessions.delete_user_sessions("user-alice")
    watched.forget()
    assert browser.get("/who").json == {"user_id": None, "again": False}
    assert watched.operations == ["get session"]


def test_a_page_that_looked_is_for_this_visitor_alone(web: Web) -> None:
    """T30: also where nobody is signed in, and where a guard refused."""
    browser = web.browser()
    for _ in range(2):
        for path in ("/who", "/members"):
            vary = {name.strip() for name in browser.get(path).headers["Vary"].split(",")}
            assert vary >= {"Cookie", "Authorization"}
        browser.sign_in()


def test_requests_in_one_application_context_do_not_see_each_others_user(web: Web) -> None:
    """T32: an application context may outlive a request; a session may not."""
    alice, bob, nobody = web.browser(), web.browser(), web.browser()
    alice.sign_in()
    bob.sign_in(username="bob")
    with web.app.app_context():
        for _ in range(2):
            assert alice.get("/who").json["user_id"] == "user-alice"
            assert nobody.get("/who").json["user_id"] is None
            assert bob.get("/who").json["user_id"] == "user-bob"
            assert nobody.get("/members").status_code == 401


def test_many_users_at_once_are_never_mixed(web: Web) -> None:
    """T32."""
    tokens = [issue_session_token(web.sessions, f"user-{number}", ["viewer"]) for number in range(32)]

    def ask(number: int) -> set[str]:
        browser = web.browser()
        headers = {"Authorization": f"Bearer {tokens[number]}"}
        return {
            browser.get(path, html=False, **headers).json["user_id"] for path in ("/who", "/members") * 20
        }

    assert together(32, ask) == [{f"user-{number}"} for number in range(32)]


def test_after_a_logout_in_the_same_request_nobody_is_signed_in(web: Web) -> None:
    seen: list[bool] = []
    app: Flask = web.app

    @app.after_request
    def look(response: Response) -> Response:
        seen.append(bool(current_session))
        return response

    browser = web.browser()
    browser.sign_in()
    seen.clear()
    browser.post("/auth/logout")
    assert seen == [False]


def test_a_view_that_asks_whether_g_session_is_none_keeps_nobody_in(web: Web) -> None:
    """T28: what reads like a check is one."""
    seen: list[object] = []
    app: Flask = web.app

    @app.get("/strict")
    def strict() -> str:
        seen.append(g.session)
        return "out" if g.session is None else "in"

    browser = web.browser()
    assert browser.get("/strict").text == "out"
    browser.sign_in()
    assert browser.get("/strict").text == "in"
    assert seen[0] is None
    assert isinstance(seen[1], UserSession)


def test_an_application_may_have_a_g_session_of_its_own(web: Web) -> None:
    app: Flask = web.app

    @app.get("/own")
    def own() -> str:
        g.session = "the database's"
        return f"{g.session}, {bool(current_session)}"

    browser = web.browser()
    browser.sign_in()
    assert browser.get("/own").text == "the database's, True"


def test_a_session_ends_when_its_time_is_over(make_web: Callable[..., Web]) -> None:
    config = AuthConfig(enabled=True, token_secret=SECRET, session_ttl=100)
    web = make_web(config=config)
    with time_machine.travel(1_900_000_000, tick=True) as clock:
        browser = web.browser()
        response = browser.sign_in()
        assert "Max-Age=100;" in response.headers["Set-Cookie"]
        clock.shift(95)
        assert browser.user == "user-alice"
        clock.shift(10)
        assert browser.user is None
        assert browser.get("/members").status_code == 401


def test_a_session_that_nobody_uses_ends_sooner(make_web: Callable[..., Web]) -> None:
    """S3: ``SESSION_IDLE_TTL`` holds for a store that the application brought along, too."""
    web = make_web(settings={"session_idle_ttl": 100})
    with time_machine.travel(1_900_000_000, tick=True) as clock:
        browser = web.browser()
        browser.sign_in()
        for _ in range(3):
            clock.shift(95)
            assert browser.get("/members").status_code == 200
        clock.shift(105)
        assert browser.user is None
        assert browser.get("/members").status_code == 401


def test_a_store_that_is_down_is_not_taken_for_nobody(
    make_web: Callable[..., Web], watched: WatchedBackend
) -> None:
    """P15: the question has no answer then."""
    web = make_web(watched)
    browser = web.browser()
    browser.sign_in()
    watched.fails = lambda number: True
    environ = {"Cookie": f"pywry_session={browser.cookie()}"}
    with web.app.test_request_context("/", headers=environ):
        for ask in (
            lambda: bool(current_session),
            lambda: current_session.user_id,  # type: ignore[union-attr]  # the store fails first
            lambda: g.session is None,
        ):
            with pytest.raises(StoreUnavailable):
                ask()


def test_an_application_without_the_blueprint_says_so() -> None:
    app = Flask("bare")

    @app.get("/members")
    @login_required
    def members() -> str:
        return "in"

    with app.test_request_context("/"), pytest.raises(AuthenticationError, match="create_auth_blueprint"):
        bool(current_session)
    app.testing = True
    with pytest.raises(AuthenticationError, match="register"):
        app.test_client().get("/members")
    app.testing = False
    assert app.test_client().get("/members").status_code == 500


def test_another_header_for_api_clients(make_web: Callable[..., Web]) -> None:
    config = AuthConfig(enabled=True, token_secret=SECRET, auth_header="X-Session")
    web = make_web(config=config)
    token = issue_session_token(web.sessions, "robot")
    browser = web.browser()
    assert browser.get("/who", X_Session=f"Bearer {token}").json["user_id"] == "robot"
    assert browser.get("/who", Authorization=f"Bearer {token}").json["user_id"] is None
    assert "X-Session" in browser.get("/who").headers["Vary"]


def test_flasks_own_session_is_not_touched(web: Web) -> None:
    web.app.secret_key = "another"
    browser = web.browser()
    answers = [browser.sign_in(), browser.get("/members"), browser.post("/auth/logout")]
    assert {name for answer in answers for name in set_cookies(answer)} == {"pywry_session"}
    assert browser.cookie("session") is None
