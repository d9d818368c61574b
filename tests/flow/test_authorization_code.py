"""The two steps of a login: requests, and valid and invalid responses."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError, TokenError
from pywry_auth.flow.authorization_code import begin, complete, finish
from pywry_auth.models import AuthFlowResult, AuthorizationRequest, OAuthTokenSet
from pywry_auth.protocol.pkce import PKCEChallenge
from pywry_auth.providers.base import OAuthProvider
from pywry_auth.providers.oidc import GenericOIDCProvider
from tests.protocol.forge import PrivateKey, changed, make_key, sign
from tests.protocol.issuer import (
    ACCESS_TOKEN,
    CLIENT_ID,
    NOW,
    REDIRECT_URI,
    REFRESH_TOKEN,
    SUBJECT,
    ScriptedIssuer,
)
from tests.protocol.refusal import everything_told
from tests.protocol.servers import Answer, Behaviour, Received, hangs, resets

PROFILE = {"sub": SUBJECT, "name": "Alice", "email": "alice@example.com", "picture": None}


def query_of(request: AuthorizationRequest) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(request.url).query, strict_parsing=True))


def sign_in(issuer: ScriptedIssuer, code: str = "code", **claims: object) -> AuthFlowResult:
    """Begin at the issuer, let it answer with an ID token that has these claims, and complete."""
    provider = issuer.provider()
    request = begin(provider, REDIRECT_URI)
    token = issuer.id_token(**{"nonce": request.nonce, **claims})
    issuer.answers["/token"] = Answer(issuer.tokens(id_token=token))
    return complete(provider, request, [("state", request.state), ("code", code)])


def refused(issuer: ScriptedIssuer, error: str, **claims: object) -> AuthenticationError:
    with pytest.raises(AuthenticationError) as caught:
        sign_in(issuer, "code", **claims)
    assert (caught.value.error, caught.value.provider) == (error, "oidc")
    assert "canary" not in everything_told(caught.value)
    return caught.value


# begin


def test_a_request_has_a_state_a_nonce_and_a_challenge_of_its_own(issuer: ScriptedIssuer) -> None:
    """They have at least 256 bits, and are not shown in the repr. [T1, T5, T6]"""
    provider = issuer.provider()
    requests = [begin(provider, REDIRECT_URI) for _ in range(50)]
    for name in ("state", "nonce", "code_verifier"):
        values = {getattr(request, name) for request in requests}
        assert len(values) == 50
        assert min(map(len, values)) >= 43, "256 bits and more"
    request = requests[0]
    query = query_of(request)
    assert (query["state"], query["nonce"], query["redirect_uri"]) == (
        request.state,
        request.nonce,
        REDIRECT_URI,
    )
    assert query["code_challenge"] == PKCEChallenge(request.code_verifier or "").challenge
    assert query["code_challenge_method"] == "S256"
    for secret in (request.state, request.nonce, request.code_verifier):
        assert secret
        assert secret not in repr(request)


def test_pkce_and_nonce_are_omitted_if_they_do_not_apply(issuer: ScriptedIssuer) -> None:
    request = begin(issuer.provider(), REDIRECT_URI, use_pkce=False, extra_params={"prompt": "login"})
    assert request.code_verifier is None
    assert not {"code_challenge", "code_challenge_method"} & set(query_of(request))
    assert query_of(request)["prompt"] == "login"
    without_openid = begin(issuer.provider(scopes=["read"]), REDIRECT_URI)
    assert without_openid.nonce is None
    assert "nonce" not in query_of(without_openid)


def test_a_failed_discovery_names_the_provider_before_the_browser_opens(issuer: ScriptedIssuer) -> None:
    issuer.answers["/.well-known/openid-configuration"] = Answer({}, 500)
    with pytest.raises(AuthenticationError) as caught:
        begin(issuer.provider(), REDIRECT_URI)
    assert (caught.value.error, caught.value.provider) == (ErrorCode.PROVIDER_UNREACHABLE, "oidc")


@pytest.mark.parametrize("value", ["-1", "1.5", "5m", "1" * 10, "٣"])
def test_a_request_with_another_max_age_than_seconds_is_refused(issuer: ScriptedIssuer, value: str) -> None:
    with pytest.raises(AuthenticationError, match="max_age must be a whole number of seconds") as caught:
        begin(issuer.provider(), REDIRECT_URI, extra_params={"max_age": value})
    assert caught.value.error == ErrorCode.INVALID_CONFIGURATION
    with pytest.raises(AuthenticationError, match=r"AUTHORIZE_PARAMS.*max_age must be a whole number"):
        issuer.provider(authorize_params={"max_age": value})


def test_a_request_knows_its_max_age(issuer: ScriptedIssuer) -> None:
    """That of the call replaces that of the settings. Without OpenID Connect there is no time to check."""
    provider = issuer.provider(authorize_params={"max_age": "100"})
    assert begin(provider, REDIRECT_URI).max_age == 100
    assert begin(provider, REDIRECT_URI, extra_params={"max_age": "0"}).max_age == 0
    assert begin(issuer.provider(), REDIRECT_URI).max_age is None
    plain = issuer.provider(scopes=["read"], authorize_params={"max_age": "100"})
    assert begin(plain, REDIRECT_URI).max_age is None


@pytest.mark.parametrize(
    ("age", "error"),
    [
        (0, ""),
        (355, ""),
        (365, ErrorCode.INSUFFICIENT_USER_AUTHENTICATION),
        (-55, ""),
        (-65, ErrorCode.INSUFFICIENT_USER_AUTHENTICATION),
        (None, ErrorCode.INVALID_ID_TOKEN),
    ],
)
def test_a_request_with_max_age_requires_a_recent_authentication(
    issuer: ScriptedIssuer, age: int | None, error: str
) -> None:
    """OIDC Core §3.1.2.1 and §3.1.3.7; 60 s of skew are allowed, and refused tokens are revoked."""
    provider = issuer.provider(authorize_params={"max_age": "300"})
    request = begin(provider, REDIRECT_URI)
    claims = {} if age is None else {"auth_time": NOW - age}
    token = issuer.id_token(nonce=request.nonce, **claims)
    issuer.answers["/token"] = Answer(issuer.tokens(id_token=token))
    response = [("state", request.state), ("code", "code")]
    if not error:
        assert complete(provider, request, response).success
        return
    with pytest.raises(TokenError, match=r"The ID token is refused: .*auth_time") as caught:
        complete(provider, request, response)
    assert (caught.value.error, bool(caught.value.visitor)) == (error, True)
    assert issuer.requests("/revoke")


@pytest.mark.parametrize("auth_time", [True, "1", None, [1], float(10**30)])
def test_a_time_of_authentication_that_is_no_time_is_refused(
    issuer: ScriptedIssuer, auth_time: object
) -> None:
    provider = issuer.provider(authorize_params={"max_age": "300"})
    request = begin(provider, REDIRECT_URI)
    token = issuer.id_token(nonce=request.nonce, auth_time=auth_time)
    issuer.answers["/token"] = Answer(issuer.tokens(id_token=token))
    with pytest.raises(TokenError):
        complete(provider, request, [("state", request.state), ("code", "code")])


# complete


def test_a_sign_in_gives_tokens_a_profile_and_a_user_id(issuer: ScriptedIssuer) -> None:
    issuer.answers["/userinfo"] = Answer(PROFILE)
    result = sign_in(issuer, "the code")
    assert result.success
    assert (result.user_info, result.user_id) == (PROFILE, SUBJECT)
    assert result.tokens.access_token == ACCESS_TOKEN
    assert result.tokens.id_token_claims["sub"] == SUBJECT
    (request,) = issuer.requests("/token")
    assert request.form["code"] == "the code"
    assert len(request.form["code_verifier"]) >= 43
    assert "canary" not in repr(result)
    assert "alice@example.com" not in repr(result)


def parameters_of(request: AuthorizationRequest, issuer: ScriptedIssuer, wrong: str) -> list[tuple[str, str]]:
    good = [("state", request.state), ("code", "canary-code")]
    return {
        "no state": [good[1]],
        "another state": [("state", "x"), good[1]],
        "state twice": [*good, good[0]],
        "code twice": [*good, good[1]],
        "another issuer": [*good, ("iss", "https://canary.example.com")],
        "issuer missing": good,
        "denied": [good[0], ("error", "access_denied")],
        "an error with a forged state": [("state", "x"), ("error", "access_denied")],
        "no code": [good[0], ("iss", issuer.url)],
        "nothing": [],
    }[wrong]


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ("no state", ErrorCode.INVALID_STATE),
        ("another state", ErrorCode.INVALID_STATE),
        ("state twice", ErrorCode.INVALID_RESPONSE),
        ("code twice", ErrorCode.INVALID_RESPONSE),
        ("another issuer", ErrorCode.ISSUER_MISMATCH),
        ("issuer missing", ErrorCode.ISSUER_MISMATCH),
        ("denied", ErrorCode.ISSUER_MISMATCH),
        ("an error with a forged state", ErrorCode.INVALID_STATE),
        ("no code", ErrorCode.INVALID_RESPONSE),
        ("nothing", ErrorCode.INVALID_STATE),
    ],
)
def test_a_foreign_response_causes_no_token_request(issuer: ScriptedIssuer, wrong: str, error: str) -> None:
    """A code of another browser is not even sent to the provider. [T1, T4, T34, T35]"""
    issuer.metadata["authorization_response_iss_parameter_supported"] = True
    provider = issuer.provider()
    request = begin(provider, REDIRECT_URI)
    with pytest.raises(AuthenticationError) as caught:
        complete(provider, request, parameters_of(request, issuer, wrong))
    assert (caught.value.error, caught.value.provider) == (error, "oidc")
    assert issuer.requests("/token") == []
    assert "canary" not in everything_told(caught.value)


def test_the_announced_issuer_parameter_is_accepted(issuer: ScriptedIssuer) -> None:
    """The provider announces the parameter in its metadata (RFC 9207 §2.4)."""
    issuer.metadata["authorization_response_iss_parameter_supported"] = True
    provider = issuer.provider(scopes=["read"])
    issuer.answers |= {"/token": Answer(issuer.tokens()), "/userinfo": Answer(PROFILE)}
    request = begin(provider, REDIRECT_URI)
    parameters = [("code", "c"), ("iss", issuer.url), ("state", request.state)]
    assert complete(provider, request, parameters).user_id == SUBJECT


def test_an_injected_code_is_stopped_by_the_nonce_without_pkce(issuer: ScriptedIssuer) -> None:
    """The provider ignores PKCE, so the code of another browser returns that browser's ID token. [T5]"""
    provider = issuer.provider()
    victims = begin(provider, REDIRECT_URI)
    attackers = begin(provider, REDIRECT_URI)
    token = issuer.id_token(nonce=victims.nonce)
    issuer.answers["/token"] = Answer(issuer.tokens(id_token=token))
    with pytest.raises(TokenError, match="nonce") as caught:
        complete(provider, attackers, [("state", attackers.state), ("code", "the victim's")])
    assert caught.value.error == ErrorCode.INVALID_ID_TOKEN
    assert complete_is_good(provider, victims), "the code is not valid in its own browser"


