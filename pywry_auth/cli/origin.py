"""The one origin that may receive a token."""

from __future__ import annotations

from urllib.parse import urlsplit

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError
from pywry_auth.protocol.urls import is_host, require_endpoint

_EXAMPLE = "https://git.example.com"
_DEFAULT_PORTS = {"http": 80, "https": 443}

Origin = tuple[str, str, int | None]
"""Scheme, host and port (RFC 6454 §4)."""


def require_origin(url: str) -> Origin:
    """Return the origin of the option ``--origin``.

    Args:
        url: The option.

    Raises:
        AuthenticationError: It is not an https origin, or an http origin of the loopback address.
    """
    parts = urlsplit(require_endpoint(url, "--origin", _EXAMPLE))
    origin = origin_of(url)
    if origin is None or parts.path not in ("", "/") or parts.query:
        raise AuthenticationError(
            f"--origin must be a scheme, a host and perhaps a port, for example {_EXAMPLE}.",
            error=ErrorCode.INVALID_CONFIGURATION,
        )
    return origin


def origin_of(url: str) -> Origin | None:
    """Return the origin of a URL; None if it is not a URL with a host, or names a user.

    Args:
        url: Text from another program.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    # urlsplit drops tabs and newlines, and takes a backslash for a part of the host.
    if not parts.hostname or not is_host(parts.netloc) or not url.isascii() or not url.isprintable():
        return None
    return parts.scheme, parts.hostname, _DEFAULT_PORTS.get(parts.scheme) if port is None else port
