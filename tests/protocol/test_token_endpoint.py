"""The token endpoint: single requests, and usual and unusual answers."""

from __future__ import annotations

import json
import os
from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

import pytest

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError, TokenError, TokenRefreshError
from pywry_auth.models import OAuthTokenSet
from pywry_auth.protocol.authorization_response import AuthorizationCode
from pywry_auth.protocol.client_authentication import ClientAuthentication
from pywry_auth.protocol.http import ProviderSession
from pywry_auth.protocol.token_endpoint import TokenEndpoint
from pywry_auth.protocol.urls import HTTPOptions
from tests.protocol.forge import changed
from tests.protocol.issuer import (
    ACCESS_TOKEN,
    CLIENT_ID,
    CLIENT_SECRET,
    NOW,
    REDIRECT_URI,
    REFRESH_TOKEN,
    ScriptedIssuer,
)
from tests.protocol.refusal import everything_told
from tests.protocol.servers import Answer, Behaviour, Received, hangs, resets, sends

CODE = "canary-code/with+odd=characters&more"
VERIFIER = "canary-verifier".ljust(43, "x")
CODE_GRANT = {"grant_type": "authorization_code", "code": CODE, "redirect_uri": REDIRECT_URI}
TEN_YEARS = 10 * 365 * 86400

Ask = Callable[[TokenEndpoint], OAuthTokenSet]


def exchange(endpoint: TokenEndpoint) -> OAuthTokenSet:
    return endpoint.request({**CODE_GRANT, "code_verifier": VERIFIER})


def refresh(endpoint: TokenEndpoint) -> OAuthTokenSet:
    return endpoint.request({"grant_type": "refresh_token", "refresh_token": REFRESH_TOKEN})


def endpoint_of(
    issuer: ScriptedIssuer, method: str = "client_secret_post", secret: str = CLIENT_SECRET, **options: Any
) -> TokenEndpoint:
    return TokenEndpoint(
        f"{issuer.url}/token",
        ClientAuthentication(CLIENT_ID, "" if method == "none" else secret, method, clock=lambda: NOW),
        lambda: ProviderSession(HTTPOptions(**options)),
        issuer.url,
    )


def ask(issuer: ScriptedIssuer, how: Ask = exchange, **members: object) -> OAuthTokenSet:
    """Return the token set for the usual answer with members changed."""
    issuer.answers["/token"] = Answer(issuer.tokens(**members))
    return how(endpoint_of(issuer))


def refused(
    issuer: ScriptedIssuer, answer: Answer | Behaviour, how: Ask = exchange, **options: Any
) -> TokenError:
    """Send a request and return the error, which contains no secret; the request is not repeated."""
    issuer.answers["/token"] = answer
    before = len(issuer.requests("/token"))
    with pytest.raises(TokenError) as caught:
        how(endpoint_of(issuer, **options))
    assert len(issuer.requests("/token")) == before + 1
    assert "canary" not in everything_told(caught.value)
    return caught.value


# Requests


@pytest.mark.parametrize("how", [exchange, refresh])
@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post", "none"])
def test_the_client_authenticates_in_one_way(issuer: ScriptedIssuer, method: str, how: Ask) -> None:
    """A public client sends no Basic header, a refresh authenticates too, and no value is sent twice. [R]"""
    issuer.answers["/token"] = Answer(issuer.tokens())
    how(endpoint_of(issuer, method))
    (request,) = issuer.requests("/token")
    basic = "Basic " + b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()
    assert request.headers.get("authorization") == (basic if method == "client_secret_basic" else None)
    assert request.form.get("client_id") == (None if method == "client_secret_basic" else CLIENT_ID)
    assert request.form.get("client_secret") == (CLIENT_SECRET if method == "client_secret_post" else None)