def complete_is_good(provider: GenericOIDCProvider, request: AuthorizationRequest) -> bool:
    return complete(provider, request, [("state", request.state), ("code", "c")]).success


def test_an_injected_code_is_stopped_by_pkce_without_a_nonce(issuer: ScriptedIssuer) -> None:
    """Without openid there is no nonce, and the provider checks the code verifier. [T5]"""
    provider = issuer.provider(scopes=["read"])
    victims, attackers = begin(provider, REDIRECT_URI), begin(provider, REDIRECT_URI)
    expected = query_of(victims)["code_challenge"]

    def check(request: Received) -> Answer:
        good = PKCEChallenge(request.form["code_verifier"]).challenge == expected
        return Answer(issuer.tokens()) if good else Answer({"error": "invalid_grant"}, 400)

    issuer.scripts["/token"] = check
    issuer.answers["/userinfo"] = Answer(PROFILE)
    with pytest.raises(TokenError) as caught:
        complete(provider, attackers, [("state", attackers.state), ("code", "the victim's")])
    assert caught.value.error == "invalid_grant"
    assert complete_is_good(provider, victims)


@pytest.mark.parametrize(
    ("claims", "error"),
    [
        ({"nonce": "canary-other"}, ErrorCode.INVALID_ID_TOKEN),
        ({"nonce": ...}, ErrorCode.INVALID_ID_TOKEN),
        ({"iss": "https://canary.example.com"}, ErrorCode.INVALID_ID_TOKEN),
        ({"aud": "canary"}, ErrorCode.INVALID_ID_TOKEN),
        ({"exp": 1}, ErrorCode.INVALID_ID_TOKEN),
        ({"sub": ""}, ErrorCode.INVALID_ID_TOKEN),
    ],
)
def test_an_invalid_id_token_fails_the_login_before_a_profile_is_requested(
    issuer: ScriptedIssuer, claims: dict[str, object], error: str
) -> None:
    """Nonce, issuer, audience, expiry and subject are validated. [T5, T20, T28]"""
    issuer.answers["/userinfo"] = Answer(PROFILE)
    refused(issuer, error, **claims)
    assert issuer.requests("/userinfo") == []


