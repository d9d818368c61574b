"""A PostgreSQL server of the tests, with its files in memory where there is a place for them."""

from __future__ import annotations

import atexit
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any

import psycopg

_PROGRAMS = Path("/usr/lib/postgresql")  # where Debian puts each version
_MEMORY = Path("/dev/shm")  # noqa: S108 - the folder of a file system in memory
_SECONDS = 30
_READY = "database system is ready to accept"
_CREATE = """CREATE ROLE site LOGIN PASSWORD 'site password'
CREATE DATABASE site OWNER site
"""
_RULES = """local all all trust
host all all 127.0.0.1/32 scram-sha-256
host replication all 127.0.0.1/32 trust
"""
_FAST = {
    "full_page_writes": "off",  # the files stay in the system's memory when the server dies
    "shared_buffers": "16MB",
    "max_wal_size": "256MB",
    "dynamic_shared_memory_type": "mmap",  # in the folder, so that a killed server leaves nothing elsewhere
}


class PostgresServer:
    """A running server, which can be killed, silenced and started again at its address.

    The role ``site`` owns the database ``site``. Over TCP it needs its password; over the socket, the
    superuser ``postgres`` needs none.

    Args:
        options: Parameters of the server, such as ``{"max_connections": "20"}``.
        private: Files that only the server reads, such as the key for TLS: their contents by parameter.
        standby_of: The server whose changes this one follows; it then refuses to write.
    """

    def __init__(
        self,
        options: Mapping[str, str] = {},
        *,
        private: Mapping[str, bytes] = {},
        standby_of: PostgresServer | None = None,
    ) -> None:
        self._options = {**_FAST, **options}
        self._private = private
        self._primary = standby_of
        self._process: subprocess.Popen[bytes] | None = None
        self._folder = _owned_folder()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.url = f"postgresql://site:site%20password@127.0.0.1:{self.port}/site"
        self.socket_url = f"postgresql://site@/site?host={self._folder}&port={self.port}"
        self.log = self._folder / "log"
        self._prepare()

    def start(self, **options: str) -> None:
        """Start the server, and wait until it accepts connections.

        Args:
            options: Parameters of the server for this start.
        """
        given = {**self._options, **options}
        parameters = [part for name, value in given.items() for part in ("-c", f"{name}={value}")]
        read = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [_program("postgres"), "-D", self._data, "-p", str(self.port), *parameters],
                stderr=log,
                **_other_user(),
            )
        ends = time.monotonic() + _SECONDS
        while _READY not in (text := self.log.read_text()[read:]):
            assert self._process.poll() is None, text
            assert time.monotonic() < ends, text
            time.sleep(0.02)

    def kill(self) -> None:
        """Kill all processes of the server, as a loss of power does."""
        if self._process:
            self._process.send_signal(signal.SIGSTOP)  # it starts no process in the meantime
            pids = self.pids
            self._signal(signal.SIGKILL)
            self._process.wait()
            while not all(map(_has_ended, pids)):
                time.sleep(0.005)
            self._process = None

    def stop(self) -> None:
        """Stop all processes, so that the server is silent, but keeps its connections."""
        assert self._process
        self._process.send_signal(signal.SIGSTOP)
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let stopped processes continue."""
        self._signal(signal.SIGCONT)

    def shut_down(self) -> None:
        """End the server, which tells each client so, as an administrator does."""
        assert self._process
        self._process.send_signal(signal.SIGINT)
        self._process.wait(_SECONDS)
        self._process = None

    def promote(self) -> None:
        """Make a standby the primary, and wait until it accepts writes."""
        self.admin("SELECT pg_promote(true, 30)")

    def admin(self, query: str, *values: object, database: str = "site") -> list[tuple[Any, ...]]:
        """Return the rows of a query of the superuser."""
        with psycopg.connect(
            host=str(self._folder), port=self.port, user="postgres", dbname=database, autocommit=True
        ) as connection:
            cursor = connection.execute(query, values or None)
            return cursor.fetchall() if cursor.description else []

    def contents(self) -> dict[bytes, list[bytes]]:
        """Return each stored key with its value, and its group if it has one."""
        rows = self.admin("SELECT key, value, member_of FROM pywry_auth_records")
        return {key: [value] if group is None else [value, group] for key, value, group in rows}

    def clear(self) -> None:
        """Remove all records."""
        if self.admin("SELECT to_regclass('pywry_auth_records')") != [(None,)]:
            self.admin("TRUNCATE pywry_auth_records")

    @property
    def pids(self) -> list[int]:
        """The processes of the server, with the first one at the end."""
        assert self._process
        return [*_children(self._process.pid), self._process.pid]

    def _signal(self, number: signal.Signals) -> None:
        for pid in self.pids:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    @property
    def _data(self) -> str:
        return str(self._folder / "data")

    def _prepare(self) -> None:
        if self._primary:
            source = ["-h", "127.0.0.1", "-p", str(self._primary.port), "-U", "postgres"]
            _run("pg_basebackup", "-D", self._data, "-R", "-X", "stream", "-c", "fast", "--no-sync", *source)
        else:
            _copy(_template() / "data", self._folder / "data")
        for name, content in self._private.items():
            path = self._folder / name
            path.write_bytes(content)
            path.chmod(0o600)
            _give(path)
            self._options[name] = str(path)
        self._options.update(listen_addresses="127.0.0.1", unix_socket_directories=str(self._folder))

    def __enter__(self) -> PostgresServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process:
            self.go_on()
            self._process.send_signal(signal.SIGQUIT)  # unlike a killed server, it removes its shared memory
            self._process.wait(_SECONDS)
        _remove_memory(self._folder / "data" / "postmaster.pid")
        shutil.rmtree(self._folder, ignore_errors=True)


@cache
def _template() -> Path:
    """Return the files of a fresh server, which take a second to make."""
    folder = _owned_folder()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    data = str(folder / "data")
    _run("initdb", "-D", data, "-U", "postgres", "--auth=trust", "--no-sync", "-E", "UTF8", "--locale=C")
    _run("postgres", "--single", "-D", data, "postgres", given=_CREATE)
    (folder / "data" / "pg_hba.conf").write_text(_RULES)
    return folder


def _run(name: str, *arguments: str, given: str = "") -> None:
    done = subprocess.run(
        [_program(name), *arguments],
        input=given.encode(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        **_other_user(),
    )
    assert done.returncode == 0, done.stdout.decode()


@cache
def _program(name: str) -> str:
    found = sorted(_PROGRAMS.glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    assert found, "PostgreSQL is missing: apt-get install postgresql"
    return str(found[-1])


@cache
def _account() -> pwd.struct_passwd | None:
    """Return the account of the server, which refuses to run as root."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name: entry for entry in pwd.getpwall()}
    return names.get("postgres") or pwd.getpwuid(65534)


