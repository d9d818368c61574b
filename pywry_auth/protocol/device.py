"""The device authorization request and its answer (RFC 8628 §3.1, §3.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError, TokenError
from pywry_auth.protocol.provider_errors import DEVICE_CODE
from pywry_auth.protocol.redaction import reveals
from pywry_auth.protocol.token_endpoint import TokenEndpoint, seconds_in
from pywry_auth.protocol.urls import require_endpoint

ENDPOINT = "device_authorization_endpoint"
"""The endpoint's name in the metadata (RFC 8628 §4)."""

LONGEST_SECONDS = 900.0
"""Seconds for which a code is used at most, for any provider (RFC 10027 §6.1.2: codes are short-lived)."""

_USUAL_INTERVAL = 5.0  # RFC 8628 §3.2
_SHORTEST_INTERVAL, _LONGEST_INTERVAL = 0.1, 300.0
_LONGEST = {"device_code": 8192, "user_code": 64, "verification_uri": 512, "verification_uri_complete": 1024}


@dataclass(frozen=True)
class DeviceAuthorization:
    """A provider's answer to a device authorization request (RFC 8628 §3.2).

    Show the user ``verification_uri`` and ``user_code``. Never open the address, and never log the codes.

    Args:
        device_code: Obtains the tokens; a secret of the program.
        user_code: The code that the user enters, as the provider sent it.
        verification_uri: The address where the user enters it: https, or http on a loopback address.
        verification_uri_complete: The address with the code in it, for a QR code; empty for none, or if it
            leads to another host than ``verification_uri``, which the user reads.
        expires_in: Seconds from the request until the code is no longer used, at most 900.
        interval: Seconds between two polls, from 0.1 to 300; 5 if the provider names none, or 0.
    """

    device_code: str = field(repr=False)
    user_code: str = field(repr=False)
    verification_uri: str
    verification_uri_complete: str = field(default="", repr=False)
    expires_in: float = LONGEST_SECONDS
    interval: float = _USUAL_INTERVAL

    @property
    def host(self) -> str:
        """The host of the address, with its port if it has one."""
        return urlsplit(self.verification_uri).netloc


def authorize_device(
    endpoint: TokenEndpoint, url: str, parameters: Mapping[str, str], resource: Sequence[str] = ()
) -> DeviceAuthorization:
    """Request the codes for a sign-in on another device (RFC 8628 §3.1).

    Args:
        endpoint: The token endpoint, as which the client authenticates.
        url: The device authorization endpoint.
        parameters: ``scope`` and further parameters.
        resource: The APIs that access tokens are for (RFC 8707 §2).

    Raises:
        TokenError: The provider refused (``refused``), did not answer, or sent an answer that cannot be used.
    """
    lists = {"resource": resource} if resource else {}
    return _read(endpoint.call(ENDPOINT, url, parameters, lists, DEVICE_CODE))


def without_user_code(error: TokenError, user_code: str) -> TokenError:
    """Return an error without the user code, which the provider may have repeated.

    Args:
        error: The error of a poll.
        user_code: The code.
    """
    if reveals(f"{error} {error.error_description} {error.error}", [user_code]):
        error.args = ("The token endpoint refused the sign-in: start it again.",)
        error.error_description = ""
        error.error = str(ErrorCode.INVALID_RESPONSE if reveals(error.error, [user_code]) else error.error)
    return error


def _read(members: Mapping[str, Any]) -> DeviceAuthorization:
    # Google sends the name that a draft of the RFC had.
    old_name = members.get("verification_url") and not members.get("verification_uri")
    page = "verification_url" if old_name else "verification_uri"
    lifetime = _seconds(members, "expires_in")
    if lifetime is None:
        raise _unusable("it has no expires_in")
    interval = _seconds(members, "interval")
    address = _address(members, page)
    complete = _address(members, page + "_complete") if members.get(page + "_complete") else ""
    return DeviceAuthorization(
        _text(members, "device_code"),
        _text(members, "user_code"),
        address,
        complete if _site_of(complete) == _site_of(address) else "",
        min(lifetime, LONGEST_SECONDS),
        min(max(interval or _USUAL_INTERVAL, _SHORTEST_INTERVAL), _LONGEST_INTERVAL),
    )


def _text(members: Mapping[str, Any], name: str) -> str:
    """Return a member that a terminal can show (RFC 8628 §6.1)."""
    value = members.get(name)
    limit = _LONGEST[name.replace("_url", "_uri")]
    if value is None or value == "":
        raise _unusable(f"it has no {name}")
    if not isinstance(value, str) or not value.isascii() or not value.isprintable() or not value.strip():
        raise _unusable(f"{name} is not a text of printable ASCII characters")
    if len(value) > limit:
        raise _unusable(f"{name} has more than {limit} characters")
    return value


def _address(members: Mapping[str, Any], name: str) -> str:
    """Return an address that is safe to show; the page may use a fragment."""
    address = _text(members, name)
    if set(address) & set(' \\"<>'):
        raise _unusable(f"{name} is not an https address")
    try:
        require_endpoint(address.partition("#")[0], name)
    except AuthenticationError:
        pass
    else:
        return address
    raise _unusable(f"{name} is not an https address")


def _site_of(address: str) -> tuple[str, str]:
    parts = urlsplit(address)
    return parts.scheme, parts.netloc.lower()


def _seconds(members: Mapping[str, Any], name: str) -> float | None:
    value = members.get(name)
    if value is None or value == "":
        return None
    seconds = seconds_in(value)
    if seconds is None or seconds < 0 or (name == "expires_in" and seconds == 0):
        raise _unusable(f"{name} is not a positive number of seconds")
    return seconds


def _unusable(condition: str) -> TokenError:
    return TokenError(
        f"The device authorization endpoint's answer cannot be used: {condition}. Check "
        "PYWRY_OAUTH2__DEVICE_AUTHORIZATION_URL.",
        error=ErrorCode.INVALID_RESPONSE,
    )
