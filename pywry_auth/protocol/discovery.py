"""An issuer's metadata: endpoints and abilities (OIDC Discovery §3, §4)."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError, printable
from pywry_auth.protocol.reach import Network, Reach, network_of, network_of_host, setting_of
from pywry_auth.protocol.urls import require_endpoint

if TYPE_CHECKING:
    from pywry_auth.protocol.http import ProviderAnswer, ProviderSession

_LONG_SECRET = 16
_OPENID = "/.well-known/openid-configuration"
# RFC 8414 §3.1 puts the path between the host and the issuer's path, OIDC Discovery §4.1 at the end.
_WELL_KNOWN = re.compile(r"/\.well-known/(?:openid-configuration|oauth-authorization-server)(?=/|$)")


@dataclass(frozen=True)
class ProviderMetadata:
    """An authorization server's endpoints and abilities (OIDC Discovery §3, RFC 8414 §2).

    The names are those of the document. An empty value means that the document does not contain it, or that
    its value cannot be used. A call that needs a member obtains it from ``usable``.

    Args:
        issuer_network: The kind of the address that sent the document; None if there is no document. It
            limits the addresses of the endpoints. This is not a member of the document.
        unusable: The members whose values cannot be used, each with the reason; None for no such member.
            This is not a member of the document.
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
    code_challenge_methods_supported: tuple[str, ...] = ()
    authorization_response_iss_parameter_supported: bool = False
    issuer_network: Network | None = field(default=None, compare=False, repr=False)
    unusable: Mapping[str, str] | None = field(default=None, compare=False, repr=False)

    def require_usable(self, member: str) -> None:
        """Refuse a member whose value cannot be used; an absent member is accepted.

        Args:
            member: The member's name.

        Raises:
            AuthenticationError: The document has an unsafe or invalid value; the text names the member.
        """
        if fault := (self.unusable or {}).get(member):
            raise AuthenticationError(fault, error=ErrorCode.INVALID_RESPONSE)

    def usable(self, endpoint: str) -> str:
        """Return the URL of an endpoint; empty if the provider has none.

        Args:
            endpoint: The endpoint's name in the document.

        Raises:
            AuthenticationError: As for ``require_usable``.
        """
        self.require_usable(endpoint)
        url: str = getattr(self, endpoint)
        return url

    def offers(self, endpoint: str) -> bool:
        """Return whether the document names an endpoint, even one that cannot be used.

        Args:
            endpoint: The endpoint's name in the document.
        """
        return bool(getattr(self, endpoint)) or endpoint in (self.unusable or {})


def document_address(url: str) -> str:
    """Return the address of an issuer's discovery document (OIDC Discovery §4.1).

    Args:
        url: The issuer, or the address itself. An address has ``/.well-known/openid-configuration`` or
            ``/.well-known/oauth-authorization-server`` (RFC 8414 §3) in its path. A query is kept.
    """
    path, mark, query = url.partition("?")
    if not _WELL_KNOWN.search(path):
        path = path.rstrip("/") + _OPENID
    return path + mark + query


def named_issuer(url: str) -> str:
    """Return the issuer whose document stands at an address (OIDC Discovery §4.3, RFC 8414 §3.3).

    Args:
        url: As for ``document_address``.
    """
    path, mark, query = url.partition("?")
    return _WELL_KNOWN.sub("", path, count=1) + mark + query


def discover(
    session: ProviderSession, issuer_url: str, replaced: Collection[str] = (), *, discovery_url: str = ""
) -> ProviderMetadata:
    """Return the metadata of an issuer (OIDC Discovery §4).

    A member that cannot be used is left empty, and ``ProviderMetadata.unusable`` has the reason.

    Args:
        session: The HTTP session for the call.
        issuer_url: The issuer as configured, or the address of its document. The issuer's own name may differ
            by a trailing slash.
        replaced: The members that the caller replaces, and of which the document's own are not read. With
            ``issuer`` among them, the document may be of any issuer.
        discovery_url: The address of the document, if it is not below ``issuer_url``.

    Raises:
        AuthenticationError: The issuer did not answer, or the document belongs to another issuer.
    """
    setting = "DISCOVERY_URL" if discovery_url else "ISSUER_URL"
    configured = require_endpoint(discovery_url or issuer_url, setting)
    url = configured if discovery_url else document_address(configured)
    answer = session.call("GET", url, operation="discovery")
    document = _document(answer, setting)
    network = network_of(answer.peer) if answer.peer else network_of_host(urlsplit(url).hostname or "")
    offered = {name: value for name, value in document.items() if name not in replaced}
    metadata = _read(offered, answer.secrets, network)
    if "issuer" not in replaced:
        _check_issuer(metadata, named_issuer(issuer_url or discovery_url), setting)
    return metadata


