"""Checks the address that follows a login."""

from __future__ import annotations

import re
from collections.abc import Collection
from urllib.parse import quote

LONGEST = 8000
"""The most characters of an address that follows a login, and of the login's own path with its query.

Servers and proxies usually accept request lines of 8 KiB.
"""

# A slash, then visible ASCII: no tabs or newlines, which browsers drop, and no backslash, which they read as
# a slash.
_PATH = re.compile(r"/[!-\[\]-~]*")
_DOTS = re.compile(r"/(?:\.|%2e){1,2}(?=/|$)", re.IGNORECASE)  # WHATWG URL Standard, single- and double-dot
_URL = re.compile(r"(https?)://([^/?#\\]+)(.*)", re.IGNORECASE | re.DOTALL)
_USUAL_PORTS = {"http": ":80", "https": ":443"}
_VISIBLE = "".join(map(chr, range(0x21, 0x7F)))


def safe_path(value: str | None, fallback: str) -> str:
    """Return a path if every browser stays on this site.

    Args:
        value: The requested path, for example of a page.
        fallback: The result for any other value.
    """
    try:
        return _checked(value or "")
    except ValueError:
        return fallback


def requested_path(wish: str, hosts: Collection[str]) -> str:
    """Return the path of a requested address of this site.

    Spaces and other characters that a URL cannot contain are escaped, because a query is decoded once.

    Args:
        wish: A path, or a URL of this site.
        hosts: The hosts of this site, in the form of :func:`host_of`.

    Raises:
        ValueError: The address is refused; the text is the condition, without the address.
    """
    if len(wish) > LONGEST:  # before any work is done
        raise ValueError(f"it is longer than {LONGEST} characters")
    found = _URL.fullmatch(wish)
    if found:
        if host_of(found[1], found[2]) not in hosts:
            raise ValueError("it is the address of another site")
        wish = found[3] if found[3].startswith("/") else f"/{found[3]}"
    if not wish.isprintable() or "\ufffd" in wish:
        raise ValueError("it contains control characters, or bytes that are not UTF-8")
    return _checked(quote(wish, safe=_VISIBLE))


def host_of(scheme: str, host: str) -> str:
    """Return a host with its port in a form to compare.

    Args:
        scheme: ``http`` or ``https``.
        host: The host; its case and the scheme's usual port do not matter.
    """
    return host.lower().removesuffix(_USUAL_PORTS.get(scheme.lower(), ""))


def _checked(path: str) -> str:
    if len(path) > LONGEST:
        raise ValueError(f"it is longer than {LONGEST} characters")
    if not _PATH.fullmatch(path):
        raise ValueError("it is not a path of this site")
    before_query = re.split("[?#]", path, maxsplit=1)[0]
    # Text after two slashes could become a host: at the beginning, or after `..` has removed the beginning.
    if before_query.startswith("//") or ("//" in before_query and _DOTS.search(before_query)):
        raise ValueError("browsers could read it as the address of another site")
    return path
