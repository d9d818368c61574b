"""The provider that the settings describe, and errors in settings."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pywry_auth.config import OAuth2Settings, get_settings
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError
from pywry_auth.providers.base import OAuthProvider
from pywry_auth.providers.factory import create_provider_from_settings
from pywry_auth.providers.oidc import GenericOIDCProvider
from tests.peers.tls import TLSFiles
from tests.protocol.issuer import REDIRECT_URI, ScriptedIssuer
from tests.protocol.servers import Answer

ID = "https://id.example.com"
CUSTOM = {"provider": "custom", "authorize_url": f"{ID}/authorize", "token_url": f"{ID}/token"}

FromEnvironment = Callable[..., OAuthProvider]


@pytest.fixture
def create(monkeypatch: pytest.MonkeyPatch) -> FromEnvironment:
    """Return a function that creates the provider of an environment."""

    def make(**values: str) -> OAuthProvider:
        for name, value in {"client_id": "c", **values}.items():
            monkeypatch.setenv(f"PYWRY_OAUTH2__{name.upper()}", value)
        settings = get_settings().oauth2
        assert settings is not None
        return create_provider_from_settings(settings)

    return make


def test_oidc_is_discovered(create: FromEnvironment, issuer: ScriptedIssuer) -> None:
    provider = create(provider="oidc", issuer_url=issuer.url, userinfo_url=f"{ID}/me")
    assert isinstance(provider, GenericOIDCProvider)
    assert provider.scopes == ("openid", "email", "profile")
    assert provider.metadata.token_endpoint == f"{issuer.url}/token"
    assert provider.metadata.userinfo_endpoint == f"{ID}/me"


def test_the_issuer_and_its_document_can_be_set(create: FromEnvironment, issuer: ScriptedIssuer) -> None:
    """``ISSUER_URL`` is not needed then. [S3]"""
    document = f"{issuer.url}/.well-known/openid-configuration"
    provider = create(provider="oidc", discovery_url=document, issuer=f"{ID}/7")
    assert provider.metadata.issuer == f"{ID}/7"
    assert provider.metadata.token_endpoint == f"{issuer.url}/token"
    assert provider.is_recorded_issuer(f"{ID}/7")


@pytest.mark.parametrize(
    "names",
    [
        {"issuer": ID},
        {"issuer_url": ID},
        {"issuer": ID, "issuer_url": f"{ID}/x"},
        {"issuer_url": f"{ID}/.well-known/openid-configuration"},
        {"issuer_url": f"{ID}/.well-known/oauth-authorization-server"},
    ],
)
def test_the_issuer_of_custom_has_two_names(create: FromEnvironment, names: dict[str, str]) -> None:
    """``ISSUER`` has precedence; ``ISSUER_URL`` was the first name. [S3]"""
    provider = create(**CUSTOM, **names, scopes="openid", jwks_url=f"{ID}/jwks")
    assert provider.metadata.issuer == ID


@pytest.mark.parametrize("name", ["okta", "Keycloak", "OIDC"])
def test_the_name_of_a_product_leads_to_oidc(create: FromEnvironment, name: str) -> None:
    with pytest.raises(AuthenticationError, match=r"PYWRY_OAUTH2__PROVIDER.*for example oidc"):
        create(provider=name)


def test_custom_uses_the_given_endpoints(create: FromEnvironment) -> None:
    others = {
        "userinfo_url": f"{ID}/me",
        "revocation_url": f"{ID}/revoke",
        "jwks_url": f"{ID}/jwks",
        "end_session_url": f"{ID}/logout",
        "device_authorization_url": f"{ID}/device",
    }
    provider = create(**CUSTOM, **others, issuer_url=f"{ID}/", scopes="openid read")
    metadata = provider.metadata
    assert (provider.name, provider.scopes, metadata.issuer) == ("custom", ("openid", "read"), f"{ID}/")
    assert metadata.authorization_endpoint == f"{ID}/authorize"
    assert metadata.userinfo_endpoint == f"{ID}/me"
    assert metadata.revocation_endpoint == f"{ID}/revoke"
    assert metadata.jwks_uri == f"{ID}/jwks"
    assert metadata.end_session_endpoint == f"{ID}/logout"
    assert metadata.device_authorization_endpoint == f"{ID}/device"


@pytest.mark.parametrize(
    ("scopes", "asked"),
    [
        ({}, ()),
        ({"scopes": "openid"}, ("openid",)),
        ({"scopes": ""}, ()),
        ({"scopes": " read  write "}, ("read", "write")),
    ],
)
def test_without_setting_the_provider_has_its_own_scopes(
    create: FromEnvironment, scopes: dict[str, str], asked: tuple[str, ...]
) -> None:
    """A custom provider has none; the setting's default is not a choice of the user. [S3]"""
    assert create(**CUSTOM, **scopes, jwks_url=f"{ID}/jwks", issuer_url=ID).scopes == asked


