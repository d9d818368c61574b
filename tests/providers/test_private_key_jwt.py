"""Client authentication by a private key, at npm's provider, and its choice."""

from __future__ import annotations

import json
import threading
from base64 import urlsafe_b64decode
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from selenium import webdriver

from pywry_auth.app import PyWry
from pywry_auth.config import OAuth2Settings
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError, TokenError
from pywry_auth.providers.base import OAuthProvider
from pywry_auth.providers.factory import create_provider_from_settings
from pywry_auth.providers.oidc import GenericOIDCProvider
from pywry_auth.state.token_stores import MemoryTokenStore
from tests.peers.oidc_provider import NATIVE_CLIENT, OIDCProviderPeer, sign_in
from tests.protocol.forge import changed, make_key, public_jwk
from tests.protocol.issuer import CLIENT_ID, REDIRECT_URI, ScriptedIssuer
from tests.protocol.refusal import everything_told
from tests.protocol.servers import Answer

METHODS = "token_endpoint_auth_methods_supported"
KINDS = ("RSA", "P-256", "Ed25519")


def client_of(kind: str) -> Mapping[str, Any]:
    return {
        **NATIVE_CLIENT,
        "client_id": kind,
        "token_endpoint_auth_method": "private_key_jwt",
        "jwks": {"keys": [public_jwk(make_key(kind, "signing"), use="sig")]},
    }


@pytest.fixture(scope="module")
def peer() -> Iterator[OIDCProviderPeer]:
    with OIDCProviderPeer([client_of(kind) for kind in KINDS]) as running:
        yield running


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    return write_key(tmp_path, "P-256")


def write_key(folder: Path, kind: str, name: str = "signing") -> Path:
    file = folder / f"{kind}-{name}.pem"
    encoding, kind_of_file = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    file.write_bytes(make_key(kind, name).private_bytes(encoding, kind_of_file, serialization.NoEncryption()))
    return file


def claims_of(assertion: str) -> dict[str, Any]:
    claims: dict[str, Any] = json.loads(urlsafe_b64decode(assertion.split(".")[1] + "=="))
    return claims


def form_of(issuer: ScriptedIssuer, provider: OAuthProvider) -> dict[str, str]:
    issuer.answers["/token"] = Answer(issuer.tokens())
    provider.refresh_tokens("old")
    return issuer.requests("/token")[-1].form


def offer(issuer: ScriptedIssuer, methods: object) -> None:
    issuer.metadata = changed(issuer.metadata, **{METHODS: methods})


def test_npms_provider_accepts_the_assertions(
    peer: OIDCProviderPeer, chromium: webdriver.Chrome, key_file: Path
) -> None:
    """Exchange, refresh with rotation, and revocation each have a new assertion. [T38]"""
    provider = GenericOIDCProvider("P-256", issuer_url=peer.issuer, client_key_file=str(key_file))

    walks: list[threading.Thread] = []

    def show(url: str, config: object) -> str:
        walks.append(threading.Thread(target=sign_in, args=(chromium, url, "alice")))
        walks[0].start()
        return "chromium"

    app = PyWry()
    result = app.login(
        provider,
        token_store=MemoryTokenStore(),
        show_window=show,
        close_window=lambda label: walks[0].join(20),
    )
    assert result.user_id == "alice"
    tokens = provider.refresh_tokens(result.tokens.refresh_token or "")
    assert tokens.access_token != result.tokens.access_token
    assert provider.revoke_token(tokens.refresh_token or "") is True
    with pytest.raises(TokenError) as caught:
        provider.refresh_tokens(tokens.refresh_token or "")
    assert caught.value.error == "invalid_grant"
    app.logout()


