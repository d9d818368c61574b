"""The default of each step, against a provider whose answers a test sets."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, ClassVar
from urllib.parse import parse_qsl, urlsplit

import pytest

from pywry_auth.config import OAuth2Settings
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError, TokenError, TokenRefreshError
from pywry_auth.protocol.authorization_response import AuthorizationCode
from pywry_auth.protocol.pkce import PKCEChallenge
from pywry_auth.providers.base import OAuthProvider
from pywry_auth.providers.factory import create_provider_from_settings
from tests.protocol.forge import PrivateKey, changed, make_key, segment, sign
from tests.protocol.issuer import (
    ACCESS_TOKEN,
    CLIENT_ID,
    CLIENT_SECRET,
    NOW,
    REDIRECT_URI,
    REFRESH_TOKEN,
    SUBJECT,
    ScriptedIssuer,
    claims_of,
)
from tests.protocol.refusal import everything_told
from tests.protocol.servers import Answer, Behaviour, resets

ID = "https://id.example.com"
URLS = {"authorize_url": f"{ID}/authorize", "token_url": f"{ID}/token"}


def plain(**options: Any) -> OAuthProvider:
    return OAuthProvider(CLIENT_ID, CLIENT_SECRET, **{**URLS, **options})


def query_of(url: str) -> dict[str, str]:
    pairs = parse_qsl(urlsplit(url).query, keep_blank_values=True, strict_parsing=True)
    assert len(dict(pairs)) == len(pairs), "no parameter appears twice"
    return dict(pairs)


# The constructor


def test_a_client_without_an_identifier_is_refused() -> None:
    with pytest.raises(AuthenticationError, match="CLIENT_ID") as caught:
        OAuthProvider("", **URLS)  # type: ignore[arg-type]
    assert caught.value.error == ErrorCode.INVALID_CONFIGURATION


@pytest.mark.parametrize(
    "name",
    [
        "authorize_url",
        "token_url",
        "userinfo_url",
        "revocation_url",
        "jwks_url",
        "end_session_url",
        "device_authorization_url",
    ],
)
@pytest.mark.parametrize(
    "url", ["http://id.example.com/", "id.example.com", "https://a:canary@id.example.com/"]
)
def test_an_invalid_endpoint_is_named(name: str, url: str) -> None:
    """The error names the option and shows no password. [S3, T31]"""
    with pytest.raises(AuthenticationError, match=name.upper()) as caught:
        plain(**{name: url})
    assert caught.value.error == ErrorCode.INVALID_CONFIGURATION
    assert "canary" not in everything_told(caught.value)


def test_a_misspelt_argument_is_an_error() -> None:
    with pytest.raises(TypeError, match="userinfo_uri"):
        plain(userinfo_uri=f"{ID}/userinfo")


def test_a_provider_hides_its_secret() -> None:
    """The client secret is not in the representation. [T31]"""
    provider = plain(proxy_url="http://alice:canary-proxy@proxy.example.com")
    assert CLIENT_ID in repr(provider)
    assert "canary" not in repr(provider)


@pytest.mark.parametrize(
    "scopes", [["openid", "email"], ("openid", "email"), "openid email", " openid  email "]
)
def test_scopes_may_be_a_list_or_a_string(scopes: Any) -> None:
    assert plain(scopes=scopes).scopes == ("openid", "email")
    assert plain().with_scopes(scopes).scopes == ("openid", "email")


def test_with_scopes_returns_a_copy() -> None:
    first = plain(scopes=["openid"])
    other = first.with_scopes(["read"])
    assert (first.scopes, other.scopes) == (("openid",), ("read",))
    assert (first.uses_openid, other.uses_openid) == (True, False)
    assert other.client_id == CLIENT_ID


# The authorization request


def test_the_request_has_all_parameters_that_bind_the_response() -> None:
    """The URL has state, nonce and code challenge (RFC 6749 §4.1.1, RFC 7636 §4.3, OIDC Core §3.1.2.1).

    [T5, T6]
    """
    pkce = PKCEChallenge("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")
    url = plain(scopes=["openid", "email"]).build_authorize_url(
        REDIRECT_URI, "state", pkce, "nonce", {"prompt": "login"}
    )
    assert url.startswith(f"{ID}/authorize?")
    assert query_of(url) == {
        "response_type": "code",
        "client_id": CLIENT_ID,
        "redirect_uri": REDIRECT_URI,
        "scope": "openid email",
        "state": "state",
        "nonce": "nonce",
        "code_challenge": "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",
        "code_challenge_method": "S256",
        "prompt": "login",
    }
    assert pkce.verifier not in url
    assert CLIENT_SECRET not in url


def test_optional_parameters_are_left_out() -> None:
    query = query_of(plain().build_authorize_url(REDIRECT_URI, "state"))
    assert set(query) == {"response_type", "client_id", "redirect_uri", "state"}
    with_scope = plain(authorize_url=f"{ID}/authorize?scope=theirs")
    assert query_of(with_scope.build_authorize_url(REDIRECT_URI, "state"))["scope"] == "theirs"
    assert query_of(with_scope.with_scopes("ours").build_authorize_url(REDIRECT_URI, "s"))["scope"] == "ours"


def test_the_query_of_the_endpoint_is_kept_but_replaces_no_parameter() -> None:
    """The endpoint's query stays in the URL (RFC 6749 §3.1)."""
    endpoint = f"{ID}/authorize?tenant=7&state=theirs&code_challenge_method=plain"
    query = query_of(
        plain(authorize_url=endpoint).build_authorize_url(REDIRECT_URI, "ours", PKCEChallenge.generate())
    )
    assert (query["tenant"], query["state"], query["code_challenge_method"]) == ("7", "ours", "S256")


