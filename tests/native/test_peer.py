"""The kernel's tables show which user has opened a loopback connection. [T59]"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pywry_auth.native import peer
from pywry_auth.native.peer import Address, can_identify_users, is_same_user, user_of

OTHER = 4_000_000_001
_USER, _INODE = 7, 9  # columns
Ends = tuple[Address, Address]


@contextmanager
def connection(family: socket.AddressFamily = socket.AF_INET) -> Iterator[Ends]:
    """Yield the client's and the server's end of an open connection."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(family) as client:
        prefix = "::ffff:" if family == socket.AF_INET6 else ""
        client.connect((f"{prefix}127.0.0.1", server.getsockname()[1]))
        accepted, address = server.accept()
        with accepted:
            yield address, accepted.getsockname()


def changed(folder: Path, change: Callable[[list[str]], list[str] | None]) -> Path:
    """Return a copy of the tables in which each row is changed or, for None, left out."""
    for name in ("tcp", "tcp6"):
        head, *rows = Path("/proc/net", name).read_text().splitlines()
        left = (change(row.split()) for row in rows)
        (folder / name).write_text("\n".join([head, *(" ".join(row) for row in left if row)]) + "\n")
    return folder


def with_column(number: int, value: object) -> Callable[[list[str]], list[str]]:
    return lambda row: [*row[:number], str(value), *row[number + 1 :]]


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_a_connection_of_this_user_is_recognised(family: socket.AddressFamily) -> None:
    """A client may use an IPv6 socket for an IPv4 address."""
    with connection(family) as (client, server):
        assert user_of(client, server) == os.getuid()
        assert is_same_user(client, server)


def test_users_of_ipv6_connections_are_recognised() -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
        address = ("::1", server.getsockname()[1])
        assert can_identify_users(address)
        assert not can_identify_users(("::1", 1))
        with socket.create_connection(address) as client:
            accepted, _ = server.accept()
            with accepted:
                assert user_of(client.getsockname()[:2], address) == os.getuid()
                assert is_same_user(client.getsockname()[:2], address)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_a_connection_of_another_user_is_recognised(tmp_path: Path, family: socket.AddressFamily) -> None:
    with connection(family) as (client, server):
        tables = changed(tmp_path, with_column(_USER, OTHER))
        assert user_of(client, server, tables) == OTHER
        assert not is_same_user(client, server, tables)


def test_the_administrator_counts_as_the_same_user(tmp_path: Path) -> None:
    with connection() as (client, server):
        assert is_same_user(client, server, changed(tmp_path, with_column(_USER, 0)))


def test_a_closed_connection_does_not_count_as_the_administrators(tmp_path: Path) -> None:
    """The kernel shows root as the user of a socket that its program has closed. [T59]"""
    with connection() as (client, server):
        tables = changed(tmp_path, lambda row: with_column(_INODE, 0)(with_column(_USER, 0)(row)))
        assert user_of(client, server, tables) is None
        assert not is_same_user(client, server, tables)


def test_an_unknown_connection_is_not_the_users_own_except_in_wsl(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connection() as (client, server):
        tables = changed(tmp_path, lambda row: None)
        monkeypatch.setenv("WSL_DISTRO_NAME", "Debian")  # proves nothing
        assert not is_same_user(client, server, tables)
        monkeypatch.setattr("pywry_auth.native.peer.in_wsl", lambda environ, platform: not environ)
        assert is_same_user(client, server, tables)


def test_a_row_that_was_missed_is_looked_up_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table that changes while it is read can lack a row."""
    reads: list[Path] = []
    opener = Path.open

    def empty_at_first(path: Path, encoding: str) -> Any:
        reads.append(path)
        return opener(Path(os.devnull) if len(reads) <= 2 else path, encoding=encoding)

    monkeypatch.setattr(Path, "open", empty_at_first)
    with connection() as (client, server):
        assert user_of(client, server) == os.getuid()
    assert len(reads) == 3


@pytest.mark.parametrize("variable", ["SUDO_UID", "PKEXEC_UID"])
def test_the_user_behind_sudo_counts_as_the_same_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """The browser of a program under sudo may run as the user that called sudo, but only there."""
    with connection() as (client, server):
        tables = changed(tmp_path, with_column(_USER, OTHER))
        monkeypatch.setenv(variable, str(OTHER))
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        assert is_same_user(client, server, tables)
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        assert not is_same_user(client, server, tables)


def test_a_system_that_does_not_show_the_own_socket_identifies_no_users(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        assert can_identify_users(address)
        assert not can_identify_users(address, tmp_path), "there are no tables"
        assert not can_identify_users(address, changed(tmp_path, with_column(_USER, OTHER)))
        assert not can_identify_users(address, changed(tmp_path, lambda row: None))


def test_a_user_who_stands_for_all_unknown_users_identifies_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a namespace of users, the tables show one ID for all users that it lacks. [T59]"""
    monkeypatch.setattr(peer, "_OVERFLOW_USER", tmp_path / "overflowuid")
    with socket.create_server(("127.0.0.1", 0)) as server:
        (tmp_path / "overflowuid").write_text("4000000002\n")
        assert can_identify_users(server.getsockname())
        (tmp_path / "overflowuid").write_text(f"{os.geteuid()}\n")
        assert not can_identify_users(server.getsockname())