def test_the_settings_of_calls_are_used(create: FromEnvironment, issuer: ScriptedIssuer) -> None:
    """They are the secret and its method, the leeway, and ``USERINFO_FROM_ID_TOKEN``. [S3]"""
    issuer.answers["/token"] = Answer(issuer.tokens())
    provider = create(
        provider="oidc",
        issuer_url=issuer.url,
        client_secret="canary-s",
        token_endpoint_auth_method="client_secret_post",
        scopes="email",
        userinfo_from_id_token="true",
    )
    provider.exchange_code("code", REDIRECT_URI)
    form = issuer.requests("/token")[0].form
    assert (form["client_id"], form["client_secret"]) == ("c", "canary-s")
    assert provider.profile_suffices({"sub": "s", "email": "a@example.com"})
    assert "canary" not in repr(provider)


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("http_timeout_seconds", "0.2", r"within 0\.2 s"),
        ("proxy_url", "http://127.0.0.1:9", "proxy"),
    ],
)
def test_the_settings_of_the_transport_are_used(
    create: FromEnvironment, monkeypatch: pytest.MonkeyPatch, name: str, value: str, text: str
) -> None:
    """They are time limit and proxy. [N13, P26]"""
    monkeypatch.setenv("NO_PROXY", "*")
    where = {"issuer_url": "https://192.0.2.1"}
    if name == "http_timeout_seconds":
        monkeypatch.setattr("socket.socket.connect", _never)
    with pytest.raises(AuthenticationError, match=text):
        _ = create(provider="oidc", **where, **{name: value}).metadata


def test_the_bundle_of_the_settings_is_used(
    create: FromEnvironment, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tls_files: TLSFiles
) -> None:
    """The error of a call names the file if it was removed after the start. [N13, P26]"""
    monkeypatch.setenv("NO_PROXY", "*")
    bundle = tmp_path / "ca.pem"
    bundle.write_bytes(tls_files.ca.read_bytes())
    provider = create(provider="oidc", issuer_url="https://192.0.2.1", ca_bundle=str(bundle))
    bundle.unlink()
    with pytest.raises(AuthenticationError, match=r"/ca\.pem"):
        _ = provider.metadata


def _never(*_: Any) -> None:
    raise TimeoutError


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"provider": "oidc"}, "PYWRY_OAUTH2__ISSUER_URL"),
        ({"provider": "oidc", "issuer_url": "http://id.example.com"}, "PYWRY_OAUTH2__ISSUER_URL"),
        ({**CUSTOM, "authorize_url": ""}, "PYWRY_OAUTH2__AUTHORIZE_URL"),
        ({**CUSTOM, "token_url": ""}, "PYWRY_OAUTH2__TOKEN_URL"),
        ({**CUSTOM, "token_url": "http://id.example.com/token"}, "PYWRY_OAUTH2__TOKEN_URL"),
        ({**CUSTOM, "userinfo_url": f"{ID}:port/me"}, "PYWRY_OAUTH2__USERINFO_URL"),
        ({**CUSTOM, "revocation_url": "nonsense"}, "PYWRY_OAUTH2__REVOCATION_URL"),
        ({**CUSTOM, "jwks_url": "file:///jwks"}, "PYWRY_OAUTH2__JWKS_URL"),
        ({**CUSTOM, "end_session_url": "javascript:x"}, "PYWRY_OAUTH2__END_SESSION_URL"),
        ({**CUSTOM, "end_session_url": f"{ID}/out?x={{x}}"}, "PYWRY_OAUTH2__END_SESSION_URL is no valid"),
        ({**CUSTOM, "device_authorization_url": "//x"}, "PYWRY_OAUTH2__DEVICE_AUTHORIZATION_URL"),
        ({"provider": "google", "token_url": "http://id.example.com"}, "PYWRY_OAUTH2__TOKEN_URL"),
        ({**CUSTOM, "scopes": "openid", "issuer_url": ID}, "PYWRY_OAUTH2__JWKS_URL"),
        ({**CUSTOM, "scopes": "openid", "jwks_url": f"{ID}/jwks"}, "PYWRY_OAUTH2__ISSUER "),
        ({}, "PYWRY_OAUTH2__AUTHORIZE_URL"),
        ({"provider": "oidc", "discovery_url": "http://id.example.com"}, "PYWRY_OAUTH2__DISCOVERY_URL"),
        ({"provider": "google", "discovery_url": f"{ID}/x"}, "PYWRY_OAUTH2__DISCOVERY_URL"),
        ({**CUSTOM, "discovery_url": f"{ID}/x"}, "PYWRY_OAUTH2__DISCOVERY_URL"),
    ],
)
def test_a_missing_setting_is_named_by_its_variable(
    create: FromEnvironment, values: dict[str, str], named: str
) -> None:
    """The error has the whole name of the variable. [S3, S4]"""
    with pytest.raises(AuthenticationError, match=named) as caught:
        create(client_secret="canary", **values)
    assert caught.value.error == ErrorCode.INVALID_CONFIGURATION
    assert "example" in str(caught.value)
    assert "canary" not in str(caught.value)


