"""Microsoft's work, school and personal accounts: one address for many tenants, each an issuer of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Unpack

from pywry_auth.exceptions import INVALID_ID_TOKEN, TokenError
from pywry_auth.models import Claims
from pywry_auth.protocol.discovery import GUID, TENANT, ProviderMetadata
from pywry_auth.protocol.urls import require_endpoint
from pywry_auth.providers.base import OAuthProvider, ProviderOptions

if TYPE_CHECKING:
    from pywry_auth.protocol.id_token import Expected

# https://learn.microsoft.com/entra/identity-platform/v2-protocols-oidc
_AUTHORITY = "https://login.microsoftonline.com"
_USERINFO = "https://graph.microsoft.com/oidc/userinfo"
# https://learn.microsoft.com/entra/identity-platform/authentication-national-cloud
_NATIONAL_USERINFO = {
    "https://login.microsoftonline.us": "https://graph.microsoft.us/oidc/userinfo",
    "https://login.partner.microsoftonline.cn": "https://microsoftgraph.chinacloudapi.cn/oidc/userinfo",
}
_CONSUMERS = "9188040d-6c67-4c5b-b112-36a304b66dad"  # the one tenant of all personal accounts
# private_key_jwt is there too, but with a certificate's thumbprint in its header: not what is made here.
_METHODS = ("client_secret_post", "client_secret_basic")


class MicrosoftProvider(OAuthProvider):
    """Work, school and personal Microsoft accounts (https://learn.microsoft.com/entra/identity-platform/).

    The user ID is ``sub``, which is another one for each application. What other systems know the user by is
    ``oid`` together with ``tid``: claims of the ID token (``tokens.id_token_claims``), as are groups and
    application roles.

    Args:
        client_id: The application's identifier.
        client_secret: Its secret; empty for a public client.
        scopes: Scopes to ask for; None means ``openid email profile offline_access``.
        token_endpoint_auth_method: As for OAuthProvider.
        tenant_id: Who may sign in: a tenant's GUID for its users alone; ``organizations`` for those of every
            tenant; ``consumers`` for personal accounts; ``common`` for all of them. The ``email`` of a user
            counts only with a GUID: any other tenant's administrator can set it to what they like
            (https://learn.microsoft.com/entra/identity-platform/migrate-off-email-claim-authorization).
        authority: Where Microsoft is: another address for a national cloud.
        options: As for OAuthProvider.

    Raises:
        AuthenticationError: An argument cannot work; the text names it.
    """

    name = "microsoft"
    default_scopes = ("openid", "email", "profile", "offline_access")

    def __init__(
        self,
        client_id: str,
        client_secret: str = "",
        scopes: Sequence[str] | None = None,
        token_endpoint_auth_method: str = "auto",
        *,
        tenant_id: str = "common",
        authority: str = _AUTHORITY,
        **options: Unpack[ProviderOptions],
    ) -> None:
        super().__init__(client_id, client_secret, scopes, token_endpoint_auth_method, **options)
        self.tenant_id = tenant_id.lower()
        if self.tenant_id not in ("common", "organizations", "consumers") and not _is_guid(self.tenant_id):
            raise self._misconfigured(
                "TENANT_ID must be common, organizations, consumers, or the tenant's GUID as its overview "
                "page shows it, not its domain"
            )
        at = require_endpoint(authority, "authority").rstrip("/")
        self.endpoints = _endpoints(at, self.tenant_id)

    def vouched_email(self, profile: Claims, access_token: str) -> str | None:
        """Return the address that the one tenant gives its user; None where every tenant is let in.

        Args:
            profile: What Microsoft says of the user.
            access_token: Not needed.
        """
        email, verified = profile.get("email"), profile.get("email_verified")
        ours = _is_guid(self.tenant_id) and (verified is None or verified is True)
        return email if ours and isinstance(email, str) else None

    def revoke_token(self, token: str) -> bool:
        """Return False: Microsoft has no token revocation (RFC 7009).

        Args:
            token: Lasts as long as it was made for.
        """
        return False

    def _expected(self, claims: Claims) -> Expected:
        # https://learn.microsoft.com/entra/identity-platform/access-tokens#validate-the-issuer
        expected, tenant = super()._expected(claims), claims.get("tid")
        personal = tenant == _CONSUMERS
        if self.tenant_id == "common":
            fits = True
        elif self.tenant_id == "organizations":
            fits = not personal
        else:
            fits = personal if self.tenant_id == "consumers" else tenant == self.tenant_id
        if not isinstance(tenant, str) or not _is_guid(tenant) or not fits:
            raise TokenError(
                f"The ID token is refused: its tenant (tid) is none of TENANT_ID {self.tenant_id}. "
                "Sign in with another account, or change TENANT_ID.",
                error=INVALID_ID_TOKEN,
            )
        return replace(expected, issuer=expected.issuer.replace(TENANT, tenant))


def _endpoints(authority: str, tenant: str) -> ProviderMetadata:
    home = f"{authority}/{tenant}/oauth2/v2.0"
    issuer = {"common": TENANT, "organizations": TENANT, "consumers": _CONSUMERS}.get(tenant, tenant)
    return ProviderMetadata(
        issuer=f"{authority}/{issuer}/v2.0",
        authorization_endpoint=f"{home}/authorize",
        token_endpoint=f"{home}/token",
        userinfo_endpoint=_NATIONAL_USERINFO.get(authority, _USERINFO),
        device_authorization_endpoint=f"{home}/devicecode",
        end_session_endpoint=f"{home}/logout",
        jwks_uri=f"{authority}/{tenant}/discovery/v2.0/keys",
        token_endpoint_auth_methods_supported=_METHODS,
        id_token_signing_alg_values_supported=("RS256",),
    )


def _is_guid(name: str) -> bool:
    return GUID.fullmatch(name) is not None
