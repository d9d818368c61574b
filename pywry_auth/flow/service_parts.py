"""The parts of an object for jobs and services, from arguments or settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError
from pywry_auth.flow.refresh import is_due
from pywry_auth.providers.factory import create_provider_from_settings
from pywry_auth.providers.options import texts
from pywry_auth.request_parameters import resource_fault
from pywry_auth.state.token_stores import token_store_of_settings

if TYPE_CHECKING:
    from pywry_auth.models import OAuthTokenSet
    from pywry_auth.providers.base import OAuthProvider
    from pywry_auth.state.tokens import TokenStore

_BUFFER = 60.0  # seconds
_YOUNG = 60.0  # seconds


@dataclass(frozen=True)
class ServiceParts:
    """Providers, the token store and an option.

    Args:
        providers: The providers.
        store: The token store, the same as that of the site.
        refresh_buffer: Seconds before its expiry at which a token is refreshed.
    """

    providers: tuple[OAuthProvider, ...]
    store: TokenStore
    refresh_buffer: float

    @classmethod
    def of(
        cls,
        provider: OAuthProvider | Mapping[str, OAuthProvider] | None,
        token_store: TokenStore | None,
        refresh_buffer: float | None = None,
    ) -> ServiceParts:
        """Return the parts; settings replace the arguments that are None.

        Settings are read only if a provider or a store is missing.

        Raises:
            AuthenticationError: There is no provider, or a setting is wrong; the text names it.
        """
        if provider is not None and token_store is not None:
            return cls(_several(provider), token_store, _BUFFER if refresh_buffer is None else refresh_buffer)
        from pywry_auth.config import get_settings

        settings = get_settings()
        oauth2 = settings.oauth2
        if provider is None:
            if oauth2 is None:
                raise AuthenticationError(
                    "No provider is configured: set the PYWRY_OAUTH2__* variables of the site, first "
                    "PYWRY_OAUTH2__CLIENT_ID, or pass provider= and token_store=.",
                    error=ErrorCode.INVALID_CONFIGURATION,
                )
            provider = create_provider_from_settings(oauth2)
        if refresh_buffer is None:
            refresh_buffer = oauth2.refresh_buffer_seconds if oauth2 else _BUFFER
        if token_store is None:
            token_store = token_store_of_settings(oauth2, settings.deploy)
        return cls(_several(provider), token_store, refresh_buffer)


def resources(resource: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return the APIs of an argument ``resource``, in a tuple.

    Raises:
        AuthenticationError: One of them is not a resource indicator (RFC 8707 §2).
    """
    found = texts(resource)
    if fault := next(filter(None, map(resource_fault, found)), ""):
        raise AuthenticationError(f"resource= is not valid: {fault}.", error=ErrorCode.INVALID_CONFIGURATION)
    return found


def is_young(tokens: OAuthTokenSet, now: float, buffer: float) -> bool:
    """Return whether a token was issued less than 60 s ago and is not about to expire.

    A service that refuses such a token has another reason than its age. A job would otherwise request a new
    one for each of its requests.

    Args:
        tokens: The token set.
        now: Unix time in seconds.
        buffer: Seconds before its expiry at which a token is due (see :func:`is_due`).
    """
    # The machine that obtained it may have a clock that is ahead.
    return abs(now - tokens.issued_at) < _YOUNG and not is_due(tokens, now, buffer)


def _several(provider: OAuthProvider | Mapping[str, OAuthProvider]) -> tuple[OAuthProvider, ...]:
    found = tuple(provider.values()) if isinstance(provider, Mapping) else (provider,)
    if not found:
        raise AuthenticationError(
            "provider= is an empty mapping: add a provider.", error=ErrorCode.INVALID_CONFIGURATION
        )
    return found