@pytest.mark.parametrize(
    "name",
    [
        "response_type",
        "client_id",
        "redirect_uri",
        "scope",
        "state",
        "nonce",
        "code_challenge",
        "code_challenge_method",
        "response_mode",
        "request",
        "request_uri",
        "claims",
        "dpop_jkt",
    ],
)
def test_an_extra_parameter_cannot_replace_a_required_one(name: str) -> None:
    """State, nonce and code challenge cannot be overridden. [T6]"""
    with pytest.raises(AuthenticationError, match=rf"extra_params.*{name}") as caught:
        plain().build_authorize_url(REDIRECT_URI, "state", extra_params={"prompt": "login", name: "canary"})
    assert caught.value.error == ErrorCode.INVALID_CONFIGURATION


@pytest.mark.parametrize("name", ["Scope", "state[]", "client_secret", "a b", "a\nb", ""])
def test_a_name_that_a_provider_may_read_as_a_required_one_is_refused(name: str) -> None:
    """The error shows no value. [T6]"""
    for refused in (
        lambda: plain().build_authorize_url(REDIRECT_URI, "state", extra_params={name: "canary"}),
        lambda: plain(authorize_params={name: "canary"}),
    ):
        with pytest.raises(AuthenticationError) as caught:
            refused()
        assert caught.value.error == ErrorCode.INVALID_CONFIGURATION
        assert "canary" not in everything_told(caught.value)


@pytest.mark.parametrize("value", ["", 7, None, " canary", "can\nary"])
def test_a_value_in_code_is_checked_like_a_setting(value: Any) -> None:
    with pytest.raises(AuthenticationError, match="AUTHORIZE_PARAMS") as caught:
        plain(authorize_params={"audience": value})
    assert "canary" not in everything_told(caught.value)
    with pytest.raises(AuthenticationError, match="AUTHORIZE_PARAMS"):
        plain(authorize_params="audience=canary")


def test_the_options_replace_the_class_and_a_call_replaces_both() -> None:
    class Notes(OAuthProvider):
        authorize_params: ClassVar[Mapping[str, str]] = {"audience": "notes", "prompt": "consent", "v": "1"}

    chosen = {"audience": "books", "prompt": "login"}
    options: dict[str, Any] = {**URLS, "authorize_params": chosen}
    provider = Notes(CLIENT_ID, **options)
    chosen["audience"] = "changed afterwards"
    query = query_of(provider.build_authorize_url(REDIRECT_URI, "s", extra_params={"prompt": "create"}))
    assert (query["audience"], query["prompt"], query["v"]) == ("books", "create", "1")


def test_the_settings_and_the_code_have_the_same_options() -> None:
    """The settings of a program reach its provider. [S3]"""
    settings = OAuth2Settings(
        client_id=CLIENT_ID,
        authorize_url=URLS["authorize_url"],
        token_url=URLS["token_url"],
        authorize_params={"hd": "example.com"},
        resource=API,
    )
    provider = create_provider_from_settings(settings)
    query = query_of(provider.with_scopes("read").build_authorize_url(REDIRECT_URI, "s"))
    assert (query["hd"], query["resource"]) == ("example.com", API)


# The resource (RFC 8707)

API = "https://api.example.com/v1"


