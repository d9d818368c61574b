"""ServiceGrants: tokens without a user at a browser."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pywry_auth.models import OAuthTokenSet
from pywry_auth.providers.hooks import ProviderHooks
from pywry_auth.providers.options import scope_list, texts

if TYPE_CHECKING:
    from pywry_auth.protocol.client import ProtocolClient


class ServiceGrants(ProviderHooks):
    """The calls of a provider for services and jobs."""

    @property
    @abstractmethod
    def client(self) -> ProtocolClient:
        """The object that makes the calls to the provider."""

    @property
    def is_confidential(self) -> bool:
        """Whether the client authenticates at the provider, with a secret or a key (RFC 6749 §2.1)."""
        return self.client.is_confidential

    def client_credentials(
        self,
        scopes: Sequence[str] = (),
        resource: str | Sequence[str] = (),
        params: Mapping[str, str] | None = None,
    ) -> OAuthTokenSet:
        """Return an access token of the client itself (RFC 6749 §4.4).

        ``ClientCredentials`` keeps such a token until it expires.

        Args:
            scopes: The scopes to request; empty leaves the choice to the provider.
            resource: The APIs where the token will be used, as URLs (RFC 8707 §2).
            params: Further parameters that the provider requires.

        Raises:
            TokenError: The provider refused (``refused``), cannot be reached, or its response is not valid.
        """
        return self.client.client_credentials(" ".join(scope_list(scopes)), texts(resource), params or {})

    def exchange_token(
        self,
        subject_token: str,
        audience: str | Sequence[str] = (),
        resource: str | Sequence[str] = (),
        scopes: Sequence[str] = (),
    ) -> OAuthTokenSet:
        """Return a token for another service in exchange for an access token (RFC 8693 §2).

        ``UserTokens.exchange`` does this for a user, and keeps the result.

        Args:
            subject_token: The user's access token.
            audience: The services where the new token will be used, by their names at the provider.
            resource: The same services as URLs.
            scopes: The scopes of the new token; empty leaves the choice to the provider.

        Raises:
            TokenError: The provider refused (``refused``), cannot be reached, or its response is not valid.
        """
        scope = " ".join(scope_list(scopes))
        return self.client.exchange_token(subject_token, texts(audience), texts(resource), scope)