def _other_user() -> dict[str, Any]:
    account = _account()
    changed: dict[str, Any] = {"cwd": "/", "env": {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}}
    if account:
        changed |= {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    return changed


def _owned_folder() -> Path:
    """Return a new folder with a short path, because the path of a socket is short."""
    place = str(_MEMORY) if _MEMORY.is_dir() and os.access(_MEMORY, os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="postgres-", dir=place))
    _give(folder)
    return folder


def _copy(source: Path, target: Path) -> None:
    subprocess.run(["cp", "-a", str(source), str(target)], check=True)


def _give(path: Path) -> None:
    if account := _account():
        os.chown(path, account.pw_uid, account.pw_gid)


def _remove_memory(lock_file: Path) -> None:
    """Remove the shared memory of a killed server: the last number in its lock file."""
    if lock_file.exists() and (found := re.search(r"^ *\d+ +(\d+) *$", lock_file.read_text(), re.MULTILINE)):
        subprocess.run(["ipcrm", "-m", found[1]], check=False)


def _has_ended(pid: int) -> bool:
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True


def _children(parent: int) -> Iterator[int]:
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            found = re.search(rb"\nPPid:\t(\d+)\n", (folder / "status").read_bytes())
            if found and int(found[1]) == parent:
                yield int(folder.name)
