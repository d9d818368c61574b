"""Microsoft accounts: one address for many tenants, each an issuer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Unpack

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import TokenError
from pywry_auth.models import Claims, OAuthTokenSet
from pywry_auth.protocol.discovery import ProviderMetadata
from pywry_auth.protocol.shared_fetch import SharedFetch
from pywry_auth.protocol.urls import require_endpoint
from pywry_auth.providers.base import OAuthProvider
from pywry_auth.providers.options import ProviderKeywords

# https://learn.microsoft.com/entra/identity-platform/v2-protocols-oidc
_AUTHORITY = "https://login.microsoftonline.com"
_USERINFO = "https://graph.microsoft.com/oidc/userinfo"
# https://learn.microsoft.com/entra/identity-platform/authentication-national-cloud
_NATIONAL_USERINFO = {
    "https://login.microsoftonline.us": "https://graph.microsoft.us/oidc/userinfo",
    "https://login.partner.microsoftonline.cn": "https://microsoftgraph.chinacloudapi.cn/oidc/userinfo",
}
_CONSUMERS = "9188040d-6c67-4c5b-b112-36a304b66dad"  # the one tenant of all personal accounts
# In the issuer of the metadata, this stands for the GUID of any tenant.
_TENANT = "{tenantid}"
_GUID = re.compile("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# The words for groups of tenants, each with the tenant in its issuer.
_WORDS = {"common": _TENANT, "organizations": _TENANT, "consumers": _CONSUMERS}
_DOMAIN = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]{0,61}[a-z0-9]")
# A name without a resource belongs to Microsoft Graph:
# https://learn.microsoft.com/entra/identity-platform/scopes-oidc
_GRAPH = re.compile(
    r"https://(?:graph\.microsoft\.(?:com|us)|dod-graph\.microsoft\.us|microsoftgraph\.chinacloudapi\.cn)/"
)
# An assertion of a key is not supported: its header needs the thumbprint of a certificate.
_METHODS = ("client_secret_post", "client_secret_basic")
# https://learn.microsoft.com/entra/workload-id/workload-identity-federation
_WITH_ASSERTION = ("private_key_jwt",)


class MicrosoftProvider(OAuthProvider):
    """Work, school and personal Microsoft accounts (https://learn.microsoft.com/entra/identity-platform/).

    The user ID is ``sub``, which differs for each application. Other systems identify the user by ``oid``
    together with ``tid``. Both are claims of the ID token (``tokens.id_token_claims``), as are groups and
    roles.

    Args:
        client_id: The application's identifier.
        client_secret: The application's secret; empty for a public client.
        scopes: Scopes to request; None means ``openid email profile offline_access``.
        token_endpoint_auth_method: As for OAuthProvider.
        tenant_id: The accounts that may sign in. The GUID or a domain of one tenant admits only its users;
            the GUID of a domain is looked up once. ``organizations`` admits the users of every tenant,
            ``consumers`` personal accounts, and ``common`` all of these. The ``email`` of a user is trusted
            only with one tenant, because the administrator of any other tenant can set it to any address
            (https://learn.microsoft.com/entra/identity-platform/migrate-off-email-claim-authorization).
        authority: Microsoft's address; another one for a national cloud.
        options: As for OAuthProvider.

    Raises:
        AuthenticationError: An argument is not valid; the text names it.
    """

    name = "microsoft"
    default_scopes = ("openid", "email", "profile", "offline_access")
    other_account_prompt = "select_account"

    def __init__(
        self,
        client_id: str,
        client_secret: str = "",
        scopes: Sequence[str] | None = None,
        token_endpoint_auth_method: str = "auto",
        *,
        tenant_id: str = "common",
        authority: str = _AUTHORITY,
        **options: Unpack[ProviderKeywords],
    ) -> None:
        super().__init__(client_id, client_secret, scopes, token_endpoint_auth_method, **options)
        self.tenant_id = tenant_id.lower()
        self._authority = require_endpoint(authority, "authority").rstrip("/")
        self._tenant_of_domain = SharedFetch[str](self.gate)
        named_by_domain = _DOMAIN.fullmatch(self.tenant_id) is not None
        if self.tenant_id not in _WORDS and not _is_guid(self.tenant_id) and not named_by_domain:
            raise self.configuration_error(
                "TENANT_ID must be 'common', 'organizations' or 'consumers', the tenant's GUID (shown on the "
                "tenant's overview page), or one of the tenant's domains"
            )
        self._named_by_domain = named_by_domain
        self._known = "" if named_by_domain else _WORDS.get(self.tenant_id, self.tenant_id)

    @property
    def metadata(self) -> ProviderMetadata:
        """The endpoints.

        The GUID of a tenant that is named by a domain is looked up first.

        Raises:
            AuthenticationError: The lookup failed; the next call tries again.
        """
        tenant = self._tenant()
        segment = tenant if self._named_by_domain else self.tenant_id
        methods = _WITH_ASSERTION if self.options.client_assertion_file else _METHODS
        return self.options.applied_to(_endpoints(self._authority, segment, tenant, methods))

    @property
    def known_metadata(self) -> ProviderMetadata | None:
        """The endpoints, as far as they need no call to Microsoft."""
        return self.metadata if self._known else None

    @property
    def configured_urls(self) -> Sequence[str]:
        """The addresses by which the provider is configured."""
        return (*super().configured_urls, f"{self._authority}/{self.tenant_id}")

    def verified_email(self, profile: Claims, access_token: str) -> str | None:
        """Return the user's address from the one tenant.

        Returns None if the users of every tenant may sign in. A guest has the address of another
        organisation, over which the tenant has no control. It counts only if Microsoft has verified the owner
        of its domain (``xms_edov``).

        Args:
            profile: The user's profile, with the claims of the ID token that it lacks.
            access_token: Not used.

        Raises:
            AuthenticationError: The tenant of a domain could not be looked up.
        """
        email, verified = profile.get("email"), profile.get("email_verified")
        # This optional claim says whether the domain of the address is verified:
        # https://learn.microsoft.com/entra/identity-platform/optional-claims-reference
        owned = profile.get("xms_edov")
        if not isinstance(email, str) or self._tenant() in (_TENANT, _CONSUMERS):
            return None
        if not (verified is None or verified is True) or (owned is not None and not _is_true(owned)):
            return None
        return email if _is_true(owned) or not _is_guest(profile) else None

    def denies_email(self, profile: Claims) -> bool:
        """Return whether a claim says that the address is not verified.

        The address of a guest is not, nor is any address if the users of every tenant may sign in.

        Args:
            profile: The user's profile, with the claims of the ID token that it lacks.

        Raises:
            AuthenticationError: The tenant of a domain could not be looked up.
        """
        present = any(profile.get(name) is not None for name in ("email_verified", "xms_edov"))
        decided = present or _is_guest(profile) or self._tenant() in (_TENANT, _CONSUMERS)
        return decided and self.verified_email(profile, "") is None

    def request_revocation(self, token: str) -> bool | None:
        """Return None: Microsoft has no token revocation (RFC 7009)."""
        return None

    def grants(self, tokens: OAuthTokenSet, scope: str) -> bool:
        """Return whether a token set has a scope.

        Case and the address of Microsoft Graph in front of a name do not matter. A response never lists
        ``offline_access``: the refresh token shows it.

        Args:
            tokens: The token set.
            scope: The name of the scope.
        """
        if scope.lower() == "offline_access":
            return tokens.refresh_token is not None
        return _short(scope) in map(_short, tokens.scope.split())

    def is_same_issuer(self, name: str) -> bool:
        """Return whether a response's ``iss`` fits the configured issuer.

        With ``common`` and ``organizations``, the GUID of any tenant fits.
        """
        return _names_issuer(name, self.metadata.issuer)

    def is_recorded_issuer(self, name: str) -> bool:
        """Return whether a stored token set names this issuer.

        This makes no call. Until the GUID of a domain is looked up, the GUID of any tenant fits.
        """
        if self.options.issuer:
            return name == self.options.issuer
        if not self._known:
            return _names_issuer(name, f"{self._authority}/{_TENANT}/v2.0")
        return name == f"{self._authority}/{self._known}/v2.0"

    def expected_issuer(self, claims: Claims) -> str:
        """Return the issuer of the token's tenant.

        Raises:
            TokenError: The users of that tenant may not sign in.
        """
        # https://learn.microsoft.com/entra/identity-platform/access-tokens#validate-the-issuer
        tenant, expected = claims.get("tid"), self._tenant()
        if expected != _TENANT:
            fits = tenant == expected
        else:
            fits = self.tenant_id == "common" or tenant != _CONSUMERS
        if not isinstance(tenant, str) or not _is_guid(tenant) or not fits:
            raise TokenError(
                "The ID token is refused: its tenant (tid) is not allowed by PYWRY_OAUTH2__TENANT_ID "
                f"{self.tenant_id}. Sign in with another account, or change PYWRY_OAUTH2__TENANT_ID.",
                error=ErrorCode.INVALID_ID_TOKEN,
            )
        return super().expected_issuer(claims).replace(_TENANT, tenant)

    def _tenant(self) -> str:
        return self._tenant_of_domain.get(self._look_up, lambda: self._known or None)

    def _look_up(self) -> str:
        # The document's issuer has the GUID:
        # https://learn.microsoft.com/entra/identity-platform/v2-protocols-oidc
        with self.api_session() as session:
            url = f"{self._authority}/{self.tenant_id}/v2.0/.well-known/openid-configuration"
            answer = session.call("GET", url, operation="discovery")
        issuer = answer.json_object().get("issuer") if answer.status == 200 else None
        if not isinstance(issuer, str) or not _names_issuer(issuer, f"{self._authority}/{_TENANT}/v2.0"):
            raise answer.fault(f"the tenant of the domain {self.tenant_id} (check PYWRY_OAUTH2__TENANT_ID)")
        self._known = issuer.split("/")[-2]
        return self._known


def _endpoints(authority: str, segment: str, tenant: str, methods: tuple[str, ...]) -> ProviderMetadata:
    home = f"{authority}/{segment}/oauth2/v2.0"
    return ProviderMetadata(
        issuer=f"{authority}/{tenant}/v2.0",
        authorization_endpoint=f"{home}/authorize",
        token_endpoint=f"{home}/token",
        userinfo_endpoint=_NATIONAL_USERINFO.get(authority, _USERINFO),
        device_authorization_endpoint=f"{home}/devicecode",
        end_session_endpoint=f"{home}/logout",
        jwks_uri=f"{authority}/{segment}/discovery/v2.0/keys",
        token_endpoint_auth_methods_supported=methods,
        id_token_signing_alg_values_supported=("RS256",),
    )


def _short(scope: str) -> str:
    name = scope.lower()
    found = _GRAPH.match(name)
    return name[found.end() :] if found else name


def _names_issuer(name: str, issuer: str) -> bool:
    """Return whether a name is the issuer, with a GUID for ``{tenantid}``."""
    pattern = _GUID.pattern.join(re.escape(part) for part in issuer.split(_TENANT))
    return re.fullmatch(pattern, name) is not None


def _is_guest(claims: Claims) -> bool:
    # For a guest, "idp" names the issuer of the account's own tenant, and the optional claim "acct" is 1:
    # https://learn.microsoft.com/entra/identity-platform/id-token-claims-reference
    signed_in_by = claims.get("idp")
    return signed_in_by not in (None, claims.get("iss")) or claims.get("acct") not in (None, 0, "0")


def _is_true(value: object) -> bool:
    return value is True or value in ("true", "1", 1)


def _is_guid(name: str) -> bool:
    return _GUID.fullmatch(name) is not None
