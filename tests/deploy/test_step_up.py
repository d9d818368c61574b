"""Guards for a recent or a strong sign-in: the way to the provider and back, refusals, and no loop."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from html import unescape
from typing import Any

import pytest
import requests
import time_machine
from fastapi import Depends
from flask import Flask
from flask.views import MethodView

from pywry_auth.asgi import require_fresh_login, require_role, require_scope
from pywry_auth.backends.memory import MemoryBackend
from pywry_auth.deploy.login_demand import LoginDemand
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError
from pywry_auth.flask import fresh_login_required, init_app, roles_required, scopes_required
from pywry_auth.models import Grant, OAuthTokenSet, UserSession
from pywry_auth.providers.base import OAuthProvider
from pywry_auth.providers.github import GitHubProvider
from pywry_auth.providers.oidc import GenericOIDCProvider
from pywry_auth.state.auth import AuthConfig
from pywry_auth.state.session_record import SessionRecord, pack_session
from pywry_auth.state.sessions import issue_session_token
from pywry_auth.testing.identity_provider import Client, IdentityProvider, Quirks
from tests.deploy.hosts import FLASK, HOSTS, PROTECTED, Host
from tests.deploy.web import (
    CLIENT_SECRET,
    HTML,
    SECRET,
    SITE,
    SITE_CLIENT,
    Browser,
    SiteResponse,
    WatchedBackend,
    Web,
    parameter,
    with_parameter,
)
from tests.person import Person

_BOTH = pytest.mark.parametrize("hosting", [FLASK, HOSTS[3]], ids=lambda host: host.name)
_LINK = re.compile(r'<a class="button" href="([^"]*)"')
_LATER = 1000  # seconds after which a sign-in is too old for the page /fresh


class ChangedProvider(GenericOIDCProvider):
    """A provider that reports other claims about sign-ins.

    The value None removes a claim. A change of ``auth_time`` counts from the present. The provider can leave
    out the refresh token.
    """

    changes: Mapping[str, Any] = {}
    has_refresh_token = True

    def exchange_code(self, *arguments: Any, **named: Any) -> OAuthTokenSet:
        tokens = super().exchange_code(*arguments, **named)
        claims = {**tokens.id_token_claims, **type(self).changes}
        if "auth_time" in type(self).changes and claims["auth_time"] is not None:
            claims["auth_time"] += time.time()
        kept = {name: value for name, value in claims.items() if value is not None}
        refresh_token = tokens.refresh_token if type(self).has_refresh_token else None
        return replace(tokens, id_token_claims=kept, refresh_token=refresh_token)


@pytest.fixture
def reports(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Changes what the provider reports about the next sign-ins."""
    return lambda **changes: monkeypatch.setattr(ChangedProvider, "changes", changes)


def _page() -> str:
    return PROTECTED


@pytest.fixture
def web(make_web: Callable[..., Web], idp: IdentityProvider) -> Web:
    """An application with pages that need a recent or a strong sign-in."""
    return _with_pages(make_web(provider=_provider(idp)))


def _provider(idp: IdentityProvider, **options: Any) -> ChangedProvider:
    return ChangedProvider("site", CLIENT_SECRET, issuer_url=idp.issuer, **options)


def _with_pages(web: Web) -> Web:
    flask_guards: dict[str, Callable[[Any], Any]] = {
        "/fresh": fresh_login_required(300),
        "/strong": fresh_login_required(None, "gold silver"),
        "/both": lambda view: scopes_required("groups")(fresh_login_required(300, ["gold"])(view)),
        "/fresh-admin": lambda view: fresh_login_required()(roles_required("admin")(view)),
        "/apart": lambda view: fresh_login_required(None, "gold")(fresh_login_required(None, "silver")(view)),
    }
    dependencies = {
        "/fresh": [Depends(require_fresh_login(300))],
        "/strong": [Depends(require_fresh_login(None, "gold silver"))],
        "/both": [Depends(require_scope("groups")), Depends(require_fresh_login(300, ["gold"]))],
        "/fresh-admin": [Depends(require_fresh_login()), Depends(require_role("admin"))],
        "/apart": [Depends(require_fresh_login(None, acr)) for acr in ("gold", "silver")],
    }
    for path, guard in flask_guards.items():
        if web.host.fastapi:
            needs, methods = dependencies[path], ["GET", "POST"]
            web.app.add_api_route(path, _page, methods=methods, dependencies=needs)
        else:
            web.app.add_url_rule(path, path, guard(_page), methods=["GET", "POST"])
    return web


