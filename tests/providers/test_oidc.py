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


# One member that cannot be used

USES: dict[str, Callable[[GenericOIDCProvider, ScriptedIssuer], object]] = {
    "authorization_endpoint": lambda provider, issuer: provider.build_authorize_url(REDIRECT_URI, "s"),
    "token_endpoint": lambda provider, issuer: provider.exchange_code("code", REDIRECT_URI),
    "userinfo_endpoint": lambda provider, issuer: provider.get_userinfo("token"),
    "revocation_endpoint": lambda provider, issuer: provider.request_revocation("token"),
    "end_session_endpoint": lambda provider, issuer: provider.end_session_url(),
    "jwks_uri": lambda provider, issuer: provider.validate_id_token(issuer.id_token()),
    "device_authorization_endpoint": lambda provider, issuer: provider.require_endpoint(
        "device_authorization_endpoint"
    ),
    "userinfo_signing_alg_values_supported": lambda provider, issuer: signed_profile(provider, issuer),
    "id_token_signing_alg_values_supported": lambda provider, issuer: provider.validate_id_token(
        issuer.id_token()
    ),
    "token_endpoint_auth_methods_supported": lambda provider, issuer: provider.refresh_tokens("old"),
}
"""For each member of the document, a call that uses it."""

NEEDED_TOO = {
    "token_endpoint": {"token_endpoint_auth_methods_supported", "revocation_endpoint"},
    "jwks_uri": {
        *("token_endpoint", "token_endpoint_auth_methods_supported"),
        *("id_token_signing_alg_values_supported", "userinfo_signing_alg_values_supported"),
    },
    "id_token_signing_alg_values_supported": {
        *("jwks_uri", "token_endpoint", "token_endpoint_auth_methods_supported"),
    },
    "token_endpoint_auth_methods_supported": {"token_endpoint", "revocation_endpoint"},
    "userinfo_endpoint": {"userinfo_signing_alg_values_supported"},
}
"""The calls that use a member besides the one above: an exchange needs the keys, for example."""

BAD_URLS = ("http://id.example.com/canary", "https://10.0.0.5/", "https://169.254.169.254/", "//x", 5, ["x"])
BAD_MEMBERS = [(member, url) for member in USES for url in (BAD_URLS if "supported" not in member else (5,))]


def signed_profile(provider: GenericOIDCProvider, issuer: ScriptedIssuer) -> None:
    issuer.answers["/userinfo"] = Answer(issuer.id_token().encode(), media_type="application/jwt")
    provider.get_userinfo("token")


@pytest.mark.parametrize(("member", "value"), BAD_MEMBERS)
def test_a_bad_member_affects_only_the_calls_that_use_it(
    issuer: ScriptedIssuer, member: str, value: object
) -> None:
    """Each of these calls refuses it by name before anything is sent. [S4, T22, T53]"""
    issuer.metadata |= {"device_authorization_endpoint": f"{issuer.url}/device", member: value}
    issuer.answers |= {"/token": Answer(issuer.tokens(id_token=issuer.id_token())), "/revoke": Answer({})}
    provider = issuer.provider()
    for name, use in USES.items():
        issuer.answers["/userinfo"] = Answer({"sub": SUBJECT})
        if name == member or name in NEEDED_TOO.get(member, ()):
            before = len(issuer.requests("/token")) + len(issuer.requests("/revoke"))
            with pytest.raises(AuthenticationError, match=member) as caught:
                use(provider, issuer)
            assert caught.value.error == ErrorCode.INVALID_RESPONSE
            assert len(issuer.requests("/token")) + len(issuer.requests("/revoke")) == before
        else:
            use(provider, issuer)


@pytest.mark.parametrize("value", BAD_URLS)
def test_an_explicit_endpoint_replaces_a_bad_one(issuer: ScriptedIssuer, value: object) -> None:
    """The document's own value is not even read. [S4]"""
    issuer.metadata |= {"token_endpoint": value, "jwks_uri": value}
    issuer.answers["/token"] = Answer(issuer.tokens(id_token=issuer.id_token()))
    provider = issuer.provider(token_url=f"{issuer.url}/token", jwks_url=f"{issuer.url}/jwks")
    assert provider.exchange_code("code", REDIRECT_URI).id_token_claims["sub"] == SUBJECT
    assert not provider.metadata.unusable