def test_the_resource_is_sent_when_tokens_are_requested(issuer: ScriptedIssuer) -> None:
    """At authorization, exchange and refresh, but not at revocation (RFC 8707 §2). [S3]"""
    issuer.answers |= {"/token": Answer(issuer.tokens()), "/revoke": Answer({})}
    for resource in (API, ""):
        provider = issuer.provider(scopes=["read"], resource=resource)
        expected = {"resource": API} if resource else {}
        url = provider.build_authorize_url(REDIRECT_URI, "s")
        assert expected.items() <= query_of(url).items()
        provider.exchange_code("code", REDIRECT_URI)
        provider.refresh_tokens(REFRESH_TOKEN)
        forms = [dict(parse_qsl(request.body.decode())) for request in issuer.requests("/token")[-2:]]
        found = [form["resource"] for form in [*forms, query_of(url)] if "resource" in form]
        assert found == [API] * 3 if resource else not found
        provider.revoke_token(ACCESS_TOKEN)
        assert b"resource" not in issuer.requests("/revoke")[-1].body


def test_a_second_resource_is_refused() -> None:
    """The token request could not name both. The class cannot replace the setting either."""
    with pytest.raises(AuthenticationError, match=r"AUTHORIZE_PARAMS.*RESOURCE"):
        plain(resource=API, authorize_params={"resource": "urn:other"})
    with pytest.raises(AuthenticationError, match=r"extra_params.*RESOURCE"):
        plain(resource=API).build_authorize_url(REDIRECT_URI, "s", extra_params={"resource": "urn:other"})
    for resource in ("https://api.example.com/#canary", ["https://canary.example.com"], 7):
        with pytest.raises(AuthenticationError, match="RESOURCE") as caught:
            plain(resource=resource)
        assert "canary" not in everything_told(caught.value)
    assert (
        query_of(plain(authorize_params={"resource": API}).build_authorize_url(REDIRECT_URI, "s"))["resource"]
        == API
    )

    class Notes(OAuthProvider):
        authorize_params: ClassVar[Mapping[str, str]] = {"resource": "urn:notes"}

    options: dict[str, Any] = {**URLS, "resource": API}
    url = Notes(CLIENT_ID, **options).build_authorize_url(REDIRECT_URI, "s")
    assert query_of(url)["resource"] == API


# Exchange


def serving(issuer: ScriptedIssuer, **members: object) -> None:
    issuer.answers["/token"] = Answer(issuer.tokens(**members))


def test_an_exchange_returns_validated_tokens(issuer: ScriptedIssuer) -> None:
    serving(issuer, id_token=issuer.id_token(nonce="n"))
    tokens = issuer.provider().exchange_code(AuthorizationCode("code"), REDIRECT_URI, "v" * 43, "n")
    assert tokens.id_token_claims == claims_of(issuer.url, nonce="n")
    assert (tokens.access_token, tokens.refresh_token) == (ACCESS_TOKEN, REFRESH_TOKEN)
    assert (tokens.issuer, tokens.client_id) == (issuer.url, CLIENT_ID)
    assert "canary" not in repr(tokens)


def test_a_code_as_a_string_is_exchanged(issuer: ScriptedIssuer) -> None:
    serving(issuer, id_token=issuer.id_token())
    issuer.provider().exchange_code("code", REDIRECT_URI)
    assert issuer.requests("/token")[0].form["code"] == "code"


@pytest.mark.parametrize("missing", [..., None, ""])
def test_an_id_token_is_required_if_openid_was_requested(issuer: ScriptedIssuer, missing: object) -> None:
    """A response without one is refused (OIDC Core §3.1.3.3). [T28]"""
    serving(issuer, id_token=missing)
    with pytest.raises(TokenError, match="no ID token") as caught:
        issuer.provider().exchange_code("code", REDIRECT_URI, nonce="n")
    assert caught.value.error == ErrorCode.INVALID_ID_TOKEN


def test_an_id_token_without_request_is_dropped(issuer: ScriptedIssuer) -> None:
    """It was not validated. [T28]"""
    serving(issuer, id_token="canary.forged.token")
    provider = issuer.provider(scopes=["read"])
    for tokens in (provider.exchange_code("code", REDIRECT_URI), provider.refresh_tokens("old")):
        assert tokens.id_token is None
        assert tokens.id_token_claims == {}


