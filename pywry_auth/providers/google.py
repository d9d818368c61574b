"""Google: where its endpoints are, and how it is asked for a refresh token."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from pywry_auth.models import Claims
from pywry_auth.protocol.discovery import ProviderMetadata
from pywry_auth.protocol.pkce import PKCEChallenge
from pywry_auth.providers.base import OAuthProvider

if TYPE_CHECKING:
    from pywry_auth.protocol.id_token import ExpectedClaims

_ISSUER = "https://accounts.google.com"
# "also returned for legacy implementations": https://developers.google.com/identity/openid-connect/reference
_LEGACY_ISSUER = "accounts.google.com"
# https://accounts.google.com/.well-known/openid-configuration
_ENDPOINTS = ProviderMetadata(
    issuer=_ISSUER,
    authorization_endpoint="https://accounts.google.com/o/oauth2/v2/auth",
    token_endpoint="https://oauth2.googleapis.com/token",
    userinfo_endpoint="https://openidconnect.googleapis.com/v1/userinfo",
    revocation_endpoint="https://oauth2.googleapis.com/revoke",
    device_authorization_endpoint="https://oauth2.googleapis.com/device/code",
    jwks_uri="https://www.googleapis.com/oauth2/v3/certs",
    token_endpoint_auth_methods_supported=("client_secret_post", "client_secret_basic"),
    id_token_signing_alg_values_supported=("RS256",),
)


class GoogleProvider(OAuthProvider):
    """Google accounts, those of Workspace too (https://developers.google.com/identity/openid-connect).

    Google gives a refresh token only when it is asked for offline access and shows its consent page; both are
    always asked for (https://developers.google.com/identity/protocols/oauth2/web-server#offline). A client of
    the type "Desktop app" has a secret as well, which Google's token endpoint requires.
    """

    name = "google"
    default_scopes = ("openid", "email", "profile")
    endpoints = _ENDPOINTS

    def build_authorize_url(
        self,
        redirect_uri: str,
        state: str,
        pkce: PKCEChallenge | None = None,
        nonce: str | None = None,
        extra_params: Mapping[str, str] | None = None,
    ) -> str:
        """Return the URL to send the browser to, for offline access and with consent.

        Args:
            redirect_uri: Where Google sends the browser back to, as registered there.
            state: Ties the response to this request.
            pkce: Its challenge goes along; None for a login without PKCE.
            nonce: Ties the ID token to this request.
            extra_params: Further parameters such as ``login_hint``; a ``prompt`` is joined with ``consent``.

        Raises:
            AuthenticationError: A parameter is one that is set here, or the prompt is ``none``, which cannot
                stand beside another (OIDC Core §3.1.2.1).
        """
        extra = dict(extra_params or {})
        prompts = extra.get("prompt", "").split()
        if "none" in prompts:
            raise self._misconfigured(
                "prompt=none asks for no consent, which is always asked for: leave it out"
            )
        extra |= {"access_type": "offline", "prompt": " ".join(dict.fromkeys([*prompts, "consent"]))}
        return super().build_authorize_url(redirect_uri, state, pkce, nonce, extra)

    def _expected(self, claims: Claims) -> ExpectedClaims:
        expected = super()._expected(claims)
        legacy = expected.issuer == _ISSUER and claims.get("iss") == _LEGACY_ISSUER
        return replace(expected, issuer=_LEGACY_ISSUER) if legacy else expected
