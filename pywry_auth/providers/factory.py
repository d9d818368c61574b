"""The provider that the settings describe, from a table of names."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError, printable
from pywry_auth.private_files import read_regular
from pywry_auth.providers.base import OAuthProvider
from pywry_auth.providers.github import GitHubProvider
from pywry_auth.providers.google import GoogleProvider
from pywry_auth.providers.microsoft import MicrosoftProvider
from pywry_auth.providers.oidc import GenericOIDCProvider
from pywry_auth.providers.options import ENDPOINTS, ProviderOptions, assertion_faults, require_address
from pywry_auth.secret_strength import is_placeholder

if TYPE_CHECKING:
    from pywry_auth.config import OAuth2Settings

_logger = logging.getLogger("pywry_auth.providers")
_CERTIFICATE = re.compile(
    rb"-----BEGIN ((?:X509 |TRUSTED )?CERTIFICATE)-----[A-Za-z0-9+/=\s]+-----END \1-----"
)
_LARGEST_BUNDLE = 1 << 24  # bytes

_PROVIDERS: Mapping[str, tuple[type[OAuthProvider], Sequence[str]]] = {
    "google": (GoogleProvider, ()),
    "github": (GitHubProvider, ()),
    "microsoft": (MicrosoftProvider, ("tenant_id",)),
    "oidc": (GenericOIDCProvider, ("issuer_url", "discovery_url")),
    "custom": (GenericOIDCProvider, ()),
}
"""For each value of the setting ``provider``: the class, and the settings that only this class takes."""

_OPENID = ("google", "microsoft", "oidc")


def create_provider_from_settings(settings: OAuth2Settings) -> OAuthProvider:
    """Return the provider that the settings describe.

    Args:
        settings: ``get_settings().oauth2``.

    Raises:
        AuthenticationError: The provider is unknown, URLs are missing or invalid, or ``CA_BUNDLE`` has no
            certificate. The text names each variable.
    """
    scopes = settings.scopes.split() if "scopes" in settings.model_fields_set else None
    _check(settings, scopes or ())
    if settings.provider not in _PROVIDERS:
        raise AuthenticationError(
            f"PYWRY_OAUTH2__PROVIDER is {settings.provider!r}, which is unknown: "
            f"use {', '.join(_PROVIDERS)}; any other OpenID provider is oidc, with ISSUER_URL.",
            error=ErrorCode.INVALID_CONFIGURATION,
            provider=settings.provider,
        )
    provider, own = _PROVIDERS[settings.provider]
    return provider(
        settings.client_id,
        settings.client_secret.get_secret_value(),
        scopes,
        settings.token_endpoint_auth_method,
        **{name: getattr(settings, name) for name in own},
        **vars(ProviderOptions.from_settings(settings)),
    )


def _check(settings: OAuth2Settings, scopes: Sequence[str]) -> None:
    needed = _needed(settings.provider, scopes)
    faults = [_missing(names[0]) for names in needed if not any(getattr(settings, name) for name in names)]
    if settings.provider == "oidc" and settings.issuer and faults:
        faults = [f"{_variable('discovery_url')} is not set: with ISSUER, the document's address is needed."]
    if settings.discovery_url and settings.provider != "oidc":
        faults.append(
            f"{_variable('discovery_url')} is set, but {settings.provider} has no discovery: remove it, or "
            f"choose another {_variable('provider')}, for example oidc."
        )
    for name in (*ENDPOINTS, *(("issuer_url", "discovery_url") if settings.provider == "oidc" else ())):
        try:
            _ = getattr(settings, name) and require_address(name, getattr(settings, name), _variable(name))
        except AuthenticationError as error:
            faults.append(str(error))
    faults += _faults_of_proof(settings)
    if not settings.use_nonce and not settings.use_pkce:
        faults.append(
            "PYWRY_OAUTH2__USE_NONCE and PYWRY_OAUTH2__USE_PKCE are both false: nothing would tie a login to "
            "its browser. Set PYWRY_OAUTH2__USE_PKCE to true."
        )
    if settings.ca_bundle and (fault := _bundle_fault(settings.ca_bundle)):
        faults.append(f"{_variable('ca_bundle')} is {printable(settings.ca_bundle)}, {fault}.")
    if settings.provider in _OPENID and "scopes" in settings.model_fields_set and "openid" not in scopes:
        _logger.warning(
            "%s has no openid, so the provider sends no ID token, and may refuse the profile: %s",
            _variable("scopes"),
            "separate the scopes by spaces" if "," in settings.scopes else "add openid",
        )
    if faults:
        raise AuthenticationError("\n".join(faults), error=ErrorCode.INVALID_CONFIGURATION)


def _faults_of_proof(settings: OAuth2Settings) -> list[str]:
    """Return what is wrong with the settings by which the client proves its identity."""
    secret, method = settings.client_secret.get_secret_value(), settings.token_endpoint_auth_method
    faults = assertion_faults(
        settings.client_assertion_file, secret, settings.client_key_file, method, _variable("")
    )
    if is_placeholder(secret) and method != "none":
        name = _variable("client_secret")
        faults = [*faults, f"{name} is a placeholder: set {name} to the secret that the provider issued"]
    return [f"{fault}." for fault in faults]


def _needed(provider: str, scopes: Sequence[str]) -> Sequence[Sequence[str]]:
    """Return the settings that a provider needs; one of each group suffices."""
    if provider == "custom":
        # The last two are needed to validate ID tokens.
        for_openid = (("jwks_url",), ("issuer", "issuer_url")) if "openid" in scopes else ()
        return (("authorize_url",), ("token_url",), *for_openid)
    return (("issuer_url", "discovery_url"),) if provider == "oidc" else ()


def _bundle_fault(path: str) -> str:
    """Return the reason why a file of trusted certificates cannot be used, or an empty text.

    The ``ssl`` module would take long to load for a program that only reads stored tokens.
    """
    if os.path.isdir(path):
        return ""  # OpenSSL looks for certificates in it
    try:
        content, _ = read_regular(Path(path), _LARGEST_BUNDLE)
    except OSError as error:
        why = error.strerror if error.errno else error
        return f"which cannot be read ({why}): correct the path, or give this process the right to read it"
    if _CERTIFICATE.search(content):
        return ""
    return (
        "which contains no certificate in PEM form: name a file such as /etc/ssl/certs/ca-certificates.crt, "
        "in which each certificate begins with the line -----BEGIN CERTIFICATE-----"
    )


def _missing(name: str) -> str:
    path = "" if name.startswith("issuer") else "/oauth/" + name.partition("_")[0]
    return f"{_variable(name)} is not set: this provider needs it, for example https://id.example.com{path}."


def _variable(name: str) -> str:
    return f"PYWRY_OAUTH2__{name.upper()}"
