"""The user's access token in a view of Flask and FastAPI."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Annotated, Any

import pytest
import time_machine
from fastapi import Depends
from flask import copy_current_request_context, render_template_string, request, stream_with_context
from flask.views import MethodView
from werkzeug.wrappers import Response

from pywry_auth.asgi import access_token
from pywry_auth.backends.memory import MemoryBackend
from pywry_auth.exceptions import AuthenticationError, TokenError
from pywry_auth.flask import (
    SignInDecision,
    get_access_token,
    login_required,
    request_session,
    token_refreshed,
)
from pywry_auth.models import OAuthTokenSet
from pywry_auth.providers.oidc import GenericOIDCProvider
from pywry_auth.state.sessions import issue_session_token
from pywry_auth.testing.identity_provider import IdentityProvider, User
from tests.backends.threads import together
from tests.deploy.hosts import FLASK, HOSTS, Host
from tests.deploy.web import CLIENT_SECRET, SITE_CLIENT, Browser, SiteResponse, WatchedBackend, Web
from tests.faults import Faults
from tests.waiting import await_threads

USER = "user-alice"
_SECONDS = 20
_CLAIMS = {"sub": USER, "email": "alice@corp.example", "email_verified": True, "groups": ["eng"]}
_RULES: dict[str, Any] = {"roles_claim": "groups", "role_map": {"eng": "editor"}}


class House:
    """Sites at one provider, and the clock."""

    def __init__(self, idp: IdentityProvider, faults: Faults, claims: dict[str, Any], clock: Any) -> None:
        self.idp, self.faults, self.claims, self._clock = idp, faults, claims, clock

    def web(self, host: Host = FLASK, backend: Any = None, **settings: Any) -> Web:
        """Return a site with the view ``/token``, and in Flask also ``/call``."""
        provider = GenericOIDCProvider("site", CLIENT_SECRET, ["openid", "email"], issuer_url=self.idp.issuer)
        backend = MemoryBackend() if backend is None else backend
        web = Web(self.idp, backend, settings, host=host, provider=provider)
        if host.fastapi:
            web.app.add_api_route("/token", _echo, methods=["GET", "POST"])
        else:
            web.app.add_url_rule(
                "/token", "token", lambda: json.dumps(get_access_token()), methods=["GET", "POST"]
            )
            web.app.add_url_rule("/call", "call", lambda: str(self.call().status_code))
        return web

    def call(self) -> Any:
        """Call the provider's API with the user's token."""
        return request_session(self.idp.issuer).get(f"{self.idp.issuer}/userinfo")

    def signed_in(self, web: Web, later: float = 100.0) -> Browser:
        """Return a browser that signed in some seconds ago."""
        browser = web.browser()
        browser.sign_in()
        self.pass_time(later)
        return browser

    def pass_time(self, seconds: float) -> None:
        """Let time pass."""
        self._clock.shift(seconds)

    def expire(self, web: Web, in_seconds: float = -1.0, **changes: Any) -> OAuthTokenSet:
        """Let the stored access token expire in some seconds."""
        tokens = stored(web)
        assert tokens.expires_in is not None
        old = replace(tokens, issued_at=time.time() + in_seconds - tokens.expires_in, **changes)
        assert web.tokens.replace(USER, old, tokens)
        return old

    @contextmanager
    def hanging(self) -> Iterator[threading.Event]:
        """Let the token endpoint say nothing during the block; the event tells that it was called."""
        called, over = threading.Event(), threading.Event()

        def hang(path: str) -> None:
            if path == "/token":
                called.set()
                assert over.wait(_SECONDS)

        self.faults.before = hang
        try:
            yield called
        finally:
            over.set()
            self.faults.before = lambda path: None

    def refuse(self) -> None:
        """Let the provider end each grant at a refresh."""
        self.faults.answers["/token"] = (400, "application/json", b'{"error": "invalid_grant"}')


async def _echo(token: Annotated[str, Depends(access_token)]) -> str:
    return token


def stored(web: Web) -> OAuthTokenSet:
    """Return the user's stored tokens."""
    tokens = web.tokens.load(USER)
    assert tokens is not None
    return tokens


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[IdentityProvider, Faults, dict[str, Any]]]:
    claims: dict[str, Any] = {}
    user = User("alice", "wonderland", claims)
    with IdentityProvider(users=[user], clients=[SITE_CLIENT], signing_algorithm="ES256") as idp:
        yield idp, Faults(idp), claims


