"""All kinds of providers on one site, each with its button, in a real browser."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By

from pywry_auth.providers.oidc import GenericOIDCProvider
from pywry_auth.testing.identity_provider import Client, IdentityProvider
from tests.deploy.web import SITE, parameter, with_parameter
from tests.peers.walk import Walk
from tests.person import Person
from tests.providers.imitations.github import GitHub
from tests.providers.imitations.google import SUBJECT as GOOGLE_SUBJECT
from tests.providers.imitations.google import Google
from tests.providers.imitations.microsoft import SUBJECT as MICROSOFT_SUBJECT
from tests.providers.imitations.microsoft import Microsoft
from tests.providers.site import Site

USERS = {
    "Google": f"google:{GOOGLE_SUBJECT}",
    "GitHub": "github:583231",
    "Microsoft": f"microsoft:{MICROSOFT_SUBJECT}",
    "Corp": "corp:user-alice",
}
NAMES = [label.lower() for label in USERS]


@dataclass
class AllProviders:
    """The imitations, and an OpenID Connect provider."""

    google: Google
    github: GitHub
    microsoft: Microsoft
    corp: IdentityProvider

    def site(self) -> Site:
        """Return an application with all of them."""
        corp = GenericOIDCProvider("site", issuer_url=self.corp.issuer)
        imitated = [at.provider() for at in (self.google, self.github, self.microsoft)]
        several = dict(zip(NAMES, [*imitated, corp], strict=True))
        return Site(several, admin_users="github:583231,583231,user-alice")

    def register(self, address: str) -> None:
        """Register the site's callbacks, each at its own provider, as the guides say."""
        for name, at in (("google", self.google), ("github", self.github), ("microsoft", self.microsoft)):
            at.registered = (f"{address}/auth/callback/{name}",)


@pytest.fixture
def all_providers() -> Iterator[AllProviders]:
    client = Client("site", redirect_uris=(f"{SITE}/auth/callback/corp",))  # public: on any port
    with ExitStack() as stack:
        enter = stack.enter_context
        corp = enter(IdentityProvider(clients=[client], signing_algorithm="ES256"))
        yield AllProviders(enter(Google()), enter(GitHub()), enter(Microsoft()), corp)


def test_each_button_signs_in_at_its_own_provider(
    all_providers: AllProviders, chromium: webdriver.Chrome
) -> None:
    site = all_providers.site()
    found, roles = {}, {}
    with site.served() as address:
        all_providers.register(address)
        walk = Walk(chromium, address)
        for label in USERS:
            chromium.execute_cdp_cmd("Network.clearBrowserCookies", {})
            walk.go("/auth/login?next=/auth/userinfo")
            walk.press(label)
            if label == "Corp":
                walk.see("Sign in")
                walk.sign_in("alice", "wonderland")
            walk.arrive("/auth/userinfo")
            answer = json.loads(chromium.find_element(By.TAG_NAME, "body").text)
            assert answer["user_info"]["email"] == "alice@example.com"
            found[label], roles[label] = answer["user_id"], answer["roles"]
    assert found == USERS
    assert {label for label in roles if "admin" in roles[label]} == {"GitHub"}
    assert sorted(site.tokens.list_keys()) == sorted(USERS.values())


@pytest.mark.parametrize("begun", NAMES)
def test_a_response_is_refused_at_the_callback_of_another_provider(
    all_providers: AllProviders, begun: str
) -> None:
    """With its own state or a swapped one, no code is sent anywhere. [T4]"""
    all_providers.register(SITE)
    browser = all_providers.site().browser()
    callback = Person().authorize(browser.begin(f"/auth/login?provider={begun}"))
    for other in NAMES:
        if other != begun:
            moved = callback.replace(f"/callback/{begun}?", f"/callback/{other}?")
            assert browser.get(moved).json["error"] == "other_provider"
            theirs = parameter(browser.begin(f"/auth/login?provider={other}"), "state")
            swapped = with_parameter(callback, "state", theirs)
            assert browser.get(swapped).json["error"] == "other_provider"
    received = [
        at.server.received for at in (all_providers.google, all_providers.github, all_providers.microsoft)
    ]
    assert [request for requests in received for request in requests if request.method == "POST"] == []
    assert all_providers.corp.calls["token"] == 0
    assert browser.user is None
    assert browser.get(callback).status_code == 303, "the pending login is still there"
    assert browser.user == {label.lower(): user for label, user in USERS.items()}[begun]
