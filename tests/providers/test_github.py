"""GitHub: both modes and its peculiarities, against a local imitation of its documentation."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from pywry_auth.config import OAuth2Settings
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError, TokenError, TokenRefreshError
from pywry_auth.flow.authorization_code import begin, complete
from pywry_auth.models import OAuthTokenSet
from pywry_auth.providers.base import OAuthProvider
from pywry_auth.providers.factory import create_provider_from_settings
from pywry_auth.providers.github import GitHubProvider
from tests.person import Person, parameters_of
from tests.protocol.issuer import REDIRECT_URI
from tests.protocol.refusal import everything_told
from tests.protocol.servers import Answer
from tests.providers.imitations.github import API, EMAILS, REVOKE, GitHub, address
from tests.providers.imitations.imitation import CLIENT_ID
from tests.providers.site import Site, come_back, signed_in

USER_ID = "583231"
NO_REPLY = "583231+alice@users.noreply.github.com"


@pytest.fixture
def github() -> Iterator[GitHub]:
    with GitHub() as running:
        yield running


def login(provider: OAuthProvider) -> OAuthTokenSet:
    request = begin(provider, REDIRECT_URI)
    return complete(provider, request, parameters_of(Person().authorize(request.url))).tokens


def test_the_settings_create_the_provider_with_its_own_scopes() -> None:
    """``PROVIDER=github`` is enough. [S3, S4]"""
    provider = create_provider_from_settings(OAuth2Settings(provider="github", client_id=CLIENT_ID))
    assert isinstance(provider, GitHubProvider)
    assert (provider.name, provider.scopes) == ("github", ("read:user", "user:email"))
    assert provider.uses_openid is False
    endpoints = provider.metadata
    assert endpoints.authorization_endpoint == "https://github.com/login/oauth/authorize"
    assert endpoints.token_endpoint == "https://github.com/login/oauth/access_token"
    assert endpoints.device_authorization_endpoint == "https://github.com/login/device/code"
    assert endpoints.userinfo_endpoint == "https://api.github.com/user"
    assert endpoints.revocation_endpoint == f"https://api.github.com/applications/{CLIENT_ID}/token"


@pytest.mark.parametrize(
    ("base_url", "api"),
    [
        ("https://git.example.com", "https://git.example.com/api/v3"),
        ("https://git.example.com/", "https://git.example.com/api/v3"),
        ("https://octocorp.ghe.com", "https://api.octocorp.ghe.com"),
    ],
)
def test_an_enterprise_server_has_its_own_addresses(base_url: str, api: str) -> None:
    """``base_url`` decides all of them. [S4]"""
    endpoints = GitHubProvider(CLIENT_ID, base_url=base_url).metadata
    assert endpoints.token_endpoint == base_url.rstrip("/") + "/login/oauth/access_token"
    assert endpoints.userinfo_endpoint == f"{api}/user"
    assert endpoints.revocation_endpoint == f"{api}/applications/{CLIENT_ID}/token"


def test_an_enterprise_server_needs_https() -> None:
    with pytest.raises(AuthenticationError, match="base_url") as caught:
        GitHubProvider(CLIENT_ID, base_url="http://git.example.com")
    assert caught.value.error == ErrorCode.INVALID_CONFIGURATION


def test_a_program_signs_in_and_out(github: GitHub, caplog: pytest.LogCaptureFixture) -> None:
    """The numeric ID is the user; the profile is unchanged except for an added address. [S4, S5, P16, P18]"""
    app, result = signed_in(github.provider())
    assert result.user_id == USER_ID
    assert result.user_info == {**github.profile, "email": "alice@example.com"}
    assert result.tokens.scope == "read:user user:email"
    assert result.tokens.expires_at is None
    asked = dict(parse_qsl(urlsplit(github.requests("/login/oauth/authorize")[0].target).query))
    assert asked["code_challenge_method"] == "S256"
    assert "nonce" not in asked
    app.logout()
    assert github.holder(result.tokens.access_token) is None
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_api_calls_have_the_recommended_headers(github: GitHub) -> None:
    login(github.provider())
    for path in (f"{API}/user", EMAILS):
        (request,) = github.requests(path)
        assert request.headers["accept"] == "application/vnd.github+json, */*;q=0.1"
        assert request.headers["x-github-api-version"] == "2022-11-28"
        assert request.headers["user-agent"].startswith("pywry-auth/")


def test_a_website_signs_in_and_out(github: GitHub) -> None:
    """The verified primary address makes an administrator. [S7]"""
    site = Site(github.provider(), admin_users="alice@example.com")
    browser = site.browser()
    assert come_back(browser).status_code == 303
    assert browser.get("/auth/status").json["roles"] == ["viewer", "admin"]
    assert browser.get("/auth/status").json["user_id"] == USER_ID
    assert browser.post("/auth/refresh").json["error"] == "no_refresh_token"
    assert browser.post("/auth/logout").json["logged_out"] is True
    (request,) = github.requests(REVOKE)
    assert (request.method, request.headers["content-type"]) == ("DELETE", "application/json")
    (token,) = json.loads(request.body).values()
    assert github.holder(token) is None
    assert site.tokens.load(USER_ID) is None


@pytest.mark.parametrize(
    ("addresses", "admin"),
    [
        ([address("admin@example.com", primary=True)], True),
        ([address("ADMIN@Example.com", primary=True)], True),
        ([address("admin@example.com", primary=True, verified=False)], False),
        ([address("admin@example.com"), address("alice@example.com", primary=True)], False),
        ([address("admin@example.com", primary="true")], False),
        ([address("admin@example.com", primary=True, verified=1)], False),
        ([{"email": "admin@example.com"}, "admin@example.com", None], False),
        ([], False),
    ],
)
def test_only_the_primary_verified_address_counts(github: GitHub, addresses: list[Any], admin: bool) -> None:
    """The address in the public profile does not count. [P18, T15]"""
    github.profile["email"] = "admin@example.com"
    github.addresses = addresses
    assert ("admin" in Site(github.provider(), admin_users="admin@example.com").roles()) is admin


@pytest.mark.parametrize("email", [NO_REPLY, NO_REPLY.upper(), "alice@users.noreply.git.example.com"])
def test_a_no_reply_address_is_not_verified(github: GitHub, email: str) -> None:
    """GitHub's substitute for a private address identifies no user. [P18]"""
    github.addresses = [address(email, primary=True)]
    provider = github.provider()
    tokens = login(provider)
    assert provider.verified_email({"email": email}, tokens.access_token) is None
    assert provider.get_userinfo(tokens.access_token)["email"] == email
    assert Site(provider, admin_users=email).roles() == ["viewer"]


