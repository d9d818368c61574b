"""npm's provider behaves as the logins against it expect."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
import requests
from selenium import webdriver
from selenium.webdriver.support.expected_conditions import url_contains
from selenium.webdriver.support.wait import WebDriverWait

from tests.peers.oidc_provider import NATIVE_CLIENT, OIDCProviderPeer, sign_in
from tests.peers.page import serve_page
from tests.peers.tls import TLSFiles

_VERIFIER = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"  # the challenge of RFC 7636 appendix B
_CHALLENGE = {
    "code_challenge": "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",
    "code_challenge_method": "S256",
}


def test_it_has_a_discovery_document(oidc_provider_peer: OIDCProviderPeer) -> None:
    metadata = _discover(oidc_provider_peer)
    assert metadata["issuer"] == oidc_provider_peer.issuer
    assert metadata["authorization_response_iss_parameter_supported"] is True
    assert metadata["code_challenge_methods_supported"] == ["S256"]
    assert {"RS256", "ES256"} <= set(metadata["id_token_signing_alg_values_supported"])
    for endpoint in ("userinfo", "revocation", "introspection", "end_session"):
        assert metadata[f"{endpoint}_endpoint"].startswith(oidc_provider_peer.issuer)


def test_it_refuses_a_request_without_a_code_challenge(oidc_provider_peer: OIDCProviderPeer) -> None:
    url = _authorization_url(_discover(oidc_provider_peer), "http://127.0.0.1:1/callback")
    answer = requests.get(url, allow_redirects=False, timeout=10)
    assert _query(answer.headers["Location"])["error"] == "invalid_request"


def test_it_signs_in_through_its_pages(
    oidc_provider_peer: OIDCProviderPeer, chromium: webdriver.Chrome
) -> None:
    metadata = _discover(oidc_provider_peer)
    response, tokens = _login(chromium, metadata)
    assert response["state"] == "the-state"
    assert response["iss"] == oidc_provider_peer.issuer
    bearer = {"Authorization": f"Bearer {tokens['access_token']}"}
    profile = requests.get(metadata["userinfo_endpoint"], headers=bearer, timeout=10).json()
    assert (profile["sub"], profile["email"]) == ("alice", "alice@example.com")


def test_it_rotates_refresh_tokens_and_a_second_use_ends_the_grant(
    oidc_provider_peer: OIDCProviderPeer, chromium: webdriver.Chrome
) -> None:
    metadata = _discover(oidc_provider_peer)
    _, tokens = _login(chromium, metadata)
    first = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
    second = first | {"refresh_token": _token(metadata, first)["refresh_token"]}
    assert second != first
    assert _token(metadata, first)["error"] == "invalid_grant"
    assert _token(metadata, second)["error"] == "invalid_grant"


def test_it_serves_https_and_short_lifetimes(chromium: webdriver.Chrome, tls_files: TLSFiles) -> None:
    with OIDCProviderPeer(access_token_ttl=7, tls=tls_files) as peer:
        _, tokens = _login(chromium, _discover(peer, tls_files), tls_files)
    assert peer.issuer.startswith("https://127.0.0.1:")
    assert tokens["expires_in"] == 7


def test_it_stops_completely() -> None:
    with OIDCProviderPeer() as peer:
        assert _discover(peer)
    with pytest.raises(requests.ConnectionError):
        _discover(peer)


def _discover(peer: OIDCProviderPeer, tls: TLSFiles | None = None) -> dict[str, Any]:
    url = f"{peer.issuer}/.well-known/openid-configuration"
    metadata: dict[str, Any] = requests.get(url, timeout=10, verify=_trusted(tls)).json()
    return metadata


def _login(
    driver: webdriver.Chrome, metadata: dict[str, Any], tls: TLSFiles | None = None
) -> tuple[dict[str, str], dict[str, Any]]:
    """Sign in as alice; return the authorization response and the token response."""
    with serve_page() as port:
        redirect_uri = f"http://127.0.0.1:{port}/callback"
        sign_in(driver, _authorization_url(metadata, redirect_uri, **_CHALLENGE), "alice")
        WebDriverWait(driver, 10, poll_frequency=0.05).until(url_contains(redirect_uri))
        response = _query(driver.current_url)
    grant = {"grant_type": "authorization_code", "code": response["code"], "redirect_uri": redirect_uri}
    return response, _token(metadata, grant | {"code_verifier": _VERIFIER}, tls)


def _authorization_url(metadata: dict[str, Any], redirect_uri: str, **more: str) -> str:
    parameters = {
        "client_id": NATIVE_CLIENT["client_id"],
        "response_type": "code",
        "redirect_uri": redirect_uri,
        "scope": "openid email profile",
        "state": "the-state",
        "prompt": "login",
    }
    return f"{metadata['authorization_endpoint']}?{urlencode(parameters | more)}"


def _token(metadata: dict[str, Any], grant: dict[str, str], tls: TLSFiles | None = None) -> dict[str, Any]:
    form = grant | {"client_id": NATIVE_CLIENT["client_id"]}
    answer = requests.post(metadata["token_endpoint"], data=form, timeout=10, verify=_trusted(tls))
    tokens: dict[str, Any] = answer.json()
    return tokens


def _trusted(tls: TLSFiles | None) -> str | bool:
    return str(tls.ca) if tls else True


def _query(url: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