@pytest.mark.parametrize("scope", [..., ""])
def test_a_response_without_scope_means_the_requested_scope(issuer: ScriptedIssuer, scope: object) -> None:
    """The scope may be left out if it is the requested one (RFC 6749 §5.1). [P16]"""
    serving(issuer, scope=scope, id_token=issuer.id_token())
    assert issuer.provider().exchange_code("code", REDIRECT_URI).scope == "openid email profile"
    serving(issuer, scope="openid", id_token=issuer.id_token())
    assert issuer.provider().exchange_code("code", REDIRECT_URI).scope == "openid"


@pytest.mark.parametrize(
    "members",
    [
        {"nonce": "canary-other"},
        {"nonce": ...},
        {"aud": "canary-other"},
        {"exp": NOW - 600},
        {"at_hash": "canary"},
    ],
)
def test_an_exchange_with_an_invalid_id_token_fails(
    issuer: ScriptedIssuer, members: dict[str, object]
) -> None:
    """Nonce and at_hash are compared with those of this request and response. [T5, T19, T20]"""
    serving(issuer, id_token=issuer.id_token(**{"nonce": "n", **members}))
    with pytest.raises(TokenError) as caught:
        issuer.provider().exchange_code("code", REDIRECT_URI, nonce="n")
    assert caught.value.error == ErrorCode.INVALID_ID_TOKEN
    assert "canary" not in everything_told(caught.value)


# Refresh


def test_a_refresh_may_return_no_id_token(issuer: ScriptedIssuer) -> None:
    serving(issuer, access_token="canary-next", refresh_token=...)
    tokens = issuer.provider().refresh_tokens("old")
    assert (tokens.access_token, tokens.refresh_token, tokens.id_token) == ("canary-next", "old", None)


def test_a_refreshed_id_token_is_validated_without_a_nonce(issuer: ScriptedIssuer) -> None:
    """It may have no nonce, or that of the sign-in (OIDC Core §12.2)."""
    serving(issuer, id_token=issuer.id_token(nonce="of the sign-in"))
    assert issuer.provider().refresh_tokens("old").id_token_claims["sub"] == SUBJECT
    serving(issuer, id_token=issuer.id_token(aud="canary-other"))
    with pytest.raises(TokenError) as caught:
        issuer.provider().refresh_tokens("old")
    assert caught.value.error == ErrorCode.INVALID_ID_TOKEN


@pytest.mark.parametrize("away", [Answer({}, 500), Answer({"no": "keys"}), resets])
def test_no_refresh_token_is_spent_if_the_answer_could_not_be_validated(
    issuer: ScriptedIssuer, away: Answer | Behaviour
) -> None:
    """With rotation, the new refresh token would be lost, and the old one would count as stolen. [P10]"""
    serving(issuer, id_token=issuer.id_token())
    issuer.answers["/jwks"] = away
    provider = issuer.provider()
    with pytest.raises(AuthenticationError) as caught:
        provider.refresh_tokens("old")
    assert not isinstance(caught.value, TokenRefreshError)
    assert issuer.requests("/token") == []
    del issuer.answers["/jwks"]
    assert provider.refresh_tokens("old").id_token_claims["sub"] == SUBJECT


def test_an_ended_grant_is_distinguished_from_an_outage(issuer: ScriptedIssuer) -> None:
    provider = issuer.provider()
    issuer.answers["/token"] = Answer({"error": "invalid_grant"}, 400)
    with pytest.raises(TokenRefreshError) as dead:
        provider.refresh_tokens("old")
    assert dead.value.error == "invalid_grant"
    issuer.answers["/token"] = Answer({"error": "invalid_grant"}, 503)
    with pytest.raises(TokenError) as away:
        provider.refresh_tokens("old")
    assert (type(away.value), away.value.error) == (TokenError, ErrorCode.PROVIDER_UNREACHABLE)


# UserInfo

PROFILE = {"sub": SUBJECT, "name": "Alice", "email": "alice@example.com", "deep": {"a": [1, None]}}