@pytest.mark.parametrize("kind", KINDS)
def test_each_type_of_key_is_accepted_and_another_key_is_not(
    peer: OIDCProviderPeer, tmp_path: Path, kind: str
) -> None:
    """The error after authentication is about the grant, the other error about the client."""
    errors = []
    for name in ("signing", "another key"):
        file = write_key(tmp_path, kind, name)
        provider = GenericOIDCProvider(kind, issuer_url=peer.issuer, client_key_file=str(file))
        with pytest.raises(TokenError) as caught:
            provider.refresh_tokens("no-such-token")
        errors.append(caught.value.error)
    assert errors == ["invalid_grant", "invalid_client"]


@pytest.mark.parametrize(
    ("offered", "secret", "method"),
    [
        (["private_key_jwt", "client_secret_basic"], "s", "private_key_jwt"),
        (["client_secret_post", "private_key_jwt"], "", "private_key_jwt"),
        (["client_secret_post"], "s", "client_secret_post"),
        (..., "s", "client_secret_basic"),
        (..., "", "private_key_jwt"),
    ],
)
def test_an_offered_method_is_chosen(key_file: Path, offered: object, secret: str, method: str) -> None:
    """Methods are never tried in turn. [S4]"""
    with ScriptedIssuer() as issuer:
        offer(issuer, offered)
        provider = GenericOIDCProvider(
            CLIENT_ID, secret, issuer_url=issuer.url, client_key_file=str(key_file)
        )
        form = form_of(issuer, provider)
        (request,) = issuer.requests("/token")
    assert ("client_assertion" in form) is (method == "private_key_jwt")
    assert ("client_secret" in form) is (method == "client_secret_post")
    assert ("authorization" in request.headers) is (method == "client_secret_basic")


