"""The parameters that a visitor's link passes on to the provider."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import unescape
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

import pytest

from pywry_auth.deploy.providers import Providers
from pywry_auth.exceptions import LoginRequired
from pywry_auth.flask import SignInAttempt
from pywry_auth.providers.base import OAuthProvider
from pywry_auth.providers.github import GitHubProvider
from pywry_auth.providers.google import GoogleProvider
from pywry_auth.providers.microsoft import MicrosoftProvider
from pywry_auth.providers.oidc import GenericOIDCProvider
from tests.deploy.web import CLIENT_SECRET, SITE, Browser, Web, set_cookies
from tests.person import Person

PUBLIC = "https://app.example.com"
TAKEN = {
    "client_id": "evil",
    "redirect_uri": "https://evil.example.com/",
    "state": "evil",
    "scope": "evil",
    "audience": "evil",
    "acr_values": "evil",
}


def asked(browser: Browser, path: str) -> dict[str, str]:
    pairs = parse_qsl(urlsplit(browser.begin(path)).query, keep_blank_values=True)
    assert len(dict(pairs)) == len(pairs), "no parameter appears twice"
    return dict(pairs)


def test_a_link_passes_on_a_hint_and_a_prompt_and_nothing_more(web: Web) -> None:
    """A link cannot change the client, the state or the token's audience. [S3, T6]"""
    hostile = "&".join(f"{name}={quote(value)}" for name, value in TAKEN.items())
    query = asked(web.browser(), f"/auth/login?login_hint=a%26b%40example.com&prompt=&{hostile}")
    assert query["login_hint"] == "a&b@example.com"
    assert "evil" not in str(query)
    assert "prompt" not in query, "a parameter without a value counts as left out (RFC 6749 §3.1)"
    assert len(query) == 9


def test_the_provider_receives_them(web: Web) -> None:
    person = Person("", "wonderland")
    browser = web.browser()
    browser.get(person.authorize(browser.begin("/auth/login?login_hint=alice&next=/members")))
    assert browser.user == "user-alice", "the login page had the name already"


@pytest.mark.parametrize(
    "query",
    [
        f"login_hint={'x' * 513}",
        "login_hint=a%00b",
        "login_hint=a%0d%0aSet-Cookie:%20evil=1",
        "login_hint=%ff",
        "login_hint=a&login_hint=a",
        "prompt=login&login_hint=a&prompt=none",
    ],
)
def test_a_value_that_cannot_be_passed_on_gets_a_page(web: Web, query: str) -> None:
    """The page does not show the value, and its link leads to a sign-in without it. [T7, S11]"""
    browser = web.browser()
    page = browser.get(f"/auth/login?{query}&next=/members", html=True)
    assert page.status_code == 400
    assert "This sign-in link cannot be used, because the parameter" in page.text
    assert "Error code: invalid_parameter" in page.text
    assert "Set-Cookie" not in str(page.headers)
    assert not any(text in page.text for text in ("evil", "xxx", "login_hint="))
    assert web.at("/auth/login?next=%2Fmembers") in unescape(page.text)
    assert not web.calls()
    assert browser.get(f"/auth/login?{query}").json["error"] == "invalid_parameter"


def test_512_characters_of_any_language_are_passed_on(web: Web) -> None:
    hint = "\u00e9 " * 255 + "\u4e2d<"
    assert asked(web.browser(), f"/auth/login?login_hint={quote(hint)}")["login_hint"] == hint


def test_the_setting_chooses_the_parameters(make_web: Callable[..., Web]) -> None:
    """An empty list in code, and ``none`` in the environment, pass on no parameter. [S3]"""
    both = "/auth/login?login_hint=a&ui_locales=fr"
    for params, passed in (
        (["ui_locales"], {"ui_locales": "fr"}),
        ([], {}),
        ("none", {}),
    ):
        query = asked(make_web(settings={"login_params": params}).browser(), both)
        assert {name: query[name] for name in ("login_hint", "ui_locales") if name in query} == passed


def test_a_link_does_not_replace_a_parameter_of_the_site(make_web: Callable[..., Web], web: Web) -> None:
    """Otherwise a link could undo ``prompt=login``. [T6]"""
    own = GenericOIDCProvider(
        "site",
        CLIENT_SECRET,
        issuer_url=web.idp.issuer,
        authorize_params={"prompt": "login", "audience": "https://api.example.com"},
    )
    query = asked(make_web(provider=own).browser(), "/auth/login?prompt=none&login_hint=a")
    assert (query["prompt"], query["login_hint"]) == ("login", "a")
    assert query["audience"] == "https://api.example.com"


_OTHER = 'href="([^"]*)">Use another account'