def test_an_exchange_sends_the_required_parameters(issuer: ScriptedIssuer) -> None:
    """The request has code, redirect URI and verifier (RFC 6749 §4.1.3, RFC 7636 §4.5)."""
    ask(issuer)
    (request,) = issuer.requests("/token")
    assert request.method == "POST"
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"
    assert request.headers["accept"] == "application/json, */*;q=0.1"
    assert request.form == {
        "grant_type": "authorization_code",
        "code": CODE,
        "redirect_uri": REDIRECT_URI,
        "code_verifier": VERIFIER,
        "client_id": CLIENT_ID,
        "client_secret": CLIENT_SECRET,
    }


def test_an_exchange_without_pkce_sends_no_verifier(issuer: ScriptedIssuer) -> None:
    issuer.answers["/token"] = Answer(issuer.tokens())
    endpoint_of(issuer).request({**CODE_GRANT, "code_verifier": None})
    assert "code_verifier" not in issuer.requests("/token")[0].form


def test_a_refresh_sends_no_scope(issuer: ScriptedIssuer) -> None:
    """Some servers refuse the parameter. [R]"""
    ask(issuer, refresh)
    assert issuer.requests("/token")[0].form == {
        "grant_type": "refresh_token",
        "refresh_token": REFRESH_TOKEN,
        "client_id": CLIENT_ID,
        "client_secret": CLIENT_SECRET,
    }


def test_the_query_of_the_endpoint_is_kept(issuer: ScriptedIssuer) -> None:
    """RFC 6749 §3.2."""
    issuer.answers["/token"] = Answer(issuer.tokens())
    usual = endpoint_of(issuer)
    exchange(replace(usual, url=usual.url + "?tenant=7"))
    assert issuer.requests("/token")[0].target == "/token?tenant=7"


def test_no_process_wide_switch_is_needed_or_set(issuer: ScriptedIssuer) -> None:
    """oauthlib's environment variables stay unset. [R, P17]"""
    before = dict(os.environ)
    ask(issuer)
    ask(issuer, refresh)
    assert dict(os.environ) == before
    assert not [name for name in before if name.startswith("OAUTHLIB_")]


# Answers: success


def test_a_usual_answer_becomes_a_token_set(issuer: ScriptedIssuer) -> None:
    tokens = ask(issuer, id_token="canary.id.token", extra={"deep": [1]})
    assert tokens == OAuthTokenSet(
        ACCESS_TOKEN,
        refresh_token=REFRESH_TOKEN,
        expires_in=3600,
        id_token="canary.id.token",
        scope="openid email profile",
        raw=issuer.tokens(id_token="canary.id.token", extra={"deep": [1]}),
        issued_at=NOW,
        issuer=issuer.url,
        client_id=CLIENT_ID,
    )
    assert tokens.expires_at == NOW + 3600
    assert "canary" not in repr(tokens)


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        (3600, 3600),
        ("3600", 3600),
        ("3600.5", 3600),
        (3600.9, 3600),
        (" 60 ", 60),
        (0, 0),
        (-5, 0),
        ("-5", 0),
        (None, None),
        (..., None),
        ("", None),
        (1e300, TEN_YEARS),
        (10**30, TEN_YEARS),
    ],
)
def test_unusual_lifetimes_are_read(issuer: ScriptedIssuer, sent: object, read: int | None) -> None:
    """Providers send strings, fractions or nothing; the time counts from before the call. [R]"""
    tokens = ask(issuer, expires_in=sent)
    assert tokens.expires_in == read
    assert tokens.expires_at == (None if read is None else NOW + read)


@pytest.mark.parametrize("token_type", ["Bearer", "bearer", "BEARER"])
def test_the_token_type_ignores_case(issuer: ScriptedIssuer, token_type: str) -> None:
    """``bearer`` and ``BEARER`` mean the same (RFC 6749 §5.1)."""
    assert ask(issuer, token_type=token_type).token_type == "Bearer"