def _document(answer: ProviderAnswer, setting: str) -> Mapping[str, Any]:
    issuer = "" if setting == "DISCOVERY_URL" else "the issuer with its whole path, or "
    hint = f"a discovery document (check {setting}: it must be {issuer}the address of the document)"
    if answer.status != 200:
        raise answer.fault(hint)
    try:
        return answer.json_object()
    except AuthenticationError:  # mostly a web page
        raise answer.fault(f"valid JSON with {hint}") from None


def _check_issuer(metadata: ProviderMetadata, expected: str, setting: str) -> None:
    """Refuse a document of another issuer, because one issuer could act for another (OIDC Discovery §4.3).

    A trailing slash is a common mistake in settings, so it may differ.
    """
    metadata.require_usable("issuer")
    found = metadata.issuer
    if found.removesuffix("/") == expected.removesuffix("/"):
        return
    if "{" in found:  # https://learn.microsoft.com/entra/identity-platform/v2-protocols-oidc
        advice = (
            "its tenants have different issuers. Set PYWRY_OAUTH2__PROVIDER to microsoft, or name one tenant"
        )
    elif found:
        advice = "set PYWRY_OAUTH2__ISSUER to exactly this name if you trust it"
    else:
        advice = "set PYWRY_OAUTH2__ISSUER to the issuer that its ID tokens name if you trust it"
    there = (
        f"the issuer there calls itself {printable(found)!r}" if found else "that document names no issuer"
    )
    raise AuthenticationError(
        f"{setting} must lead to the discovery document of {printable(expected)!r}, but {there}: {advice}.",
        error=ErrorCode.INVALID_CONFIGURATION,
    )


def _read(document: Mapping[str, Any], secrets: Collection[str], network: Network) -> ProviderMetadata:
    values: dict[str, Any] = {}
    unusable: dict[str, str] = {}
    for member in fields(ProviderMetadata):
        if member.default is None:  # not a member of the document
            continue
        value = _value(document.get(member.name), member.default)
        fault = _fault(member.name, value, secrets, network)
        if fault:
            unusable[member.name] = fault
        elif value is not None:
            values[member.name] = value
    return ProviderMetadata(**values, issuer_network=network, unusable=unusable)


def _value(value: object, default: object) -> object:
    """Return a member's value; None if it is absent, and ``...`` if its type is wrong."""
    if value is None or value == "":
        return None
    if isinstance(default, bool):
        # Some servers send strings. An unknown value counts as true: a response must then name its issuer.
        return str(value).lower() not in ("false", "0")
    if isinstance(default, tuple):
        items = value.split() if isinstance(value, str) else value
        if isinstance(items, list) and all(isinstance(item, str) for item in items):
            return tuple(items)
        return ...
    return value if isinstance(value, str) else ...


def _fault(name: str, value: object, secrets: Collection[str], network: Network) -> str:
    """Return the reason why a member cannot be used; empty if it can."""
    endpoint = name.endswith(("_endpoint", "_uri"))
    setting = {"issuer": "PYWRY_OAUTH2__ISSUER"}.get(name, setting_of(name) if endpoint else "")
    advice = f"set {setting} to the right one" if setting else "the provider has to correct it"
    if value is ...:
        return f"The member {name} of the issuer's discovery document has the wrong type: {advice}."
    if _shows(value, secrets):  # errors quote these values
        return (
            f"The member {name} of the issuer's discovery document contains a secret of this client: "
            f"{advice}, and replace the secret."
        )
    if not endpoint or not isinstance(value, str):
        return ""
    try:
        host = urlsplit(require_endpoint(value, f"The issuer's {name}")).hostname or ""
    except AuthenticationError as error:
        return f"{str(error).removesuffix('.')}: {advice}."
    try:
        # The addresses of names are checked when a call connects to them.
        Reach.from_issuer(network, name).check_host(host)
    except AuthenticationError as error:
        return str(error)
    return ""


def _shows(value: object, secrets: Collection[str]) -> bool:
    """Return whether a member of the document shows a long secret; a short one may be a word in a URL."""
    from pywry_auth.protocol.redaction import reveals  # a program with stored tokens needs no discovery

    text = " ".join(value) if isinstance(value, tuple) else str(value)
    return reveals(text, [secret for secret in secrets if len(secret) >= _LONG_SECRET], _LONG_SECRET)