@pytest.mark.parametrize(
    ("settings", "of_site", "prompt"),
    [({}, {}, "login"), ({"login_params": []}, {}, None), ({}, {"prompt": "consent"}, "consent")],
)
def test_another_account_does_not_mean_the_same_one_again(
    make_web: Callable[..., Web],
    web: Web,
    settings: dict[str, Any],
    of_site: dict[str, str],
    prompt: str | None,
) -> None:
    """The provider would return the refused user at once. The page that follows the sign-in stays. [S8]"""
    own = GenericOIDCProvider("site", CLIENT_SECRET, issuer_url=web.idp.issuer, authorize_params=of_site)
    browser = make_web(provider=own, settings={"allowed_users": ["user-bob"], **settings}).browser()
    refused = browser.get(browser.authorize("/auth/login?next=/members"), html=True)
    link = re.search(_OTHER, refused.text)
    assert link is not None
    assert asked(browser, unescape(link[1])).get("prompt") == prompt
    assert browser.sign_in(unescape(link[1]), "bob").location == f"{SITE}/members"
    forbidden = browser.get("/admin", html=True)
    link = re.search(_OTHER, forbidden.text)
    assert link is not None
    assert asked(browser, unescape(link[1])).get("prompt") == prompt


@pytest.mark.parametrize("kind", [GoogleProvider, GitHubProvider, MicrosoftProvider])
def test_some_providers_have_a_page_to_choose_an_account(kind: type[OAuthProvider]) -> None:
    assert Providers.of(kind("client", "secret")).other_account_prompt == "select_account"
    assert Providers.of({"one": kind("client", "secret")}).other_account_prompt == ""


def test_google_keeps_the_consent_that_refresh_tokens_need(
    make_web: Callable[..., Web], caplog: pytest.LogCaptureFixture
) -> None:
    """``prompt=none`` is a fault of the link, not of the site."""
    caplog.set_level("INFO")
    browser = make_web(provider=GoogleProvider("site", "secret")).browser()
    assert asked(browser, "/auth/login?prompt=select_account")["prompt"] == "select_account consent"
    page = browser.get("/auth/login?prompt=none", html=True)
    assert page.status_code == 400
    assert "This sign-in link cannot be used" in page.text
    assert "consent page" not in page.text, "the reason is in the log"
    assert "consent page" in caplog.text


def test_the_parameters_reach_the_public_name_and_the_chosen_provider(make_web: Callable[..., Web]) -> None:
    several = {"google": GoogleProvider("g", "s"), "github": GitHubProvider("h", "s")}
    web = make_web(provider=several, settings={"public_base_url": PUBLIC}, base_url="http://10.0.0.7")
    hint = 'a&state=evil"><script>@example.com'
    moved = web.browser().get(f"/auth/login?login_hint={quote(hint)}&next=/members", html=True)
    assert moved.location.startswith(f"{PUBLIC}/")
    browser = web.browser()
    page = browser.get(f"/auth/login?{urlsplit(moved.location).query}", html=True)
    assert (page.status_code, "<script>" in page.text) == (200, False)
    links = [unescape(part.partition('"')[0]) for part in page.text.split('href="')[1:]]
    (link,) = [link for link in links if "provider=github" in link]
    query = asked(browser, f"/auth/login?moved=1&{urlsplit(link).query}")
    assert (query["login_hint"], query["client_id"]) == (hint, "h")


def test_a_silent_sign_in_without_a_user_at_the_provider_asks_for_one(web: Web) -> None:
    """The page leads to a sign-in that may ask. [S8]"""
    browser = web.browser()
    ended = browser.get(Person().authorize(browser.begin("/auth/login?prompt=none&next=/members")), html=True)
    assert ended.status_code == 401
    assert "The provider cannot sign you in without asking you first: sign in to continue." in ended.text
    assert "Please sign in" in ended.text
    assert f'href="{web.at("/auth/login")}?next=%2Fmembers"' in unescape(ended.text)
    assert "pywry_session" not in set_cookies(ended)
    assert browser.user is None


def test_a_hook_that_needs_a_sign_in_says_so_itself(make_web: Callable[..., Web]) -> None:
    """Only the provider's own code is a refusal of ``prompt=none``. [S7]"""

    def hook(attempt: SignInAttempt) -> None:
        text = "Sign in with your first account."
        raise LoginRequired("Not the first account.", error="login_required", visitor=text)

    browser = make_web(on_sign_in=hook).browser()
    page = browser.get(browser.authorize(), html=True)
    assert page.status_code == 401
    assert "Sign in with your first account." in page.text
    assert "Not the first" not in page.text
    assert "without asking you" not in page.text


def test_a_proxy_names_the_next_page_without_escaping_it(web: Web) -> None:
    """The whole rest of the query is the address: it brings no parameters of the login. [T3]"""
    many = "/?" + "&".join(f"x{number}=1" for number in range(70))
    kept = ["/a?x=1&y=%26&provider=z&prompt=none", "/a%2Fb+c?next=/d&next_uri=/e", many]
    refused = ["//evil.example.com/", "https://evil.example.com/", "%2F%2Fevil.example.com", ""]
    for raw, after in [*((raw, raw) for raw in kept), *((raw, "/") for raw in refused)]:
        browser = web.browser()
        path = f"/auth/login?next_uri={raw}"
        assert "prompt" not in asked(browser, path)
        assert browser.sign_in(path).headers["Location"] == SITE + after
