"""An issuer's metadata: endpoints and abilities (OIDC Discovery §3, §4)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError, printable
from pywry_auth.protocol.reach import Network, Reach, network_of, network_of_host
from pywry_auth.protocol.urls import require_endpoint

if TYPE_CHECKING:
    from pywry_auth.protocol.http import ProviderSession


_LONG_SECRET = 16


@dataclass(frozen=True)
class ProviderMetadata:
    """An authorization server's endpoints and abilities (OIDC Discovery §3, RFC 8414 §2).

    The names are those of the document. An empty value means that the document does not contain it.

    Args:
        issuer_network: The kind of the address that sent the document; None if there is no document. It
            limits the addresses of the endpoints. This is not a member of the document.
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
    issuer_network: Network | None = field(default=None, compare=False, repr=False)


def discover(session: ProviderSession, issuer_url: str, replaced: Collection[str] = ()) -> ProviderMetadata:
    """Return the metadata of an issuer (OIDC Discovery §4).

    Args:
        session: The HTTP session for the call.
        issuer_url: The issuer as configured; the issuer's own name may differ by a trailing slash.
        replaced: The endpoints that the caller replaces, and of which the issuer's own are not returned.

    Raises:
        AuthenticationError: The issuer did not answer, or the document belongs to another issuer.
    """
    require_endpoint(issuer_url, "ISSUER_URL")
    url = issuer_url.rstrip("/") + "/.well-known/openid-configuration"
    answer = session.call("GET", url)
    if answer.status != 200:
        raise answer.fault("a discovery document (check ISSUER_URL)")
    document = answer.json_object()
    offered = {name: value for name, value in document.items() if name not in replaced}
    metadata = _read(offered, answer.secrets)
    # OIDC Discovery §4.3: otherwise one issuer could act for another. The trailing slash is a common mistake.
    if metadata.issuer.removesuffix("/") != issuer_url.removesuffix("/"):
        raise AuthenticationError(
            f"ISSUER_URL is {printable(issuer_url)} but the issuer there calls itself "
            f"{printable(metadata.issuer)!r}: set ISSUER_URL to exactly this value if you trust it.",
            error=ErrorCode.INVALID_CONFIGURATION,
        )
    network = network_of(answer.peer) if answer.peer else network_of_host(urlsplit(url).hostname or "")
    _require_endpoints(metadata, network)
    return replace(metadata, issuer_network=network)


def _read(document: Mapping[str, Any], secrets: Collection[str]) -> ProviderMetadata:
    values: dict[str, Any] = {}
    for member in fields(ProviderMetadata):
        value = document.get(member.name)
        if value is None or member.default is None:  # not a member of the document
            continue
        if isinstance(member.default, tuple) and isinstance(value, list):
            value = tuple(value)
            usable = all(isinstance(item, str) for item in value)
        else:
            usable = type(value) is type(member.default)
        if not usable:
            raise AuthenticationError(
                f"The issuer's discovery document has a {member.name} of the wrong type: check ISSUER_URL.",
                error=ErrorCode.INVALID_RESPONSE,
            )
        if _shows(value, secrets):  # errors quote these values
            raise AuthenticationError(
                f"The issuer's discovery document has a {member.name} that contains a secret of this client: "
                "check ISSUER_URL, and replace the secret.",
                error=ErrorCode.INVALID_RESPONSE,
            )
        values[member.name] = value
    return ProviderMetadata(**values)


def _shows(value: object, secrets: Collection[str]) -> bool:
    """Return whether a member of the document shows a long secret; a short one may be a word in a URL."""
    from pywry_auth.protocol.redaction import reveals  # a program with stored tokens needs no discovery

    text = " ".join(value) if isinstance(value, tuple) else str(value)
    return reveals(text, [secret for secret in secrets if len(secret) >= _LONG_SECRET], _LONG_SECRET)


def _require_endpoints(metadata: ProviderMetadata, network: Network) -> None:
    for member in fields(metadata):
        url = getattr(metadata, member.name)
        if member.name.endswith(("_endpoint", "_uri")) and url:
            host = urlsplit(require_endpoint(url, f"The issuer's {member.name}")).hostname or ""
            # The addresses of names are checked when a call connects to them.
            Reach.from_issuer(network, member.name).check_host(host)