def test_a_configured_method_needs_no_offered_ones(issuer: ScriptedIssuer) -> None:
    issuer.metadata["token_endpoint_auth_methods_supported"] = 5
    issuer.answers["/token"] = Answer(issuer.tokens())
    how = {"token_endpoint_auth_method": "client_secret_post", "clock": lambda: claims_of("")["iat"]}
    options: dict[str, Any] = {"issuer_url": issuer.url, **how}
    assert GenericOIDCProvider(CLIENT_ID, "secret", **options).refresh_tokens("old").access_token


def test_a_profile_is_not_taken_from_the_id_token_silently(issuer: ScriptedIssuer) -> None:
    """A UserInfo endpoint that cannot be used fails like one that does not answer."""
    issuer.metadata["userinfo_endpoint"] = "http://id.example.com"
    assert not issuer.provider().profile_suffices({"sub": SUBJECT})
    del issuer.metadata["userinfo_endpoint"]
    assert issuer.provider().profile_suffices({"sub": SUBJECT})


# The issuer apart from its document


@pytest.mark.parametrize("named", ["https://other.example.com/7/", None, "", 5])
def test_an_explicit_issuer_replaces_the_name_in_the_document(issuer: ScriptedIssuer, named: object) -> None:
    """ID tokens and stored sets name it, byte for byte. [S3]"""
    place, name = f"{issuer.url}/tenant/policy", "https://id.example.com/7/"
    issuer.answers[f"/tenant/policy{DOCUMENT}"] = Answer({**issuer.metadata, "issuer": named})
    issuer.answers["/token"] = Answer(issuer.tokens(id_token=issuer.id_token(iss=name)))
    ways: list[dict[str, Any]] = [
        {"issuer_url": place},
        {"issuer_url": place + DOCUMENT},
        {"discovery_url": place + DOCUMENT},
        {"issuer_url": "https://unreachable.example.com", "discovery_url": place + DOCUMENT},
    ]
    for way in ways:
        options = {**way, "issuer": name, "clock": lambda: claims_of("")["iat"]}
        provider = GenericOIDCProvider(CLIENT_ID, **options)
        assert provider.name == "oidc"
        assert provider.is_recorded_issuer(name)  # without a call
        assert not provider.is_recorded_issuer(name.rstrip("/"))
        assert not provider.is_recorded_issuer("https://other.example.com/7/")
        tokens = provider.exchange_code("code", REDIRECT_URI)
        assert (tokens.issuer, provider.metadata.issuer) == (name, name)
        assert provider.is_same_issuer(name)
        assert provider.issued_to_this_client(tokens)
        with pytest.raises(TokenError):
            provider.validate_id_token(issuer.id_token(iss=name.rstrip("/")))


def test_the_issuer_that_an_error_advises_works(issuer: ScriptedIssuer) -> None:
    """The document may stand apart from the issuer's name, as at Azure AD B2C. [S3]"""
    place, name = f"{issuer.url}/tenant/policy", "https://id.example.com/7/"
    issuer.answers[f"/tenant/policy{DOCUMENT}"] = Answer({**issuer.metadata, "issuer": name})
    with pytest.raises(AuthenticationError, match="set PYWRY_OAUTH2__ISSUER to exactly this name") as caught:
        _ = GenericOIDCProvider(CLIENT_ID, issuer_url=place).metadata
    advised = str(caught.value).split("'")[3]
    assert advised == name
    assert GenericOIDCProvider(CLIENT_ID, issuer_url=place, issuer=advised).metadata.issuer == name


