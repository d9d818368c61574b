"""The provider that the settings name: a table from name to class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pywry_auth.exceptions import AuthenticationError, ErrorCode
from pywry_auth.protocol.urls import require_endpoint
from pywry_auth.providers.base import OAuthProvider, ProviderOptions
from pywry_auth.providers.github import GitHubProvider
from pywry_auth.providers.google import GoogleProvider
from pywry_auth.providers.microsoft import MicrosoftProvider
from pywry_auth.providers.oidc import GenericOIDCProvider

if TYPE_CHECKING:
    from pywry_auth.config import OAuth2Settings

_NAMED: Mapping[str, type[OAuthProvider]] = {"google": GoogleProvider, "github": GitHubProvider}
_ENDPOINTS = (
    *("authorize_url", "token_url", "userinfo_url", "revocation_url"),
    *("jwks_url", "end_session_url", "device_authorization_url"),
)


def create_provider_from_settings(settings: OAuth2Settings) -> OAuthProvider:
    """Return the provider that the settings describe.

    Args:
        settings: ``get_settings().oauth2``.

    Raises:
        AuthenticationError: The provider is unknown, or URLs are missing or unusable; the text names each.
    """
    scopes = settings.scopes.split() if "scopes" in settings.model_fields_set else None
    _check_urls(settings, scopes or ())
    options: ProviderOptions = {
        "authorize_url": settings.authorize_url,
        "token_url": settings.token_url,
        "userinfo_url": settings.userinfo_url,
        "revocation_url": settings.revocation_url,
        "jwks_url": settings.jwks_url,
        "end_session_url": settings.end_session_url,
        "device_authorization_url": settings.device_authorization_url,
        "client_key_file": settings.client_key_file,
        "clock_skew_seconds": settings.clock_skew_seconds,
        "http_timeout_seconds": settings.http_timeout_seconds,
        "proxy_url": settings.proxy_url.get_secret_value(),
        "ca_bundle": settings.ca_bundle,
        "userinfo_from_id_token": settings.userinfo_from_id_token,
    }
    secret = settings.client_secret.get_secret_value()
    arguments = (settings.client_id, secret, scopes, settings.token_endpoint_auth_method)
    if settings.provider == "microsoft":
        return MicrosoftProvider(*arguments, tenant_id=settings.tenant_id, **options)
    if settings.provider in _NAMED:
        return _NAMED[settings.provider](*arguments, **options)
    if settings.provider == "oidc":
        return GenericOIDCProvider(*arguments, issuer_url=settings.issuer_url, **options)
    if settings.provider == "custom":
        options["issuer"] = settings.issuer_url  # named, not discovered
        return GenericOIDCProvider(*arguments, **options)
    raise AuthenticationError(
        f"PYWRY_OAUTH2__PROVIDER is {settings.provider!r}, which is unknown: "
        f"use {', '.join(_NAMED)}, microsoft, oidc or custom.",
        error=ErrorCode.INVALID_CONFIGURATION,
        provider=settings.provider,
    )


def _check_urls(settings: OAuth2Settings, scopes: Sequence[str]) -> None:
    faults = [_missing(name) for name in _needed(settings.provider, scopes) if not getattr(settings, name)]
    for name in (*_ENDPOINTS, *(("issuer_url",) if settings.provider == "oidc" else ())):
        try:
            _ = getattr(settings, name) and require_endpoint(getattr(settings, name), _variable(name))
        except AuthenticationError as error:
            faults.append(str(error))
    if faults:
        raise AuthenticationError("\n".join(faults), error=ErrorCode.INVALID_CONFIGURATION)


def _needed(provider: str, scopes: Sequence[str]) -> Sequence[str]:
    if provider == "custom":
        # Without the last two no ID token could be believed.
        return ("authorize_url", "token_url", *(("jwks_url", "issuer_url") if "openid" in scopes else ()))
    return ("issuer_url",) if provider == "oidc" else ()


def _missing(name: str) -> str:
    path = "" if name == "issuer_url" else "/oauth/" + name.partition("_")[0]
    return f"{_variable(name)} is not set: this provider needs it, for example https://id.example.com{path}."


def _variable(name: str) -> str:
    return f"PYWRY_OAUTH2__{name.upper()}"
