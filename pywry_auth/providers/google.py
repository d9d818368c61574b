"""Google: endpoints, two issuer names, and requests for refresh tokens."""

from __future__ import annotations

from collections.abc import Mapping

from pywry_auth.models import Claims, OAuthTokenSet
from pywry_auth.protocol.discovery import ProviderMetadata
from pywry_auth.providers.base import OAuthProvider
from pywry_auth.providers.google_addresses import (
    ISSUER,
    LEGACY_ISSUER,
    is_hosted_by_google,
    is_hosted_elsewhere,
)

# https://accounts.google.com/.well-known/openid-configuration
_ENDPOINTS = ProviderMetadata(
    issuer=ISSUER,
    authorization_endpoint="https://accounts.google.com/o/oauth2/v2/auth",
    token_endpoint="https://oauth2.googleapis.com/token",
    userinfo_endpoint="https://openidconnect.googleapis.com/v1/userinfo",
    revocation_endpoint="https://oauth2.googleapis.com/revoke",
    device_authorization_endpoint="https://oauth2.googleapis.com/device/code",
    jwks_uri="https://www.googleapis.com/oauth2/v3/certs",
    token_endpoint_auth_methods_supported=("client_secret_post", "client_secret_basic"),
    id_token_signing_alg_values_supported=("RS256",),
)

# https://developers.google.com/identity/protocols/oauth2/scopes#google-sign-in
_SHORT_NAMES = {
    "https://www.googleapis.com/auth/userinfo.email": "email",
    "https://www.googleapis.com/auth/userinfo.profile": "profile",
}


class GoogleProvider(OAuthProvider):
    """Google accounts, including Workspace (https://developers.google.com/identity/openid-connect).

    Google issues a refresh token only if the request asks for offline access and for the consent page. Each
    request asks for both (https://developers.google.com/identity/protocols/oauth2/web-server#offline). A
    client of the type "Desktop app" has a secret too, which Google's token endpoint requires.
    """

    name = "google"
    default_scopes = ("openid", "email", "profile")
    accepts_assertions = False
    other_account_prompt = "select_account"  # Google refuses login
    endpoints = _ENDPOINTS

    def authorization_parameters(self, extra: Mapping[str, str]) -> Mapping[str, str]:
        """Return the parameters with offline access and, for it, consent.

        The options can replace both: with ``access_type=online``, or with a ``prompt`` of their own, Google
        sends no refresh token after an earlier consent.

        Args:
            extra: The caller's parameters, such as ``login_hint``; ``consent`` is added to a ``prompt``.

        Raises:
            AuthenticationError: The prompt is ``none``, which excludes any other prompt (OIDC Core §3.1.2.1).
        """
        chosen = self.options.authorize_params
        access_type = chosen.get("access_type", "offline")
        parameters = {**super().authorization_parameters(extra), "access_type": access_type}
        if access_type != "offline" or "prompt" in chosen:
            return parameters
        prompts = extra.get("prompt", "").split()
        if "none" in prompts:
            raise self.configuration_error(
                "prompt=none excludes the consent page, which every request asks for: leave it out"
            )
        return {**parameters, "prompt": " ".join(dict.fromkeys([*prompts, "consent"]))}

    def grants(self, tokens: OAuthTokenSet, scope: str) -> bool:
        """Return whether a token set has a scope.

        Google answers with a URL for ``email`` and ``profile``.

        Args:
            tokens: The token set.
            scope: The name of the scope, in either form.
        """
        return _short(scope) in map(_short, tokens.scope.split())

    def verified_email(self, profile: Claims, access_token: str) -> str | None:
        """Return the account's address if Google provides its mailbox.

        That is an address of gmail.com, or of the organisation that ``hd`` names. Google verified any other
        address only once, when the account was created.

        Args:
            profile: The user's profile, with the claims of the ID token that it lacks.
            access_token: Not used.
        """
        email = super().verified_email(profile, access_token)
        return email if email is not None and is_hosted_by_google(email, profile) else None

    def denies_email(self, profile: Claims) -> bool:
        """Return whether a claim says that the address is not verified, or that Google does not host it.

        Args:
            profile: The user's profile, with the claims of the ID token that it lacks.
        """
        return super().denies_email(profile) or is_hosted_elsewhere(profile)

    def expected_issuer(self, claims: Claims) -> str:
        """Return Google's issuer, under the name that the token has."""
        issuer = super().expected_issuer(claims)
        return LEGACY_ISSUER if issuer == ISSUER and claims.get("iss") == LEGACY_ISSUER else issuer


def _short(scope: str) -> str:
    return _SHORT_NAMES.get(scope, scope)
