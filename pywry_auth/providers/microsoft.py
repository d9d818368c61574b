"""Microsoft's work, school and personal accounts: one address for many tenants, each an issuer of its own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Unpack

from pywry_auth.exceptions import ErrorCode, TokenError
from pywry_auth.models import Claims
from pywry_auth.protocol.discovery import GUID, TENANT, ProviderMetadata, is_issuer
from pywry_auth.protocol.turns import Turns
from pywry_auth.protocol.urls import require_endpoint
from pywry_auth.providers.base import OAuthProvider, ProviderOptions

if TYPE_CHECKING:
    from pywry_auth.protocol.id_token import ExpectedClaims

# https://learn.microsoft.com/entra/identity-platform/v2-protocols-oidc
_AUTHORITY = "https://login.microsoftonline.com"
_USERINFO = "https://graph.microsoft.com/oidc/userinfo"
# https://learn.microsoft.com/entra/identity-platform/authentication-national-cloud
_NATIONAL_USERINFO = {
    "https://login.microsoftonline.us": "https://graph.microsoft.us/oidc/userinfo",
    "https://login.partner.microsoftonline.cn": "https://microsoftgraph.chinacloudapi.cn/oidc/userinfo",
}
_CONSUMERS = "9188040d-6c67-4c5b-b112-36a304b66dad"  # the one tenant of all personal accounts
# What may stand for a tenant, and the tenant in the issuer then.
_WORDS = {"common": TENANT, "organizations": TENANT, "consumers": _CONSUMERS}
_DOMAIN = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]{0,61}[a-z0-9]")
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
        tenant_id: Who may sign in: a tenant's GUID for its users alone, or one of its domains, whose GUID is
            looked up once; ``organizations`` for those of every tenant; ``consumers`` for personal accounts;
            ``common`` for all of them. The ``email`` of a user counts only with one tenant: any other's
            administrator can set it to what they like
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
        self._authority = require_endpoint(authority, "authority").rstrip("/")
        self._turns = Turns()  # everybody waits for the one look-up
        named_by_domain = _DOMAIN.fullmatch(self.tenant_id) is not None
        if self.tenant_id not in _WORDS and not _is_guid(self.tenant_id) and not named_by_domain:
            raise self._misconfigured(
                "TENANT_ID must be common, organizations, consumers, the tenant's GUID as its overview page "
                "shows it, or one of its domains"
            )
        self._tenant = "" if named_by_domain else _WORDS.get(self.tenant_id, self.tenant_id)
        self.endpoints = _endpoints(self._authority, self.tenant_id, self._tenant)

    @property
    def metadata(self) -> ProviderMetadata:
        """Where the endpoints are; a tenant that is named by a domain is looked up first.

        Raises:
            AuthenticationError: It could not be looked up; the next call tries again.
        """
        if not self._tenant:
            with self._turns.take():
                if not self._tenant:
                    found = self._look_up()
                    self.endpoints, self._tenant = _endpoints(self._authority, found, found), found
        return super().metadata

    def verified_email(self, profile: Claims, access_token: str) -> str | None:
        """Return the address that the one tenant gives its user; None where every tenant is let in.

        Args:
            profile: What Microsoft says of the user.
            access_token: Not needed.

        Raises:
            AuthenticationError: The tenant of a domain had to be looked up, and could not be.
        """
        _ = self.metadata
        email, verified = profile.get("email"), profile.get("email_verified")
        # The optional claim that says whether the address is of a domain whose owner was verified.
        # https://learn.microsoft.com/entra/identity-platform/optional-claims-reference
        owned = profile.get("xms_edov")
        denied = not (verified is None or verified is True) or owned not in (None, True, "true", "1")
        ours = self._tenant not in (TENANT, _CONSUMERS)
        return email if ours and not denied and isinstance(email, str) else None

    def revoke_token(self, token: str) -> bool:
        """Return False: Microsoft has no token revocation (RFC 7009).

        Args:
            token: Lasts as long as it was made for.
        """
        return False

    def _look_up(self) -> str:
        # The issuer there has the GUID: https://learn.microsoft.com/entra/identity-platform/v2-protocols-oidc
        with self._session() as session:
            answer = session.call(
                "GET", f"{self._authority}/{self.tenant_id}/v2.0/.well-known/openid-configuration"
            )
        issuer = answer.json_object().get("issuer") if answer.status == 200 else None
        if not isinstance(issuer, str) or not is_issuer(issuer, f"{self._authority}/{TENANT}/v2.0"):
            raise answer.fault(f"no tenant of the domain {self.tenant_id} (check TENANT_ID)")
        return issuer.split("/")[-2]

    def _expected(self, claims: Claims) -> ExpectedClaims:
        # https://learn.microsoft.com/entra/identity-platform/access-tokens#validate-the-issuer
        expected, tenant = super()._expected(claims), claims.get("tid")
        if self._tenant != TENANT:
            fits = tenant == self._tenant
        else:
            fits = self.tenant_id == "common" or tenant != _CONSUMERS
        if not isinstance(tenant, str) or not _is_guid(tenant) or not fits:
            raise TokenError(
                f"The ID token is refused: its tenant (tid) is none of TENANT_ID {self.tenant_id}. "
                "Sign in with another account, or change TENANT_ID.",
                error=ErrorCode.INVALID_ID_TOKEN,
            )
        return replace(expected, issuer=expected.issuer.replace(TENANT, tenant))


def _endpoints(authority: str, segment: str, tenant: str) -> ProviderMetadata:
    home = f"{authority}/{segment}/oauth2/v2.0"
    return ProviderMetadata(
        issuer=f"{authority}/{tenant}/v2.0",
        authorization_endpoint=f"{home}/authorize",
        token_endpoint=f"{home}/token",
        userinfo_endpoint=_NATIONAL_USERINFO.get(authority, _USERINFO),
        device_authorization_endpoint=f"{home}/devicecode",
        end_session_endpoint=f"{home}/logout",
        jwks_uri=f"{authority}/{segment}/discovery/v2.0/keys",
        token_endpoint_auth_methods_supported=_METHODS,
        id_token_signing_alg_values_supported=("RS256",),
    )


def _is_guid(name: str) -> bool:
    return GUID.fullmatch(name) is not None
