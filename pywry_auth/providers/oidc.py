"""OpenID Connect issuers by discovery, and OAuth 2 servers by endpoints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

from pywry_auth.protocol.discovery import ProviderMetadata, discover, named_issuer
from pywry_auth.protocol.shared_fetch import SharedFetch
from pywry_auth.protocol.urls import require_endpoint
from pywry_auth.providers.base import OAuthProvider
from pywry_auth.providers.options import ProviderKeywords


class GenericOIDCProvider(OAuthProvider):
    """An OpenID Connect issuer (OIDC Discovery §4).

    The first call that needs an endpoint discovers all of them.

    Args:
        client_id: The client's identifier at the provider.
        client_secret: The client's secret; empty for a public client.
        scopes: Scopes to request; None means ``openid email profile``.
        token_endpoint_auth_method: ``auto`` (a method that discovery offers), ``private_key_jwt``,
            ``client_secret_basic``, ``client_secret_post`` or ``none``.
        issuer_url: The issuer, or the address of its discovery document: a URL with
            ``/.well-known/openid-configuration`` or ``/.well-known/oauth-authorization-server`` (RFC 8414).
            Without it and ``discovery_url``, nothing is discovered: ``authorize_url`` and ``token_url`` are
            required, and no scope is requested unless ``scopes`` names some.
        discovery_url: The address of the document, if it does not stand below the issuer. The document must
            name ``issuer_url``, or without that the issuer that this address belongs to.
        options: As for OAuthProvider. An endpoint given here replaces the discovered one. The name in
            ``issuer`` replaces the document's, and then a document of any issuer is accepted.

    Raises:
        AuthenticationError: An argument is not valid; the text names it.
    """

    name = "oidc"
    default_scopes = ("openid", "email", "profile")

    def __init__(
        self,
        client_id: str,
        client_secret: str = "",
        scopes: Sequence[str] | None = None,
        token_endpoint_auth_method: str = "auto",
        *,
        issuer_url: str = "",
        discovery_url: str = "",
        **options: Unpack[ProviderKeywords],
    ) -> None:
        if not (issuer_url or discovery_url):
            self.name, scopes = "custom", scopes or ()
        super().__init__(client_id, client_secret, scopes, token_endpoint_auth_method, **options)
        self._issuer_url = issuer_url and require_endpoint(issuer_url, "ISSUER_URL")
        self._discovery_url = discovery_url and require_endpoint(discovery_url, "DISCOVERY_URL")
        self._discovery = SharedFetch[ProviderMetadata](self.gate)
        self._discovered: dict[str, ProviderMetadata] = {}  # shared by the copies with other scopes
        if not self._document_url:
            self._check_custom(signs=token_endpoint_auth_method == "private_key_jwt" or not client_secret)

    @property
    def metadata(self) -> ProviderMetadata:
        """The provider's endpoints and capabilities, discovered once.

        Endpoints in ``options`` replace the discovered ones.

        Raises:
            AuthenticationError: Discovery failed; the next call tries again.
        """
        if not self._document_url:
            return super().metadata
        return self._discovery.get(self._discover, lambda: self._discovered.get("metadata"))

    @property
    def known_metadata(self) -> ProviderMetadata | None:
        """The metadata, as far as they need no call to the provider."""
        return self._discovered.get("metadata") if self._document_url else self.metadata

    def is_recorded_issuer(self, name: str) -> bool:
        """Return whether a stored token set names this issuer.

        This needs no discovery.
        """
        if not self._document_url:
            return super().is_recorded_issuer(name)
        if self.options.issuer:
            return name == self.options.issuer
        # The issuer's own name may differ from the configured one by a trailing slash.
        expected = named_issuer(self._issuer_url or self._discovery_url)
        return name.removesuffix("/") == expected.removesuffix("/")

    @property
    def configured_urls(self) -> Sequence[str]:
        """The addresses by which the provider is configured."""
        return (*super().configured_urls, self._issuer_url, self._discovery_url)

    @property
    def _document_url(self) -> str:
        return self._discovery_url or self._issuer_url

    def _check_custom(self, signs: bool) -> None:
        """Check the options of a provider without discovery.

        Args:
            signs: Whether a key file is used to authenticate.
        """
        for member in ("authorization_endpoint", "token_endpoint"):
            self.require_endpoint(member)
        for member in ("jwks_uri", "issuer") if self.uses_openid else ():
            self.require_endpoint(member)
        needs_issuer = self.options.client_assertion_audience == "issuer" and not self.metadata.issuer
        if self.options.client_key_file and signs and needs_issuer:
            raise self.configuration_error(
                "CLIENT_KEY_FILE needs the issuer's name: set ISSUER, or set CLIENT_ASSERTION_AUDIENCE to "
                "token_endpoint"
            )

    def _discover(self) -> ProviderMetadata:
        with self.api_session() as session:
            replaced = self.options.chosen_members
            found = discover(session, self._issuer_url, replaced, discovery_url=self._discovery_url)
        metadata = self.options.applied_to(found)
        self._discovered["metadata"] = metadata
        return metadata
