"""The presets: a program signs in, refreshes and signs out at each, with the settings of its guide."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

import pytest
from joserfc.jwk import ECKey

from pywry_auth.app import PyWry
from pywry_auth.config import get_settings
from pywry_auth.exceptions import AuthenticationError
from pywry_auth.models import AuthFlowResult
from pywry_auth.providers.factory import create_provider_from_settings
from pywry_auth.state.token_stores import MemoryTokenStore
from pywry_auth.testing.identity_provider import DEFAULT_CLIENTS, PRESETS, Client, IdentityProvider
from tests.person import Person

SignIn = Callable[..., AuthFlowResult]
_SETTINGS: Mapping[str, Mapping[str, str]] = {
    "apple": {},
    "auth0": {},
    "cognito": {},
    "gitlab": {},
    "google": {},
    "linkedin": {"USE_NONCE": "false"},
    "okta": {"CLIENT_ASSERTION_AUDIENCE": "token_endpoint"},
    "slack": {"USE_PKCE": "false", "USERINFO_FROM_ID_TOKEN": "true"},
}
"""The settings that each preset needs besides the issuer."""

# The local provider compares the ports of a client with a key.
_PORTS = range(8410, 8430)


@pytest.fixture
def sign_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SignIn:
    """Sign in from a program at a provider, with these settings."""
    for variable in [variable for variable in os.environ if variable.startswith("PYWRY_")]:
        monkeypatch.delenv(variable)

    def signed_in(provider: IdentityProvider, **settings: str) -> AuthFlowResult:
        usual = {"PROVIDER": "oidc", "ISSUER_URL": provider.issuer, "CLIENT_ID": "pywry-demo"}
        usual["AUTH_TIMEOUT_SECONDS"] = "20"
        for name, value in {**usual, **settings}.items():
            monkeypatch.setenv(f"PYWRY_OAUTH2__{name}", value)
        person = Person()
        with closing(PyWry(get_settings())) as app:
            return app.login(
                token_store=MemoryTokenStore(), show_window=person.open, close_window=person.close
            )

    return signed_in


@pytest.mark.parametrize("name", _SETTINGS)
def test_a_program_signs_in_at_a_preset(name: str, sign_in: SignIn, tmp_path: Path) -> None:
    settings = dict(_SETTINGS[name]) | (_key_settings(tmp_path) if name == "okta" else {})
    with IdentityProvider(clients=[*DEFAULT_CLIENTS, _keyed(tmp_path)], quirks=PRESETS[name]) as provider:
        result = sign_in(provider, **settings)
        assert result.user_info["name"] == "Alice Example"
        oauth2 = get_settings().oauth2
        assert oauth2 is not None
        with closing(create_provider_from_settings(oauth2)) as client:
            tokens = client.refresh_tokens(result.tokens.refresh_token or "")
            assert tokens.refresh_token
            assert client.verified_email(result.user_info, tokens.access_token) == "alice@example.com"
            assert client.revoke_token(tokens.refresh_token) is not PRESETS[name].no_revocation


def test_a_preset_for_okta_refuses_an_assertion_for_the_issuer(sign_in: SignIn, tmp_path: Path) -> None:
    with IdentityProvider(clients=[_keyed(tmp_path)], quirks=PRESETS["okta"]) as provider:
        with pytest.raises(AuthenticationError) as refused:
            sign_in(provider, **_key_settings(tmp_path))
        assert refused.value.error == "invalid_client"


@pytest.mark.parametrize(
    ("name", "scopes"),
    [("entra-external-id", "openid profile"), ("azure-b2c", "openid profile api://local/read")],
)
def test_an_issuer_apart_from_its_document_needs_both_addresses(
    name: str, scopes: str, sign_in: SignIn
) -> None:
    with IdentityProvider(quirks=PRESETS[name]) as provider:
        apart = {"ISSUER_URL": "", "ISSUER": provider.issuer, "DISCOVERY_URL": provider.discovery_url}
        result = sign_in(provider, **apart, SCOPES=scopes)
        assert result.tokens.issuer == provider.issuer
        assert result.user_info["name"] == "Alice Example"


def _key_settings(folder: Path) -> dict[str, str]:
    ports = f"{_PORTS.start}-{_PORTS.stop - 1}"
    return {"CLIENT_ID": "keyed", "CLIENT_KEY_FILE": str(folder / "key.pem"), "REDIRECT_PORT": ports}


def _keyed(folder: Path) -> Client:
    key = ECKey.generate_key("P-256")
    (folder / "key.pem").write_bytes(key.as_pem(private=True))
    (folder / "key.pem").chmod(0o600)
    public = key.as_pem(private=False).decode()
    uris = tuple(f"http://127.0.0.1:{port}/callback" for port in _PORTS)
    return Client("keyed", redirect_uris=uris, public_keys=public)