@pytest.mark.parametrize("how", [exchange, refresh])
@pytest.mark.parametrize(
    ("sent", "read"),
    [
        ("openid", "openid"),
        ("repo,gist", "repo gist"),
        ("a,b c", "a,b c"),
        ("  openid  email ", "openid email"),
        (
            "https://www.example.com/auth/userinfo.email openid",
            "https://www.example.com/auth/userinfo.email openid",
        ),
        ("", ""),
        (None, ""),
        (..., ""),
        (["openid", "email"], "openid email"),
        ([], ""),
    ],
)
def test_another_scope_is_no_error(issuer: ScriptedIssuer, how: Ask, sent: object, read: str) -> None:
    """Some providers send the scopes as a list, or with commas between them. [P16]"""
    assert ask(issuer, how, scope=sent).scope == read


@pytest.mark.parametrize("sent", [..., None, ""])
def test_a_refresh_without_a_new_refresh_token_keeps_the_old_one(
    issuer: ScriptedIssuer, sent: object
) -> None:
    assert ask(issuer, refresh, refresh_token=sent).refresh_token == REFRESH_TOKEN
    assert ask(issuer, exchange, refresh_token=sent).refresh_token is None
    assert ask(issuer, refresh, refresh_token="canary-rotated").refresh_token == "canary-rotated"


@pytest.mark.parametrize(
    "media_type", ["application/json;charset=UTF-8", "text/plain", "text/javascript", ""]
)
def test_json_with_another_media_type_is_read(issuer: ScriptedIssuer, media_type: str) -> None:
    issuer.answers["/token"] = Answer(issuer.tokens(), media_type=media_type)
    assert exchange(endpoint_of(issuer)).access_token == ACCESS_TOKEN


def test_members_that_are_null_count_as_absent(issuer: ScriptedIssuer) -> None:
    """Serializers write null for a member without a value. [S4]"""
    optional = ("expires_in", "refresh_token", "id_token", "scope", "error", "error_description", "error_uri")
    issuer.answers["/token"] = Answer(issuer.tokens() | dict.fromkeys(optional))
    tokens = exchange(endpoint_of(issuer))
    assert (tokens.access_token, tokens.expires_in, tokens.refresh_token) == (ACCESS_TOKEN, None, None)
    assert (tokens.id_token, tokens.scope) == (None, "")
    assert ask(issuer, error="").access_token == ACCESS_TOKEN


def test_a_form_is_read(issuer: ScriptedIssuer) -> None:
    """GitHub sends one to a client that accepts other media types than JSON too."""
    form = "application/x-www-form-urlencoded"
    body = urlencode(issuer.tokens(scope="repo,gist")).encode()
    issuer.answers["/token"] = Answer(body, media_type=f"{form}; charset=utf-8")
    tokens = exchange(endpoint_of(issuer))
    assert (tokens.access_token, tokens.expires_in, tokens.scope) == (ACCESS_TOKEN, 3600, "repo gist")
    issuer.answers["/token"] = Answer(issuer.tokens(), media_type=form)
    assert exchange(endpoint_of(issuer)).access_token == ACCESS_TOKEN
    assert refused(issuer, Answer(b"error=bad_verification_code", media_type=form)).error == (
        "bad_verification_code"
    )
    for body in (
        b"",
        b"<html>",
        b"access_token=\xff",
        b"a=1&" * 100,
        b"access_token=canary%0a&token_type=bearer",
    ):
        assert refused(issuer, Answer(body, media_type=form)).error == ErrorCode.INVALID_RESPONSE


def test_a_missing_access_token_and_a_wrong_type_are_named(issuer: ScriptedIssuer) -> None:
    """The error names the way out: some providers require the scope of an API."""
    for missing in (..., None, ""):
        assert "scope of an API" in str(refused(issuer, Answer(issuer.tokens(access_token=missing))))
    for other in (..., None, "mac"):
        text = str(refused(issuer, Answer(issuer.tokens(token_type=other))))
        assert "token_type" in text
        assert "access_token" not in text


# Answers: invalid


