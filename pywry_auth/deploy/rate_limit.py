"""Limits what each client may do, across all workers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError

if TYPE_CHECKING:
    from pywry_auth.backends.base import Backend

# Some proxies also send the client's port: 203.0.113.7:1234, [2001:db8::1]:1234 (RFC 7239 §6).
_WITH_PORT = re.compile(r"^(?:([0-9.]+)|\[([^]]*)\])(?::[0-9]+)?$")


@dataclass(frozen=True)
class RateLimit:
    """A fixed window for each client.

    Args:
        backend: Counts for all workers.
        kind: Prefix of the counters' keys.
        limit: How many actions are allowed in a window.
        window: Length of the window in seconds.
        text: The condition for visitors, without a full stop: ``Too many sign-ins from your network``.
        remedy: The step that helps after the window: ``try again``.
    """

    backend: Backend
    kind: str
    limit: int
    window: float
    text: str
    remedy: str = "try again"

    def spend(self, client: str) -> None:
        """Count one action of a client.

        Args:
            client: Identifies the client, for example by its network or its session.

        Raises:
            AuthenticationError: The limit is exceeded (``rate_limited``); ``retry_after`` is the window.
        """
        if self.backend.count(f"{self.kind}:{client}", self.window) > self.limit:
            text = f"{self.text}: wait {self.window:g} seconds and {self.remedy}."
            raise AuthenticationError(
                text,
                visitor=text,
                error=ErrorCode.RATE_LIMITED,
                timeout=self.window,
                retry_after=self.window,
            )


def client_network(address: str | None) -> str:
    """Return the network that counts as one client.

    It is an IPv4 address, or an IPv6 network of 64 bits (RFC 6177).
    """
    try:
        parsed = ip_address(_WITH_PORT.sub(r"\1\2", address or ""))
    except ValueError:
        return "unknown"
    if isinstance(parsed, IPv6Address):
        return str(parsed.ipv4_mapped or ip_network((parsed, 64), strict=False))
    return str(parsed)