def test_the_profile_is_returned_unchanged(issuer: ScriptedIssuer) -> None:
    issuer.answers["/userinfo"] = Answer(PROFILE)
    assert issuer.provider().get_userinfo(ACCESS_TOKEN) == PROFILE
    (request,) = issuer.requests("/userinfo")
    assert (request.method, request.headers["authorization"]) == ("GET", f"Bearer {ACCESS_TOKEN}")


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Answer({"error": "invalid_token"}, 401), ErrorCode.INVALID_RESPONSE),
        (Answer(b"<html>canary</html>", 200, "text/html"), ErrorCode.INVALID_RESPONSE),
        (Answer(["canary"]), ErrorCode.INVALID_RESPONSE),
        (
            Answer(b"", 302, headers={"Location": "https://id2.example.com/?t=canary"}),
            ErrorCode.INVALID_RESPONSE,
        ),
        (Answer({}, 500), ErrorCode.PROVIDER_UNREACHABLE),
        (resets, ErrorCode.PROVIDER_UNREACHABLE),
    ],
)
def test_a_missing_profile_is_an_error(
    issuer: ScriptedIssuer, answer: Answer | Behaviour, error: str
) -> None:
    issuer.answers["/userinfo"] = answer
    with pytest.raises(AuthenticationError) as caught:
        issuer.provider().get_userinfo(ACCESS_TOKEN)
    assert caught.value.error == error
    assert "canary" not in everything_told(caught.value)


def signed(issuer: ScriptedIssuer, forger: PrivateKey | None = None, **members: object) -> Answer:
    claims = changed({**PROFILE, "iss": issuer.url, "aud": CLIENT_ID}, **members)
    token = sign({"alg": "ES256", "kid": "main"}, claims, forger or issuer.key, "ES256")
    return Answer(token.encode(), media_type="application/jwt")


def test_a_signed_profile_is_verified_and_read(issuer: ScriptedIssuer) -> None:
    """The profile may be a signed JWT (OIDC Core §5.3.2)."""
    issuer.answers["/userinfo"] = signed(issuer)
    assert issuer.provider().get_userinfo(ACCESS_TOKEN)["email"] == "alice@example.com"
    issuer.answers["/userinfo"] = signed(issuer, exp=NOW + 60, iat=NOW)
    assert issuer.provider().get_userinfo(ACCESS_TOKEN)["name"] == "Alice"


FORGED: dict[str, Callable[[ScriptedIssuer], Answer]] = {
    "another key": lambda i: signed(i, make_key("P-256", "forger")),
    "another issuer": lambda i: signed(i, iss="https://canary.example.com"),
    "no issuer": lambda i: signed(i, iss=...),
    "another audience": lambda i: signed(i, aud="canary"),
    "no audience": lambda i: signed(i, aud=...),
    "another party": lambda i: signed(i, azp="canary"),
    "expired": lambda i: signed(i, exp=NOW - 61),
    "not yet valid": lambda i: signed(i, nbf=NOW + 61),
    "of the future": lambda i: signed(i, iat=NOW + 61),
    "exp no time": lambda i: signed(i, exp="canary"),
    "unsigned": lambda i: Answer(
        f"{segment({'alg': 'none'})}.{segment(PROFILE)}.".encode(), media_type="application/jwt"
    ),
    "nothing": lambda i: Answer(b"", media_type="application/jwt"),
    "JSON": lambda i: Answer(PROFILE, media_type="application/jwt"),
    "no ASCII": lambda i: Answer(b"\xff\xfe.\xff.\xff", media_type="application/jwt"),
}


@pytest.mark.parametrize("forged", FORGED)
def test_a_forged_profile_is_refused(issuer: ScriptedIssuer, forged: str) -> None:
    """A signed profile is validated like an ID token. [T17]"""
    issuer.answers["/userinfo"] = FORGED[forged](issuer)
    with pytest.raises(TokenError) as caught:
        issuer.provider().get_userinfo(ACCESS_TOKEN)
    assert caught.value.error == ErrorCode.INVALID_ID_TOKEN
    assert "canary" not in everything_told(caught.value)


def test_a_profile_needs_an_endpoint() -> None:
    with pytest.raises(AuthenticationError, match="USERINFO_URL"):
        plain().get_userinfo(ACCESS_TOKEN)


@pytest.mark.parametrize(
    ("scopes", "claims", "asked", "suffices"),
    [
        ("openid", {"sub": "s"}, True, True),
        ("openid email", {"sub": "s", "email": "a@example.com"}, True, True),
        ("openid email", {"sub": "s"}, True, False),
        ("openid email", {"sub": "s", "email": ""}, True, False),
        ("openid profile", {"sub": "s"}, True, False),
        ("openid profile", {"sub": "s", "name": "Alice"}, True, True),
        ("openid profile", {"sub": "s", "name": "Alice"}, False, False),
        ("openid", {}, True, False),
    ],
)
def test_claims_suffice_if_they_have_all_requested_claims(
    scopes: str, claims: dict[str, str], asked: bool, suffices: bool
) -> None:
    """``USERINFO_FROM_ID_TOKEN`` then saves the UserInfo call. [S3]"""
    provider = plain(userinfo_url=f"{ID}/userinfo", scopes=scopes, userinfo_from_id_token=asked)
    assert provider.profile_suffices(claims) is suffices
    assert plain(scopes=scopes).profile_suffices(claims) is bool(claims), "there is no other source"


