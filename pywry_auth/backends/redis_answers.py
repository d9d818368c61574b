"""The questions for the primary, and the answers of sentinels and of the nodes of a cluster."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from redis.connection import AbstractConnection
from redis.exceptions import RedisError, ResponseError

from pywry_auth.backends.redis_codes import BROKEN, TopologyFault, address_in, code_of, moved_to
from pywry_auth.redis_places import Address

_URL = "PYWRY_DEPLOY__REDIS_URL"
_NO_SERVICE = f"the sentinels know no service of this name: correct the name behind their addresses in {_URL}"
_NO_SENTINEL = (
    f"a server that {_URL} names is not a sentinel: name the sentinels with their ports (26379), or write"
    " redis:// for one server"
)
REFUSED = (
    "the sentinels require other credentials: write sentinel_password= and, if they have users,"
    f" sentinel_username= in the query of {_URL} (percent-encoded)"
)
"""The fault of sentinels that require a password."""

_MALFORMED = (
    "a server gave an answer that is not valid: check the addresses that the servers announce, and their logs"
)
_NO_NAME = (
    "the nodes of the cluster announce no host names: set cluster-announce-hostname at each node, or"
    " cluster-preferred-endpoint-type ip"
)
_UNKNOWN_EPOCH = -1


def ask_sentinel(link: AbstractConnection, service: str, *, asks_others: bool) -> None:
    """Send the questions of :func:`read_sentinel`.

    The epoch is read before the address. A sentinel that completes a failover in between therefore never
    gives the old address with the new epoch.

    Args:
        link: The connection to the sentinel.
        service: The name of the service.
        asks_others: Whether to ask for the other sentinels too.
    """
    for question in ("MASTER", "GET-MASTER-ADDR-BY-NAME", *["SENTINELS"] * asks_others):
        link.send_command("SENTINEL", question, service)  # type: ignore[no-untyped-call]


def read_sentinel(link: AbstractConnection) -> tuple[int, Address]:
    """Return the epoch of a sentinel's configuration, and the primary.

    The epoch is -1 if the sentinel does not say it, for example because its user has no right to read it.

    Raises:
        TopologyFault: The server is not a sentinel of the service, or its answer is not valid.
        RedisError: The connection broke, or the sentinel refused the question.
    """
    try:
        epoch = _epoch(link)
        reply = link.read_response()
    except ResponseError as error:
        if code_of(error) != "unknown":
            raise
        reason = _NO_SENTINEL
    else:
        found = address_in(reply)
        if found is not None:
            return epoch, found
        reason = _NO_SERVICE if reply is None else _MALFORMED
    raise TopologyFault(reason)


def read_sentinels(link: AbstractConnection) -> list[Address]:
    """Return the other sentinels according to one; none if it does not say."""
    with suppress(RedisError, *BROKEN):
        others = [_fields(sentinel) for sentinel in link.read_response()]
        found = [address_in([other[b"ip"], other[b"port"]]) for other in others]
        return [address for address in found if address]
    return []


def owner(link: AbstractConnection, address: Address, key: bytes) -> Address:
    """Return the owner of a key's slot according to a node of a cluster.

    Every node says it with the rights that the site has anyway, and in a short answer.

    Args:
        link: The connection to the node.
        address: The address of the node.
        key: A key of the slot.

    Raises:
        TopologyFault: The answer is not valid.
        RedisError: The connection broke, or the node refused the question.
    """
    try:
        link.send_command("EXISTS", key)  # type: ignore[no-untyped-call]
        reply = link.read_response()
    except RedisError as error:
        code = code_of(error)
        if code not in ("ASK", "MOVED"):
            raise
        named = moved_to(error)
        if code == "ASK":  # the slot is being moved, and this node still owns it
            return address
        reason = _NO_NAME if str(error).split(" ")[-1].startswith("?") else _MALFORMED
    else:
        if isinstance(reply, int):
            return address
        named, reason = None, _MALFORMED
    if named is None:
        raise TopologyFault(reason)
    return named[0] or address[0], named[1]  # a node that does not know the host means its own


def _epoch(link: AbstractConnection) -> int:
    try:
        return int(_fields(link.read_response())[b"config-epoch"])
    except (ResponseError, LookupError, ValueError, TypeError):
        return _UNKNOWN_EPOCH


def _fields(reply: Any) -> dict[bytes, bytes]:
    return dict(zip(reply[::2], reply[1::2], strict=True))