def _to_provider(browser: Browser, path: str) -> str:
    """Follow a page's redirects to the provider, and return the URL there."""
    sent = browser.get(path, html=True)
    assert sent.status_code == 302, sent.text
    return browser.begin(sent.location or "")


def _return(browser: Browser, url: str, username: str = "alice", action: str = "login") -> SiteResponse:
    password = {"alice": "wonderland", "bob": "builder"}[username]
    return browser.get(Person(username, password, action).authorize(url), html=True)


def _link(response: SiteResponse) -> str:
    found = _LINK.search(response.text)
    assert found, response.text
    return unescape(found[1])


def _stored(web: Web, user: str = "user-alice") -> OAuthTokenSet:
    tokens = web.tokens.load(user)
    assert tokens is not None
    return tokens


def _refused(response: SiteResponse, sentence: str, page: str) -> None:
    """Check an error page: its sentence, and a link that tries the same again."""
    assert response.status_code in (400, 401), (response.status_code, response.text)
    assert sentence in response.text
    assert "WWW-Authenticate" not in response.headers or response.status_code == 401
    assert parameter(_link(response), "next") == page
    assert parameter(_link(response), "demand")


@_BOTH
def test_a_page_gets_a_recent_sign_in(web: Web, reports: Callable[..., None]) -> None:
    """The time of the sign-in counts, not that of the session; the session's ID changes, the old one ends."""
    browser, page = web.browser(), web.at("/fresh")
    browser.sign_in()
    assert browser.get(page).status_code == 200
    reports(auth_time=-_LATER)
    browser.sign_in()
    old, grant = browser.cookie(), _stored(web).grant
    url = _to_provider(browser, f"{page}?a=1")
    assert (parameter(url, "max_age"), "acr_values" in url) == ("300", False)
    reports()
    returned = _return(browser, url)
    assert (returned.status_code, returned.location) == (303, f"{SITE}{page}?a=1")
    assert browser.get(page).status_code == 200
    assert browser.cookie() != old
    assert _stored(web).grant != grant
    stale = web.browser()
    stale.plant("pywry_session", old or "")
    assert stale.user is None
    assert web.calls()["revoke"] == 0


@_BOTH
def test_a_page_gets_a_sign_in_with_one_of_its_classes(web: Web, reports: Callable[..., None]) -> None:
    browser, page = web.browser(), web.at("/strong")
    browser.sign_in()
    url = _to_provider(browser, page)
    assert (parameter(url, "acr_values"), "max_age" in url) == ("gold silver", False)
    reports(acr="silver", auth_time=None)
    assert _return(browser, url).status_code == 303
    assert browser.get(page).status_code == 200


@_BOTH
def test_a_visitors_first_sign_in_is_one_that_suffices(web: Web, reports: Callable[..., None]) -> None:
    """One sign-in satisfies all guards of a page."""
    browser, page = web.browser(), web.at("/both")
    assert browser.get(page).status_code == 401
    url = _to_provider(browser, page)
    assert (parameter(url, "max_age"), parameter(url, "acr_values")) == ("300", "gold")
    assert "groups" in parameter(url, "scope").split()
    reports(acr="gold")
    assert _return(browser, url).status_code == 303
    assert browser.get(page).status_code == 200


@_BOTH
def test_all_guards_of_a_page_are_satisfied_by_one_step_up(web: Web, reports: Callable[..., None]) -> None:
    browser, page = web.browser(), web.at("/both")
    browser.sign_in()
    url = _to_provider(browser, page)
    assert "groups" in parameter(url, "scope").split()
    reports(acr="gold")
    assert _return(browser, url).status_code == 303
    assert browser.get(page).status_code == 200
    assert browser.get(web.at("/fresh-admin")).status_code == 403, "another guard still decides"


@_BOTH
def test_a_program_learns_the_demand(web: Web) -> None:
    """RFC 9470 §3; the address leads back to the page of the script."""
    browser, page = web.browser(), web.at("/both")
    browser.sign_in("/auth/login?demand=")
    with time_machine.travel(time.time() + _LATER):
        response = browser.get(web.at("/fresh"), Referer=SITE + web.at("/public"))
    assert response.status_code == 401
    header = response.headers["WWW-Authenticate"]
    assert header.startswith('Bearer error="insufficient_user_authentication", error_description="')
    assert header.endswith(', max_age="300"')
    body = response.json
    assert (body["error"], body["max_age"]) == ("insufficient_user_authentication", 300)
    assert "acr_values" not in body
    assert parameter(body["login_url"], "next") == web.at("/public")
    assert parameter(browser.begin(body["login_url"]), "max_age") == "300"
    strong = browser.get(web.at("/strong"))
    assert strong.headers["WWW-Authenticate"].endswith(', acr_values="gold silver"')
    assert (strong.json["acr_values"], "max_age" in strong.json) == ("gold silver", False)
    assert browser.get(page).status_code in (401, 403)