@pytest.fixture
def house(running: tuple[IdentityProvider, Faults, dict[str, Any]]) -> Iterator[House]:
    idp, faults, claims = running
    claims.clear()
    claims.update(_CLAIMS)
    with time_machine.travel(1_900_000_000, tick=True) as clock:
        yield House(idp, faults, claims, clock)
    faults.answers.clear()


@pytest.fixture(params=[HOSTS[0], HOSTS[1]], ids=lambda host: host.name)
def web(request: pytest.FixtureRequest, house: House) -> Web:
    """A site in Flask, and one in FastAPI."""
    return house.web(request.param)


@contextmanager
def _refreshed_in_background() -> Iterator[None]:
    """Wait at the end of the block until tokens were refreshed, and the thread has ended."""
    done = threading.Event()

    def receive(sender: object, **facts: Any) -> None:
        done.set()

    with token_refreshed.connected_to(receive):
        yield
        assert done.wait(_SECONDS)
    _await_threads()


def _await_threads() -> None:
    await_threads("pywry-auth-early-refresh", seconds=_SECONDS)


def test_a_valid_token_costs_one_read(house: House) -> None:
    backend = WatchedBackend(MemoryBackend())
    web = house.web(backend=backend)
    browser = house.signed_in(web)
    backend.forget()
    assert browser.get("/token").get_json(force=True) == stored(web).access_token
    assert backend.operations[:2] == ["get session", "get oauth"]
    assert len(backend.operations) == 3, "the test's own read is the third"


def test_many_requests_with_an_expired_token_cause_one_call(house: House, web: Web) -> None:
    """All get the new token. The refresh limit does not concern them. [T44]"""
    browser = house.signed_in(web)
    old = house.expire(web)
    before = web.calls()["token"]
    cookie = browser.cookie()
    assert cookie

    def ask(number: int) -> str:
        other = web.browser()
        other.plant("pywry_session", cookie)
        return str(other.get("/token").get_json(force=True))

    got = set(together(12, ask))
    assert got == {stored(web).access_token} != {old.access_token}
    assert web.calls()["token"] - before == 1


def test_a_token_that_is_about_to_expire_is_refreshed_in_the_background(house: House, web: Web) -> None:
    """A provider that hangs delays no view with a valid token. [T44]"""
    browser = house.signed_in(web)
    old = house.expire(web, 30)
    before = web.calls()["token"]
    with _refreshed_in_background(), house.hanging() as called:
        for _ in range(3):
            assert browser.get("/token").get_json(force=True) == old.access_token
            assert called.wait(_SECONDS)
    assert web.calls()["token"] - before == 1
    assert stored(web).access_token != old.access_token
    assert browser.get("/token").get_json(force=True) == stored(web).access_token


def test_a_failed_refresh_in_the_background_is_not_repeated_by_each_request(house: House) -> None:
    web = house.web()
    browser = house.signed_in(web)
    old = house.expire(web, 30)
    house.faults.down("/token")
    before = web.calls()["token"]
    for _ in range(4):
        assert browser.get("/token").get_json(force=True) == old.access_token
        _await_threads()
    assert web.calls()["token"] - before == 1
    house.pass_time(27)
    assert browser.get("/token").get_json(force=True) == old.access_token, "it lasts for three seconds"
    house.pass_time(5)
    response = browser.get("/token")
    assert (response.status_code, response.json["error"]) == (502, "provider_unreachable")
    house.faults.answers.clear()
    house.pass_time(3)
    assert browser.get("/token").get_json(force=True) == stored(web).access_token != old.access_token


