"""Any OpenID Connect issuer, found by discovery, and any OAuth 2 server whose endpoints are given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Unpack

from pywry_auth.protocol.discovery import ProviderMetadata, discover
from pywry_auth.protocol.turns import Turns
from pywry_auth.protocol.urls import require_endpoint
from pywry_auth.providers.base import OAuthProvider, ProviderOptions


class GenericOIDCProvider(OAuthProvider):
    """An OpenID Connect issuer; its endpoints are discovered on first use (OIDC Discovery §4).

    Args:
        client_id: The client's identifier at the provider.
        client_secret: Its secret; empty for a public client.
        scopes: Scopes to ask for; None means ``openid email profile``.
        token_endpoint_auth_method: ``auto`` (what discovery offers), ``private_key_jwt``,
            ``client_secret_basic``, ``client_secret_post`` or ``none``.
        issuer_url: The issuer. Without one nothing is discovered: ``authorize_url`` and ``token_url`` are
            needed then, and no scope is asked for unless ``scopes`` names some.
        options: As for OAuthProvider; an endpoint given here wins over the discovered one.

    Raises:
        AuthenticationError: An argument cannot work; the text names it.
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
        **options: Unpack[ProviderOptions],
    ) -> None:
        if not issuer_url:
            self.name, scopes = "custom", scopes or ()
        super().__init__(client_id, client_secret, scopes, token_endpoint_auth_method, **options)
        self._issuer_url = issuer_url and require_endpoint(issuer_url, "ISSUER_URL")
        self._discovered: ProviderMetadata | None = None
        self._turns = Turns()  # everybody waits for the one discovery
        if not issuer_url:
            self._require_enough()

    @property
    def metadata(self) -> ProviderMetadata:
        """Where the provider's endpoints are: discovered once, what was given explicitly wins.

        Raises:
            AuthenticationError: They could not be discovered; the next call tries again.
        """
        if not self._issuer_url:
            return super().metadata
        if self._discovered is None:
            with self._turns.take():
                if self._discovered is None:
                    with self._session() as session:
                        found = discover(session, self._issuer_url)
                    self._discovered = replace(found, **self._explicit)
        return self._discovered

    def _is_issuer(self, name: str) -> bool:
        if not self._issuer_url:
            return super()._is_issuer(name)
        # Nothing is discovered for this. The issuer's own name may differ by a slash from the configured one.
        issuer: str = self._explicit.get("issuer", self._issuer_url)
        return name.removesuffix("/") == issuer.removesuffix("/")

    def _require_enough(self) -> None:
        for member, argument in (
            ("authorization_endpoint", "authorize_url"),
            ("token_endpoint", "token_url"),
        ):
            self._endpoint(member, argument)
        if self.uses_openid:
            for member, argument in (("jwks_uri", "jwks_url"), ("issuer", "issuer")):
                self._endpoint(member, argument)
