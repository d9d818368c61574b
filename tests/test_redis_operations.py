"""The commands of the pages for operators of Redis work as they stand, at a real server."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import AuthenticationError

from tests.documents import DOCS, block
from tests.peers.redis_server import RedisServer

_PAGES = DOCS / "operating"
_KEYS = 104


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A server that has not started yet."""
    server = RedisServer(tmp_path)
    yield server
    server.client.close()
    server.stop()


def _run(commands: str, folder: Path, port: int = 0) -> str:
    """Run commands, and return their output.

    Args:
        commands: The block of a page.
        folder: The current folder.
        port: The port of the server for ``redis-cli``.
    """
    real = {name: shutil.which(name) for name in ("install", "redis-cli", "redis-server")}
    assert all(real.values()), "a program is missing: apt-get install redis-server"
    programs = {
        "docker": 'case "$*" in *" sh -c "*) shift 6; exec "$@";; esac',
        "install": f'shift 4; exec {real["install"]} "$@"',  # the test has no user redis
        "redis-cli": f'test "$1" = -s || set -- -p {port} "$@"; exec {real["redis-cli"]} "$@"',
        "redis-server": f'sleep 0.5; exec {real["redis-server"]} "$@"',  # as on a busy machine
        "sudo": 'shift 2; exec "$@"',
        "systemctl": "",
    }
    place = folder / "programs"
    place.mkdir(exist_ok=True)
    for name, script in programs.items():
        (place / name).write_text(f"#!/bin/sh\n{script}\n")
        (place / name).chmod(0o755)
    path = f"{place}:{os.environ['PATH']}"
    return subprocess.run(
        ["sh", "-c", commands],
        cwd=folder,
        env={**os.environ, "PATH": path},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=60,
    ).stdout


def _accepted(server: RedisServer, *passwords: str) -> list[bool]:
    """Return for each password whether the user ``site`` can sign in with it."""
    found = []
    for password in passwords:
        with Redis(port=server.port, username="site", password=password, socket_timeout=5) as client:
            try:
                found.append(bool(client.ping()))
            except AuthenticationError:
                found.append(False)
    return found


def _restart(server: RedisServer, *options: str) -> None:
    server.stop()
    server.start(*options)


def test_a_new_password_of_redis_survives_a_restart_and_the_old_one_does_not(
    server: RedisServer, tmp_path: Path
) -> None:
    """A leaked password does not become valid again. [S3]"""
    users = tmp_path / "users.acl"
    users.write_text("user default on nopass ~* +@all\nuser site on >old ~site:* +@connection\n")
    options = ("--aclfile", str(users))
    server.start(*options)
    page = _PAGES / "secrets.md"
    password = _run(block(page, "sh", 'SETUSER site "#$digest"'), tmp_path, server.port).splitlines()[-1]
    assert _accepted(server, "old", password) == [True, True]
    _restart(server, *options)
    assert _accepted(server, "old", password) == [True, True]
    digest = hashlib.sha256(password.encode()).hexdigest()
    _run(f"digest={digest}\n{block(page, 'sh', 'resetpass')}", tmp_path, server.port)
    assert _accepted(server, "old", password) == [False, True]
    _restart(server, *options)
    assert _accepted(server, "old", password) == [False, True]


def test_the_last_step_without_a_password_keeps_the_user(server: RedisServer, tmp_path: Path) -> None:
    """Another shell does not know the new password."""
    server.start()
    server.ask("ACL", "SETUSER", "site", "on", ">old", "+@connection")
    with pytest.raises(subprocess.CalledProcessError):
        _run(block(_PAGES / "secrets.md", "sh", "resetpass"), tmp_path, server.port)
    assert _accepted(server, "old", "") == [True, False]


def test_the_password_of_the_compose_file_changes_in_place(server: RedisServer, tmp_path: Path) -> None:
    """A container keeps the file that it has mounted, so that a new file would have no effect. [S3]"""
    page = _PAGES / "containers.md"
    (tmp_path / "given").write_text("client-secret")
    _run(block(page, "sh", "umask 077").replace("/path/to/client_secret", "given"), tmp_path)
    users, url = tmp_path / "secrets" / "redis_users", tmp_path / "secrets" / "redis_url"
    files = [(path.stat().st_ino, path.stat().st_mode) for path in (users, url)]
    old, lines = url.read_text(), users.read_text().count("\n")
    _run(block(page, "sh", "restart redis site"), tmp_path)
    assert [(path.stat().st_ino, path.stat().st_mode) for path in (users, url)] == files
    assert users.read_text().count("\n") == lines
    assert {path.name for path in users.parent.glob("redis*")} == {"redis_users", "redis_url"}
    server.start("--aclfile", str(users))
    passwords = [text.split(":")[2].split("@")[0] for text in (old, url.read_text())]
    assert _accepted(server, *passwords) == [False, True]


@pytest.mark.parametrize(
    ("page", "command", "theirs"),
    [("upgrades.md", "restore.sock shutdown", "/var/lib/redis"), ("containers.md", "run --rm", "/data")],
)
def test_a_restored_copy_has_all_records_after_the_next_start(
    server: RedisServer, page: str, command: str, theirs: str, tmp_path: Path
) -> None:
    """With ``appendonly yes``, Redis reads only append-only files, and would start empty. [S3]"""
    data = tmp_path / "data"
    data.mkdir()
    options = ("--dir", str(data), "--appendonly", "yes")
    server.start(*options)
    for number in range(_KEYS):
        server.client.set(f"site:{number}", b"old")
    server.client.save()
    copy = tmp_path / "dump.rdb"
    (data / "dump.rdb").rename(copy)
    server.client.set("site:later", b"new")
    server.stop()
    commands = block(_PAGES / page, "sh", command).replace(theirs, str(data))
    if theirs == "/data":
        shutil.copy(copy, data / "dump.rdb")  # in place of docker
        commands = commands.replace("/tmp/restore.sock", f"{data}/restore.sock")  # noqa: S108
    told = _run(commands, tmp_path)
    assert f"\n{_KEYS}\n" in told
    assert "aof_last_bgrewrite_status:ok" in told
    server.start(*options)
    assert server.client.dbsize() == _KEYS
    assert server.client.get("site:later") is None
