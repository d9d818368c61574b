"""Which URLs a provider may have, and how its calls are made: values only, no network."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_address
from urllib.parse import urlsplit

from pywry_auth.exceptions import AuthenticationError, ErrorCode, printable


@dataclass(frozen=True)
class HTTPOptions:
    """How calls to the provider are made.

    Args:
        timeout: Seconds for each call in total.
        proxy_url: Proxy for all but loopback addresses; empty follows ``HTTPS_PROXY`` and ``NO_PROXY``.
        ca_bundle: File of trusted certificates; empty follows ``REQUESTS_CA_BUNDLE`` and ``SSL_CERT_FILE``.
    """

    timeout: float = 10.0
    proxy_url: str = field(default="", repr=False)
    ca_bundle: str = ""


def is_loopback(host: str | None) -> bool:
    """Tell whether a host is this machine itself: ``localhost`` or a loopback literal (RFC 8252 §7.3)."""
    try:
        return host == "localhost" or ip_address(host or "").is_loopback
    except ValueError:
        return False


def require_endpoint(url: str, name: str) -> str:
    """Return the URL if secrets may travel to it: https, or plain http to a loopback address.

    Args:
        url: An endpoint's URL.
        name: What it is, for the error.

    Raises:
        AuthenticationError: It is not such a URL.
    """
    try:
        parts = urlsplit(url)
        secure = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname))
        usable = bool(parts.hostname) and parts.port != 0 and not parts.fragment and "@" not in parts.netloc
    except ValueError:
        secure = usable = False
    # What urlsplit drops (tabs, newlines) or reads otherwise than a browser does (backslash) is refused.
    if not (secure and usable and url.isascii() and url.isprintable() and not set(url) & set(' \\"<>')):
        raise AuthenticationError(
            f"{name} must be an https URL, or http to 127.0.0.1, without user or fragment, "
            f"for example https://id.example.com/path; it is {printable(_without_user(url))!r}.",
            error=ErrorCode.INVALID_CONFIGURATION,
        )
    return url


def _without_user(url: str) -> str:
    head, at, tail = url.rpartition("@")
    return f"{head.partition('//')[0]}//…@{tail}" if at else url
