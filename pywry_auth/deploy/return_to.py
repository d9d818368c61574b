"""Where a browser goes after a login: a path of this site and nothing else."""

from __future__ import annotations

import re

_LONGEST = 2000
# One slash, then a path, query and fragment of visible ASCII. Not what a browser would read as the start of a
# host (`//`, `/\`), would drop (tabs, newlines) or would resolve to such a start (`/.//`, `/a/..//`).
_PATH = re.compile(r"/(?![/\\])[!-\[\]-~]*\Z")


def safe_path(value: str | None, fallback: str) -> str:
    """Return ``value`` if it is a path of this site as every browser reads it, else ``fallback``.

    Args:
        value: What somebody wants, a ``next`` parameter for example.
        fallback: Where to go otherwise.
    """
    if not value or len(value) > _LONGEST or not _PATH.match(value):
        return fallback
    path = re.split(r"[?#]", value, maxsplit=1)[0]
    decoded = re.sub(r"%2e", ".", path, flags=re.IGNORECASE)
    return fallback if "//" in decoded else value
