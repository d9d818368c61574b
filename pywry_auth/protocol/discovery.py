"""An issuer's metadata: endpoints and abilities (OIDC Discovery §3, §4)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError, printable
from pywry_auth.protocol.redaction import reveals
from pywry_auth.protocol.urls import is_loopback, require_endpoint

if TYPE_CHECKING:
    from pywry_auth.protocol.http import ProviderSession


_LONG_SECRET = 16


@dataclass(frozen=True)
class ProviderMetadata:
    """An authorization server's endpoints and abilities (OIDC Discovery §3, RFC 8414 §2).

    The names are those of the document. An empty value means that the document does not contain it.
    """

    issuer: str = ""
    authorization_endpoint: str = ""
    token_endpoint: str = ""
    userinfo_endpoint: str = ""
    revocation_endpoint: str = ""
    end_session_endpoint: str = ""
    device_authorization_endpoint: str = ""
    jwks_uri: str = ""
    token_endpoint_auth_methods_supported: tuple[str, ...] = ()
    id_token_signing_alg_values_supported: tuple[str, ...] = ()
    userinfo_signing_alg_values_supported: tuple[str, ...] = ()
    authorization_response_iss_parameter_supported: bool = False


def discover(session: ProviderSession, issuer_url: str) -> ProviderMetadata:
    """Return the metadata of an issuer (OIDC Discovery §4).

    Args:
        session: The HTTP session for the call.
        issuer_url: The issuer as configured; the issuer's own name may differ by a trailing slash.

    Raises:
        AuthenticationError: The issuer did not answer, or the document belongs to another issuer.
    """
    require_endpoint(issuer_url, "ISSUER_URL")
    url = issuer_url.rstrip("/") + "/.well-known/openid-configuration"
    answer = session.call("GET", url)
    if answer.status != 200:
        raise answer.fault("a discovery document (check ISSUER_URL)")
    metadata = _read(answer.json_object(), answer.secrets)
    # OIDC Discovery §4.3: otherwise one issuer could act for another. The trailing slash is a common mistake.
    if metadata.issuer.removesuffix("/") != issuer_url.removesuffix("/"):
        raise AuthenticationError(
            f"ISSUER_URL is {printable(issuer_url)} but the issuer there calls itself "
            f"{printable(metadata.issuer)!r}: set ISSUER_URL to exactly this value if you trust it.",
            error=ErrorCode.INVALID_CONFIGURATION,
        )
    _require_endpoints(metadata)
    return metadata


def _read(document: Mapping[str, Any], secrets: Collection[str]) -> ProviderMetadata:
    values: dict[str, Any] = {}
    for field in fields(ProviderMetadata):
        value = document.get(field.name)
        if value is None:
            continue
        if isinstance(field.default, tuple) and isinstance(value, list):
            value = tuple(value)
            usable = all(isinstance(item, str) for item in value)
        else:
            usable = type(value) is type(field.default)
        if not usable:
            raise AuthenticationError(
                f"The issuer's discovery document has a {field.name} of the wrong type: check ISSUER_URL.",
                error=ErrorCode.INVALID_RESPONSE,
            )
        if _shows(value, secrets):  # errors quote these values
            raise AuthenticationError(
                f"The issuer's discovery document has a {field.name} that contains a secret of this client: "
                "check ISSUER_URL, and replace the secret.",
                error=ErrorCode.INVALID_RESPONSE,
            )
        values[field.name] = value
    return ProviderMetadata(**values)


def _shows(value: object, secrets: Collection[str]) -> bool:
    """Return whether a member of the document shows a long secret; a short one may be a word in a URL."""
    text = " ".join(value) if isinstance(value, tuple) else str(value)
    return reveals(text, [secret for secret in secrets if len(secret) >= _LONG_SECRET], _LONG_SECRET)


def _require_endpoints(metadata: ProviderMetadata) -> None:
    local = is_loopback(urlsplit(metadata.issuer).hostname)
    for field in fields(metadata):
        url = getattr(metadata, field.name)
        if not field.name.endswith(("_endpoint", "_uri")) or not url:
            continue
        require_endpoint(url, f"The issuer's {field.name}")
        if is_loopback(urlsplit(url).hostname) and not local:
            # A remote document must not make this program call services of its own machine.
            raise AuthenticationError(
                f"The issuer's {field.name} points to this machine, but the issuer is on another machine: "
                "check ISSUER_URL.",
                error=ErrorCode.INVALID_RESPONSE,
            )
