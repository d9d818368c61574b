"""Redirects of endpoints: never followed, and their target is named if that is safe."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError
from pywry_auth.protocol.redirects import no_redirect
from pywry_auth.providers.oidc import GenericOIDCProvider
from tests.protocol.issuer import ACCESS_TOKEN, CLIENT_ID, REDIRECT_URI, ScriptedIssuer
from tests.protocol.refusal import everything_told
from tests.protocol.servers import Answer

URL = "https://id.example.com/realm/token?tenant=7"
SECRET = "canary-secret-8Kd0"


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("https://id2.example.com/token", "https://id2.example.com/token"),
        ("/index.php/token", "https://id.example.com/index.php/token"),
        ("../token", "https://id.example.com/token"),
        ("token/", "https://id.example.com/realm/token/"),
        ("//id2.example.com", "https://id2.example.com"),
        ("http://127.0.0.1:8080/token", "http://127.0.0.1:8080/token"),
        ("https://id2.example.com/token?code=unknown#unknown", "https://id2.example.com/token"),
        (f"https://id2.example.com/?s={SECRET}", "https://id2.example.com/"),
    ],
)
def test_the_target_is_shown_without_its_query(location: str, target: str) -> None:
    """The query may contain tokens that this client does not know. [T50]"""
    text = no_redirect(URL, location, [SECRET])
    assert f"redirects to {target}," in text
    assert "unknown" not in text
    assert "canary" not in text


@pytest.mark.parametrize(
    "location",
    [
        "",
        "http://id.example.com/token",
        "javascript:alert(1)",
        "file:///etc/passwd",
        "https://alice:canary@id.example.com/",
        "https://id.example.com/\x1b[31m",
        "https://id.example.com/\u202eabc",
        "https://id.example.com/a b",
        "https://[::1",
        "https://id.example.com:99999/",
        "https://id.example.com/" + "a" * 300,
        f"https://id.example.com/{SECRET}",
        f"https://id.example.com/{SECRET.upper()}",
        f"https://id.example.com/{SECRET.encode().hex()}",
        f"/{SECRET[:10]}",
    ],
)
def test_an_unsafe_target_is_not_shown(location: str) -> None:
    """Such a target may not be set either. [T50]"""
    assert no_redirect(URL, location, [SECRET]) == "a direct answer (redirects are never followed)"


CALLS: dict[str, Callable[[GenericOIDCProvider, ScriptedIssuer], object]] = {
    "/.well-known/openid-configuration": lambda provider, issuer: provider.metadata,
    "/token": lambda provider, issuer: provider.exchange_code("code", REDIRECT_URI),
    "/userinfo": lambda provider, issuer: provider.get_userinfo(ACCESS_TOKEN),
    "/jwks": lambda provider, issuer: provider.validate_id_token(issuer.id_token()),
    "/revoke": lambda provider, issuer: provider.request_revocation(ACCESS_TOKEN),
}


@pytest.mark.parametrize("path", CALLS)
def test_each_endpoint_names_the_target_of_its_redirect(issuer: ScriptedIssuer, path: str) -> None:
    """The user can then set that address. [T22, T24, S11]"""
    issuer.answers[path] = Answer(b"", 301, headers={"Location": f"/moved{path}?token=canary"})
    with pytest.raises(
        AuthenticationError, match=f"{issuer.url}/moved{path}, and .* PYWRY_OAUTH2__DISCOVERY_URL"
    ) as caught:
        CALLS[path](issuer.provider(), issuer)
    assert caught.value.error == ErrorCode.INVALID_RESPONSE
    assert "canary" not in everything_told(caught.value)
    assert issuer.requests(f"/moved{path}") == []


def test_the_named_target_works_as_discovery_url(issuer: ScriptedIssuer) -> None:
    """The issuer's name does not change with the address of its document (OIDC Discovery §4.3)."""
    moved = "/index.php/.well-known/openid-configuration"
    issuer.answers["/.well-known/openid-configuration"] = Answer(b"", 301, headers={"Location": moved})
    issuer.answers[moved] = Answer(issuer.metadata)
    provider = GenericOIDCProvider(CLIENT_ID, issuer_url=issuer.url, discovery_url=issuer.url + moved)
    assert provider.metadata.issuer == issuer.url
