"""Finds out which user of this machine has opened a loopback connection."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from pywry_auth.native.wsl import in_wsl

Address = tuple[str, int]
"""An IPv4 or IPv6 address and a port."""

_TABLES = Path("/proc/net")
_OVERFLOW_USER = Path("/proc/sys/kernel/overflowuid")
_LISTENING = "0A"
_ATTEMPTS = 3  # a row can be missed while the kernel changes the table


def can_identify_users(server: Address, tables: Path = _TABLES) -> bool:
    """Return whether this system shows the users of connections.

    The tables must show this process's own listening socket with the right user. In a namespace of users, the
    tables show one ID for all users that it lacks; a process with this ID identifies no user.

    Args:
        server: The address and port that this process listens on.
        tables: The folder of the kernel's connection tables.
    """
    own = _hexadecimal(server)
    if os.geteuid() == _overflow_user():
        return False
    return any(
        row[1] == own and row[3] == _LISTENING and int(row[7]) == os.geteuid() for row in _rows(tables, own)
    )


def is_same_user(client: Address, server: Address, tables: Path = _TABLES) -> bool:
    """Return whether the user of this process has opened a connection.

    The administrator counts too, because relays run as root and root can read this process anyway. In WSL, a
    connection from Windows may have no user. It is accepted, because such a machine has one user.

    Args:
        client: The client's end of the connection.
        server: This process's end of the connection.
        tables: The folder of the kernel's connection tables.
    """
    user = user_of(client, server, tables)
    # The variables of the environment prove nothing here.
    return in_wsl({}, sys.platform) if user is None else user in _own_users()


def user_of(client: Address, server: Address, tables: Path = _TABLES) -> int | None:
    """Return the ID of the user that has opened a connection on this machine.

    A connection that is not in the tables, or that its client has closed, has no known user: None.

    Args:
        client: The client's end of the connection.
        server: This process's end of the connection.
        tables: The folder of the kernel's connection tables.
    """
    for _ in range(_ATTEMPTS):
        for row in _rows(tables, _hexadecimal(client)):
            if row[1:3] in (_ends(client, server, ""), _ends(client, server, _MAPPED)):
                # The kernel shows root as the user of a closed socket, which has no inode.
                return int(row[7]) if row[9] != "0" else None
    return None


def _rows(tables: Path, address: str) -> Iterator[list[str]]:
    """Yield the columns of each row that names an address; a busy server has thousands of others."""
    for name in ("tcp", "tcp6"):  # a program with an IPv6 socket can connect to an IPv4 address
        with suppress(OSError), (tables / name).open(encoding="ascii") as lines:
            # Listening sockets come first, so a search for one reads little of a long table.
            yield from (line.split() for line in lines if address in line)


def _ends(client: Address, server: Address, prefix: str) -> list[str]:
    return [prefix + _hexadecimal(client), prefix + _hexadecimal(server)]


def _hexadecimal(address: Address) -> str:
    """Return an address as the tables show it: numbers of 32 bits in the machine's byte order."""
    host, port = address
    packed = socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host)
    numbers = (packed[start : start + 4] for start in range(0, len(packed), 4))
    return "".join(f"{int.from_bytes(number, sys.byteorder):08X}" for number in numbers) + f":{port:04X}"


_MAPPED = "0" * 16 + f"{int.from_bytes(bytes([0, 0, 255, 255]), sys.byteorder):08X}"


def _own_users() -> set[int]:
    own = {0, os.getuid(), os.geteuid()}
    if os.geteuid() == 0:  # the browser may run as the user that called sudo or pkexec
        callers = (os.environ.get(name, "") for name in ("SUDO_UID", "PKEXEC_UID"))
        own |= {int(caller) for caller in callers if caller.isdecimal()}
    return own


def _overflow_user() -> int:
    with suppress(OSError, ValueError):
        return int(_OVERFLOW_USER.read_text(encoding="ascii"))
    return 65534
