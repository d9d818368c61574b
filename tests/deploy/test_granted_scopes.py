"""Guards for scopes: consent to more of them, refusals, and no loop."""

from __future__ import annotations

import json
import re
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable
from dataclasses import replace
from html import unescape
from typing import Any

import pytest
import time_machine

from pywry_auth.asgi import require_scope
from pywry_auth.backends.memory import MemoryBackend
from pywry_auth.deploy.cookies import TokenSigner
from pywry_auth.deploy.login_demand import DemandSigner, LoginDemand
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError
from pywry_auth.flask import scopes_required
from pywry_auth.models import OAuthTokenSet
from pywry_auth.providers.oidc import GenericOIDCProvider
from pywry_auth.state.auth import AuthConfig
from pywry_auth.testing.identity_provider import Client, IdentityProvider
from tests.deploy.hosts import FLASK, HOSTS, PROTECTED
from tests.deploy.web import (
    CLIENT_SECRET,
    SECRET,
    SITE,
    Browser,
    SiteResponse,
    WatchedBackend,
    Web,
    parameter,
    with_parameter,
)
from tests.person import Person

_BOTH = pytest.mark.parametrize("hosting", [FLASK, HOSTS[3]], ids=lambda host: host.name)
_BUTTON = re.compile(r'<a class="button" href="([^"]*)">Allow access</a>')


def _stored(web: Web, user: str = "user-alice") -> OAuthTokenSet:
    tokens = web.tokens.load(user)
    assert tokens is not None
    return tokens


def _to_provider(browser: Browser, path: str) -> str:
    """Follow a page's redirects to the provider, and return the URL there."""
    sent = browser.get(path, html=True)
    assert sent.status_code == 302, sent.text
    return browser.begin(sent.location or "")


def _consent(browser: Browser, path: str, *, without: str = "", username: str = "alice") -> SiteResponse:
    """Go to the provider on demand of a page, and come back; a scope can be left out there."""
    url = _to_provider(browser, path)
    kept = [word for word in parameter(url, "scope").split() if word != without]
    password = {"alice": "wonderland", "bob": "builder"}[username]
    callback = Person(username, password).authorize(with_parameter(url, "scope", " ".join(kept)))
    return browser.get(callback, html=True)


def _allow_link(response: SiteResponse) -> str:
    found = _BUTTON.search(response.text)
    assert found, response.text
    return unescape(found[1])


@_BOTH
def test_more_scopes_are_granted_without_losing_the_earlier_ones(web: Web) -> None:
    """Each page asks once, the new grant replaces the old one unrevoked, and a refresh keeps the scopes."""
    browser, page = web.browser(), web.at("/groups")
    browser.sign_in()
    old = _stored(web)
    assert browser.get(page).status_code == 403
    response = _consent(browser, f"{page}?a=1")
    assert (response.status_code, response.location) == (303, f"{SITE}{page}?a=1")
    assert browser.get(page).text == PROTECTED
    assert _stored(web).scope.split() == ["openid", "email", "profile", "groups"]
    assert _consent(browser, web.at("/away")).location == SITE + web.at("/away")
    assert browser.get(page).text == browser.get(web.at("/away")).text == PROTECTED
    assert set(_stored(web).scope.split()) == {"openid", "email", "profile", "groups", "offline_access"}
    assert web.calls()["revoke"] == 0
    assert not list(web.tokens.revocations.of_user("user-alice"))
    assert _stored(web).access_token != old.access_token
    assert browser.post("/auth/refresh").json["refreshed"] is True
    assert browser.get(page).text == PROTECTED


@_BOTH
def test_a_visitors_first_sign_in_asks_for_the_scopes_of_the_page(web: Web) -> None:
    browser, page = web.browser(), web.at("/groups")
    assert browser.get(page).status_code == 401
    assert _consent(browser, page).location == SITE + page
    assert browser.get(page).text == PROTECTED


@_BOTH
def test_a_script_learns_the_scopes_and_gets_a_link(web: Web) -> None:
    """RFC 6750 §3.1; the link leads back to the page of the script."""
    browser, page = web.browser(), web.at("/groups")
    browser.sign_in()
    referer = SITE + web.at("/public?tab=2")
    response = browser.get(page, Sec_Fetch_Mode="cors", Referer=referer)
    assert response.status_code == 403
    assert response.headers["WWW-Authenticate"] == 'Bearer error="insufficient_scope", scope="groups"'
    assert (response.json["error"], response.json["missing_scopes"]) == ("insufficient_scope", ["groups"])
    assert parameter(response.json["login_url"], "next") == web.at("/public?tab=2")
    assert "groups" in parameter(browser.begin(response.json["login_url"]), "scope").split()


