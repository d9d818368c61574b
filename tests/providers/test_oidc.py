"""GenericOIDCProvider: discovery on first use, and explicit options."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError, TokenError
from pywry_auth.protocol.pkce import PKCEChallenge
from pywry_auth.providers.oidc import GenericOIDCProvider
from tests.protocol.issuer import CLIENT_ID, REDIRECT_URI, SUBJECT, ScriptedIssuer, claims_of
from tests.protocol.servers import Answer

ID = "https://id.example.com"
URLS = {"authorize_url": f"{ID}/authorize", "token_url": f"{ID}/token"}
DOCUMENT = "/.well-known/openid-configuration"


def custom(**options: Any) -> GenericOIDCProvider:
    return GenericOIDCProvider(CLIENT_ID, **{**URLS, **options})


def test_discovery_waits_until_it_is_needed(issuer: ScriptedIssuer) -> None:
    provider = issuer.provider()
    assert (provider.name, provider.scopes) == ("oidc", ("openid", "email", "profile"))
    repr(provider)
    assert issuer.server.received == []
    assert provider.build_authorize_url(REDIRECT_URI, "s").startswith(f"{issuer.url}/authorize?")
    provider.with_scopes(["openid"]).build_authorize_url(REDIRECT_URI, "s")
    provider.end_session_url()
    assert [request.path for request in issuer.server.received] == [DOCUMENT]


@pytest.mark.parametrize(
    ("argument", "member"),
    [
        ("authorize_url", "authorization_endpoint"),
        ("token_url", "token_endpoint"),
        ("userinfo_url", "userinfo_endpoint"),
        ("revocation_url", "revocation_endpoint"),
        ("jwks_url", "jwks_uri"),
        ("end_session_url", "end_session_endpoint"),
        ("device_authorization_url", "device_authorization_endpoint"),
    ],
)
def test_an_explicit_endpoint_replaces_the_discovered_one(
    issuer: ScriptedIssuer, argument: str, member: str
) -> None:
    """It may be on this machine, which a remote document may not name. [S3]"""
    provider = issuer.provider(**{argument: "http://localhost:9/explicit"})
    assert getattr(provider.metadata, member) == "http://localhost:9/explicit"
    assert provider.metadata.issuer == issuer.url
    others = {"token_endpoint", "jwks_uri"} - {member}
    assert all(getattr(provider.metadata, name).startswith(issuer.url) for name in others)


@pytest.mark.parametrize("methods", [..., None, [], ["plain"], ["S256"]])
def test_s256_is_always_sent(issuer: ScriptedIssuer, methods: object) -> None:
    """No metadata turns PKCE off, and ``plain`` is never sent. [T6]"""
    if methods is not ...:
        issuer.metadata["code_challenge_methods_supported"] = methods
    pkce = PKCEChallenge.generate()
    query = dict(parse_qsl(urlsplit(issuer.provider().build_authorize_url(REDIRECT_URI, "s", pkce)).query))
    assert (query["code_challenge_method"], query["code_challenge"]) == ("S256", pkce.challenge)


@pytest.mark.parametrize(
    ("secret", "offered", "way"),
    [
        ("s", ["client_secret_post"], "client_secret"),
        ("s", ["client_secret_post", "client_secret_basic"], "authorization"),
        ("s", ..., "authorization"),
        ("", ["client_secret_basic"], "client_id"),
    ],
)
def test_the_client_authenticates_by_an_offered_method_and_tries_no_other(
    issuer: ScriptedIssuer, secret: str, offered: object, way: str
) -> None:
    """The methods come from the metadata (OIDC Discovery §3). [R]"""
    issuer.metadata.pop("token_endpoint_auth_methods_supported")
    if offered is not ...:
        issuer.metadata["token_endpoint_auth_methods_supported"] = offered
    issuer.answers["/token"] = Answer({"error": "invalid_client"}, 401)
    provider = GenericOIDCProvider(CLIENT_ID, secret, issuer_url=issuer.url)
    with pytest.raises(TokenError) as caught:
        provider.exchange_code("code", REDIRECT_URI)
    assert caught.value.error == "invalid_client"
    (request,) = issuer.requests("/token")
    assert way in {*request.headers, *request.form}
    assert ("authorization" in request.headers) == (way == "authorization")


@pytest.mark.parametrize("slash", ["", "/"])
def test_tokens_are_compared_with_the_discovered_issuer(issuer: ScriptedIssuer, slash: str) -> None:
    """The setting may lack a trailing slash; a token may not. [P20]"""
    issuer.metadata["issuer"] = issuer.url + "/"
    provider = GenericOIDCProvider(
        CLIENT_ID, issuer_url=issuer.url + slash, clock=lambda: claims_of("")["iat"]
    )
    assert provider.validate_id_token(issuer.id_token(iss=issuer.url + "/"))["sub"] == SUBJECT
    with pytest.raises(TokenError) as caught:
        provider.validate_id_token(issuer.id_token(iss=issuer.url))
    assert caught.value.error == ErrorCode.INVALID_ID_TOKEN


@pytest.mark.parametrize(
    ("missing", "named"),
    [("authorization_endpoint", "AUTHORIZE_URL"), ("token_endpoint", "TOKEN_URL"), ("jwks_uri", "JWKS_URL")],
)
def test_a_missing_endpoint_is_named_when_it_is_needed(
    issuer: ScriptedIssuer, missing: str, named: str
) -> None:
    del issuer.metadata[missing]
    provider = issuer.provider()
    steps: dict[str, Callable[[], object]] = {
        "authorization_endpoint": lambda: provider.build_authorize_url(REDIRECT_URI, "s"),
        "token_endpoint": lambda: provider.exchange_code("code", REDIRECT_URI),
        "jwks_uri": lambda: provider.validate_id_token(issuer.id_token()),
    }
    with pytest.raises(AuthenticationError, match=named) as caught:
        steps[missing]()
    assert caught.value.error == ErrorCode.INVALID_CONFIGURATION


# custom: no discovery


def test_a_custom_provider_has_the_given_endpoints_and_requests_no_scope() -> None:
    provider = custom(userinfo_url=f"{ID}/me")
    assert (provider.name, provider.scopes, provider.uses_openid) == ("custom", (), False)
    assert provider.metadata.authorization_endpoint == f"{ID}/authorize"
    assert provider.metadata.userinfo_endpoint == f"{ID}/me"
    assert "scope" not in provider.build_authorize_url(REDIRECT_URI, "s")


@pytest.mark.parametrize("missing", ["authorize_url", "token_url"])
def test_a_custom_provider_without_its_endpoints_is_refused_at_once(missing: str) -> None:
    """The error names the missing ones. [S4]"""
    with pytest.raises(AuthenticationError, match=missing.upper()) as caught:
        custom(**{missing: ""})
    assert (caught.value.error, caught.value.provider) == (ErrorCode.INVALID_CONFIGURATION, "custom")


@pytest.mark.parametrize("missing", ["jwks_url", "issuer"])
def test_a_custom_provider_without_keys_or_issuer_may_not_request_openid(missing: str) -> None:
    """It could not validate ID tokens. [T28]"""
    needed = {"jwks_url": f"{ID}/jwks", "issuer": ID}
    assert custom(scopes=["openid"], **needed).uses_openid
    with pytest.raises(AuthenticationError, match=missing.upper()):
        custom(scopes=["openid"], **{**needed, missing: ""})


def test_a_custom_provider_validates_id_tokens_with_its_options(issuer: ScriptedIssuer) -> None:
    options = {"jwks_url": f"{issuer.url}/jwks", "clock": lambda: claims_of("")["iat"]}
    provider = custom(scopes="openid", issuer=issuer.url, **options)
    assert provider.validate_id_token(issuer.id_token())["sub"] == SUBJECT
    other = custom(scopes="openid", issuer=issuer.url + "/", **options)
    with pytest.raises(TokenError):
        other.validate_id_token(issuer.id_token())
    assert issuer.requests(DOCUMENT) == []


@pytest.mark.parametrize(
    "url", ["http://id.example.com", "id.example.com", "https://a:canary@id.example.com"]
)
def test_an_invalid_issuer_url_is_named_at_once(url: str) -> None:
    with pytest.raises(AuthenticationError, match="ISSUER_URL") as caught:
        GenericOIDCProvider(CLIENT_ID, issuer_url=url)
    assert "canary" not in str(caught.value)


def test_a_copy_with_other_scopes_shares_the_discovery(issuer: ScriptedIssuer) -> None:
    provider = issuer.provider()
    twin = provider.with_scopes(["openid"])
    assert twin.metadata == provider.metadata
    twin.validate_id_token(issuer.id_token())
    assert [request.path for request in issuer.server.received] == [DOCUMENT, "/jwks"]