@pytest.mark.parametrize(
    ("code", "headers", "pause"),
    [(500, {}, 2), (401, {}, 2), (429, {"Retry-After": "40"}, 40), (429, {"Retry-After": "9999"}, 300)],
)
def test_after_a_failure_no_view_asks_the_provider_too_early(
    house: House, code: int, headers: dict[str, str], pause: int
) -> None:
    """Views with an expired token get the same failure until then. [T44]"""
    web = house.web()
    browser = house.signed_in(web)
    house.expire(web)
    body = b'{"error": "invalid_client"}' if code == 401 else b"{}"
    house.faults.answers["/token"] = lambda _: Response(body, code, headers, mimetype="application/json")
    before = web.calls()["token"]
    answers = [browser.get("/token") for _ in range(5)]
    seen = {
        (answer.status_code, answer.json["error"], answer.json["error_description"]) for answer in answers
    }
    assert len(seen) == 1
    house.pass_time(pause - 1.5)
    browser.get("/token")
    assert web.calls()["token"] - before == 1
    house.pass_time(3)
    browser.get("/token")
    assert web.calls()["token"] - before == 2
    house.faults.answers.clear()
    browser.sign_in()
    house.expire(web)
    assert browser.get("/token").status_code == 200, "the tokens of another sign-in need not wait"


def test_a_provider_that_gives_no_token_gets_502_or_503(
    house: House, web: Web, caplog: pytest.LogCaptureFixture
) -> None:
    """The visitor gets a sentence without names of settings, and the log has the reason."""
    browser = house.signed_in(web)
    old = house.expire(web)
    house.faults.answers["/token"] = (401, "application/json", b'{"error": "invalid_client"}')
    page = browser.get("/token", html=True)
    assert page.status_code == 502
    assert "try again in a minute" in page.text
    assert "<h1>Not available at the moment</h1>" in page.text
    assert 'href="/token"' in page.text
    assert "invalid_client" in caplog.text
    assert (old.refresh_token or "") not in page.text + caplog.text
    house.pass_time(3)
    gate = web.provider.gate
    with gate.slot():
        for _ in range(3):
            gate.timed_out()
    response = browser.get("/token")
    assert (response.status_code, response.json["error"]) == (503, "temporarily_unavailable")
    assert 1 <= int(response.headers["Retry-After"]) <= 300
    assert stored(web) == old
    assert browser.user == USER


def test_a_visitor_is_sent_to_sign_in_and_comes_back(house: House, web: Web) -> None:
    browser = web.browser()
    response = browser.get("/token")
    assert (response.status_code, response.json["error"]) == (401, "login_required")
    page = browser.get("/token?page=2", html=True)
    assert (page.status_code, page.location) == (302, "/auth/login?next=%2Ftoken%3Fpage%3D2")
    assert browser.sign_in(page.location).location.endswith("/token?page=2")
    assert browser.get("/token").get_json(force=True) == stored(web).access_token


def test_the_end_of_the_grant_requires_a_new_sign_in(
    house: House, web: Web, caplog: pytest.LogCaptureFixture
) -> None:
    """The session ends. A script gets 401, and a navigation goes to the sign-in and back. [S8]

    The log has the provider's reason, in one line.
    """
    other, browser = house.signed_in(web), house.signed_in(web)
    house.expire(web)
    house.refuse()
    response = browser.get("/token")
    assert (response.status_code, response.json["error"]) == (401, "reauth_required")
    assert response.headers["WWW-Authenticate"].startswith("Bearer")
    house.faults.answers.clear()
    assert browser.user is None
    assert caplog.text.count("invalid_grant") == 1
    assert "WARNING" in next(line for line in caplog.text.splitlines() if "invalid_grant" in line)
    page = other.get("/token", html=True)
    assert (page.status_code, page.location) == (302, "/auth/login?next=%2Ftoken")
    form = other.post("/token", html=True, Referer=f"{web.base_url}/token")
    assert form.status_code == 401
    assert "may not have been saved" in form.text
    assert "/auth/login?next=%2Ftoken" in form.text
    frame = other.get("/token", html=True, Sec_Fetch_Dest="iframe")
    assert frame.status_code == 401
    assert 'target="_top"' in frame.text
    assert other.sign_in(page.location).location.endswith("/token")
    assert other.get("/token").status_code == 200


