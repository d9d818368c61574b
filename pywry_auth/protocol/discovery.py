"""What an issuer says of itself (OIDC Discovery), and its key set (RFC 7517)."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pywry_auth.exceptions import AuthenticationError, ErrorCode, printable
from pywry_auth.protocol.turns import Turns
from pywry_auth.protocol.urls import is_loopback, require_endpoint

if TYPE_CHECKING:
    from pywry_auth.protocol.http import ProviderSession

_logger = logging.getLogger("pywry_auth.protocol")
TENANT = "{tenantid}"
GUID = re.compile("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_REFETCH_SECONDS = 30.0
_MAX_AGE_SECONDS = 3600.0


@dataclass(frozen=True)
class ProviderMetadata:
    """Where an authorization server's endpoints are and what it can do (OIDC Discovery §3, RFC 8414 §2).

    The names are the wire's. Empty means that there is none, or that the provider does not say.
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


def is_issuer(name: str, issuer: str) -> bool:
    """Tell whether a name is an issuer's, byte for byte, or one tenant's where the issuer is a template.

    Args:
        name: What a response says.
        issuer: The issuer; ``{tenantid}`` in it stands for any tenant's GUID, as Microsoft writes it.
    """
    pattern = GUID.pattern.join(re.escape(part) for part in issuer.split(TENANT))
    return re.fullmatch(pattern, name) is not None


def discover(session: ProviderSession, issuer_url: str) -> ProviderMetadata:
    """Return the metadata of an issuer (OIDC Discovery §4).

    Args:
        session: Makes the call.
        issuer_url: The issuer as it was configured; a trailing slash may differ from the issuer's own name.

    Raises:
        AuthenticationError: No answer, or a document that is not this issuer's.
    """
    require_endpoint(issuer_url, "ISSUER_URL")
    url = issuer_url.rstrip("/") + "/.well-known/openid-configuration"
    answer = session.call("GET", url)
    if answer.status != 200:
        raise answer.fault("no discovery document (check ISSUER_URL)")
    metadata = _read(answer.json_object())
    # OIDC Discovery §4.3: else one issuer could speak for another. The slash is what people get wrong.
    if metadata.issuer.removesuffix("/") != issuer_url.removesuffix("/"):
        raise AuthenticationError(
            f"ISSUER_URL is {printable(issuer_url)} but the issuer there calls itself "
            f"{printable(metadata.issuer)!r}: set ISSUER_URL to exactly that if you trust it.",
            error=ErrorCode.INVALID_CONFIGURATION,
        )
    _require_endpoints(metadata)
    return metadata


def _read(document: Mapping[str, Any]) -> ProviderMetadata:
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
                f"The issuer's discovery document has a {field.name} of the wrong type.",
                error=ErrorCode.INVALID_RESPONSE,
            )
        values[field.name] = value
    return ProviderMetadata(**values)


def _require_endpoints(metadata: ProviderMetadata) -> None:
    local = is_loopback(urlsplit(metadata.issuer).hostname)
    for field in fields(metadata):
        url = getattr(metadata, field.name)
        if not field.name.endswith(("_endpoint", "_uri")) or not url:
            continue
        require_endpoint(url, f"The issuer's {field.name}")
        if is_loopback(urlsplit(url).hostname) and not local:
            # A foreign document must not make us call services of this machine.
            raise AuthenticationError(
                f"The issuer's {field.name} points at this machine, and the issuer is another.",
                error=ErrorCode.INVALID_RESPONSE,
            )


class KeySet:
    """An issuer's signing keys: fetched once, again for an unknown one, and then at most every 30 s.

    So a rotated key just works, and forged key IDs cannot make us hammer the issuer. While the issuer is
    away the keys at hand stay in use; otherwise they are fetched anew after an hour, so that a withdrawn key
    ends. The turns guard the keys and last over the fetch: everybody who needs it waits for the one fetch.

    Args:
        url: The issuer's ``jwks_uri``.
        session: Makes each call's HTTP session.
        clock: Seconds that only go forward.
    """

    def __init__(
        self, url: str, session: Callable[[], ProviderSession], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._url = url
        self._session = session
        self._clock = clock
        self._turns = Turns()
        self._keys: tuple[Mapping[str, Any], ...] = ()
        self._fetched_at: float | None = None
        self._refetched_at: float | None = None

    def keys(self) -> tuple[Mapping[str, Any], ...]:
        """Return the keys (JWK members), fetching them when there are none or they are an hour old.

        Raises:
            AuthenticationError: They were never had and cannot be had now.
        """
        with self._turns.take():
            if self._fetched_at is None:
                self._fetch()
            elif self._clock() - self._fetched_at >= _MAX_AGE_SECONDS:
                self._try_again()
            return self._keys

    def newer(self, than: tuple[Mapping[str, Any], ...]) -> tuple[Mapping[str, Any], ...] | None:
        """Return keys other than ``than``, which lacked one; None where there are none, or it is too soon."""
        with self._turns.take():
            if self._keys is than:
                self._try_again()
            return None if self._keys is than else self._keys

    def _try_again(self) -> None:
        now = self._clock()
        if self._refetched_at is not None and now - self._refetched_at < _REFETCH_SECONDS:
            return
        self._refetched_at = now
        try:
            self._fetch()
        except AuthenticationError as error:
            _logger.warning("the key set could not be fetched again, the keys at hand stay in use: %s", error)

    def _fetch(self) -> None:
        with self._session() as session:
            answer = session.call(
                "GET", self._url, headers={"Accept": "application/jwk-set+json, application/json"}
            )
        keys = answer.json_object().get("keys") if answer.status == 200 else None
        if not isinstance(keys, list):
            raise answer.fault("no key set (check JWKS_URL)")
        self._keys = tuple(key for key in keys if isinstance(key, dict))
        self._fetched_at = self._clock()