@pytest.mark.parametrize("how", [exchange, refresh])
@pytest.mark.parametrize(
    "members",
    [
        {"access_token": ...},
        {"access_token": None},
        {"access_token": ""},
        {"access_token": {"canary": 1}},
        {"access_token": ["canary"]},
        {"access_token": 5},
        {"access_token": True},
        {"access_token": "canary\r\nX-Injected: 1"},
        {"access_token": "canary\u00e9"},
        {"access_token": "canary\ud800"},
        {"access_token": "canary\0"},
        {"token_type": ...},
        {"token_type": None},
        {"token_type": ""},
        {"token_type": "mac"},
        {"token_type": "DPoP"},
        {"token_type": ["Bearer"]},
        {"token_type": 1},
        {"refresh_token": {"canary": 1}},
        {"refresh_token": "canary\n"},
        {"id_token": {"canary": 1}},
        {"id_token": 1},
        {"scope": {"openid": True}},
        {"scope": 5},
        {"scope": ["openid", 5]},
        {"scope": "canary\r\nopenid"},
        {"expires_in": "soon"},
        {"expires_in": True},
        {"expires_in": [3600]},
        {"expires_in": {}},
        {"expires_in": "NaN"},
        {"expires_in": float("nan")},
        {"expires_in": float("inf")},
        {"expires_in": "1e400"},
        {"expires_in": "2030-01-01T00:00:00Z"},
    ],
)
def test_an_answer_with_members_of_the_wrong_type_is_refused(
    issuer: ScriptedIssuer, members: dict[str, object], how: Ask
) -> None:
    """Members must be strings; such an answer does not end the refresh token. [R, S11]"""
    refusal = refused(issuer, Answer(issuer.tokens(**members)), how)
    assert (type(refusal), refusal.error) == (TokenError, ErrorCode.INVALID_RESPONSE)


def test_a_number_too_large_for_json_is_refused(issuer: ScriptedIssuer) -> None:
    body = json.dumps(issuer.tokens()).replace("3600", "1e400").encode()
    assert refused(issuer, Answer(body)).error == ErrorCode.INVALID_RESPONSE


@pytest.mark.parametrize("how", [exchange, refresh])
@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Answer([1]), ErrorCode.INVALID_RESPONSE),
        (Answer(b"null"), ErrorCode.INVALID_RESPONSE),
        (Answer(b""), ErrorCode.INVALID_RESPONSE),
        (Answer(b"", 204), ErrorCode.INVALID_RESPONSE),
        (Answer(b"<html>canary</html>", media_type="text/html"), ErrorCode.INVALID_RESPONSE),
        (
            Answer(b"access_token=canary&token_type=bearer", media_type="text/plain"),
            ErrorCode.INVALID_RESPONSE,
        ),
        (Answer(b"<html>canary</html>", 500, "text/html"), ErrorCode.PROVIDER_UNREACHABLE),
        (Answer(b"<html>canary</html>", 502, "text/html"), ErrorCode.PROVIDER_UNREACHABLE),
        (Answer({"error": "server_error"}, 500), ErrorCode.PROVIDER_UNREACHABLE),
        (Answer({"error": "invalid_grant"}, 503), ErrorCode.PROVIDER_UNREACHABLE),
        (Answer(b"<html>canary</html>", 404, "text/html"), ErrorCode.INVALID_RESPONSE),
        (Answer({}, 400), ErrorCode.INVALID_RESPONSE),
        (Answer({"access_token": "canary", "token_type": "Bearer"}, 400), ErrorCode.INVALID_RESPONSE),
        (Answer({"error": {"code": "canary"}}, 400), ErrorCode.INVALID_RESPONSE),
        (Answer({"error": None}, 400), ErrorCode.INVALID_RESPONSE),
        (Answer({"error": 5}), ErrorCode.INVALID_RESPONSE),
        (Answer({"error": "invalid_grant", "error_description": {"canary": 1}}, 400), "invalid_grant"),
        (Answer({"error": "invalid_grant", "error_description": None}, 400), "invalid_grant"),
        (Answer({"error": ""}, 400), ErrorCode.INVALID_RESPONSE),
        (resets, ErrorCode.PROVIDER_UNREACHABLE),
        (sends(b""), ErrorCode.PROVIDER_UNREACHABLE),
    ],
)
def test_an_unusable_answer_is_a_token_error(
    issuer: ScriptedIssuer, answer: Answer | Behaviour, error: str, how: Ask
) -> None:
    """Status, body and types are validated first, and the request is not repeated. [R, S11]"""
    refusal = refused(issuer, answer, how)
    assert refusal.error == error
    dead = error == "invalid_grant" and how is refresh
    assert type(refusal) is (TokenRefreshError if dead else TokenError)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500, 503])