@pytest.mark.parametrize(
    ("value", "verified"),
    [
        (True, True),
        ("true", True),
        (False, False),
        ("false", False),
        (None, False),
        (1, False),
        ("True", False),
        ([True], False),
        ("yes", False),
    ],
)
def test_an_address_is_verified_by_a_boolean_or_a_string(value: object, verified: bool) -> None:
    """A missing ``email_verified`` does not mean yes. [P23, T15]"""
    profile = {"email": "a@example.com", "email_verified": value}
    assert plain().verified_email(profile, ACCESS_TOKEN) == ("a@example.com" if verified else None)
    assert plain().verified_email({"email": "a@example.com"}, ACCESS_TOKEN) is None
    assert plain().verified_email({**profile, "email": ["a@example.com"]}, ACCESS_TOKEN) is None


# Revocation, sign-out, closing


@pytest.mark.parametrize(
    ("answer", "revoked"),
    [
        (Answer(b""), True),
        (Answer({"error": "unsupported_token_type"}, 400), False),
        (Answer({}, 503), False),
        (Answer(b"", 307, headers={"Location": "https://id2.example.com/?token=canary"}), False),
        (resets, False),
    ],
)
def test_revocation_reports_its_result(
    issuer: ScriptedIssuer, caplog: pytest.LogCaptureFixture, answer: Answer | Behaviour, revoked: bool
) -> None:
    """A sign-out continues whatever the provider answers (RFC 7009 §2.2). [T24]"""
    issuer.answers["/revoke"] = answer
    with caplog.at_level(logging.DEBUG):
        assert issuer.provider().revoke_token(REFRESH_TOKEN) is revoked
    assert len(issuer.requests("/revoke")) == 1
    assert any(record.levelno == logging.WARNING for record in caplog.records) is not revoked
    assert "canary" not in caplog.text


def test_revocation_without_endpoint_or_answer_is_false(issuer: ScriptedIssuer) -> None:
    assert plain().revoke_token("token") is False
    issuer.answers["/.well-known/openid-configuration"] = Answer({}, 500)
    assert issuer.provider().revoke_token("token") is False


def test_the_sign_out_url_has_the_user_and_the_return_address() -> None:
    """The URL has hint, client and redirect (OIDC RP-Initiated Logout §2)."""
    provider = plain(end_session_url=f"{ID}/logout?tenant=7")
    assert query_of(provider.end_session_url("canary.id.token", "https://app.example.com/", "s") or "") == {
        "tenant": "7",
        "id_token_hint": "canary.id.token",
        "client_id": CLIENT_ID,
        "post_logout_redirect_uri": "https://app.example.com/",
        "state": "s",
    }
    assert query_of(provider.end_session_url() or "") == {"tenant": "7", "client_id": CLIENT_ID}
    assert plain().end_session_url() is None
    template = plain(end_session_url=f"{ID}/logout?client={{client_id}}&s={{state}}")
    assert (
        template.end_session_url("canary.id.token", "/", "x y") == f"{ID}/logout?client={CLIENT_ID}&s=x%20y"
    )
    with pytest.raises(AuthenticationError, match="END_SESSION_URL is no valid template"):
        plain(end_session_url=f"{ID}/logout?client={{client}}")


def test_a_closed_provider_stays_usable(issuer: ScriptedIssuer) -> None:
    issuer.answers["/userinfo"] = Answer(PROFILE)
    provider = issuer.provider()
    for _ in range(2):
        assert provider.get_userinfo(ACCESS_TOKEN) == PROFILE
        provider.close()
    assert issuer.server.connections == 2


@pytest.mark.parametrize("missing", ["authorize_url", "token_url"])
def test_a_missing_endpoint_is_named(missing: str) -> None:
    provider = plain(**{missing: ""})
    steps: dict[str, Callable[[], object]] = {
        "authorize_url": lambda: provider.build_authorize_url(REDIRECT_URI, "s"),
        "token_url": lambda: provider.exchange_code("code", REDIRECT_URI),
    }
    with pytest.raises(AuthenticationError, match=missing.upper()) as caught:
        steps[missing]()
    assert caught.value.error == ErrorCode.INVALID_CONFIGURATION
