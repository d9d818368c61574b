"""Words for a primary that sentinels or the nodes of a cluster name."""

from __future__ import annotations

from collections.abc import Mapping

from pywry_auth.redis_places import Address

SILENT = "the primary of Redis{named} does not answer: start it, or wait until a failover has ended{announce}"
UNKNOWN_HOST = "the host of the primary of Redis{named} is not known: check the resolver (DNS){announce}"
OTHER_SERVER = "the server that was named as the primary of Redis{named} is not Redis: check it{announce}"

_ANNOUNCE: Mapping[str, tuple[str, str]] = {
    "sentinel": (
        "sentinels",
        "; if that address is not the one to use from here, correct it in sentinel monitor, and set"
        " replica-announce-ip and replica-announce-port at the servers",
    ),
    "cluster": (
        "nodes",
        "; if that address is not the one to use from here, set cluster-announce-ip and cluster-announce-port"
        " at the nodes",
    ),
}


def named_primary(words: str, topology: str, named: Address | None) -> str:
    """Return a fault of the primary with its address, and with the settings that correct the address.

    Args:
        words: One of the constants of this module.
        topology: ``sentinel`` or ``cluster``.
        named: The address; None if no server has named one.
    """
    if named is None:
        return words.format(named="", announce="")
    servers, announce = _ANNOUNCE[topology]
    host, port = named
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return words.format(named=f" ({address} according to the {servers})", announce=announce)