@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"<html>canary</html>", {}),
        (b"canary" * (1 << 18), {}),
        (b"canary", {"Content-Encoding": "br"}),
        (b"canary", {"Content-Encoding": "gzip"}),
    ],
    ids=["web page", "too large", "unknown compression", "damaged"],
)
def test_a_refusal_with_an_unreadable_body_is_a_refusal(
    issuer: ScriptedIssuer, body: bytes, headers: dict[str, str], status: int
) -> None:
    """A login then leads to the browser, unless the provider is not available. [S5]"""
    refusal = refused(issuer, Answer(body, status, headers=headers), refresh)
    assert refusal.refused is (status < 429)


@pytest.mark.parametrize("how", [exchange, refresh])
@pytest.mark.parametrize(
    "body",
    [
        {"error": "slow_down"},
        {"error": "invalid_grant"},
        {},
        b"<html>",
        b"",
        {"access_token": "canary", "token_type": "Bearer"},
    ],
)
def test_too_many_requests_are_a_temporary_error(issuer: ScriptedIssuer, body: object, how: Ask) -> None:
    """The grant is kept, whatever the body says, and the request is not repeated. [T73]"""
    error = refused(issuer, Answer(body, 429, headers={"Retry-After": "42"}), how)
    assert type(error) is TokenError
    assert (error.error, error.retry_after) == (ErrorCode.TEMPORARILY_UNAVAILABLE, 42)
    assert "try again in 42 seconds" in str(error)
    assert "sign in" not in str(error).lower()


def test_a_missing_answer_is_a_token_error(issuer: ScriptedIssuer) -> None:
    """The call ends at the time limit. [P26]"""
    assert refused(issuer, hangs, timeout=0.3).error == ErrorCode.PROVIDER_UNREACHABLE


@pytest.mark.parametrize("status", [200, 400, 401, 403])
@pytest.mark.parametrize(
    "error", ["invalid_grant", "invalid_client", "bad_verification_code", "temporarily_unavailable"]
)
def test_a_refusal_is_reported_with_a_next_step(issuer: ScriptedIssuer, error: str, status: int) -> None:
    """RFC 6749 §5.2; some providers send it with status 200."""
    answer = Answer(
        {"error": error, "error_description": "It was used", "error_uri": "https://canary.example.com"},
        status,
    )
    for how in (exchange, refresh):
        refusal = refused(issuer, answer, how)
        assert (refusal.error, refusal.error_description) == (error, "It was used")
        assert f"{error}: “It was used”. " in str(refusal)
        dead = how is refresh and error == "invalid_grant"
        assert type(refusal) is (TokenRefreshError if dead else TokenError)


@pytest.mark.parametrize("how", [exchange, refresh])
@pytest.mark.parametrize("secret", [CODE, VERIFIER, REFRESH_TOKEN, CLIENT_SECRET])
def test_a_secret_that_the_provider_quotes_is_removed(issuer: ScriptedIssuer, secret: str, how: Ask) -> None:
    """Some servers answer "unknown code abc", in the description or in the error itself. [T31]"""
    mine = [CODE, VERIFIER] if how is exchange else [REFRESH_TOKEN]
    if secret not in [*mine, CLIENT_SECRET]:
        secret = CLIENT_SECRET
    words = {"error": f"bad {secret}", "error_description": f"x {secret}{secret} y"}
    refusal = refused(issuer, Answer(words, 400), how)
    assert refusal.error == ErrorCode.INVALID_RESPONSE
    assert refusal.error_description.endswith(" y")