# UserInfo


@pytest.mark.parametrize("sub", ["mallory", SUBJECT + " ", SUBJECT.upper(), "", None, 5, [SUBJECT], ...])
def test_a_profile_of_another_user_is_refused(issuer: ScriptedIssuer, sub: object) -> None:
    """A profile without a subject is refused too (OIDC Core §5.3.2). [T37]"""
    issuer.answers["/userinfo"] = Answer(changed({**PROFILE, "email": "canary@example.com"}, sub=sub))
    refused(issuer, ErrorCode.SUBJECT_MISMATCH)


AWAY: list[Answer | Behaviour] = [
    Answer({}, 500),
    Answer({"error": "invalid_token"}, 401),
    Answer(b"<html>", 200, "text/html"),
    Answer(["canary"]),
    Answer(b"", 307, headers={"Location": "https://id2.example.com/?code=canary"}),
    resets,
]


@pytest.mark.parametrize("away", AWAY)
def test_without_userinfo_the_verified_claims_are_the_profile(
    issuer: ScriptedIssuer, caplog: pytest.LogCaptureFixture, away: Answer | Behaviour
) -> None:
    """A failed UserInfo request does not fail the login, and a warning says why the profile is short. [S4]"""
    issuer.answers["/userinfo"] = away
    result = sign_in(issuer)
    (warning,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "/userinfo" in warning.getMessage()
    assert "canary" not in warning.getMessage()
    assert result.user_id == SUBJECT
    assert result.user_info == result.tokens.id_token_claims


def test_claims_that_are_not_enough_fail_the_login(
    issuer: ScriptedIssuer, caplog: pytest.LogCaptureFixture
) -> None:
    """The application decides, after the tokens were issued; so they are revoked. [S4]"""
    provider = issuer.provider()
    request = begin(provider, REDIRECT_URI)
    issuer.answers["/token"] = Answer(issuer.tokens(id_token=issuer.id_token(nonce=request.nonce)))
    issuer.answers |= {"/userinfo": Answer({}, 403), "/revoke": Answer(b"")}
    seen: list[OAuthTokenSet] = []

    def is_enough(tokens: OAuthTokenSet) -> bool:
        seen.append(tokens)
        return False

    with pytest.raises(AuthenticationError, match="try again") as caught:
        complete(provider, request, [("state", request.state), ("code", "c")], is_enough=is_enough)
    assert caught.value.error == ErrorCode.PROVIDER_UNREACHABLE
    (warning,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "a login failed" in warning.getMessage(), "it does not say that the login has a short profile"
    assert "/userinfo answered with status 403" in warning.getMessage()
    assert [tokens.id_token_claims["sub"] for tokens in seen] == [SUBJECT]
    assert len(issuer.requests("/revoke")) == 2
    issuer.answers["/userinfo"] = Answer(PROFILE)
    assert complete(provider, request, [("state", request.state), ("code", "c")], is_enough=is_enough).success
    assert len(seen) == 1, "a profile was sent"


# USE_NONCE


def without_nonce(issuer: ScriptedIssuer, **claims: object) -> AuthFlowResult:
    """Sign in at a provider that never returns the nonce."""
    provider = issuer.provider(use_nonce=False)
    request = begin(provider, REDIRECT_URI)
    assert request.nonce is None
    assert "nonce" not in query_of(request)
    assert "code_challenge" in query_of(request)
    issuer.answers["/token"] = Answer(issuer.tokens(id_token=issuer.id_token(**claims)))
    return complete(provider, request, [("state", request.state), ("code", "c")])


def test_without_a_nonce_the_profile_comes_from_userinfo(
    issuer: ScriptedIssuer, caplog: pytest.LogCaptureFixture
) -> None:
    """The weaker check is logged, and a nonce that is empty counts as absent. [S3]"""
    issuer.answers["/userinfo"] = Answer(PROFILE)
    for nonce in (..., None, ""):
        caplog.clear()
        assert without_nonce(issuer, nonce=nonce).user_info == PROFILE
        (warning,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
        assert "USE_NONCE" in warning.getMessage()


@pytest.mark.parametrize(
    "claims",
    [
        {"nonce": "canary-of-another-login"},
        {"iss": "https://canary.example.com"},
        {"aud": "canary"},
        {"exp": 1},
        {"sub": ""},
        {"at_hash": "canary"},
    ],
)
def test_without_a_nonce_every_other_check_stays(issuer: ScriptedIssuer, claims: dict[str, object]) -> None:
    """An unexpected nonce shows that the code belongs to another login. [T5]"""
    issuer.answers |= {"/userinfo": Answer(PROFILE), "/revoke": Answer(b"")}
    with pytest.raises(TokenError) as caught:
        without_nonce(issuer, **claims)
    assert caught.value.error == ErrorCode.INVALID_ID_TOKEN
    assert "canary" not in everything_told(caught.value)
    assert issuer.requests("/userinfo") == []
    assert len(issuer.requests("/revoke")) == 2


@pytest.mark.parametrize("away", AWAY)
def test_without_a_nonce_and_userinfo_the_login_fails(
    issuer: ScriptedIssuer, away: Answer | Behaviour
) -> None:
    issuer.answers["/userinfo"] = away
    with pytest.raises(AuthenticationError) as caught:
        without_nonce(issuer)
    assert caught.value.error in (ErrorCode.PROVIDER_UNREACHABLE, ErrorCode.INVALID_RESPONSE)
    issuer.answers["/userinfo"] = Answer({**PROFILE, "sub": "mallory"})
    with pytest.raises(TokenError) as caught:
        without_nonce(issuer)
    assert caught.value.error == ErrorCode.SUBJECT_MISMATCH


def test_without_a_nonce_pkce_and_userinfo_are_required(issuer: ScriptedIssuer) -> None:
    """The error comes before the user signs in. [S3]"""
    with pytest.raises(AuthenticationError, match="USERINFO_FROM_ID_TOKEN") as caught:
        issuer.provider(use_nonce=False, userinfo_from_id_token=True)
    assert caught.value.error == ErrorCode.INVALID_CONFIGURATION
    provider = issuer.provider(use_nonce=False)
    with pytest.raises(AuthenticationError, match="PKCE") as caught:
        begin(provider, REDIRECT_URI, use_pkce=False)
    assert caught.value.error == ErrorCode.INVALID_CONFIGURATION
    del issuer.metadata["userinfo_endpoint"]
    with pytest.raises(AuthenticationError, match="USERINFO_URL") as caught:
        begin(provider, REDIRECT_URI)
    assert caught.value.error == ErrorCode.INVALID_CONFIGURATION


@pytest.mark.parametrize("value", [float("nan"), 10**400, {"a": float("inf")}, {1, 2}, object()])
def test_a_profile_of_a_providers_class_must_be_json(value: object) -> None:
    """A class may compute a profile, which is stored with the session. [T54]"""

    class Computed(OAuthProvider):
        def get_userinfo(self, access_token: str) -> dict[str, Any]:
            return {"sub": SUBJECT, "name": "A\ud800", "score": value}

    provider = Computed("c", authorize_url="https://localhost/a", token_url="https://localhost/t")
    with pytest.raises(AuthenticationError, match="not JSON") as caught:
        finish(provider, OAuthTokenSet("a"))
    assert caught.value.error == ErrorCode.INVALID_RESPONSE
    for other in (["a"], None, "text"):
        provider.get_userinfo = lambda _token, other=other: other  # type: ignore[method-assign, misc]
        with pytest.raises(AuthenticationError, match="not a mapping"):
            finish(provider, OAuthTokenSet("a"))
    del provider.get_userinfo
    value = "text"
    assert finish(provider, OAuthTokenSet("a")).user_info["name"] == "A\ufffd"


@pytest.mark.parametrize("away", AWAY)
def test_without_userinfo_and_id_token_the_login_fails(
    issuer: ScriptedIssuer, away: Answer | Behaviour
) -> None:
    """There is no user without a profile. [T28]"""
    provider = issuer.provider(scopes=["read"])
    issuer.answers |= {"/token": Answer(issuer.tokens()), "/userinfo": away}
    request = begin(provider, REDIRECT_URI)
    with pytest.raises(AuthenticationError) as caught:
        complete(provider, request, [("state", request.state), ("code", "c")])
    assert caught.value.error in (ErrorCode.PROVIDER_UNREACHABLE, ErrorCode.INVALID_RESPONSE)


def test_a_slow_userinfo_takes_no_longer_than_the_time_limit(issuer: ScriptedIssuer) -> None:
    """The login continues with the claims of the ID token. [P26]"""
    provider = issuer.provider(http_timeout_seconds=0.3)
    request = begin(provider, REDIRECT_URI)
    issuer.answers["/token"] = Answer(issuer.tokens(id_token=issuer.id_token(nonce=request.nonce)))
    issuer.answers["/userinfo"] = hangs
    assert complete_is_good(provider, request)


def signed_profile(issuer: ScriptedIssuer, key: PrivateKey, **members: object) -> Answer:
    claims = changed({**PROFILE, "iss": issuer.url, "aud": CLIENT_ID}, **members)
    return Answer(
        sign({"alg": "ES256", "kid": "main"}, claims, key, "ES256").encode(), 200, "application/jwt"
    )


def test_a_signed_profile_is_read_and_a_forged_one_ends_the_sign_in(issuer: ScriptedIssuer) -> None:
    """A forged profile is an attack, unlike a missing one. [T17]"""
    signed = signed_profile(issuer, issuer.key, name="Signed")
    for media_type in ("application/jwt", "Application/JWT; charset=utf-8"):
        issuer.answers["/userinfo"] = Answer(signed.body + b"\n", 200, media_type)
        assert sign_in(issuer).user_info["name"] == "Signed"
    assert all(request.headers["accept"].endswith("*/*;q=0.1") for request in issuer.requests("/userinfo"))
    issuer.answers["/userinfo"] = signed_profile(issuer, make_key("P-256", "forger"), name="canary")
    refused(issuer, ErrorCode.INVALID_ID_TOKEN)
    issuer.answers["/userinfo"] = signed_profile(issuer, issuer.key, sub="mallory")
    refused(issuer, ErrorCode.SUBJECT_MISMATCH)


@pytest.mark.parametrize("media_type", ["", "text/plain", "application/json; charset=UTF-8; profile=x"])
def test_a_profile_is_read_whatever_its_media_type(issuer: ScriptedIssuer, media_type: str) -> None:
    issuer.answers["/userinfo"] = Answer(PROFILE, media_type=media_type)
    assert sign_in(issuer).user_info == PROFILE


def test_userinfo_is_not_called_if_the_id_token_suffices(issuer: ScriptedIssuer) -> None:
    """USERINFO_FROM_ID_TOKEN is set, or the provider has no UserInfo endpoint. [S3]"""
    for options in ({"userinfo_from_id_token": True}, {}):
        if not options:
            del issuer.metadata["userinfo_endpoint"]
        provider = issuer.provider(**options)
        request = begin(provider, REDIRECT_URI)
        issuer.answers["/token"] = Answer(issuer.tokens(id_token=issuer.id_token(nonce=request.nonce)))
        result = complete(provider, request, [("state", request.state), ("code", "c")])
        assert result.user_info["name"] == "Alice"
    assert issuer.requests("/userinfo") == []


@pytest.mark.parametrize("profile", [{}, {"sub": ""}, {"name": "Alice"}, {"id": None, "login": " "}])
def test_a_profile_without_a_user_id_fails_the_login(
    issuer: ScriptedIssuer, profile: dict[str, object]
) -> None:
    """There is no "unknown" user. [S7]"""
    provider = issuer.provider(scopes=["read"])
    issuer.answers |= {"/token": Answer(issuer.tokens()), "/userinfo": Answer(profile)}
    request = begin(provider, REDIRECT_URI)
    with pytest.raises(AuthenticationError) as caught:
        complete(provider, request, [("state", request.state), ("code", "c")])
    assert (caught.value.error, caught.value.provider) == (ErrorCode.NO_USER_ID, "oidc")


# Several providers, many threads


@pytest.fixture
def other_issuer() -> Iterator[ScriptedIssuer]:
    with ScriptedIssuer() as scripted:
        yield scripted


def test_a_state_of_one_provider_is_not_valid_at_another(
    issuer: ScriptedIssuer, other_issuer: ScriptedIssuer
) -> None:
    """The ``iss`` parameter shows the mix-up, and the ID token is from another issuer too. [T4]"""
    ours, theirs = issuer.provider(), other_issuer.provider()
    request = begin(ours, REDIRECT_URI)
    issuer.answers["/token"] = Answer(issuer.tokens(id_token=other_issuer.id_token(nonce=request.nonce)))
    mixed_up = [("state", request.state), ("code", "c"), ("iss", other_issuer.url)]
    with pytest.raises(AuthenticationError) as caught:
        complete(ours, request, mixed_up)
    assert caught.value.error == ErrorCode.ISSUER_MISMATCH
    with pytest.raises(TokenError) as caught:
        complete(ours, request, mixed_up[:2])
    assert caught.value.error == ErrorCode.INVALID_ID_TOKEN
    assert other_issuer.requests("/token") == []
    assert theirs.metadata.issuer != ours.metadata.issuer


def test_no_thread_gets_the_user_of_another_thread(issuer: ScriptedIssuer) -> None:
    """Each code belongs to a user of its own, and each access token to a profile of its own. [T32]"""
    provider = issuer.provider()
    nonces: dict[str, Any] = {}
    together = threading.Barrier(16)

    def token(request: Received) -> Answer:
        code = request.form["code"]
        together.wait(20)
        id_token = issuer.id_token(sub=code, nonce=nonces[code])
        return Answer(issuer.tokens(access_token=f"at-{code}", refresh_token=f"rt-{code}", id_token=id_token))

    def userinfo(request: Received) -> Answer:
        together.wait(20)
        return Answer({"sub": request.headers["authorization"].removeprefix("Bearer at-")})

    issuer.scripts |= {"/token": token, "/userinfo": userinfo}

    def login(user: str) -> bool:
        request = begin(provider, REDIRECT_URI)
        nonces[user] = request.nonce
        result = complete(provider, request, [("state", request.state), ("code", user)])
        tokens = result.tokens
        return (result.user_id, result.user_info["sub"], tokens.access_token, tokens.refresh_token) == (
            user,
            user,
            f"at-{user}",
            f"rt-{user}",
        )

    with ThreadPoolExecutor(16) as threads:
        for round_ in range(5):
            assert all(threads.map(login, [f"user-{round_}-{n}" for n in range(16)]))


def test_a_misconfiguration_found_during_the_login_names_the_provider(issuer: ScriptedIssuer) -> None:
    del issuer.metadata["token_endpoint"]
    with pytest.raises(AuthenticationError, match="TOKEN_URL") as caught:
        sign_in(issuer)
    assert (caught.value.error, caught.value.provider) == (ErrorCode.INVALID_CONFIGURATION, "oidc")


# finish


def test_tokens_become_a_sign_in_without_an_authorization_response(issuer: ScriptedIssuer) -> None:
    issuer.answers["/userinfo"] = Answer(PROFILE)
    tokens = sign_in(issuer).tokens
    result = finish(issuer.provider(), tokens)
    assert (result.success, result.tokens, result.user_info, result.user_id) == (
        True,
        tokens,
        PROFILE,
        SUBJECT,
    )


def test_a_login_that_fails_after_the_exchange_revokes_its_tokens(issuer: ScriptedIssuer) -> None:
    issuer.answers["/userinfo"] = Answer({"sub": "another"})
    issuer.answers["/revoke"] = Answer({})
    refused(issuer, ErrorCode.SUBJECT_MISMATCH)
    assert ACCESS_TOKEN in [request.form["token"] for request in issuer.requests("/revoke")]


def test_tokens_without_the_requested_id_token_are_revoked(issuer: ScriptedIssuer) -> None:
    request = begin(issuer.provider(), REDIRECT_URI)
    issuer.answers |= {"/token": Answer(issuer.tokens(id_token=None)), "/revoke": Answer(b"", 204)}
    with pytest.raises(TokenError, match="no ID token"):
        complete(issuer.provider(), request, [("state", request.state), ("code", "c")])
    assert len(issuer.requests("/revoke")) == 2


@pytest.mark.parametrize(
    ("members", "revoked"),
    [
        ({"access_token": None}, [REFRESH_TOKEN]),
        ({"token_type": "DPoP"}, [REFRESH_TOKEN, ACCESS_TOKEN]),
        ({"expires_in": "soon", "refresh_token": None}, [ACCESS_TOKEN]),
        ({"access_token": None, "refresh_token": ["canary"]}, []),
    ],
)
def test_tokens_in_an_answer_that_cannot_be_used_are_revoked(
    issuer: ScriptedIssuer, members: dict[str, object], revoked: list[str]
) -> None:
    request = begin(issuer.provider(), REDIRECT_URI)
    issuer.answers |= {"/token": Answer(issuer.tokens(**members)), "/revoke": Answer(b"")}
    with pytest.raises(TokenError) as caught:
        complete(issuer.provider(), request, [("state", request.state), ("code", "c")])
    assert caught.value.error == ErrorCode.INVALID_RESPONSE
    assert "canary" not in everything_told(caught.value)
    assert [request.form["token"] for request in issuer.requests("/revoke")] == revoked


def test_stored_tokens_without_a_usable_profile_are_not_revoked(issuer: ScriptedIssuer) -> None:
    issuer.answers["/userinfo"] = Answer(PROFILE)
    tokens = sign_in(issuer).tokens
    issuer.answers["/userinfo"] = Answer({"sub": "another"})
    with pytest.raises(TokenError) as caught:
        finish(issuer.provider(), tokens)
    assert (caught.value.error, caught.value.provider) == (ErrorCode.SUBJECT_MISMATCH, "oidc")
    assert issuer.requests("/revoke") == []
