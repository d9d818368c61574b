"""The redirect URIs of programs: their hosts and paths (RFC 8252 §7.3)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote

HOST: Final = "127.0.0.1"
"""The usual host: ``localhost`` may resolve to another address or family (RFC 8252 §8.3)."""

HOSTS: Mapping[str, tuple[str, ...]] = {
    HOST: (HOST,),
    "localhost": (HOST, "::1"),
    "[::1]": ("::1",),
}
"""The hosts of redirect URIs, each with the addresses that a browser may connect to."""

PATH = "/callback"
"""The usual path."""

ICON = "/favicon.ico"
"""The path at which browsers request an icon."""

_LONGEST = 200  # characters
_CHARACTERS = re.compile(r"/(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})*")  # RFC 3986 §3.3


def refused_host(host: str) -> str:
    """Return why a host cannot be that of a redirect URI, or an empty text.

    Args:
        host: The host, without a port.
    """
    return "" if host in HOSTS else "use a loopback host: " + ", ".join(HOSTS)


def refused_path(path: str) -> str:
    """Return why a path cannot be that of a redirect URI, or an empty text.

    Browsers and providers compare paths byte by byte, so a path that browsers rewrite would never match.

    Args:
        path: The path as the provider has registered it.
    """
    if not _CHARACTERS.fullmatch(path) or path.startswith("//"):
        return (
            "begin the path with one slash, leave out query and fragment, and percent-encode other characters"
        )
    if {".", ".."} & set(unquote(path).split("/")):
        return "leave out the segments . and .., which browsers remove"
    if path == ICON:
        return f"choose another path, because browsers request an icon at {ICON}"
    return f"use at most {_LONGEST} characters" if len(path) > _LONGEST else ""