def test_all_invalid_and_missing_urls_are_in_one_error(create: FromEnvironment) -> None:
    """The user corrects them in one step. [S3]"""
    values = {"token_url": "http://id.example.com/token", "userinfo_url": "https://u:canary@id.example.com"}
    with pytest.raises(AuthenticationError) as caught:
        create(provider="custom", scopes="openid", issuer_url="any name", **values)
    lines = str(caught.value).splitlines()
    assert [line.split()[0] for line in lines] == [
        f"PYWRY_OAUTH2__{name}_URL" for name in ("AUTHORIZE", "JWKS", "TOKEN", "USERINFO")
    ]
    assert "canary" not in str(caught.value)


_BUNDLES: dict[str, tuple[Callable[[Path, Path], object], str]] = {
    "missing": (lambda path, ca: None, "cannot be read (No such file or directory): correct the path"),
    "a pipe": (lambda path, ca: os.mkfifo(path), "cannot be read (it is not a regular file)"),
    "empty": (lambda path, ca: path.touch(), "contains no certificate in PEM form"),
    "a key": (lambda path, ca: path.write_bytes((ca.parent / "server.key").read_bytes()), "no certificate"),
    "DER": (lambda path, ca: path.write_bytes(b"0\x82\x01\n" + bytes(range(256))), "no certificate"),
    "cut": (lambda path, ca: path.write_bytes(ca.read_bytes()[:200]), "contains no certificate in PEM form"),
    "a page": (
        lambda path, ca: path.write_text("<html>canary</html>"),
        "contains no certificate in PEM form",
    ),
    "good": (lambda path, ca: path.write_bytes(b"# a comment\r\n" + ca.read_bytes()), ""),
    "a folder": (lambda path, ca: path.mkdir(), ""),
}


@pytest.mark.parametrize("kind", _BUNDLES)
def test_a_bundle_without_certificates_is_refused_at_the_start(
    create: FromEnvironment, tmp_path: Path, tls_files: TLSFiles, kind: str
) -> None:
    """Otherwise the first visitor finds out. [S3, S11]"""
    make, problem = _BUNDLES[kind]
    make(tmp_path / "ca.pem", tls_files.ca)
    values = {"provider": "oidc", "issuer_url": ID, "ca_bundle": str(tmp_path / "ca.pem")}
    if not problem:
        assert create(**values).options.ca_bundle == values["ca_bundle"]
        return
    with pytest.raises(AuthenticationError) as caught:
        create(**values)
    assert f"PYWRY_OAUTH2__CA_BUNDLE is {tmp_path}/ca.pem, which" in str(caught.value)
    assert problem in str(caught.value)
    assert "canary" not in str(caught.value)
    assert caught.value.error == ErrorCode.INVALID_CONFIGURATION


@pytest.mark.parametrize(
    ("values", "warned"),
    [
        ({"provider": "oidc", "issuer_url": ID, "scopes": "email profile"}, True),
        ({"provider": "google", "scopes": "email"}, True),
        ({"provider": "oidc", "issuer_url": ID, "scopes": "email openid"}, False),
        ({"provider": "oidc", "issuer_url": ID}, False),
        ({"provider": "github", "scopes": "user:email"}, False),
        ({**CUSTOM, "scopes": "email"}, False),
    ],
)
def test_scopes_without_openid_are_a_warning(
    create: FromEnvironment, caplog: pytest.LogCaptureFixture, values: dict[str, str], warned: bool
) -> None:
    """The sign-in would fail at UserInfo, with a sentence about its URL. [S3]"""
    create(**values)
    assert ("PYWRY_OAUTH2__SCOPES has no openid" in caplog.text) is warned


def test_only_a_whole_placeholder_is_refused_as_client_secret(create: FromEnvironment) -> None:
    """The provider may know any other secret, however weak it is. [S3]"""
    for secret in ("...", "changeme", "your-client-secret"):
        with pytest.raises(AuthenticationError, match="PYWRY_OAUTH2__CLIENT_SECRET is a placeholder: set"):
            create(provider="google", client_secret=secret)
    for secret in ("my-secret-of-the-client-1234", "shop-client-password-2026", "secret"):
        create(provider="google", client_secret=secret)
    create(provider="google", client_secret="...", token_endpoint_auth_method="none")


def test_a_login_without_nonce_and_pkce_is_refused(create: FromEnvironment) -> None:
    """Only ``USE_NONCE`` may be false. [S3]"""
    assert create(**CUSTOM, use_nonce="false").options.use_nonce is False
    with pytest.raises(AuthenticationError, match="USE_NONCE and PYWRY_OAUTH2__USE_PKCE") as caught:
        create(**CUSTOM, use_nonce="false", use_pkce="false")
    assert caught.value.error == ErrorCode.INVALID_CONFIGURATION


def test_an_unknown_provider_is_named() -> None:
    """The error lists the known providers. [S4]"""
    settings = OAuth2Settings(client_id="c").model_copy(update={"provider": "unknown"})
    with pytest.raises(AuthenticationError, match="'unknown'") as caught:
        create_provider_from_settings(settings)
    assert (caught.value.error, caught.value.provider) == (ErrorCode.INVALID_CONFIGURATION, "unknown")