def test_the_setting_has_precedence_over_the_offered_methods(key_file: Path, issuer: ScriptedIssuer) -> None:
    settings = OAuth2Settings(
        provider="oidc",
        client_id=CLIENT_ID,
        issuer_url=issuer.url,
        token_endpoint_auth_method="private_key_jwt",
        client_key_file=str(key_file),
    )
    form = form_of(issuer, create_provider_from_settings(settings))
    assert form["client_id"] == CLIENT_ID
    assert form["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    assert claims_of(form["client_assertion"])["aud"] == issuer.url


def test_each_request_has_a_new_assertion(key_file: Path, issuer: ScriptedIssuer) -> None:
    """No assertion is sent twice. [T38]"""
    issuer.metadata[METHODS] = ["private_key_jwt"]
    issuer.answers["/revoke"] = Answer({})
    provider = issuer.provider(client_key_file=str(key_file))
    issuer.answers["/token"] = Answer(issuer.tokens(id_token=issuer.id_token()))
    provider.exchange_code("code", REDIRECT_URI)
    form_of(issuer, provider)
    provider.revoke_token("token")
    forms = [request.form for path in ("/token", "/revoke") for request in issuer.requests(path)]
    claims = [claims_of(form["client_assertion"]) for form in forms]
    assert len(claims) == 3
    assert len({claim["jti"] for claim in claims}) == 3
    assert {claim["aud"] for claim in claims} == {issuer.url}
    assert all(claim["exp"] - claim["iat"] <= 60 for claim in claims)
    assert not any("client_secret" in form for form in forms)


@pytest.mark.parametrize("explicit", ["", "/other"])
def test_the_audience_can_be_the_token_endpoint(
    key_file: Path, issuer: ScriptedIssuer, explicit: str
) -> None:
    """Okta and login.gov accept no other. A revocation has the same audience. [T38]"""
    issuer.metadata[METHODS] = ["private_key_jwt"]
    settings = OAuth2Settings(
        provider="oidc",
        client_id=CLIENT_ID,
        issuer_url=issuer.url,
        client_key_file=str(key_file),
        client_assertion_audience="token_endpoint",
        token_url=explicit and f"{issuer.url}{explicit}",
    )
    provider, path = create_provider_from_settings(settings), explicit or "/token"
    issuer.answers[path], issuer.answers["/revoke"] = Answer(issuer.tokens()), Answer({})
    provider.refresh_tokens("old")
    provider.revoke_token("token")
    for place in (path, "/revoke"):
        (request,) = issuer.requests(place)
        assert claims_of(request.form["client_assertion"])["aud"] == f"{issuer.url}{path}"


def test_the_audience_is_the_explicit_issuer(key_file: Path, issuer: ScriptedIssuer) -> None:
    issuer.metadata |= {METHODS: ["private_key_jwt"], "issuer": "https://other.example.com"}
    provider = issuer.provider(client_key_file=str(key_file), issuer="https://id.example.com")
    assert claims_of(form_of(issuer, provider)["client_assertion"])["aud"] == "https://id.example.com"


def test_an_assertion_for_an_unknown_issuer_is_not_sent(key_file: Path, issuer: ScriptedIssuer) -> None:
    """The error names both settings. A provider of the settings is refused at once. [T38]"""
    urls = {"token_url": f"{issuer.url}/token", "authorize_url": f"{issuer.url}/authorize"}
    options: dict[str, Any] = {**urls, "client_key_file": str(key_file)}
    for attempt in (
        lambda: OAuthProvider(CLIENT_ID, **options).refresh_tokens("old"),
        lambda: GenericOIDCProvider(CLIENT_ID, **options),
        lambda: GenericOIDCProvider(CLIENT_ID, "s", None, "private_key_jwt", **options),
    ):
        with pytest.raises(AuthenticationError, match=r"ISSUER.*CLIENT_ASSERTION_AUDIENCE") as caught:
            attempt()
        assert caught.value.error == ErrorCode.INVALID_CONFIGURATION
    assert issuer.requests("/token") == []
    provider = GenericOIDCProvider(CLIENT_ID, client_assertion_audience="token_endpoint", **options)
    assert claims_of(form_of(issuer, provider)["client_assertion"])["aud"] == f"{issuer.url}/token"
    GenericOIDCProvider(CLIENT_ID, "s", **options)  # its secret is sent instead


def test_another_audience_is_refused() -> None:
    with pytest.raises(AuthenticationError, match="CLIENT_ASSERTION_AUDIENCE"):
        GenericOIDCProvider(
            CLIENT_ID, issuer_url="https://id.example.com", client_assertion_audience="https://id.example.com"
        )


@pytest.mark.parametrize(
    ("offered", "key", "configured"),
    [(["client_secret_basic"], True, "auto"), (["private_key_jwt"], False, "private_key_jwt")],
)
def test_no_request_is_sent_without_authentication(
    key_file: Path, offered: list[str], key: bool, configured: str
) -> None:
    with ScriptedIssuer() as issuer:
        offer(issuer, offered)
        provider = GenericOIDCProvider(
            CLIENT_ID,
            token_endpoint_auth_method=configured,
            issuer_url=issuer.url,
            client_key_file=str(key_file) if key else "",
        )
        with pytest.raises(AuthenticationError) as caught:
            provider.exchange_code("code", REDIRECT_URI)
        assert caught.value.error == ErrorCode.INVALID_CONFIGURATION
        assert issuer.requests("/token") == []


def test_an_assertion_that_the_provider_quotes_is_removed(key_file: Path, issuer: ScriptedIssuer) -> None:
    issuer.metadata[METHODS] = ["private_key_jwt"]

    def quote(request: Any) -> Answer:
        refusal = f"bad assertion {request.form['client_assertion']}"
        return Answer({"error": "invalid_client", "error_description": refusal}, 401)

    issuer.scripts["/token"] = quote
    provider = issuer.provider(client_key_file=str(key_file))
    with pytest.raises(TokenError) as caught:
        provider.exchange_code("code", REDIRECT_URI)
    (request,) = issuer.requests("/token")
    assert request.form["client_assertion"] not in everything_told(caught.value)


def test_a_missing_key_file_is_reported_at_once(tmp_path: Path) -> None:
    with pytest.raises(AuthenticationError, match="CLIENT_KEY_FILE"):
        GenericOIDCProvider(
            "c", issuer_url="https://id.example.com", client_key_file=str(tmp_path / "no.pem")
        )
