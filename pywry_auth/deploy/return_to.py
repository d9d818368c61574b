"""Where a browser goes after a login: a path of this site only."""

from __future__ import annotations

import re

_LONGEST = 2000
# A slash, then visible ASCII: no tabs or newlines, which browsers drop, and no backslash, which they read as
# a slash. Before the query no two slashes: what follows them could become a host, as in `/a/..//host`.
_PATH = re.compile(r"/[!-\[\]-~]*")


def safe_path(value: str | None, fallback: str) -> str:
    """Return ``value`` if it is a path of this site as every browser reads it, otherwise ``fallback``.

    Args:
        value: The wanted path, a ``next`` parameter for example.
        fallback: Where to go otherwise.
    """
    if not value or len(value) > _LONGEST or not _PATH.fullmatch(value):
        return fallback
    return fallback if "//" in re.split("[?#]", value, maxsplit=1)[0] else value