@_BOTH
def test_a_form_gets_a_page_with_a_link(web: Web) -> None:
    browser, page = web.browser(), web.at("/groups")
    browser.sign_in()
    assert browser.post(page, Sec_Fetch_Site="cross-site").json["error"] == "cross_site_request"
    response = browser.post(page, html=True, Sec_Fetch_Mode="navigate", Referer=SITE + page)
    assert response.status_code == 403
    assert "so it was not saved" in response.text
    assert parameter(_allow_link(response), "next") == page


@_BOTH
def test_a_frame_gets_a_page_that_leads_out_of_it(web: Web) -> None:
    browser, page = web.browser(), web.at("/groups")
    browser.sign_in()
    headers = {"Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "iframe", "Referer": SITE + web.at("/public")}
    response = browser.get(page, html=True, **headers)
    assert response.status_code == 403
    assert "frame-ancestors *" in response.headers["Content-Security-Policy"]
    assert response.headers["WWW-Authenticate"].startswith('Bearer error="insufficient_scope"')
    found = re.search(r'<a class="button" href="([^"]*)" target="_top">Allow access</a>', response.text)
    assert found, response.text
    assert parameter(unescape(found[1]), "next") == web.at("/public")
    assert "groups" in parameter(browser.begin(unescape(found[1])), "scope").split()


@_BOTH
def test_a_scope_that_was_not_granted_is_no_loop(web: Web, caplog: pytest.LogCaptureFixture) -> None:
    """A page with a link follows the sign-in, never another redirect; the link asks again.

    The log names the scope once for each sign-in.
    """
    browser, page = web.browser(), web.at("/groups")
    browser.sign_in()
    assert _consent(browser, page, without="groups").location == SITE + page
    for _ in range(2):
        refused = browser.get(page, html=True)
        assert refused.status_code == 403
        assert "insufficient_scope" in refused.text
    assert caplog.text.count("the provider did not grant groups, ") == 1
    url = browser.begin(_allow_link(refused))
    assert "groups" in parameter(url, "scope").split()
    assert browser.get(Person().authorize(url), html=True).location == SITE + page
    assert browser.get(page).text == PROTECTED
    assert caplog.text.count("did not grant") == 1


def test_the_log_names_the_scopes_that_a_provider_refused(web: Web, caplog: pytest.LogCaptureFixture) -> None:
    browser, page = web.browser(), web.at("/groups")
    browser.sign_in()
    callback = Person(action="cancel").authorize(_to_provider(browser, page))
    response = browser.get(callback.replace("error=access_denied", "error=invalid_scope"), html=True)
    assert "invalid_scope" in response.text
    assert "demands the scopes groups: register the client" in caplog.text


def test_a_scope_of_the_settings_that_was_not_granted_is_no_loop(web: Web) -> None:
    provider = GenericOIDCProvider(
        "site", CLIENT_SECRET, scopes=["openid", "groups"], issuer_url=web.idp.issuer
    )
    web = replace(web, provider=provider)
    browser, page = web.browser(), web.at("/groups")
    url = with_parameter(browser.begin(), "scope", "openid")
    assert browser.get(Person().authorize(url), html=True).status_code == 303
    assert _consent(browser, page, without="groups").status_code == 303
    assert browser.get(page, html=True).status_code == 403


def test_another_user_who_comes_back_is_no_loop(web: Web) -> None:
    browser, page = web.browser(), web.at("/groups")
    browser.sign_in()
    assert _consent(browser, page, without="groups", username="bob").status_code == 303
    assert browser.user == "user-bob"
    assert browser.get(page, html=True).status_code == 403


def test_a_user_who_cancels_stays_signed_in(web: Web) -> None:
    """The old session and its tokens are unchanged, and the page offers to ask again."""
    browser, page = web.browser(), web.at("/groups")
    browser.sign_in()
    cookie, tokens = browser.cookie(), _stored(web)
    callback = Person(action="cancel").authorize(_to_provider(browser, page))
    response = browser.get(callback, html=True)
    assert response.status_code == 403
    assert "You are still signed in, and nothing has changed" in response.text
    again = _allow_link(response)
    assert parameter(again, "next") == page
    assert "groups" in parameter(browser.begin(again), "scope").split()
    assert (browser.cookie(), browser.user, _stored(web)) == (cookie, "user-alice", tokens)
    assert browser.get(web.at("/members")).status_code == 200


def test_a_plain_sign_in_elsewhere_is_followed_by_one_question(web: Web) -> None:
    """Its grant lacks the scopes. The page asks again, but not just after a sign-in, which could loop."""
    browser, page = web.browser(), web.at("/groups")
    assert _consent(browser, page).status_code == 303
    web.browser().sign_in()
    assert browser.get(page, html=True).status_code == 403
    with time_machine.travel(_stored(web).issued_at + 120, tick=False):
        assert browser.get(page, html=True).status_code == 302


def test_the_site_signs_only_scopes_that_its_pages_demand(web: Web) -> None:
    """A visitor gets other scopes from the provider, and cancels. No link for others asks for them. [T65]"""
    browser, page = web.browser(), web.at("/groups")
    browser.sign_in()
    url = _to_provider(browser, page)
    url = with_parameter(url, "scope", "openid email offline_access")
    assert browser.get(Person().authorize(url), html=True).status_code == 303
    again = browser.begin(_allow_link(browser.get(page, html=True)))
    assert {"offline_access", "groups"} <= set(parameter(again, "scope").split()), (
        "the visitor's own grant keeps them"
    )
    refused = browser.get(Person(action="cancel").authorize(again), html=True)
    link = _allow_link(refused)
    assert parameter(web.browser().begin(link), "scope") == "openid email profile groups"


def test_scopes_that_are_too_long_for_a_url_are_lost_with_a_warning(
    web: Web, caplog: pytest.LogCaptureFixture
) -> None:
    browser = web.browser()
    browser.sign_in()
    tokens = _stored(web)
    scope = " ".join(f"https://api.example.com/{number:04}" for number in range(200))
    assert web.tokens.replace("user-alice", replace(tokens, scope=scope), tokens)
    assert parameter(_to_provider(browser, web.at("/groups")), "scope") == "openid email profile groups"
    assert "lost earlier scopes" in caplog.text


@pytest.mark.parametrize("change", ["forged", "cut", "long", "plain", "session"])
def test_a_demand_that_the_site_did_not_make_is_refused(web: Web, change: str) -> None:
    """No visitor can let the site ask for other scopes; the page links to a plain sign-in."""
    browser, page = web.browser(), web.at("/groups")
    sent = browser.get(page, html=True).location or ""
    demand = parameter(sent, "demand")
    browser.sign_in()
    values = {
        "forged": "eyJzY29wZXMiOlsiYWRtaW4iXX0." + demand.partition(".")[2],
        "cut": demand[:-2],
        "long": demand * 80,
        "plain": "groups é",
        "session": browser.cookie() or "",
    }
    response = browser.get(with_parameter(sent, "demand", values[change]), html=True)
    assert response.status_code == 400
    assert "invalid_demand" in response.text
    (link,) = re.findall(r'<a class="button" href="([^"]*)">', response.text)
    assert "demand" not in link
    assert parameter(unescape(link), "next") == page


def test_a_demand_survives_the_move_to_the_public_name(web: Web) -> None:
    web = replace(web, settings={"public_base_url": "https://app.example.com"}, base_url="")
    at = web.browser()
    sent = at.get(web.at("/groups"), html=True).location or ""
    plain = with_parameter(sent.replace("https://app.example.com", SITE), "moved", None)
    moved = at.get(plain, html=True).location or ""
    assert moved.startswith("https://app.example.com/")
    assert parameter(moved, "demand") == parameter(sent, "demand")


def test_a_late_answer_begins_the_same_sign_in_again(web: Web) -> None:
    browser = web.browser()
    url = _to_provider(browser, web.at("/groups"))
    callback = Person().authorize(url)
    with time_machine.travel(time.time() + 700, tick=False):
        again = browser.begin(callback)
    assert parameter(again, "scope") == parameter(url, "scope")
    refused = browser.get(Person(action="cancel").authorize(again), html=True)
    (link,) = re.findall(r'<a class="button" href="([^"]*)">', refused.text)
    assert parameter(browser.begin(unescape(link)), "scope") == parameter(url, "scope")


def test_every_worker_and_every_listed_secret_reads_a_demand(web: Web) -> None:
    sent = web.browser().get(web.at("/groups"), html=True).location or ""
    secret = "another long secret of the same site for tests"
    rotated = replace(web, config=AuthConfig(enabled=True, token_secret=f"{secret},{SECRET}"))
    foreign = replace(web, config=AuthConfig(enabled=True, token_secret=secret))
    assert "groups" in parameter(rotated.browser().begin(sent), "scope")
    assert foreign.browser().get(sent).json["error"] == "invalid_demand"
    other = replace(web, settings={"redis_prefix": "another site"})
    assert other.browser().get(sent).json["error"] == "invalid_demand"


def test_a_signed_in_user_is_not_asked_for_the_provider_again() -> None:
    """A visitor is, and the choice keeps the demand."""
    names = ("corp", "hub")
    client = Client("site", CLIENT_SECRET, tuple(f"{SITE}/auth/callback/{name}" for name in names))
    with IdentityProvider(clients=[client], signing_algorithm="ES256") as idp:
        provider = {name: GenericOIDCProvider("site", CLIENT_SECRET, issuer_url=idp.issuer) for name in names}
        web = Web(idp, MemoryBackend(), provider=provider, host=FLASK)
        browser = web.browser()
        sent = browser.get("/groups", html=True).location or ""
        choice = browser.get(sent, html=True)
        links = [unescape(link) for link in re.findall(r'href="(/auth/login\?[^"]*)"', choice.text)]
        assert [parameter(link, "provider") for link in links] == list(names)
        assert {parameter(link, "demand") for link in links} == {parameter(sent, "demand")}
        assert "groups" in parameter(browser.begin(links[1]), "scope")
        browser.sign_in("/auth/login?provider=hub")
        assert parameter(_to_provider(browser, "/groups"), "redirect_uri").endswith("/auth/callback/hub")


def test_a_session_grows_only_by_a_demand(web: Web) -> None:
    browser = web.browser()
    browser.sign_in()
    (session,) = web.sessions.list_user_sessions("user-alice")
    assert "asked" not in session.metadata
    _consent(browser, web.at("/groups"))
    (session,) = web.sessions.list_user_sessions("user-alice")
    assert session.metadata["asked"] == ["groups"]


def test_scopes_without_stored_tokens_are_asked_for(web: Web) -> None:
    """The tokens may have expired in the store, or belong to another client."""
    browser, page = web.browser(), web.at("/groups")
    assert _consent(browser, page).status_code == 303
    tokens = _stored(web)
    web.tokens.save("user-alice", replace(tokens, client_id="another client", grant=None))
    assert browser.get(page).status_code == 403
    web.tokens.delete("user-alice")
    with time_machine.travel(tokens.issued_at + 120, tick=False):
        assert _to_provider(browser, page)


@_BOTH
def test_an_outage_of_the_token_store_admits_and_refuses_no_user(make_web: Callable[..., Web]) -> None:
    backend = WatchedBackend(MemoryBackend())
    web = make_web(backend)
    browser, page = web.browser(), web.at("/groups")
    assert _consent(browser, page).status_code == 303
    backend.fails = lambda number: backend.operations[-1] == "get oauth"
    for html in (False, True):
        response = browser.get(page, html=html)
        assert (response.status_code, PROTECTED in response.text) == (503, False)
        assert response.headers["Retry-After"]


@pytest.mark.parametrize(
    "scopes",
    [(), ("",), ('calendar"',), ("a\\b",), ("kalender-für",), ("x" * 2001,), (["a"],), (b"a",), (len,)],
)
def test_a_guard_refuses_a_name_that_no_scope_can_have(scopes: tuple[Any, ...]) -> None:
    """A quote could break out of the header WWW-Authenticate (RFC 6749 §3.3)."""
    for guard in (scopes_required, require_scope):
        with pytest.raises(AuthenticationError, match=f"^{guard.__name__}") as caught:
            guard(*scopes)
        assert caught.value.error == ErrorCode.INVALID_CONFIGURATION


def test_a_demand_of_a_newer_version_is_refused() -> None:
    """It may ask for more than this version can check."""
    signer = TokenSigner(["a key"], "demand")
    demands = DemandSigner(signer)
    for scopes in (("groups",), tuple(f"{number:03}" for number in range(500))):
        assert demands.read(demands.sign(LoginDemand(scopes))) == LoginDemand(scopes)
    others: list[object] = [
        {"scopes": "a", "amr": "otp"},
        {"max_age": 0},
        {"max_age": True},
        {"max_age": "300"},
        {"max_age": 1.5},
        {"acr": 'a"b'},
        {"acr": ["a"]},
        {"scopes": ["a"]},
        {"scopes": 1},
        {"scopes": ""},
    ]
    for members in [*others, [], "a"]:
        payload = urlsafe_b64encode(json.dumps(members).encode()).decode().rstrip("=")
        with pytest.raises(AuthenticationError) as caught:
            demands.read(signer.sign(payload))
        assert caught.value.error == ErrorCode.INVALID_DEMAND
