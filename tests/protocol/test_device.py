"""The device authorization request, and answers that cannot be used (RFC 8628 §3.1, §3.2)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from pywry_auth.exceptions import AuthenticationError, TokenError
from pywry_auth.protocol.device import DeviceAuthorization
from pywry_auth.providers.oidc import GenericOIDCProvider
from tests.protocol.forge import changed
from tests.protocol.issuer import CLIENT_ID, NOW, ScriptedIssuer
from tests.protocol.refusal import everything_told
from tests.protocol.servers import Answer

_PATH = "/device_authorization"
_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
_ANSWER: dict[str, Any] = {
    "device_code": "canary-device-code",
    "user_code": "WDJB-MJHT",
    "verification_uri": "https://id.example.com/device",
    "verification_uri_complete": "https://id.example.com/device?user_code=WDJB-MJHT",
    "expires_in": 600,
    "interval": 7,
}


@pytest.fixture
def issuer() -> Iterator[ScriptedIssuer]:
    with ScriptedIssuer() as issuer:
        issuer.metadata["device_authorization_endpoint"] = issuer.url + _PATH
        issuer.answers[_PATH] = Answer(_ANSWER)
        yield issuer


def request(issuer: ScriptedIssuer, **members: object) -> DeviceAuthorization:
    """Return the authorization for the usual answer with members changed."""
    issuer.answers[_PATH] = Answer(changed(_ANSWER, **members))
    return issuer.provider().request_device_authorization()


def poll(issuer: ScriptedIssuer, answer: Answer, **options: Any) -> TokenError:
    """Return the error of a poll; it shows neither code."""
    provider = issuer.provider(**options)
    authorization = provider.request_device_authorization()
    issuer.answers["/token"] = answer
    with pytest.raises(TokenError) as caught:
        provider.poll_device_authorization(authorization)
    told = everything_told(caught.value) + repr(authorization)
    assert "canary" not in told
    assert "MJHT" not in told
    return caught.value


def test_the_request_authenticates_the_client(issuer: ScriptedIssuer) -> None:
    """It has the scopes, the resource and the parameters of authorization requests."""
    options = {"resource": "https://api.example.com", "authorize_params": {"audience": "notes"}}
    found = issuer.provider(**options).request_device_authorization()
    assert (found.user_code, found.expires_in, found.interval) == ("WDJB-MJHT", 600, 7)
    assert found.verification_uri_complete.endswith("=WDJB-MJHT")
    assert found.host == "id.example.com"
    (sent,) = issuer.requests(_PATH)
    assert sent.headers["authorization"].startswith("Basic ")
    resource = {"resource": "https://api.example.com", "audience": "notes"}
    assert sent.form == {"scope": "openid email profile", **resource}


def test_a_poll_returns_validated_tokens_with_the_requested_scopes(issuer: ScriptedIssuer) -> None:
    provider = issuer.provider(resource="https://api.example.com")
    issuer.answers["/token"] = Answer(issuer.tokens(id_token=issuer.id_token(), scope=...))
    tokens = provider.poll_device_authorization(provider.request_device_authorization())
    assert tokens.id_token_claims["sub"]
    assert (tokens.scope, tokens.issued_at) == ("openid email profile", NOW)
    (sent,) = issuer.requests("/token")
    codes = {"device_code": "canary-device-code", "resource": "https://api.example.com"}
    assert sent.form == {"grant_type": _GRANT, **codes}


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({"interval": ...}, {"interval": 5}),
        ({"interval": 0}, {"interval": 5}),
        ({"interval": "8", "expires_in": "60"}, {"interval": 8, "expires_in": 60}),
        ({"interval": 1e9, "expires_in": 1e9}, {"interval": 300, "expires_in": 900}),
        ({"verification_uri_complete": ...}, {"verification_uri_complete": ""}),
        # The user reads one address, and a phone opens the other one.
        ({"verification_uri_complete": "https://evil.example/d?c=W"}, {"verification_uri_complete": ""}),
        ({"verification_uri_complete": "https://id.example.com:8443/d"}, {"verification_uri_complete": ""}),
        ({"verification_uri_complete": "http://127.0.0.1/d"}, {"verification_uri_complete": ""}),
        (
            {"verification_uri_complete": "https://ID.example.com/d?c=W"},
            {"verification_uri_complete": "https://ID.example.com/d?c=W"},
        ),
        ({"verification_uri": "http://127.0.0.1:9/device"}, {"host": "127.0.0.1:9"}),
        (
            {"verification_uri": ..., "verification_url": "https://id.example.com/d"},
            {"host": "id.example.com"},
        ),
        ({"verification_uri": "https://id.example.com/#/device"}, {"host": "id.example.com"}),
        ({"message": "\x1b[2J"}, {"user_code": "WDJB-MJHT"}),
    ],
)
def test_usual_differences_of_answers_are_accepted(
    issuer: ScriptedIssuer, members: dict[str, object], expected: dict[str, object]
) -> None:
    """A code is used for 15 minutes at most, for any lifetime that the provider states. [RFC 10027]"""
    found = request(issuer, **members)
    assert {name: getattr(found, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("member", "values"),
    [
        *((name, [...]) for name in ("device_code", "user_code", "verification_uri", "expires_in")),
        ("user_code", ["WDJB\x1b[31m", "WD\nJB", "WD\u202eJB", "  ", "A" * 65, 7, []]),
        ("device_code", ["canary\r\n", "c" * 9000, {"canary": 1}]),
        ("expires_in", [0, -5, True, "soon", "nan", "inf", [600]]),
        ("interval", [-1, "nan", "1e999", {}, False]),
    ],
)
def test_an_answer_with_a_hostile_member_is_refused(
    issuer: ScriptedIssuer, member: str, values: list[object]
) -> None:
    """The error names the member, and does not repeat it."""
    for value in values:
        with pytest.raises(
            TokenError, match=f"{member}.*Check PYWRY_OAUTH2__DEVICE_AUTHORIZATION_URL"
        ) as caught:
            request(issuer, **{member: value})
        assert caught.value.error == "invalid_response"
        assert str(caught.value).isprintable()
        assert "canary" not in everything_told(caught.value)


@pytest.mark.parametrize("member", ["verification_uri", "verification_uri_complete"])
@pytest.mark.parametrize(
    "value",
    [
        "javascript:alert(1)",
        "http://id.example.com/device",
        "https://id.example.com@evil.example/device",
        "https://id.example.com/\x1b]8;;https://evil.example\x07",
        "https://id.example.com/a b",
        "https://id.example.com/" + "a" * 1025,
        "https://id.exämple.com/",
        "//id.example.com/device",
        ["https://id.example.com/device"],
    ],
)
def test_an_address_that_is_not_safe_to_show_is_refused(
    issuer: ScriptedIssuer, member: str, value: object
) -> None:
    with pytest.raises(TokenError, match=f"{member} (is not|has more)") as caught:
        request(issuer, **{member: value})
    assert "evil" not in everything_told(caught.value)


@pytest.mark.parametrize(
    "answer",
    [
        Answer(b"<html>", media_type="text/html"),
        Answer([]),
        Answer(b'{"expires_in": NaN}'),
        Answer(b"x" * (1 << 20) + b"y"),
        Answer({}, 404),
    ],
)
def test_an_answer_of_another_form_is_refused(issuer: ScriptedIssuer, answer: Answer) -> None:
    issuer.answers[_PATH] = answer
    with pytest.raises(TokenError):
        issuer.provider().request_device_authorization()


def test_a_provider_without_the_endpoint_names_its_setting() -> None:
    with (
        ScriptedIssuer() as issuer,
        pytest.raises(
            AuthenticationError, match=r"no sign-in with a code: .*set PYWRY_OAUTH2__DEVICE_AUTH"
        ) as caught,
    ):
        issuer.provider().request_device_authorization()
    assert caught.value.error == "invalid_configuration"


@pytest.mark.parametrize("error", ["unauthorized_client", "unsupported_grant_type", "invalid_client"])
def test_a_client_that_may_not_use_the_grant_gets_the_remedy(issuer: ScriptedIssuer, error: str) -> None:
    issuer.answers[_PATH] = Answer({"error": error, "error_description": "no"}, 400)
    with pytest.raises(TokenError, match="Allow the device authorization grant") as caught:
        issuer.provider().request_device_authorization()
    assert caught.value.error == error
    assert "device authorization endpoint answered" in str(caught.value)


def test_an_answer_that_repeats_the_codes_is_not_quoted(issuer: ScriptedIssuer) -> None:
    """The provider knows both codes. [T31]"""
    answer = {"error": "invalid_grant", "error_description": "WDJB-MJHT of canary-device-code"}
    assert poll(issuer, Answer(answer, 400)).error == "invalid_grant"


def test_a_slow_down_with_status_429_is_no_outage(issuer: ScriptedIssuer) -> None:
    """Auth0 sends it so; GitHub adds the interval. [N15]"""
    error = poll(issuer, Answer({"error": "slow_down", "interval": 20}, 429))
    assert (error.error, error.refused, error.retry_after) == ("slow_down", True, 20)
    limited = poll(issuer, Answer({}, 429, headers={"Retry-After": "40"}))
    assert (limited.error, limited.refused, limited.retry_after) == ("temporarily_unavailable", False, 40)


def test_a_poll_without_the_keys_spends_no_code(issuer: ScriptedIssuer) -> None:
    """The device code is good once, so the keys come first; a failure may pass."""
    issuer.answers["/jwks"] = Answer({}, 500)
    error = poll(issuer, Answer(issuer.tokens(id_token=issuer.id_token())))
    assert (error.error, error.refused) == ("provider_unreachable", False)
    assert not issuer.requests("/token")


def test_unusable_tokens_are_revoked(issuer: ScriptedIssuer) -> None:
    """An ID token for another client is refused as at the code exchange. [T43]"""
    forged = issuer.id_token(aud="another-client")
    assert poll(issuer, Answer(issuer.tokens(id_token=forged))).error == "invalid_id_token"
    assert len(issuer.requests("/revoke")) == 2


def test_a_public_client_sends_its_identifier(issuer: ScriptedIssuer) -> None:
    provider = GenericOIDCProvider(CLIENT_ID, issuer_url=issuer.url)
    provider.request_device_authorization()
    (sent,) = issuer.requests(_PATH)
    assert sent.form == {"client_id": CLIENT_ID, "scope": "openid email profile"}
