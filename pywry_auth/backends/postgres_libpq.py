"""The options that the loaded libpq knows.

psycopg without its extra ``binary`` uses the libpq of the system, which may be older than an option.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cache

from psycopg import pq

_VALUES_SINCE: Mapping[tuple[str, str], int] = {
    ("sslrootcert", "system"): 16,
    ("target_session_attrs", "primary"): 14,
}
"""Values that older versions of libpq refuse, or take for something different."""

_NEWER = "install a newer one (pip install 'psycopg[binary]' brings it)"


@cache
def known_options() -> frozenset[str]:
    """Return the names of the options of a connection."""
    return frozenset(option.keyword.decode() for option in pq.Conninfo.get_defaults())


@cache
def libpq_version() -> int:
    """Return the major version of libpq, such as 15."""
    return pq.version() // 10000


def newer_than_libpq(parameters: Mapping[str, str], known: Collection[str], version: int) -> str:
    """Return the fault of the first option that libpq does not know.

    libpq would refuse the whole connection, without a word in the log of the server.

    Args:
        parameters: The options of a URL.
        known: The names of the options that libpq knows.
        version: The major version of libpq.

    Returns:
        A part of a sentence, with the remedy; empty if libpq knows all of them.
    """
    for name, value in parameters.items():
        if name not in known:
            return f"the option {name} is newer than libpq {version} of this system: remove it, or {_NEWER}"
        if version < _VALUES_SINCE.get((name, value), 0):
            other = "name the file of the authorities" if name == "sslrootcert" else "choose another value"
            return f"{name}={value} is newer than libpq {version} of this system: {other}, or {_NEWER}"
    return ""