def test_a_provider_without_refresh_tokens_causes_no_loop(
    house: House, web: Web, caplog: pytest.LogCaptureFixture
) -> None:
    """Right after a sign-in, the page offers to try again. Later, a sign-in may help."""
    browser = house.signed_in(web)
    house.expire(web, refresh_token=None)
    page = browser.get("/token", html=True)
    assert (page.status_code, page.location) == (302, "/auth/login?next=%2Ftoken")
    browser.sign_in(page.location)
    house.expire(web, refresh_token=None)
    page = browser.get("/token", html=True)
    assert page.status_code == 401
    assert page.location is None
    assert "You have just signed in" in page.text
    assert "<h1>Not available at the moment</h1>" in page.text
    assert '<a class="button" href="/token">Try again</a>' in page.text
    assert "offline_access" in caplog.text
    assert browser.get("/token").json["error"] == "reauth_required"
    house.pass_time(70)
    assert browser.get("/token", html=True).status_code == 401, "another machine's clock may be ahead"
    house.pass_time(30)
    assert browser.get("/token", html=True).status_code == 302


@pytest.mark.parametrize("ends", [True, False])
def test_a_grant_that_ends_soon_after_its_sign_in_is_no_loop(
    house: House, ends: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """The page offers the sign-in that helps."""
    web = house.web(refresh_refused_ends_sessions=ends)
    browser = house.signed_in(web, 1)
    house.expire(web)
    house.refuse()
    page = browser.get("/token", html=True)
    house.faults.answers.clear()
    assert page.status_code == 401
    assert page.location is None
    assert "<h1>Please sign in</h1>" in page.text
    assert '<a class="button" href="/auth/login?next=%2Ftoken">Sign in</a>' in page.text
    (refused,) = [each for each in caplog.records if "refused reference=" in each.getMessage()]
    assert (refused.levelno, "invalid_grant" in refused.getMessage()) == (logging.WARNING, True)
    browser.sign_in("/auth/login?next=%2Ftoken")
    assert browser.get("/token").status_code == 200


def test_tokens_of_another_client_are_not_used(house: House) -> None:
    web = house.web()
    browser = house.signed_in(web)
    house.expire(web, 1000, client_id="another")
    assert browser.get("/token").json["error"] == "reauth_required"
    assert stored(web).client_id == "another"


def test_an_account_that_lost_its_access_gets_403(house: House) -> None:
    """Its sessions end, and its tokens are revoked. [S7]"""
    web = house.web(allowed_email_domains=["corp.example"])
    browser = house.signed_in(web)
    house.claims["email"] = "alice@elsewhere.example"
    house.expire(web)
    page = browser.get("/token", html=True)
    assert page.status_code == 403
    assert "may not sign in here any more" in page.text
    assert browser.user is None
    assert web.tokens.load(USER) is None
    assert house.idp.calls["revoke"] >= 1


def test_an_unfinished_review_of_access_rules_is_finished(house: House) -> None:
    """A process ended between the refresh and the review. The next request with a valid token does it."""
    web = house.web(**_RULES)
    browser = house.signed_in(web)
    tokens = stored(web)
    house.claims["groups"] = []
    assert web.tokens.replace(USER, replace(tokens, scope="openid"), tokens, review="no claims")
    assert browser.get("/token").status_code == 200
    _await_threads()
    found = web.tokens.find(USER)
    assert found is not None
    assert not found.review
    assert browser.get("/auth/status").json["roles"] == ["viewer"]


def test_the_tokens_are_those_of_the_account(house: House) -> None:
    """The site gave the user an ID of its own. [S8]"""
    web = house.web()
    browser = house.signed_in(web)
    (session,) = web.sessions.list_user_sessions(USER)
    web.sessions.create_session(
        session.session_id,
        "user-7",
        ["viewer"],
        metadata=session.metadata,
        grant=session.grant,
        account=USER,
    )
    old = house.expire(web)
    assert browser.get("/token").get_json(force=True) == stored(web).access_token != old.access_token
    assert browser.user == "user-7"


def test_a_bearer_client_gets_the_tokens_of_its_user(house: House) -> None:
    web = house.web()
    house.signed_in(web)
    bearer = f"Bearer {issue_session_token(web.sessions, USER, ['viewer'])}"
    old = house.expire(web)
    assert web.browser().get("/token", Authorization=bearer).get_json(force=True) == stored(web).access_token
    assert stored(web).access_token != old.access_token
    bearer = f"Bearer {issue_session_token(web.sessions, 'report', ['viewer'])}"
    response = web.browser().get("/token", html=True, Authorization=bearer)
    assert response.status_code == 401
    assert "reauth_required" in response.text


@pytest.fixture(params=[HOSTS[0], HOSTS[1]], ids=lambda host: host.name)
def colliding(request: pytest.FixtureRequest) -> Iterator[Web]:
    """A site whose user 2 is Alice. The account 2 belongs to Bob, who is its user 7."""
    users = {"1": "2", "2": "7"}
    people = [User("alice", "wonderland", {"sub": "1"}), User("bob", "builder", {"sub": "2"})]
    with IdentityProvider(users=people, clients=[SITE_CLIENT], signing_algorithm="ES256") as idp:
        web = Web(
            idp,
            MemoryBackend(),
            host=request.param,
            on_sign_in=lambda attempt: SignInDecision(user_id=users[attempt.user_id]),
        )
        if web.host.fastapi:
            web.app.add_api_route("/token", _echo)
        else:
            web.app.add_url_rule("/token", "token", lambda: json.dumps(get_access_token()))
        web.browser().sign_in("/auth/login", "bob")
        yield web


def test_a_bearer_client_never_gets_the_tokens_of_another_user(colliding: Web) -> None:
    """The site's ID of a user may be equal to the account of another one. [T60]"""
    web = colliding
    bearer = f"Bearer {issue_session_token(web.sessions, '2', ['viewer'])}"
    client = web.browser()

    def ask(html: bool = False) -> SiteResponse:
        return client.get("/token", html=html, Authorization=bearer)

    refused = ask()
    assert (refused.status_code, refused.json["error"]) == (401, "reauth_required")
    assert ask(html=True).status_code == 401, "a redirect would never end"
    assert "just signed in" not in ask(html=True).text
    alice = web.browser()
    alice.sign_in("/auth/login", "alice")
    bob = web.tokens.load("2")
    assert bob is not None
    first = web.tokens.load("1")
    assert first is not None
    assert ask().get_json(force=True) == first.access_token
    assert web.tokens.replace("1", replace(first, issued_at=first.issued_at - 100), first)
    assert client.post("/auth/refresh", Authorization=bearer).status_code == 200
    refreshed = web.tokens.load("1")
    assert refreshed is not None
    assert ask().get_json(force=True) == refreshed.access_token != first.access_token
    path = web.at("/groups")
    assert web.tokens.replace("2", replace(bob, scope=f"{bob.scope} groups"), bob)
    assert client.get(path, Authorization=bearer).json["error"] == "insufficient_scope"
    assert web.tokens.replace("1", replace(refreshed, scope="openid groups"), refreshed)
    assert client.get(path, Authorization=bearer).status_code == 200
    web.tokens.link("2", "2")
    assert ask().json["error"] == "reauth_required", "the account may be the user's own"
    web.tokens.delete("1")
    assert ask().get_json(force=True) == bob.access_token, "the account is the user's own"
    web.tokens.link("7", "2")
    for account in ("1", "3"):
        web.tokens.save(account, replace(bob, grant=None))
        web.tokens.link("2", account)
    assert ask().json["error"] == "reauth_required", "the user has two accounts"


# request_session


def test_a_request_session_refreshes_once_after_a_401(house: House) -> None:
    web = house.web()
    browser = house.signed_in(web)
    tokens, before = stored(web), web.calls()["token"]
    web.tokens.replace(USER, replace(tokens, access_token="revoked at the provider"), tokens)
    assert browser.get("/call").text == "200"
    assert web.calls()["token"] - before == 1


def test_an_api_that_always_refuses_causes_few_refreshes(house: House) -> None:
    """Its 401 is returned. Due refreshes do not count, and are still possible."""
    web = house.web(refresh_rate_limit="3/minute")
    browser = house.signed_in(web)
    house.faults.answers["/userinfo"] = (401, "text/plain", b"no")
    before = web.calls()["token"]
    asked = web.calls()["userinfo"]
    for _ in range(6):
        assert browser.get("/call").text == "401"
        house.pass_time(6)
    assert web.calls()["token"] - before == 3
    assert web.calls()["userinfo"] - asked == 9, "a refused token is not sent again"
    old = house.expire(web)
    assert browser.get("/token").get_json(force=True) != old.access_token
    assert web.calls()["token"] - before == 4


def test_a_request_session_works_in_threads_and_streams_of_a_view(house: House) -> None:
    web = house.web()

    def thread() -> str:
        api = request_session(house.idp.issuer)
        token = copy_current_request_context(get_access_token)
        got: list[Any] = []
        work = threading.Thread(
            target=lambda: got.append(api.get(f"{house.idp.issuer}/userinfo").status_code)
        )
        work.start()
        work.join()
        second = threading.Thread(target=lambda: got.append(token()))
        second.start()
        second.join()
        return json.dumps(got)

    def stream() -> Any:
        def parts() -> Iterator[str]:
            yield get_access_token()

        return stream_with_context(parts())

    web.app.add_url_rule("/thread", "thread", thread)
    web.app.add_url_rule("/stream", "stream", stream)
    browser = house.signed_in(web)
    house.expire(web)
    before = web.calls()["token"]
    assert browser.get("/thread").get_json(force=True) == [200, stored(web).access_token]
    assert browser.get("/stream").text == stored(web).access_token
    assert web.calls()["token"] - before == 1


def test_other_origins_do_not_get_the_token(house: House) -> None:
    web = house.web()
    web.app.testing = True
    web.app.add_url_rule(
        "/else", "else", lambda: request_session("http://127.0.0.1:1").get(house.idp.issuer).text
    )
    browser = house.signed_in(web)
    with pytest.raises(Exception, match="may not be sent to"):
        browser.get("/else")


# Flask


class _Page(MethodView):
    def get(self) -> str:
        return get_access_token()


async def _asynchronous() -> str:
    return get_access_token()


def test_each_kind_of_flask_view_is_answered(house: House) -> None:
    web = house.web()
    web.app.jinja_env.globals["token"] = get_access_token
    web.app.add_url_rule("/class", view_func=_Page.as_view("class"))
    web.app.add_url_rule("/async", "async", _asynchronous)
    web.app.add_url_rule("/template", "template", lambda: render_template_string("{{ token() }}"))
    browser = web.browser()
    for path in ("/class", "/async", "/template"):
        page = browser.get(path, html=True)
        assert (page.status_code, page.location) == (302, f"/auth/login?next=%2F{path[1:]}"), path
        assert browser.get(path).json["error"] == "login_required", path


def test_a_token_for_every_request_leaves_the_routes_of_sign_in_open(house: House) -> None:
    web = house.web()
    seen: list[str] = []
    web.app.before_request(lambda: seen.append(get_access_token()))
    web.app.before_request(lambda: ("closed", 451) if request.args.get("closed") else None)
    browser = web.browser()
    assert browser.get("/auth/login?closed=1", html=True).status_code == 451, "the later functions run too"
    assert seen == [""]
    preflight = web.client().open("/public", method="OPTIONS", headers={"Origin": "https://other.example"})
    assert (preflight.status_code, "GET" in preflight.headers["Allow"]) == (200, True)
    page = browser.get("/public", html=True)
    assert page.location == "/auth/login?next=%2Fpublic"
    browser.sign_in(page.location)
    assert browser.get("/public").text == "for all visitors"
    assert browser.get("/nowhere").status_code == 404
    house.pass_time(100)
    house.expire(web)
    house.faults.down("/token")
    assert browser.get("/public").status_code == 502
    assert browser.post("/auth/logout").status_code == 200


def test_a_call_for_every_request_needs_a_guard(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """Without the guard, the sign-in is an error, not an endless redirect."""
    for guard in (lambda function: function, login_required):
        web = house.web()
        web.app.before_request(guard(lambda: request_session("https://api.example.com") and None))
        browser, guarded = web.browser(), guard is login_required
        assert browser.get("/auth/login", html=True).status_code == (302 if guarded else 401)
        assert ("put @login_required" in caplog.text) is not guarded
        caplog.clear()
        assert browser.get("/public").status_code == 401


@pytest.mark.parametrize("kind", [AuthenticationError, Exception])
def test_an_applications_handler_of_a_base_class(house: House, kind: type[Exception]) -> None:
    """That of the package's base class answers. That of all exceptions gets the refusal, as for a guard."""
    web = house.web(allowed_email_domains=["corp.example"])
    web.app.register_error_handler(kind, _own_answer)
    browser = web.browser()
    of_all = kind is Exception
    assert browser.get("/token", html=True).status_code == (302 if of_all else 418)
    browser = house.signed_in(web)
    house.expire(web)
    house.faults.down("/token")
    assert browser.get("/token").text == ("BadGateway 502" if of_all else "TokenError provider_unreachable")
    house.pass_time(3)
    house.faults.answers.clear()
    house.claims["email"] = "alice@elsewhere.example"
    assert browser.get("/token").text == ("Forbidden 403" if of_all else "AccessEnded access_denied")


def _own_answer(error: Any) -> tuple[str, int]:
    return f"{type(error).__name__} {getattr(error, 'error', None) or error.code}", 418


def test_an_applications_own_handlers_answer(house: House) -> None:
    """Those of an error's class, and those of a status."""
    web = house.web()
    web.app.register_error_handler(401, lambda error: (f"own: {error.response.error}", 401))
    web.app.register_error_handler(TokenError, lambda error: ("own: later", 500))
    browser = web.browser()
    assert browser.get("/token").text == "own: login_required"
    browser = house.signed_in(web)
    house.expire(web)
    house.faults.down("/token")
    assert browser.get("/token").text == "own: later"


def test_outside_of_a_request_there_is_no_token(house: House) -> None:
    with pytest.raises(RuntimeError, match="context"):
        get_access_token()
    with house.web().app.app_context(), pytest.raises(RuntimeError, match="request context"):
        request_session("https://api.example.com")


def test_a_receiver_has_the_application_in_the_background(house: House) -> None:
    """The audit line and the signal name the session."""
    web = house.web()
    browser = house.signed_in(web)
    house.expire(web, 30)
    seen: list[tuple[object, str]] = []

    def receive(sender: object, **facts: Any) -> None:
        from flask import current_app

        seen.append((sender, current_app.name + facts["user_id"]))

    with token_refreshed.connected_to(receive):
        browser.get("/token")
        _await_threads()
    assert seen == [(web.app, f"site{USER}")]
