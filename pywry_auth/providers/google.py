"""Google: its endpoints, its two issuer names, and its way to request a refresh token."""

from __future__ import annotations

from collections.abc import Mapping

from pywry_auth.models import Claims
from pywry_auth.protocol.discovery import ProviderMetadata
from pywry_auth.protocol.pkce import PKCEChallenge
from pywry_auth.providers.base import OAuthProvider

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
    """Google accounts, including Workspace (https://developers.google.com/identity/openid-connect).

    Google issues a refresh token only for a request for offline access with its consent page; each request
    asks for both (https://developers.google.com/identity/protocols/oauth2/web-server#offline). A client of
    the type "Desktop app" has a secret too, which Google's token endpoint requires.
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
            redirect_uri: The redirect URI, as registered at Google.
            state: Ties the response to this request.
            pkce: Its challenge is sent; None for a login without PKCE.
            nonce: Ties the ID token to this request.
            extra_params: Further parameters such as ``login_hint``; ``consent`` is added to a ``prompt``.

        Raises:
            AuthenticationError: A parameter is one that is set here, or the prompt is ``none``, which must
                not be combined with another (OIDC Core §3.1.2.1).
        """
        extra = dict(extra_params or {})
        prompts = extra.get("prompt", "").split()
        if "none" in prompts:
            raise self.configuration_error("prompt=none excludes the consent page, which is always requested")
        extra |= {"access_type": "offline", "prompt": " ".join(dict.fromkeys([*prompts, "consent"]))}
        return super().build_authorize_url(redirect_uri, state, pkce, nonce, extra)

    def expected_issuer(self, claims: Claims) -> str:
        """Return Google's issuer, or its legacy name if the token has that one."""
        issuer = super().expected_issuer(claims)
        return _LEGACY_ISSUER if issuer == _ISSUER and claims.get("iss") == _LEGACY_ISSUER else issuer
