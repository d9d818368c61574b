"""The codes of a Redis server's answers, and the faults of a set-up of several servers."""

from __future__ import annotations

import re
import socket
from typing import Any

from redis.exceptions import (
    AskError,
    BusyLoadingError,
    ClusterCrossSlotError,
    ClusterDownError,
    ConnectionError,
    MasterDownError,
    MovedError,
    NoScriptError,
    ReadOnlyError,
    RedisError,
    TryAgainError,
)

_CODES: tuple[tuple[type[RedisError], str], ...] = (
    (MovedError, "MOVED"),
    (AskError, "ASK"),
    (MasterDownError, "MASTERDOWN"),
    (ClusterDownError, "CLUSTERDOWN"),
    (TryAgainError, "TRYAGAIN"),
    (ClusterCrossSlotError, "CROSSSLOT"),
    (ReadOnlyError, "READONLY"),
    (BusyLoadingError, "LOADING"),
    (NoScriptError, "NOSCRIPT"),
)
"""The codes that redis-py replaces by classes. Its early versions do so only for some connections."""

NOT_EXECUTED = frozenset(
    {"READONLY", "MOVED", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "LOADING", "NOSCRIPT"}
)
"""The codes with which a server refuses a command before it executes any part of it."""

BROKEN = (
    *(OSError, EOFError, ValueError, AttributeError, TypeError),
    *(ArithmeticError, LookupError, RecursionError),
)
"""The errors other than its own that redis-py raises if a connection breaks or is closed while in use.

It also raises them for a malformed answer, and if it cannot use an option of the URL.
"""

_HOST = re.compile(r"[A-Za-z0-9._:%-]{1,255}")  # a name or an address
_PORT = re.compile(r"[0-9]{1,5}")
_HIGHEST_PORT = 65_535


class TopologyFault(OSError):
    """No sentinel or no node of a cluster named a primary.

    redis-py treats it as an error of the connection.

    Args:
        sentence: The condition and its remedy, in lower case and without the full stop.
    """

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence


class TopologySilent(TopologyFault, socket.timeout):
    """No sentinel or no node of a cluster answered in time.

    redis-py treats it as a time-out, so that it does not wait again.
    """


class NotPrimary(ConnectionError):
    """The server that was named as the primary is not one."""


def code_of(error: RedisError) -> str:
    """Return the code of a server's answer, for example ``MOVED``; otherwise the first word of the text.

    Args:
        error: An error of any version of redis-py.
    """
    found = next((code for kind, code in _CODES if isinstance(error, kind)), "")
    return found or str(error).partition(" ")[0]


def moved_to(error: RedisError) -> tuple[str, int] | None:
    """Return the address of the node that owns a slot, or None for another error.

    Args:
        error: The error of a command with a key. Its text is ``3999 127.0.0.1:6381`` (Redis Cluster
            specification, "MOVED Redirection"); an early version of redis-py keeps the code before it.

    Returns:
        The host and the port, or None if the address is not valid. The host is empty if it is that of the
        node which answered.
    """
    if code_of(error) != "MOVED":
        return None
    host, _, port = str(error).split(" ")[-1].rpartition(":")
    host = host.strip("[]")
    return (host, int(port)) if _is_port(port) and (not host or _HOST.fullmatch(host)) else None


def address_in(reply: Any) -> tuple[str, int] | None:
    """Return the address that a sentinel names, or None if the reply has another form.

    Args:
        reply: A list of a host and a port in bytes.
    """
    if not (isinstance(reply, list) and len(reply) == 2 and all(isinstance(part, bytes) for part in reply)):
        return None
    host, port = (part.decode("ascii", "replace") for part in reply)
    return (host, int(port)) if _HOST.fullmatch(host) and _is_port(port) else None


def _is_port(text: str) -> bool:
    return _PORT.fullmatch(text) is not None and 1 <= int(text) <= _HIGHEST_PORT
