"""``current_session`` and ``g.session``: one look-up, for one request only."""

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


def test_a_public_page_causes_no_look_up(make_web: Callable[..., Web], watched: WatchedBackend) -> None:
    browser = make_web(watched).browser()
    browser.sign_in()
    watched.forget()
    response = browser.get("/public")
    assert response.status_code == 200
    assert watched.operations == []
    assert "Vary" not in response.headers


@pytest.mark.parametrize("path", ["/members", "/who", "/auth/status", "/auth/userinfo"])
def test_a_page_causes_at_most_one_look_up(
    make_web: Callable[..., Web], watched: WatchedBackend, path: str
) -> None:
    browser = make_web(watched).browser()
    browser.sign_in()
    watched.forget()
    assert browser.get(path).status_code == 200
    assert watched.operations == ["get session"]


def test_a_visitor_without_a_cookie_causes_no_look_up(
    make_web: Callable[..., Web], watched: WatchedBackend
) -> None:
    browser = make_web(watched).browser()
    for path in ("/members", "/who", "/auth/status", "/auth/userinfo"):
        browser.get(path)
    assert watched.operations == []


def test_an_unknown_session_is_also_looked_up_once(
    make_web: Callable[..., Web], watched: WatchedBackend
) -> None:
    web = make_web(watched)
    browser = web.browser()
    browser.sign_in()
    web.sessions.delete_user_sessions("user-alice")
    watched.forget()
    assert browser.get("/who").json == {"user_id": None, "again": False}
    assert watched.operations == ["get session"]


def test_a_page_that_used_the_session_is_for_this_visitor_only(web: Web) -> None:
    """Also if no user is signed in, and if a guard refused. [T30]"""
    browser = web.browser()
    for _ in range(2):
        for path in ("/who", "/members"):
            vary = {name.strip() for name in browser.get(path).headers["Vary"].split(",")}
            assert vary >= {"Cookie", "Authorization"}
        browser.sign_in()


def test_requests_in_one_application_context_have_separate_sessions(web: Web) -> None:
    """An application context may outlive a request; a session must not. [T32]"""
    alice, bob, visitor = web.browser(), web.browser(), web.browser()
    alice.sign_in()
    bob.sign_in(username="bob")
    with web.app.app_context():
        for _ in range(2):
            assert alice.get("/who").json["user_id"] == "user-alice"
            assert visitor.get("/who").json["user_id"] is None
            assert bob.get("/who").json["user_id"] == "user-bob"
            assert visitor.get("/members").status_code == 401


def test_simultaneous_users_are_never_confused(web: Web) -> None:
    """Each request gets its own user's session. [T32]"""
    tokens = [issue_session_token(web.sessions, f"user-{number}", ["viewer"]) for number in range(32)]

    def ask(number: int) -> set[str]:
        browser = web.browser()
        headers = {"Authorization": f"Bearer {tokens[number]}"}
        return {
            browser.get(path, html=False, **headers).json["user_id"] for path in ("/who", "/members") * 20
        }

    assert together(32, ask) == [{f"user-{number}"} for number in range(32)]


def test_after_a_logout_the_same_request_has_no_session(web: Web) -> None:
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


def test_a_view_can_compare_g_session_with_none(web: Web) -> None:
    """The comparison works as a check. [T28]"""
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


def test_an_application_can_assign_its_own_g_session(web: Web) -> None:
    app: Flask = web.app

    @app.get("/own")
    def own() -> str:
        g.session = "the database's"
        return f"{g.session}, {bool(current_session)}"

    browser = web.browser()
    browser.sign_in()
    assert browser.get("/own").text == "the database's, True"


def test_a_session_expires(make_web: Callable[..., Web]) -> None:
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


def test_an_unused_session_expires_sooner(make_web: Callable[..., Web]) -> None:
    """``SESSION_IDLE_TTL`` also applies to a store that the application passes. [S3]"""
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


def test_a_store_outage_is_not_taken_for_a_missing_session(
    make_web: Callable[..., Web], watched: WatchedBackend
) -> None:
    """The look-up raises an error. [P15]"""
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


def test_without_the_blueprint_the_error_names_it() -> None:
    app = Flask("bare")

    @app.get("/members")
    @login_required
    def members() -> str:
        return "in"

    with app.test_request_context("/"), pytest.raises(AuthenticationError, match="init_app"):
        bool(current_session)
    app.testing = True
    with pytest.raises(AuthenticationError, match="init_app"):
        app.test_client().get("/members")
    app.testing = False
    assert app.test_client().get("/members").status_code == 500


def test_api_clients_can_use_another_header(make_web: Callable[..., Web]) -> None:
    config = AuthConfig(enabled=True, token_secret=SECRET, auth_header="X-Session")
    web = make_web(config=config)
    token = issue_session_token(web.sessions, "robot")
    browser = web.browser()
    assert browser.get("/who", X_Session=f"Bearer {token}").json["user_id"] == "robot"
    assert browser.get("/who", Authorization=f"Bearer {token}").json["user_id"] is None
    assert "X-Session" in browser.get("/who").headers["Vary"]


def test_flasks_own_session_is_not_used(web: Web) -> None:
    web.app.secret_key = "another"
    browser = web.browser()
    answers = [browser.sign_in(), browser.get("/members"), browser.post("/auth/logout")]
    assert {name for answer in answers for name in set_cookies(answer)} == {
        "pywry_session",
        "pywry_session_logout",
    }
    assert browser.cookie("session") is None
