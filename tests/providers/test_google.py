"""Google: both modes and its peculiarities, against a local imitation of its documentation."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from pywry_auth.config import OAuth2Settings
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError, TokenError, TokenRefreshError
from pywry_auth.flow.authorization_code import begin, complete
from pywry_auth.models import OAuthTokenSet
from pywry_auth.protocol.pkce import PKCEChallenge
from pywry_auth.providers.base import OAuthProvider
from pywry_auth.providers.factory import create_provider_from_settings
from pywry_auth.providers.google import GoogleProvider
from pywry_auth.providers.oidc import GenericOIDCProvider
from tests.person import Person, parameters_of
from tests.protocol.issuer import REDIRECT_URI
from tests.protocol.refusal import everything_told
from tests.providers.imitations.google import ISSUER, SUBJECT, Google
from tests.providers.imitations.imitation import CLIENT_ID
from tests.providers.site import Site, come_back, signed_in


@pytest.fixture
def google() -> Iterator[Google]:
    with Google() as running:
        yield running


def asked(**extra: str) -> dict[str, str]:
    url = GoogleProvider(CLIENT_ID).build_authorize_url(REDIRECT_URI, "s", extra_params=extra)
    assert url.startswith("https://accounts.google.com/o/oauth2/v2/auth?")
    return dict(parse_qsl(urlsplit(url).query))


def login(google: Google) -> OAuthTokenSet:
    provider = google.provider()
    request = begin(provider, REDIRECT_URI)
    return complete(provider, request, parameters_of(Person().authorize(request.url))).tokens


def test_the_settings_create_the_provider_with_its_own_scopes() -> None:
    """``PROVIDER=google`` is enough. [S3, S4]"""
    settings = OAuth2Settings(provider="google", client_id=CLIENT_ID)
    provider = create_provider_from_settings(settings)
    assert isinstance(provider, GoogleProvider)
    assert (provider.name, provider.scopes) == ("google", ("openid", "email", "profile"))
    endpoints = provider.metadata
    assert endpoints.issuer == "https://accounts.google.com"
    assert endpoints.token_endpoint == "https://oauth2.googleapis.com/token"
    assert endpoints.userinfo_endpoint == "https://openidconnect.googleapis.com/v1/userinfo"
    assert endpoints.revocation_endpoint == "https://oauth2.googleapis.com/revoke"
    assert endpoints.jwks_uri == "https://www.googleapis.com/oauth2/v3/certs"
    named = OAuth2Settings(
        provider="google", client_id=CLIENT_ID, scopes="openid", token_url="https://x.example/"
    )
    assert create_provider_from_settings(named).scopes == ("openid",)
    assert create_provider_from_settings(named).metadata.token_endpoint == "https://x.example/"


@pytest.mark.parametrize(
    ("extra", "prompt"),
    [
        ({}, "consent"),
        ({"prompt": "consent"}, "consent"),
        ({"prompt": "select_account"}, "select_account consent"),
        ({"access_type": "online"}, "consent"),
    ],
)
def test_offline_access_and_consent_are_always_requested(extra: dict[str, str], prompt: str) -> None:
    """Google sends a refresh token only then. [S4]"""
    assert (asked(**extra)["access_type"], asked(**extra)["prompt"]) == ("offline", prompt)


@pytest.mark.parametrize(
    ("chosen", "extra", "expected"),
    [
        ({"hd": "example.com"}, {}, ("offline", "consent")),
        ({"access_type": "online"}, {}, ("online", None)),
        ({"access_type": "online"}, {"prompt": "none"}, ("online", "none")),
        ({"prompt": "select_account"}, {}, ("offline", "select_account")),
        ({"prompt": "select_account"}, {"prompt": "login"}, ("offline", "login")),
    ],
)
def test_the_options_can_replace_offline_access_and_consent(
    chosen: dict[str, str], extra: dict[str, str], expected: tuple[str, str | None]
) -> None:
    """A site that calls no API of Google's needs neither."""
    provider = GoogleProvider(CLIENT_ID, authorize_params=chosen)
    query = dict(parameters_of(provider.build_authorize_url(REDIRECT_URI, "s", extra_params=extra)))
    assert (query["access_type"], query.get("prompt")) == expected