@_BOTH
def test_a_form_and_a_frame_get_a_page_with_a_link(web: Web) -> None:
    browser, page = web.browser(), web.at("/strong")
    browser.sign_in()
    assert browser.post(page, Sec_Fetch_Site="cross-site").json["error"] == "cross_site_request"
    form = browser.post(page, html=True, Sec_Fetch_Mode="navigate", Referer=SITE + page)
    assert form.status_code == 401
    assert "so it was not saved" in form.text
    assert parameter(_link(form), "next") == page
    headers = {"Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "iframe", "Referer": SITE + page}
    frame = browser.get(page, html=True, **headers)
    assert frame.status_code == 401
    assert "frame-ancestors *" in frame.headers["Content-Security-Policy"]
    assert 'target="_top">Sign in again</a>' in frame.text
    assert parameter(browser.begin(_link(frame)), "acr_values") == "gold silver"


@_BOTH
def test_a_session_of_the_application_never_suffices(web: Web) -> None:
    """A program with such a token is told so, and never redirected."""
    token = issue_session_token(web.sessions, "job", roles=["viewer"])
    bearer = {"Authorization": f"Bearer {token}"}
    for html in (False, True):
        response = web.browser().get(web.at("/fresh"), html=html, **bearer)
        assert response.status_code == 401
        assert 'max_age="300"' in response.headers["WWW-Authenticate"]


_CAUSES: dict[str, tuple[dict[str, Any], str]] = {
    "too old": ({"auth_time": -400}, "did not ask you to sign in again"),
    "no time": ({"auth_time": None}, "does not say when you signed in there"),
    "in the future": ({"auth_time": 100}, "did not ask you to sign in again"),
    "a text": ({"auth_time": None, "auth_times": "1"}, "does not say when"),
    "too weak": ({"acr": "bronze"}, "not sign in with the method"),
    "no class": ({"acr": None}, "not sign in with the method"),
}


@pytest.mark.parametrize("cause", _CAUSES)
def test_a_sign_in_that_is_not_enough_ends_at_a_page(
    web: Web, reports: Callable[..., None], cause: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A provider may ignore the demand. No redirect follows, and the session with its tokens stays."""
    browser, page = web.browser(), web.at("/strong" if cause in ("too weak", "no class") else "/fresh")
    reports(auth_time=-_LATER)
    browser.sign_in()
    cookie, old = browser.cookie(), _stored(web)
    url = _to_provider(browser, page)
    changes, sentence = _CAUSES[cause]
    reports(**changes)
    _refused(_return(browser, url), sentence, page)
    assert (browser.cookie(), browser.user) == (cookie, "user-alice")
    assert [each.levelname for each in caplog.records if "refused" in each.message][-1] == "WARNING"
    assert web.calls()["revoke"] == 0, "many providers would end the grant of the session too"
    assert not list(web.tokens.revocations.of_user("user-alice"))
    assert _stored(web).access_token != old.access_token, "the session has the newer tokens"
    assert browser.post("/auth/refresh").status_code == 200
    assert len(web.sessions.list_user_sessions("user-alice")) == 1
    assert browser.post("/auth/logout").json["logged_out"]
    assert web.tokens.load("user-alice") is None
    assert web.calls()["revoke"] > 0


def _weak_step_up(browser: Browser, web: Web, reports: Callable[..., None]) -> None:
    url = _to_provider(browser, web.at("/strong"))
    reports(acr="bronze")
    _refused(_return(browser, url), "not sign in with the method", web.at("/strong"))


def test_after_a_weak_sign_in_the_end_of_the_grant_still_ends_the_session(
    web: Web, idp: IdentityProvider, reports: Callable[..., None]
) -> None:
    """The new tokens belong to the grant of the session. [T42]"""
    browser = web.browser()
    browser.sign_in()
    before = _stored(web).grant
    _weak_step_up(browser, web, reports)
    stored = _stored(web)
    assert before
    assert stored.grant
    assert stored.refresh_token
    assert stored.grant.grant_id == before.grant_id
    assert stored.grant.signed_in_at > before.signed_in_at
    assert web.provider.request_revocation(stored.refresh_token)
    with time_machine.travel(time.time() + 3700, tick=False):
        assert browser.post("/auth/refresh").json["error"] == "reauth_required"
        assert browser.get(web.at("/members")).status_code == 401
    assert not web.sessions.list_user_sessions("user-alice")


def test_a_weak_sign_in_without_a_refresh_token_leaves_the_old_tokens(
    web: Web, reports: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some providers issue one at the first sign-in only. The new tokens are not revoked."""
    browser = web.browser()
    browser.sign_in()
    before = _stored(web)
    monkeypatch.setattr(ChangedProvider, "has_refresh_token", False)
    _weak_step_up(browser, web, reports)
    assert _stored(web) == before
    assert web.calls()["revoke"] == 0
    assert not list(web.tokens.revocations.of_user("user-alice"))
    assert browser.post("/auth/refresh").json["refreshed"] is True


def test_a_step_up_requests_the_scopes_that_were_granted_before(
    web: Web, reports: Callable[..., None]
) -> None:
    """The tokens of the new sign-in, also of a failed one, can do as much as the old ones."""
    browser = web.browser()
    browser.sign_in()
    assert _return(browser, _to_provider(browser, web.at("/groups"))).status_code == 303
    assert "groups" in parameter(_to_provider(browser, web.at("/strong")), "scope").split()
    _weak_step_up(browser, web, reports)
    assert browser.get(web.at("/groups")).status_code == 200


def test_the_link_of_the_error_page_tries_again(web: Web, reports: Callable[..., None]) -> None:
    browser, page = web.browser(), web.at("/fresh")
    reports(auth_time=-_LATER)
    browser.sign_in()
    refused = _return(browser, _to_provider(browser, page))
    again = browser.begin(_link(refused))
    assert parameter(again, "max_age") == "300"
    reports()
    assert _return(browser, again).location == SITE + page
    assert browser.get(page).text == PROTECTED


def test_a_visitors_first_sign_in_that_is_not_enough_leaves_nothing(
    web: Web, reports: Callable[..., None]
) -> None:
    browser, page = web.browser(), web.at("/strong")
    reports(acr="bronze")
    _refused(_return(browser, _to_provider(browser, page)), "not sign in with the method", page)
    assert browser.user is None
    assert web.tokens.load("user-alice") is None
    assert web.calls()["revoke"] > 0


def test_another_user_does_not_take_over(web: Web) -> None:
    """The session stays that of its user, and the tokens of the other one are revoked."""
    browser, page = web.browser(), web.at("/strong")
    browser.sign_in()
    cookie, tokens = browser.cookie(), _stored(web)
    response = _return(browser, _to_provider(browser, page), "bob")
    _refused(response, "another account than the one that you use here", page)
    assert (browser.cookie(), browser.user, _stored(web)) == (cookie, "user-alice", tokens)
    assert web.tokens.load("user-bob") is None
    assert web.calls()["revoke"] > 0


def _record(web: Web, session: UserSession, grant: Grant, members: dict[str, Any] | None = None) -> None:
    """Store a session with another grant, as another version or another provider left it."""
    changed = replace(session, grant=grant, **(members or {}))
    data = pack_session(SessionRecord(changed, ttl=86400, idle_ttl=0, used_at=time.time()))
    web.backend.put(f"session:{session.session_id}", data)


@pytest.mark.parametrize("username", ["alice", "bob"])
def test_an_old_session_without_issuer_and_subject_can_step_up(
    web: Web, reports: Callable[..., None], username: str
) -> None:
    """Its account must be the same."""
    browser, page = web.browser(), web.at("/strong")
    browser.sign_in()
    (session,) = web.sessions.list_user_sessions("user-alice")
    assert session.grant is not None
    _record(web, session, replace(session.grant, issuer="", subject=""))
    url = _to_provider(browser, page)
    reports(acr="gold")
    response = _return(browser, url, username)
    if username == "bob":
        _refused(response, "another account than the one that you use here", page)
    assert (response.status_code == 303, browser.user) == (username == "alice", "user-alice")


def test_a_user_with_the_same_id_at_another_issuer_is_another_user(web: Web) -> None:
    """The site has changed its provider. The session keeps the tokens of its own user."""
    browser, page = web.browser(), web.at("/strong")
    browser.sign_in()
    (session,), tokens = web.sessions.list_user_sessions("user-alice"), _stored(web)
    assert session.grant is not None
    _record(web, session, replace(session.grant, issuer="https://earlier.example.com"))
    _refused(_return(browser, _to_provider(browser, page)), "another account", page)
    assert (browser.user, _stored(web)) == ("user-alice", tokens)


def test_two_registrations_at_one_issuer_have_different_users(reports: Callable[..., None]) -> None:
    client = Client("site", CLIENT_SECRET, tuple(f"{SITE}/auth/callback/{name}" for name in "ab"))
    with IdentityProvider(clients=[client], signing_algorithm="ES256") as idp:
        web = _with_pages(Web(idp, MemoryBackend(), provider={"a": _provider(idp), "b": _provider(idp)}))
        browser = web.browser()
        browser.sign_in("/auth/login?provider=a")
        sent = browser.get("/strong", html=True).location or ""
        reports(acr="gold")
        _refused(_return(browser, browser.begin(f"{sent}&provider=b")), "another account", "/strong")
        assert (browser.user, web.tokens.load("b:user-alice")) == ("a:user-alice", None)
        assert _return(browser, browser.begin(sent)).status_code == 303


@pytest.mark.parametrize("username", ["alice", "bob"])
def test_after_a_sign_out_the_same_user_is_still_required(
    web: Web, reports: Callable[..., None], username: str
) -> None:
    browser, page = web.browser(), web.at("/strong")
    browser.sign_in()
    url = _to_provider(browser, page)
    browser.post("/auth/logout")
    reports(acr="gold")
    response = _return(browser, url, username)
    assert (response.status_code == 303) == (username == "alice")
    assert browser.user == ("user-alice" if username == "alice" else None)


def test_a_sign_in_that_is_not_enough_after_a_sign_out_leaves_nothing(web: Web) -> None:
    browser = web.browser()
    browser.sign_in()
    url = _to_provider(browser, web.at("/strong"))
    browser.post("/auth/logout")
    assert _return(browser, url).status_code == 401
    assert (browser.user, web.tokens.load("user-alice")) == (None, None)


@_BOTH
def test_a_user_who_cancels_stays_signed_in(web: Web) -> None:
    browser, page = web.browser(), web.at("/strong")
    browser.sign_in()
    cookie, tokens = browser.cookie(), _stored(web)
    url = _to_provider(browser, page)
    _refused(_return(browser, url, action="cancel"), "You did not sign in again. You are still", page)
    assert (browser.cookie(), _stored(web)) == (cookie, tokens)
    assert browser.get(web.at("/members")).status_code == 200


def test_a_provider_that_refuses_the_classes_is_understood(web: Web) -> None:
    browser, page = web.browser(), web.at("/strong")
    browser.sign_in()
    callback = Person(action="cancel").authorize(_to_provider(browser, page))
    unmet = callback.replace("error=access_denied", "error=unmet_authentication_requirements")
    _refused(browser.get(unmet, html=True), "not sign in with the method", page)


def test_a_refresh_makes_no_sign_in_fresher(web: Web) -> None:
    browser, page = web.browser(), web.at("/fresh")
    browser.sign_in()
    (before,) = web.sessions.list_user_sessions("user-alice")
    with time_machine.travel(time.time() + _LATER, tick=False):
        assert browser.post("/auth/refresh").json["refreshed"] is True
        (after,) = web.sessions.list_user_sessions("user-alice")
        assert (after.grant, _stored(web).grant) == (before.grant, before.grant)
        assert browser.get(page).status_code == 401


def test_clocks_may_differ_by_the_skew_of_the_settings(
    make_web: Callable[..., Web], idp: IdentityProvider, reports: Callable[..., None]
) -> None:
    for skew, age, status in ((60, -350, 200), (60, 50, 200), (0, -310, 401), (0, 10, 401)):
        web = _with_pages(make_web(provider=_provider(idp, clock_skew_seconds=skew)))
        browser = web.browser()
        reports(auth_time=age)
        browser.sign_in()
        assert browser.get(web.at("/fresh")).status_code == status, (skew, age)


def test_workers_with_other_clocks_are_no_loop(web: Web) -> None:
    """Just after a step-up, a page with a link follows in place of another redirect."""
    browser, page = web.browser(), web.at("/fresh")
    assert _return(browser, _to_provider(browser, page)).status_code == 303
    (session,) = web.sessions.list_user_sessions("user-alice")
    with time_machine.travel(time.time() + _LATER, tick=False):
        assert browser.get(page, html=True).status_code == 302
    with time_machine.travel(time.time() - 80, tick=False):
        response = browser.get(page, html=True)
    assert (response.status_code, session.metadata["stepped_up"]) == (401, [{"max_age": 300, "acr": []}])
    assert parameter(browser.begin(_link(response)), "max_age") == "300"


@_BOTH
def test_another_demand_shortly_after_a_step_up_is_no_error(web: Web, reports: Callable[..., None]) -> None:
    browser, page = web.browser(), web.at("/strong")
    assert _return(browser, _to_provider(browser, web.at("/fresh"))).status_code == 303
    url = _to_provider(browser, page)
    reports(acr="gold")
    assert _return(browser, url).status_code == 303
    assert browser.get(page).status_code == 200
    url = _to_provider(browser, web.at("/groups"))
    reports(acr="bronze")
    assert _return(browser, url).status_code == 303
    response = browser.get(page, html=True)
    assert response.status_code == 401, "a sign-in for scopes in between does not hide the demand before it"


@_BOTH
def test_guards_that_exclude_each_other_are_no_loop(web: Web, reports: Callable[..., None]) -> None:
    """No class satisfies both guards. The provider satisfies each demand at once."""
    browser, page = web.browser(), web.at("/apart")
    browser.sign_in()
    asked = []
    while (sent := browser.get(page, html=True)).status_code == 302:
        url = browser.begin(sent.location or "")
        asked.append(parameter(url, "acr_values"))
        reports(acr=asked[-1])
        assert _return(browser, url).status_code == 303
        assert len(asked) < 4
    assert (sent.status_code, asked) == (401, ["gold", "silver"])


def test_the_same_demand_may_be_made_of_a_later_sign_in(web: Web, reports: Callable[..., None]) -> None:
    browser, page = web.browser(), web.at("/strong")
    browser.sign_in()
    url = _to_provider(browser, page)
    reports(acr="silver")
    _return(browser, url)
    (session,) = web.sessions.list_user_sessions("user-alice")
    assert session.grant is not None
    weaker = replace(session.grant, acr="bronze")
    _record(web, session, weaker, {"created_at": session.created_at - 100})
    assert browser.get(page, html=True).status_code == 302


def test_no_visitor_can_weaken_the_demand(
    make_web: Callable[..., Web], idp: IdentityProvider, reports: Callable[..., None]
) -> None:
    """Other parameters of the address change neither the request's demand nor the check of the answer."""
    params = ["prompt", "acr_values"]
    web = _with_pages(make_web(provider=_provider(idp), settings={"login_params": params}))
    browser, page = web.browser(), web.at("/both")
    browser.sign_in()
    sent = browser.get(page, html=True).location or ""
    added = f"{sent}&max_age=99999&acr_values=bronze&acr=gold&prompt=login"
    url = browser.begin(added)
    values = (parameter(url, "max_age"), parameter(url, "acr_values"), parameter(url, "prompt"))
    assert values == ("300", "gold", "login")
    weaker = with_parameter(with_parameter(url, "max_age", None), "acr_values", "bronze")
    reports(auth_time=-_LATER)
    response = browser.get(Person().authorize(weaker) + "&acr=gold", html=True)
    assert response.status_code == 401
    forged = with_parameter(sent, "demand", parameter(sent, "demand")[:-2])
    assert browser.get(forged).json["error"] == "invalid_demand"
    other = web.browser().get(web.at("/fresh"), html=True).location or ""
    mixed = parameter(other, "demand").partition(".")[0] + "." + parameter(sent, "demand").rpartition(".")[2]
    assert browser.get(with_parameter(sent, "demand", mixed)).json["error"] == "invalid_demand"


def test_a_site_that_always_asks_for_less_keeps_its_own_limit(
    make_web: Callable[..., Web], idp: IdentityProvider, reports: Callable[..., None]
) -> None:
    """``max_age`` in AUTHORIZE_PARAMS is checked at each sign-in; a page cannot raise it."""
    web = _with_pages(make_web(provider=_provider(idp, authorize_params={"max_age": "100"})))
    browser = web.browser()
    reports(auth_time=-200)
    response = _return(browser, browser.begin())
    assert (response.status_code, browser.user) == (401, None)
    assert parameter(_to_provider(browser, web.at("/fresh")), "max_age") == "100"
    _refused(_return(browser, _to_provider(browser, web.at("/fresh"))), "did not ask you", web.at("/fresh"))
    reports(auth_time=None)
    response = _return(browser, browser.begin())
    assert (response.status_code, "invalid_id_token" in response.text) == (400, True)
    assert web.tokens.load("user-alice") is None


def test_a_late_answer_begins_the_same_step_up_again(web: Web) -> None:
    browser, page = web.browser(), web.at("/both")
    url = _to_provider(browser, page)
    callback = Person().authorize(url)
    with time_machine.travel(time.time() + 700, tick=False):
        again = browser.begin(callback)
        for name in ("max_age", "acr_values", "scope"):
            assert parameter(again, name) == parameter(url, name)
        assert _return(browser, again).status_code == 401, "the class is still required"


def test_an_outage_after_a_weak_sign_in_leaves_no_grant_behind(
    make_web: Callable[..., Web], idp: IdentityProvider
) -> None:
    """The session and its tokens stay, and the new tokens are revoked later. [T43]"""
    backend = WatchedBackend(MemoryBackend())
    web = _with_pages(make_web(backend, provider=_provider(idp)))
    browser = web.browser()
    browser.sign_in()
    tokens = _stored(web)
    callback = Person().authorize(_to_provider(browser, web.at("/strong")))
    backend.fails = lambda number: backend.operations[-1] == "put oauth"
    assert browser.get(callback, html=True).status_code == 503
    backend.fails = lambda number: False
    assert (_stored(web), browser.user) == (tokens, "user-alice")
    assert web.calls()["revoke"] > 0


# Providers without OpenID Connect


class PlainProvider(GenericOIDCProvider):
    """A provider without OpenID Connect, with a profile of its own."""

    def get_userinfo(self, access_token: str) -> dict[str, Any]:
        return {"id": "7"}


def _plain(idp: IdentityProvider) -> OAuthProvider:
    return PlainProvider("site", CLIENT_SECRET, scopes=["email"], issuer_url=idp.issuer)


def _config() -> AuthConfig:
    return AuthConfig(enabled=True, token_secret=SECRET)


class _Deletion(MethodView):
    @fresh_login_required()
    def post(self) -> str:
        return PROTECTED


_ADDED: dict[str, Callable[[Flask], object]] = {
    "erase": lambda app: app.add_url_rule("/", "erase", fresh_login_required()(_page)),
    "deletion": lambda app: app.add_url_rule("/", view_func=_Deletion.as_view("deletion")),
    "_page": lambda app: app.before_request(fresh_login_required(None, "gold")(_page)),
}


@pytest.mark.parametrize("name", _ADDED)
@pytest.mark.parametrize("protect", [False, True])
def test_flask_refuses_to_start_without_openid(name: str, protect: bool) -> None:
    """The first request is refused for views that come later, also if no guard of them would run."""
    provider, refused = GitHubProvider("site", CLIENT_SECRET), f"^the view '{name}' requires a recent"
    early, late = Flask("early"), Flask("late")
    _ADDED[name](early)
    with pytest.raises(AuthenticationError, match=refused):
        init_app(early, provider, auth_config=_config(), protect=protect)
    init_app(late, provider, auth_config=_config(), protect=protect)
    _ADDED[name](late)
    late.testing = True
    for _ in range(2):
        with pytest.raises(AuthenticationError, match=refused):
            late.test_client().get("/elsewhere")


@pytest.mark.parametrize("name", _ADDED)
def test_a_flask_site_in_production_without_openid_is_not_available(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Visitors get a page or JSON with status 503, and the log names the view."""
    app = Flask("late")
    init_app(app, GitHubProvider("site", CLIENT_SECRET), auth_config=_config())
    _ADDED[name](app)
    for path in ("/", "/elsewhere", "/auth/status"):
        for accept in (HTML, "application/json"):
            caplog.clear()
            response = app.test_client().get(path, headers={"Accept": accept})
            assert response.status_code == 503
            assert "Retry-After" in response.headers
            assert "fresh_login_required" not in response.text
            assert response.is_json == (accept != HTML)
            assert f"the view '{name}' requires a recent" in caplog.text


_QUIRKS = {
    "ignore_max_age": (Quirks(ignore_max_age=True), "/fresh", "did not ask you to sign in again"),
    "no_auth_time": (
        Quirks(no_auth_time=True, ignore_max_age=True),
        "/fresh",
        "does not say when you signed in there",
    ),
    "ignore_acr": (Quirks(ignore_acr=True), "/strong", "not sign in with the method"),
}


@pytest.mark.parametrize("quirk", _QUIRKS)
def test_a_provider_that_ignores_a_demand_ends_at_a_page(quirk: str) -> None:
    """Its session outlasts the one of the site, and it does not ask the user again."""
    quirks, page, sentence = _QUIRKS[quirk]
    ahead = [-float(_LATER)]

    def clock() -> float:
        return time.time() + ahead[0]

    with IdentityProvider(
        clients=[SITE_CLIENT], signing_algorithm="ES256", quirks=quirks, clock=clock
    ) as idp:
        web = _with_pages(Web(idp, MemoryBackend()))
        browser, jar = web.browser(), requests.Session()
        Person(browser=jar).authorize(browser.begin())
        ahead[0] = 0.0
        again = Person(action="continue", browser=jar)
        assert browser.get(again.authorize(browser.begin()), html=True).status_code == 303
        response = browser.get(again.authorize(_to_provider(browser, page)), html=True)
        _refused(response, sentence, page)
        assert browser.user == "user-alice"


def test_a_user_of_a_provider_without_openid_is_refused_clearly() -> None:
    """The pages work for the others. A visitor chooses among those providers only."""
    names = ("corp", "hub")
    client = Client("site", CLIENT_SECRET, tuple(f"{SITE}/auth/callback/{name}" for name in names))
    with IdentityProvider(clients=[client], signing_algorithm="ES256") as idp:
        web = _with_pages(Web(idp, MemoryBackend(), provider={"corp": _provider(idp), "hub": _plain(idp)}))
        visitor, browser = web.browser(), web.browser()
        sent = visitor.get("/fresh", html=True).location or ""
        choice = visitor.get(sent, html=True)
        links = [unescape(link) for link in re.findall(r'href="(/auth/login\?[^"]*)"', choice.text)]
        assert [parameter(link, "provider") for link in links] == ["corp"]
        assert parameter(visitor.begin(links[0]), "max_age") == "300"
        other = with_parameter(links[0], "provider", "hub")
        assert visitor.get(other).json["error"] == "unknown_provider"
        browser.sign_in("/auth/login?provider=hub")
        for html in (False, True):
            response = browser.get("/fresh", html=html)
            assert response.status_code == 403
            assert "sign in with another account" in response.text
        visitor.sign_in("/auth/login?provider=corp")
        assert visitor.get("/fresh").status_code == 200
        assert parameter(_to_provider(visitor, "/strong"), "redirect_uri").endswith("/corp")


# Decorations


@pytest.mark.parametrize(
    ("max_age", "acr"),
    [
        *[(value, None) for value in (0, -1, True, 1.5, float("nan"), "300", [300], 10**9, 10**400, _page)],
        *[(None, None), (300, ""), (300, ()), (300, 'a"b'), (300, "a\\b"), (300, ["a b"]), (300, [""])],
        *[(300, [1]), (300, 1), (300, {"a"}), (300, b"a"), (300, "ä"), (300, "a\n\x00"), (300, "x" * 2001)],
    ],
)
def test_a_guard_refuses_what_no_provider_can_be_asked_for(max_age: Any, acr: Any) -> None:
    """A quote could break out of the header WWW-Authenticate (RFC 9470 §3)."""
    for guard in (fresh_login_required, require_fresh_login):
        with pytest.raises(AuthenticationError, match=f"^{guard.__name__}") as caught:
            guard(max_age, acr)
        assert caught.value.error == ErrorCode.INVALID_CONFIGURATION


def test_demands_of_stacked_guards_are_merged() -> None:
    strict = LoginDemand((), 60, ("gold", "silver"))
    loose = LoginDemand(("groups",), 300, ("silver", "bronze"))
    assert strict.merged_with(loose) == LoginDemand(("groups",), 60, ("silver",))
    assert strict.merged_with(LoginDemand(acr=("bronze",))) == strict
    assert LoginDemand(("a",)).merged_with(strict) == LoginDemand(("a",), 60, ("gold", "silver"))
    assert strict.merged_with(None) == strict


def test_a_host_without_any_demand_is_not_affected(make_web: Callable[..., Web], hosting: Host) -> None:
    web = make_web(provider=GitHubProvider("site", CLIENT_SECRET), host=hosting)
    assert web.browser().get(web.at("/public")).status_code == 200