def test_a_web_sign_in_reads_the_addresses_once(github: GitHub) -> None:
    """The session records the verified one, also if no rule needs it."""
    github.profile["email"] = "public@example.com"
    assert Site(github.provider(), admin_users=USER_ID).roles() == ["viewer", "admin"]
    assert len(github.requests(EMAILS)) == 1


def test_a_late_address_is_reported_with_the_limit_that_holds(
    github: GitHub, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """HTTP_TIMEOUT_SECONDS does not change it."""

    def late(self: object, profile: object, access_token: str) -> str:
        raise AuthenticationError("…/emails: no complete answer within 2 s; raise HTTP_TIMEOUT_SECONDS.")

    provider = github.provider()
    monkeypatch.setattr(type(provider), "verified_email", late)
    assert Site(provider).roles() == ["viewer"]
    (told,) = [text for text in caplog.messages if "without the user's address" in text]
    assert "within 2 s. It is asked for again at the next sign-in, each time for 2 s at most." in told
    assert "HTTP_TIMEOUT_SECONDS" not in told


def test_a_login_name_with_a_new_owner_makes_no_administrator(github: GitHub) -> None:
    """The rules compare the ID, not the login name. [T16]"""
    assert Site(github.provider(), admin_users="alice").roles() == ["viewer"]


def test_an_address_in_the_profile_stays_unchanged(github: GitHub) -> None:
    github.profile["email"] = "public@example.com"
    provider = github.provider()
    assert provider.get_userinfo(login(provider).access_token) == github.profile
    assert github.requests(EMAILS) == []


def test_addresses_are_not_read_without_the_scope(github: GitHub) -> None:
    provider = github.provider(scopes=["read:user"])
    assert provider.get_userinfo(login(provider).access_token)["email"] is None
    assert github.requests(EMAILS) == []


def test_the_primary_address_is_found_among_many(github: GitHub) -> None:
    """GitHub sends 30 addresses unless the request asks for more. [P18]"""
    others = [address(f"alice+{number}@example.com") for number in range(60)]
    github.addresses = [*others, address("alice@example.com", primary=True)]
    assert Site(github.provider(), admin_users="alice@example.com").roles() == ["viewer", "admin"]
    assert {request.target for request in github.requests(EMAILS)} == {f"{EMAILS}?per_page=100"}


def test_an_app_without_the_permission_signs_in_without_an_address(github: GitHub) -> None:
    """A GitHub App may lack the permission to read addresses."""
    refusal = {"message": "Resource not accessible by integration", "status": "403"}
    github.answers[EMAILS] = Answer(refusal, 403)
    assert Site(github.provider(), admin_users="alice@example.com").roles() == ["viewer"]


def test_a_scope_that_was_not_granted_does_not_stop_the_login() -> None:
    """A user may remove a scope. [P16]"""
    with GitHub(granted="read:user") as github:
        _, result = signed_in(github.provider())
        assert result.tokens.scope == "read:user"
        assert result.user_info["email"] is None
        assert Site(github.provider(), admin_users="alice@example.com").roles() == ["viewer"]


RATE_LIMITED = [
    Answer({"message": "API rate limit exceeded for user ID 583231."}, 403, headers={"Retry-After": "60"}),
    Answer({"message": "You have exceeded a secondary rate limit."}, 403, headers={"Retry-After": "60"}),
    Answer({"message": "API rate limit exceeded"}, 429, headers={"Retry-After": "60"}),
]


@pytest.mark.parametrize(
    "answer",
    [
        Answer({}, 500),
        Answer({"message": "no list"}),
        Answer(b"<html>"),
        Answer({"message": "Bad credentials"}, 401),
        *RATE_LIMITED,
    ],
)
def test_unavailable_addresses_give_no_role(github: GitHub, answer: Answer) -> None:
    """The profile stays usable; a rule about addresses is an error. [S11]"""
    github.answers[EMAILS] = answer
    _, result = signed_in(github.provider())
    assert result.user_info["email"] is None
    browser = Site(github.provider(), admin_users="alice@example.com").browser()
    assert come_back(browser).status_code in (400, 502, 503)
    assert browser.user is None


@pytest.mark.parametrize("answer", RATE_LIMITED)
@pytest.mark.parametrize("path", [f"{API}/user", EMAILS])
def test_a_rate_limit_of_github_is_temporary(github: GitHub, path: str, answer: Answer) -> None:
    """GitHub answers with status 403 or 429. [T73]"""
    github.answers[path] = answer
    response = come_back(Site(github.provider(), admin_users="alice@example.com").browser())
    assert (response.status_code, response.headers["Retry-After"]) == (503, "60")
    assert "temporarily_unavailable" in response.text


def test_expiring_tokens_are_refreshed_until_the_grant_ends() -> None:
    """The error has status 200 and GitHub's own code. [S4, S5]"""
    with GitHub(expiring=True) as github:
        provider = github.provider()
        tokens = login(provider)
        assert tokens.expires_in == 28800
        fresh = provider.refresh_tokens(tokens.refresh_token or "")
        assert fresh.refresh_token not in (None, tokens.refresh_token)
        assert fresh.scope == "read:user user:email"
        with pytest.raises(TokenRefreshError) as caught:
            provider.refresh_tokens(tokens.refresh_token or "")
        assert caught.value.error == "bad_refresh_token"
        assert "canary" not in everything_told(caught.value)
        assert provider.revoke_token(fresh.refresh_token or "") is False
        assert github.requests(REVOKE) == []


def test_a_website_refreshes_expiring_tokens() -> None:
    with GitHub(expiring=True) as github:
        site = Site(github.provider())
        browser = site.browser()
        come_back(browser)
        assert browser.post("/auth/refresh").json["refreshed"] is True
        tokens = site.tokens.load(USER_ID)
        assert tokens is not None
        grant = github.holder(tokens.access_token)
        assert grant is not None
        grant.tokens.clear()
        site.tokens.replace(
            USER_ID, replace(tokens, issued_at=0), tokens
        )  # otherwise it counts as just refreshed
        answer = browser.post("/auth/refresh")
        assert (answer.status_code, answer.json["error"]) == (401, "reauth_required")


@pytest.mark.parametrize(
    ("secret", "code", "redirect_uri", "error"),
    [
        (None, "wrong", REDIRECT_URI, "bad_verification_code"),
        (None, None, "https://other.example.com/", "redirect_uri_mismatch"),
        ("wrong", None, REDIRECT_URI, "incorrect_client_credentials"),
    ],
)
def test_an_error_with_status_200_is_an_error(
    github: GitHub, secret: str | None, code: str | None, redirect_uri: str, error: str
) -> None:
    """GitHub reports errors with status 200. [S4]"""
    provider = github.provider(**({"secret": secret} if secret else {}))
    request = begin(provider, REDIRECT_URI)
    found = dict(parameters_of(Person().authorize(request.url)))["code"]
    with pytest.raises(TokenError) as caught:
        provider.exchange_code(code or found, redirect_uri, request.code_verifier)
    assert caught.value.error == error
    assert caught.value.error_description
    assert found not in everything_told(caught.value)


def test_a_code_is_useless_without_its_verifier(github: GitHub) -> None:
    """GitHub checks PKCE. [T5, S4]"""
    provider = github.provider()
    request = begin(provider, REDIRECT_URI)
    code = dict(parameters_of(Person().authorize(request.url)))["code"]
    with pytest.raises(TokenError) as caught:
        provider.exchange_code(code, REDIRECT_URI, "v" * 43)
    assert caught.value.error == "bad_verification_code"


def test_without_the_secret_no_token_is_revoked_and_a_warning_is_logged(
    github: GitHub, caplog: pytest.LogCaptureFixture
) -> None:
    """GitHub requires the secret for revocation. [S4]"""
    assert github.provider(secret="").revoke_token("gho_canary") is False
    assert github.requests(REVOKE) == []
    assert "CLIENT_SECRET" in caplog.text
    assert "canary" not in caplog.text


def test_a_failed_revocation_is_logged(github: GitHub, caplog: pytest.LogCaptureFixture) -> None:
    provider = github.provider()
    tokens = login(provider)
    assert github.provider(secret="wrong").revoke_token(tokens.access_token) is False
    assert "did not revoke" in caplog.text
    github.server.close()
    assert provider.revoke_token(tokens.access_token) is False
    assert "could not be revoked" in caplog.text
    assert "canary" not in caplog.text


@pytest.mark.parametrize(("status", "revoked"), [(204, True), (200, True), (404, False), (422, False)])
def test_a_successful_status_confirms_a_revocation(github: GitHub, status: int, revoked: bool) -> None:
    """422 means "Validation failed, or the endpoint has been spammed". [S4]"""
    github.answers[REVOKE] = Answer(b"" if status == 204 else {"message": "of the test"}, status)
    assert github.provider().revoke_token("gho_x") is revoked


def test_a_client_id_stays_one_segment_of_the_path() -> None:
    endpoint = GitHubProvider("a/../b?c").metadata.revocation_endpoint
    assert endpoint == "https://api.github.com/applications/a%2F..%2Fb%3Fc/token"


def test_a_suspended_user_has_no_profile(github: GitHub) -> None:
    with pytest.raises(AuthenticationError, match="401"):
        github.provider().get_userinfo("gho_gone")