def test_consent_and_prompt_none_exclude_each_other() -> None:
    with pytest.raises(AuthenticationError, match="prompt=none") as caught:
        asked(prompt="none")
    assert caught.value.error == ErrorCode.INVALID_CONFIGURATION


def test_a_program_signs_in_refreshes_and_signs_out(google: Google, caplog: pytest.LogCaptureFixture) -> None:
    """Google's names of the granted scopes differ from the requested ones. [S4, S5, P16]"""
    app, result = signed_in(google.provider())
    assert result.user_id == SUBJECT
    assert result.user_info == google.profile
    assert "https://www.googleapis.com/auth/userinfo.email" in result.tokens.scope.split()
    assert app.session_manager is not None
    fresh = app.session_manager.refresh()
    assert fresh.access_token != result.tokens.access_token
    assert fresh.refresh_token == result.tokens.refresh_token
    app.logout()
    assert [google.holder(t) for t in (fresh.access_token, fresh.refresh_token or "")] == [None, None]
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []
    assert "canary" not in caplog.text


def test_a_website_signs_in_and_out(google: Google) -> None:
    """Google verifies addresses. [S7]"""
    site = Site(google.provider(), admin_users="alice@example.com")
    browser = site.browser()
    assert come_back(browser).status_code == 303
    assert browser.get("/auth/status").json["roles"] == ["viewer", "admin"]
    assert browser.get("/auth/userinfo").json["user_info"] == google.profile
    assert browser.post("/auth/refresh").json["refreshed"] is True
    assert browser.post("/auth/logout").json["logged_out"] is True
    assert len(google.requests("/revoke")) == 2
    assert site.tokens.load(SUBJECT) is None


def test_an_unverified_address_makes_no_administrator(google: Google) -> None:
    """``email_verified`` must be true. [P23]"""
    google.profile["email_verified"] = False
    assert Site(google.provider(), admin_users="alice@example.com").roles() == ["viewer"]


@pytest.mark.parametrize(
    ("email", "organisation", "counts"),
    [
        ("alice@example.com", "example.com", True),
        ("alice@Example.COM", "EXAMPLE.com", True),
        ("alice@gmail.com", None, True),
        ("Alice@GMAIL.com", None, True),
        ("alice@example.com", None, False),
        ("alice@example.com", "example.org", False),
        ("alice@example.com", "", False),
        ("alice@example.com", ["example.com"], False),
        ("alice@example.com", True, False),
        ("alice@sub.example.com", "example.com", False),
        ("alice@gmail.com.example.com", None, False),
        ("alice@notgmail.com", None, False),
        ("mallory@gmail.com@example.com", "", False),
        ("mallory@example.com@gmail.com", None, True),  # no rule matches an address with two signs
    ],
)
def test_an_address_counts_only_if_google_provides_its_mailbox(
    email: str, organisation: Any, counts: bool
) -> None:
    """Another address was verified once, so a former employee could still have it. [T46]

    The same accounts can also be used with the class for any OpenID provider, or with explicit endpoints.
    """
    profile = {"sub": SUBJECT, "email": email, "email_verified": True}
    profile |= {} if organisation is None else {"hd": organisation}
    token_url = "https://oauth2.googleapis.com/token"
    customs = [
        OAuthProvider(CLIENT_ID, authorize_url=url, token_url=token)
        for url, token in (
            (f"{ISSUER}/o/oauth2/v2/auth", token_url),
            ("HTTPS://Accounts.Google.com:443/o/oauth2/v2/auth", "https://localhost/token"),
            ("https://accounts.google.com./o/oauth2/v2/auth", "https://localhost/token"),
            ("https://localhost/auth", token_url),
        )
    ]
    for provider in (
        GoogleProvider(CLIENT_ID),
        GenericOIDCProvider(CLIENT_ID, issuer_url=ISSUER),
        OAuthProvider(
            CLIENT_ID,
            issuer="accounts.google.com",
            authorize_url="https://localhost/auth",
            token_url="https://localhost/token",
        ),
        *customs,
    ):
        assert (provider.verified_email(profile, "") == email) is counts, provider


