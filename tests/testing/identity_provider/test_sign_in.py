"""Sign-in, from the application's link to its tokens."""

from __future__ import annotations

import base64
import hashlib
import zlib
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from joserfc import jwt
from joserfc.jwk import KeySet
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from pywry_auth.testing.identity_provider import DEFAULT_USERS, IdentityProvider
from pywry_auth.testing.identity_provider.parties import demo_user
from tests.peers.page import serve_page
from tests.testing.identity_provider.person import (
    SECRET,
    VERIFIER,
    WEB_CALLBACK,
    Clock,
    Person,
    answer_in,
    basic,
    json_of,
)


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
def test_a_user_signs_in_by_form_and_the_id_token_is_valid(algorithm: str, clock: Clock) -> None:
    with IdentityProvider(signing_algorithm=algorithm, clock=clock) as provider:
        alice = Person(provider.issuer)
        answer = answer_in(alice.signs_in())
        assert {**answer, "code": ""} == {"code": "", "state": "the state & more", "iss": provider.issuer}
        response = alice.exchanges(answer["code"])
        assert response.headers["Cache-Control"] == "no-store"
        tokens = json_of(response)
        (sid,) = provider.sids("alice")
        keys = KeySet.import_key_set(requests.get(f"{provider.issuer}/jwks", timeout=10).json())
        token = jwt.decode(tokens["id_token"], keys, algorithms=[algorithm])
    half = hashlib.sha256(tokens["access_token"].encode()).digest()[:16]
    assert token.claims == {
        "iss": provider.issuer,
        "sub": "user-alice",
        "aud": "pywry-demo",
        "iat": int(clock.now),
        "exp": int(clock.now) + 3600,
        "auth_time": int(clock.now),
        "nonce": "the nonce",
        "sid": sid,
        "acr": "urn:pywry:acr:password",
        "amr": ["pwd"],
        "at_hash": base64.urlsafe_b64encode(half).rstrip(b"=").decode(),
        "name": "Alice Example",
        "given_name": "Alice",
        "family_name": "Example",
        "preferred_username": "alice",
        "picture": f"{provider.issuer}/pictures/alice.png",
        "email": "alice@example.com",
        "email_verified": True,
    }
    expected = {"token_type": "Bearer", "expires_in": 3600, "scope": "openid profile email"}
    assert {name: tokens[name] for name in expected} == expected


def test_the_picture_of_a_user_is_an_image() -> None:
    """Every part of the PNG is whole, so that tkinter can show it too."""
    slash = demo_user("a/b", "secret")
    with IdentityProvider(users=[*DEFAULT_USERS, slash]) as provider:
        found = [
            requests.get(f"{provider.url}{user.claims['picture']}", timeout=10)
            for user in (*DEFAULT_USERS, slash)
        ]
        assert requests.get(f"{provider.url}/pictures/other.png", timeout=10).status_code == 404
    assert len({answer.content for answer in found}) == len(found)
    for answer in found:
        assert (answer.status_code, answer.headers["Content-Type"]) == (200, "image/png")
        signature, rest = answer.content[:8], answer.content[8:]
        assert signature == b"\x89PNG\r\n\x1a\n"
        parts = {}
        while rest:
            length = int.from_bytes(rest[:4])
            assert zlib.crc32(rest[4 : 8 + length]) == int.from_bytes(rest[8 + length : 12 + length])
            parts[rest[4:8]], rest = rest[8 : 8 + length], rest[12 + length :]
        assert parts[b"IHDR"] == bytes.fromhex("00000060 00000060 08 02 000000")
        assert len(zlib.decompress(parts[b"IDAT"])) == 96 * (1 + 96 * 3)


@pytest.mark.parametrize("credentials", ["basic", "post"])
def test_a_client_with_a_secret_uses_it_either_way(alice: Person, credentials: str) -> None:
    """Basic parts are encoded first (RFC 6749 §2.3.1); the redirect URI keeps its own query."""
    code = answer_in(alice.signs_in(client_id="web app", redirect_uri=WEB_CALLBACK))
    assert code["kept"] == "1"
    form = {"grant_type": "authorization_code", "code": code["code"], "redirect_uri": WEB_CALLBACK}
    form["code_verifier"] = VERIFIER
    header = basic("web app", SECRET) if credentials == "basic" else {}
    if credentials == "post":
        form |= {"client_id": "web app", "client_secret": SECRET}
    response = requests.post(f"{alice.issuer}/token", data=form, headers=header, timeout=10)
    assert json_of(response)["token_type"] == "Bearer"


def test_an_authorization_request_may_be_posted(alice: Person) -> None:
    """The endpoint accepts GET and POST (OIDC Core §3.1.2.1)."""
    parts = urlsplit(alice.link())
    form = parse_qs(parts.query)
    page = alice.browser.post(f"{alice.issuer}/authorize", data=form, timeout=10)
    response = alice.fills_in(page, username="Bob@Example.com", password="builder", action="login")
    assert json_of(alice.profile(json_of(alice.exchanges(answer_in(response)["code"]))))["sub"] == "user-bob"


def test_a_browser_goes_through_the_page_to_the_application(
    provider: IdentityProvider, chromium: webdriver.Chrome
) -> None:
    """Chromium applies form-action to the redirect of a form, and hashes to styles. [T39]"""
    with serve_page() as port:
        chromium.get(Person(provider.issuer).link(redirect_uri=f"http://127.0.0.1:{port}/callback"))
        button = chromium.find_element(By.CSS_SELECTOR, "button[value=login]")
        assert button.value_of_css_property("background-color") == "rgba(47, 75, 196, 1)"
        chromium.switch_to.active_element.send_keys("alice")
        chromium.find_element(By.ID, "password").send_keys("wonderland")
        button.click()
        WebDriverWait(chromium, 10).until(lambda driver: driver.title == "Loopback")
        assert "code=" in chromium.current_url
