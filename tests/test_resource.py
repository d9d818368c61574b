"""Access tokens for an API, at an OpenID provider from other authors (RFC 8707)."""

from __future__ import annotations

import base64
import json
import logging
import re
from typing import Any
from urllib.parse import urljoin

import pytest
import requests

from pywry_auth.exceptions import AuthenticationError, TokenError
from pywry_auth.flow.authorization_code import begin, complete
from pywry_auth.models import AuthFlowResult
from pywry_auth.providers.oidc import GenericOIDCProvider
from tests.peers.oidc_provider import NATIVE_CLIENT, OIDCProviderPeer
from tests.person import parameters_of

API = "https://api.example.com"
CALLBACK = "http://127.0.0.1:8400/callback"


def provider(peer: OIDCProviderPeer, **options: Any) -> GenericOIDCProvider:
    return GenericOIDCProvider(NATIVE_CLIENT["client_id"], issuer_url=peer.issuer, **options)


def signed_in(at: GenericOIDCProvider) -> AuthFlowResult:
    request = begin(at, CALLBACK)
    return complete(at, request, parameters_of(_walk(request.url)))


def test_access_tokens_are_for_the_api_and_stay_so(
    oidc_provider_peer: OIDCProviderPeer, caplog: pytest.LogCaptureFixture
) -> None:
    """The UserInfo endpoint refuses such a token, so the profile comes from the ID token. [S3]"""
    with caplog.at_level(logging.WARNING):
        result = signed_in(provider(oidc_provider_peer, resource=API))
    assert "the profile has only the ID token's claims" in caplog.text
    caplog.clear()
    at = provider(oidc_provider_peer, resource=API, userinfo_from_id_token=True)
    result = signed_in(at)
    assert (result.user_id, result.user_info["email"]) == ("alice", "alice@example.com")
    assert not caplog.records
    refreshed = at.refresh_tokens(result.tokens.refresh_token or "")
    for tokens in (result.tokens, refreshed):
        assert _audience(tokens.access_token) == API
    assert at.revoke_token(refreshed.refresh_token or "")


def test_an_unknown_api_is_named_as_the_cause(oidc_provider_peer: OIDCProviderPeer) -> None:
    with pytest.raises(AuthenticationError, match=r"invalid_target.*RESOURCE"):
        signed_in(provider(oidc_provider_peer, resource="https://unknown.example.com"))


def test_tokens_of_an_earlier_resource_cannot_be_refreshed(oidc_provider_peer: OIDCProviderPeer) -> None:
    """After a change of the setting, the error tells the users to sign in again. [S11]"""
    token = signed_in(provider(oidc_provider_peer)).tokens.refresh_token or ""
    with pytest.raises(TokenError, match=r"invalid_target.*Sign in again"):
        provider(oidc_provider_peer, resource=API).refresh_tokens(token)


def _audience(access_token: str) -> object:
    claims = access_token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["aud"]


def _walk(url: str) -> str:
    """Sign in as alice on the provider's pages, and return the address of the callback."""
    with requests.Session() as browser:
        browser.trust_env = False
        page = browser.get(url, allow_redirects=False, timeout=10)
        while True:
            if page.is_redirect:
                url = urljoin(page.url, page.headers["Location"])
                if url.startswith(CALLBACK):
                    return url
                page = browser.get(url, allow_redirects=False, timeout=10)
                continue
            action = re.search(r'action="([^"]+)"', page.text)
            prompt = re.search(r'name="prompt" value="([^"]+)"', page.text)
            assert action
            assert prompt
            form = {"prompt": prompt[1], "login": "alice", "password": "any"}
            target = urljoin(page.url, action[1])
            page = browser.post(target, data=form, allow_redirects=False, timeout=10)