def test_an_account_of_no_organisation_gets_no_role_and_no_access(google: Google) -> None:
    """The address of a company does not make an account one of the company's. [T46]"""
    del google.profile["hd"]
    assert Site(google.provider(), admin_users="alice@example.com").roles() == ["viewer"]
    response = come_back(Site(google.provider(), allowed_email_domains="example.com").browser())
    assert response.status_code == 403


def test_the_organisation_may_stand_in_the_id_token_only(google: Google) -> None:
    """The ID token is validated and belongs to the same account. [T46]"""
    google.claims["hd"] = google.profile.pop("hd")
    assert Site(google.provider(), admin_users="alice@example.com").roles() == ["viewer", "admin"]


def test_a_grant_that_the_user_withdrew_has_ended(google: Google) -> None:
    tokens = login(google)
    provider = google.provider()
    assert provider.revoke_token(tokens.access_token) is True
    assert provider.revoke_token(tokens.refresh_token or "") is True, "the grant ended with the other token"
    with pytest.raises(TokenRefreshError) as caught:
        provider.refresh_tokens(tokens.refresh_token or "")
    assert caught.value.error == "invalid_grant"
    assert "canary" not in everything_told(caught.value)


def test_a_missing_secret_is_reported(google: Google) -> None:
    provider = google.provider(secret="wrong")
    with pytest.raises(TokenError, match="CLIENT_SECRET") as caught:
        provider.exchange_code("code", REDIRECT_URI)
    assert caught.value.error == "invalid_client"
    with pytest.raises(TokenError, match="client_secret is missing") as caught:
        google.provider(secret="").exchange_code("code", REDIRECT_URI)
    assert caught.value.error == "invalid_request"


def test_a_response_of_another_issuer_is_refused(google: Google) -> None:
    """``iss`` is checked although Google need not send it (RFC 9207). [T4]"""
    provider = google.provider()
    request = begin(provider, REDIRECT_URI)
    parameters = dict(parameters_of(Person().authorize(request.url)))
    assert parameters["iss"] == "https://accounts.google.com"
    for wrong in ("https://id.example.com", "https://accounts.google.com/", "accounts.google.com", ""):
        with pytest.raises(AuthenticationError) as caught:
            complete(provider, request, list((parameters | {"iss": wrong}).items()))
        assert caught.value.error == ErrorCode.ISSUER_MISMATCH
    assert google.requests("/token") == []
    del parameters["iss"]  # Google does not send it to all clients yet
    assert complete(provider, request, list(parameters.items())).user_id == SUBJECT


@pytest.mark.parametrize(
    ("issuer", "accepted"),
    [
        ("accounts.google.com", True),  # as its reference says of "legacy implementations"
        ("https://accounts.google.com/", False),
        ("http://accounts.google.com", False),
        ("https://id.example.com", False),
        ("", False),
        (None, False),
        (["accounts.google.com"], False),
    ],
)
def test_an_id_token_may_have_either_of_googles_two_issuer_names(
    google: Google, issuer: object, accepted: bool
) -> None:
    google.claims["iss"] = issuer
    if accepted:
        assert google.provider().issued_to_this_client(login(google))
        return
    with pytest.raises(TokenError) as caught:
        login(google)
    assert caught.value.error == ErrorCode.INVALID_ID_TOKEN


def test_another_configured_issuer_has_only_one_name(google: Google) -> None:
    google.claims["iss"] = "accounts.google.com"
    provider = google.provider(issuer="https://id.example.com")
    request = begin(provider, REDIRECT_URI)
    parameters = [pair for pair in parameters_of(Person().authorize(request.url)) if pair[0] != "iss"]
    with pytest.raises(TokenError):
        complete(provider, request, parameters)


def test_a_code_is_useless_without_its_verifier(google: Google) -> None:
    """Google checks PKCE. [T5]"""
    provider = google.provider()
    url = provider.build_authorize_url(REDIRECT_URI, "s", PKCEChallenge.generate())
    code = dict(parameters_of(Person().authorize(url)))["code"]
    with pytest.raises(TokenError) as caught:
        provider.exchange_code(code, REDIRECT_URI, PKCEChallenge.generate().verifier)
    assert caught.value.error == "invalid_grant"
