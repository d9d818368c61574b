"""Checks the path that follows a login."""

from __future__ import annotations

import re

_LONGEST = 2000
# A slash, then visible ASCII: no tabs or newlines, which browsers drop, and no backslash, which they read as
# a slash. Two slashes before the query are refused: text after them could become a host, as in `/a/..//host`.
_PATH = re.compile(r"/[!-\[\]-~]*")


def safe_path(value: str | None, fallback: str) -> str:
    """Return a path if every browser stays on this site.

    Args:
        value: The requested path, for example a ``next`` parameter.
        fallback: The result for any other value.
    """
    if not value or len(value) > _LONGEST or not _PATH.fullmatch(value):
        return fallback
    return fallback if "//" in re.split("[?#]", value, maxsplit=1)[0] else value