def test_the_providers_text_is_shortened_to_one_line(issuer: ScriptedIssuer) -> None:
    words = "a\r\nX: 1\x1b[31m\u2028" + "x" * 10_000
    refusal = refused(issuer, Answer({"error": words, "error_description": words}, 400))
    assert str(refusal).isprintable()
    assert len(str(refusal)) < 600
    assert refusal.error == ErrorCode.INVALID_RESPONSE
    assert refusal.error_description.isprintable()
    assert len(refusal.error_description) < 1100


@pytest.mark.parametrize("mark", list('\x00\n\x1b\x7f\x9b"\\\u2028\u202e\u00e9'))
def test_a_code_with_characters_that_no_code_has_is_not_repeated(issuer: ScriptedIssuer, mark: str) -> None:
    """RFC 6749 appendix A.7: programs print the code, so a terminal must not obey it."""
    refusal = refused(issuer, Answer({"error": f"an_error{mark}[2J"}, 400))
    assert (refusal.error, refusal.refused) == (ErrorCode.INVALID_RESPONSE, True)
    assert "answered invalid_response. " in str(refusal)
    assert refused(issuer, Answer({"error": "org/own: code~!"}, 400)).error == "org/own: code~!"


def test_an_error_beside_tokens_is_an_error(issuer: ScriptedIssuer) -> None:
    refusal = refused(issuer, Answer(changed(issuer.tokens(), error="invalid_grant")))
    assert refusal.error == "invalid_grant"


# Revocation


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post", "none"])
def test_a_token_is_revoked_by_an_authenticated_client(issuer: ScriptedIssuer, method: str) -> None:
    """The revocation request authenticates the client (RFC 7009 §2.1)."""
    issuer.answers["/revoke"] = Answer(b"")
    assert endpoint_of(issuer, method).revoke(f"{issuer.url}/revoke", "canary/token+1")
    (request,) = issuer.requests("/revoke")
    assert request.form["token"] == "canary/token+1"
    assert ("authorization" in request.headers) == (method == "client_secret_basic")


@pytest.mark.parametrize(
    ("status", "confirmed"),
    [(200, True), (201, True), (202, True), (204, True), (299, True), (400, False), (404, False)],
)
def test_every_successful_status_confirms_a_revocation(
    issuer: ScriptedIssuer, status: int, confirmed: bool
) -> None:
    """RFC 7009 §2.2 requires 200; some providers send 204, whose meaning is the same."""
    issuer.answers["/revoke"] = Answer({"error": "unsupported_token_type"}, status)
    assert endpoint_of(issuer).revoke(f"{issuer.url}/revoke", "token") is confirmed
    (request,) = issuer.requests("/revoke")
    assert request.headers["accept"].endswith("*/*;q=0.1")


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503])
def test_a_provider_that_is_not_available_has_not_refused_a_revocation(
    issuer: ScriptedIssuer, status: int
) -> None:
    """The revocation is tried again later (RFC 7009 §2.2.1). [S7]"""
    issuer.answers["/revoke"] = Answer({}, status)
    with pytest.raises(AuthenticationError):
        endpoint_of(issuer).revoke(f"{issuer.url}/revoke", "token")


def test_the_representation_of_the_endpoint_hides_its_secret(issuer: ScriptedIssuer) -> None:
    """The client secret is not in the representation. [T31]"""
    endpoint = endpoint_of(issuer)
    assert "canary" not in repr(endpoint) + repr(endpoint.authentication) + repr(AuthorizationCode(CODE))


def test_the_body_contains_only_the_parameters(issuer: ScriptedIssuer) -> None:
    """No argument of the transport gets into the form. [R]"""
    seen: list[Received] = []

    def script(request: Received) -> Answer:
        seen.append(request)
        return Answer(issuer.tokens())

    issuer.scripts["/token"] = script
    refresh(endpoint_of(issuer, "none"))
    assert set(seen[0].form) == {"grant_type", "refresh_token", "client_id"}