@pytest.mark.parametrize(
    "path", [f"/t{DOCUMENT}", f"{DOCUMENT}/t", "/.well-known/oauth-authorization-server/t"]
)
@pytest.mark.parametrize("option", ["issuer_url", "discovery_url"])
def test_the_address_of_a_document_is_enough(issuer: ScriptedIssuer, option: str, path: str) -> None:
    """Its issuer must be the one that the address belongs to (OIDC Discovery §4.3). [T4]"""
    issuer.answers[path] = Answer({**issuer.metadata, "issuer": f"{issuer.url}/t/"})
    options: dict[str, Any] = {option: issuer.url + path}
    provider = GenericOIDCProvider(CLIENT_ID, **options)
    assert provider.is_recorded_issuer(f"{issuer.url}/t/")
    assert not provider.is_recorded_issuer(issuer.url)
    assert provider.metadata.issuer == f"{issuer.url}/t/"
    for other in (issuer.url, f"{issuer.url}/t/x", "https://id.example.com/t"):
        issuer.answers[path] = Answer({**issuer.metadata, "issuer": other})
        with pytest.raises(AuthenticationError, match=f"{option.upper()}.*set PYWRY_OAUTH2__ISSUER"):
            _ = GenericOIDCProvider(CLIENT_ID, **options).metadata


def test_the_document_at_another_address_must_name_the_issuer_of_the_setting(issuer: ScriptedIssuer) -> None:
    """A document below the address itself is of another issuer then. [T4]"""
    options: dict[str, Any] = {"discovery_url": issuer.url + DOCUMENT, "issuer_url": "https://id.example.com"}
    with pytest.raises(AuthenticationError, match="set PYWRY_OAUTH2__ISSUER"):
        _ = GenericOIDCProvider(CLIENT_ID, **options).metadata
    issuer.metadata["issuer"] = "https://id.example.com/"
    assert GenericOIDCProvider(CLIENT_ID, **options).metadata.issuer == "https://id.example.com/"


def test_the_query_of_an_issuer_url_is_kept(issuer: ScriptedIssuer) -> None:
    """B2C names its policy there; an issuer itself has no query (OIDC Core §2)."""
    name = "https://id.example.com/7"
    issuer.metadata["issuer"] = name
    for url in (f"{issuer.url}/?p=policy", f"{issuer.url}{DOCUMENT}?p=policy"):
        assert GenericOIDCProvider(CLIENT_ID, issuer_url=url, issuer=name).metadata.issuer == name
    assert {request.target for request in issuer.server.received} == {f"{DOCUMENT}?p=policy"}


def test_one_document_for_many_tenants_leads_to_the_provider_microsoft(issuer: ScriptedIssuer) -> None:
    """No single issuer could be set."""
    issuer.metadata["issuer"] = "https://login.microsoftonline.com/{tenantid}/v2.0"
    with pytest.raises(AuthenticationError, match="Set PYWRY_OAUTH2__PROVIDER to microsoft"):
        _ = issuer.provider().metadata


@pytest.mark.parametrize("option", ["issuer_url", "discovery_url"])
def test_google_is_recognised_by_the_address_of_its_document(option: str) -> None:
    """Its rule for addresses applies under any name of the issuer. [T49]"""
    options: dict[str, Any] = {option: f"https://accounts.google.com{DOCUMENT}", "issuer": "another name"}
    provider = GenericOIDCProvider(CLIENT_ID, **options)
    assert provider.verified_email({"email": "a@example.com", "email_verified": True}, "token") is None


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
@pytest.mark.parametrize("option", ["issuer_url", "discovery_url"])
def test_an_invalid_issuer_url_is_named_at_once(option: str, url: str) -> None:
    options: dict[str, Any] = {option: url}
    with pytest.raises(AuthenticationError, match=option.upper()) as caught:
        GenericOIDCProvider(CLIENT_ID, **options)
    assert "canary" not in str(caught.value)


def test_a_copy_with_other_scopes_shares_the_discovery(issuer: ScriptedIssuer) -> None:
    provider = issuer.provider()
    twin = provider.with_scopes(["openid"])
    assert twin.metadata == provider.metadata
    twin.validate_id_token(issuer.id_token())
    assert [request.path for request in issuer.server.received] == [DOCUMENT, "/jwks"]
