"""SQLite: files that other users can reach are refused, and replaced files are noticed."""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from pywry_auth.backends.base import Terms
from pywry_auth.backends.sqlite import SQLiteBackend
from pywry_auth.backends.sqlite_file import SQLiteFile
from pywry_auth.exceptions import StoreUnavailable
from tests.backends.threads import together


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A name that a shell must quote."""
    return tmp_path / "the state.db"


def _stored(path: Path, value: bytes = b"v") -> None:
    backend = SQLiteBackend(path)
    backend.put("k:1", value)
    backend.close()


def _refusal(path: Path) -> str:
    """Return the error of a new backend, which must create nothing."""
    before = sorted(path.parent.iterdir())
    with pytest.raises(StoreUnavailable, match="not safe") as caught:
        SQLiteBackend(path)
    assert sorted(path.parent.iterdir()) == before
    return str(caught.value)


def _run_last_command(text: str) -> None:
    """Run the command at the end of an error text."""
    command = text.rstrip(".").rpartition(": ")[2]
    subprocess.run(shlex.split(command), check=True)


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o640, 0o620, 0o644, 0o666, 0o660, 0o611])
def test_a_file_that_others_can_reach_is_refused_with_its_remedy(path: Path, mode: int) -> None:
    """The mode is not changed silently, because another user may hold the file open. [T47]"""
    _stored(path)
    path.chmod(mode)
    text = _refusal(path)
    assert f"chmod 600 {shlex.quote(str(path))}" in text
    assert path.stat().st_mode & 0o777 == mode
    _run_last_command(text)
    assert SQLiteBackend(path).get("k:1") == b"v"


def test_a_file_that_was_opened_to_others_after_the_start_is_refused(path: Path) -> None:
    """Each opening has the same checks. [T47]"""
    backend = SQLiteBackend(path)
    path.touch(0o644)
    with pytest.raises(StoreUnavailable, match="chmod 600"):
        backend.put("k:1", b"v")
    assert path.read_bytes() == b""


@pytest.mark.parametrize("end", ["-wal", "-shm", "-journal"])
@pytest.mark.parametrize("kind", ["wide", "link", "folder"])
def test_the_files_beside_it_have_the_same_checks(path: Path, end: str, kind: str) -> None:
    """The log contains the same secrets as the file. [T47]"""
    _stored(path)
    beside = path.with_name(path.name + end)
    if kind == "folder":
        beside.mkdir()
    elif kind == "link":
        beside.symlink_to(path)
    else:
        beside.touch(0o644 if kind == "wide" else 0o600)
    text = _refusal(path)
    assert shlex.quote(str(beside)) in text
    _run_last_command(text)
    assert SQLiteBackend(path).get("k:1") == b"v"


def _become_another(monkeypatch: pytest.MonkeyPatch) -> int:
    """Let the files of this process belong to another user; return the ID of the new user."""
    user = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: user)
    return user


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


def _link(path: Path) -> None:
    _stored(path.parent / "real")
    path.symlink_to("real")


_IN_PLACE: dict[str, Callable[[Path], object]] = {
    "a link to a file": _link,
    "a link to nothing": lambda path: path.symlink_to("nothing"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a pipe": lambda path: os.mkfifo(path, 0o600),
    "a socket": _socket,
}


def test_a_folder_is_refused_and_a_file_in_it_is_named(path: Path) -> None:
    """A path such as that of a mounted volume is meant as the place of the file. [T47]"""
    path.mkdir(mode=0o700)
    text = _refusal(path)
    assert f"{path} is a folder; write the name of a file in it to PYWRY_DEPLOY__SQLITE_PATH" in text
    assert "mv " not in text
    named = Path(text.rstrip(".").rpartition("such as ")[2])
    backend = SQLiteBackend(named)
    assert backend.put("k:1", b"v")
    backend.close()


@pytest.mark.parametrize("kind", _IN_PLACE)
def test_anything_but_a_regular_file_is_refused(path: Path, kind: str) -> None:
    """Nothing is created through a link, and a pipe is not waited for. [T47]"""
    _IN_PLACE[kind](path)
    text = _refusal(path)
    assert f"mv {shlex.quote(str(path))}" in text
    _run_last_command(text)
    backend = SQLiteBackend(path)
    assert backend.put("k:1", b"v")
    assert path.is_file()
    assert not path.is_symlink()
    backend.close()


def test_a_file_of_another_user_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its owner could read and change it. [T47]"""
    _stored(path)
    user = _become_another(monkeypatch)
    assert f"chown {user} {shlex.quote(str(path))}" in _refusal(path)


@pytest.mark.parametrize("end", ["-wal", "-shm", "-journal"])
def test_a_file_of_another_user_beside_it_is_refused(
    path: Path, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its owner could read what SQLite writes to it. [T47]"""
    path.with_name(path.name + end).touch(0o600)
    user = _become_another(monkeypatch)
    assert f"chown {user} {shlex.quote(str(path) + end)}" in _refusal(path)


def test_root_may_start_a_server_whose_workers_own_the_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only root's own use of the file is refused. [T47]"""
    _stored(path)
    if os.geteuid() == 0:
        os.chown(path, 1, 1)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    backend = SQLiteBackend(path)
    with pytest.raises(StoreUnavailable, match="chown 0 "):
        backend.get("k:1")


def test_a_file_with_a_second_name_is_refused(path: Path) -> None:
    """SQLite keeps a log for each name, and damages such a file. [T47]"""
    _stored(path)
    os.link(path, path.parent / "second")
    text = _refusal(path)
    assert shlex.quote(str(path)) in text
    (path.parent / "second").unlink()
    assert SQLiteBackend(path).get("k:1") == b"v"


@pytest.mark.parametrize(
    ("mode", "own_group", "refused"),
    [
        (0o777, True, True),
        (0o757, True, True),
        (0o770, False, True),
        (0o1777, False, False),
        (0o1770, False, False),
        (0o770, True, False),
        (0o755, False, False),
    ],
)
def test_a_folder_in_which_others_can_replace_files_is_refused(
    path: Path, mode: int, own_group: bool, refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sticky folders, and folders of the user's own group, are allowed. [T47]"""
    group = path.parent.stat().st_gid + (0 if own_group else 1)
    monkeypatch.setattr(os, "getegid", lambda: group)
    path.parent.chmod(mode)
    try:
        if refused:
            text = _refusal(path)
            assert f"chmod go-w {path.parent}" in text
            _run_last_command(text)
        _stored(path)
    finally:
        path.parent.chmod(0o700)


def test_a_folder_below_a_shared_one_is_the_sites_own(path: Path) -> None:
    """The volume of a container often belongs to root, and only root can change its mode. [T47]"""
    path.parent.chmod(0o777)
    try:
        assert "use a new folder below it" in _refusal(path)
        _stored(path.parent / "new" / "state.db")
        assert (path.parent / "new").stat().st_mode & 0o777 == 0o700
    finally:
        path.parent.chmod(0o700)


def _before_it_is_opened(monkeypatch: pytest.MonkeyPatch, act: Callable[[], None]) -> None:
    """Call ``act`` between the check of the files and their opening, as another user could act."""
    connect = sqlite3.connect

    def acted(path: Path, **options: Any) -> sqlite3.Connection:
        act()
        connection: sqlite3.Connection = connect(path, **options)
        return connection

    monkeypatch.setattr(sqlite3, "connect", acted)


def _plant(path: Path, content: bytes = bytes(40)) -> None:
    """Create a file that is not empty: SQLite corrects the mode of an empty one, if it may."""
    with suppress(FileExistsError), path.open("xb") as file:
        path.chmod(0o666)
        file.write(content)


@pytest.mark.parametrize("folder", [0o700, 0o1777])
@pytest.mark.parametrize("exists", [False, True])
@pytest.mark.parametrize("ends", [("-wal",), ("-shm",), ("-wal", "-shm"), ("-journal",)])
def test_nothing_is_written_to_a_file_that_appears_beside_it(
    path: Path, folder: int, exists: bool, ends: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a sticky folder such as ``/tmp``, another user can create files between check and opening. [T47]"""
    path.parent.chmod(folder)
    if exists:
        _stored(path)
    beside = [path.with_name(path.name + end) for end in ends]

    def plant() -> None:
        for file in beside:
            _plant(file)

    _before_it_is_opened(monkeypatch, plant)
    backend = SQLiteBackend(path)
    with suppress(StoreUnavailable):
        backend.put("k:2", b"secret" * 9)
    wide = [file for file in beside if file.exists() and file.stat().st_mode & 0o077]
    assert all(b"secret" not in file.read_bytes() for file in wide)
    backend.close()
    path.parent.chmod(0o700)


def test_a_log_that_disappears_while_it_is_opened_is_not_used(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user who created it may still read it. [T47]"""
    _stored(path)
    path.parent.chmod(0o1777)
    lstat, log = os.lstat, path.with_name(path.name + "-wal")

    def opened(name: Path, **options: Any) -> os.stat_result:
        if Path(name) == log and log.exists() and log.stat().st_mode & 0o077:
            log.unlink()
        return lstat(name, **options)

    def replace() -> None:
        log.unlink(missing_ok=True)
        _plant(log)
        monkeypatch.setattr(os, "lstat", opened)

    _before_it_is_opened(monkeypatch, replace)
    backend = SQLiteBackend(path)
    with pytest.raises(StoreUnavailable, match="replaced while it was opened"):
        backend.put("k:2", b"secret")
    path.parent.chmod(0o700)


@pytest.mark.parametrize("removed", [False, True])
def test_a_new_database_does_not_take_the_log_of_another_user(
    path: Path, removed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a log may contain any record, for example a session. [T47]"""
    other = SQLiteBackend(path.parent / "other")
    other.put("session:1", b"forged")
    forged = (path.parent / "other-wal").read_bytes()
    path.parent.chmod(0o1777)
    log = path.with_name(path.name + "-wal")
    connect = sqlite3.connect

    class Connection(sqlite3.Connection):
        def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
            if "journal_mode = WAL" in sql:
                # This is the moment between SQLite's first write to the file and the creation of the log.
                first = connect(path, isolation_level=None)
                first.execute("PRAGMA journal_mode = WAL")
                first.close()
                _plant(log, forged)
            cursor = super().execute(sql, *parameters)
            if removed and log.exists() and log.stat().st_mode & 0o077:
                log.unlink()
            return cursor

    def connected(path: Path, **options: Any) -> sqlite3.Connection:
        connection: Connection = connect(path, factory=Connection, **options)
        return connection

    monkeypatch.setattr(sqlite3, "connect", connected)
    with pytest.raises(StoreUnavailable, match="was replaced" if removed else "chmod 600"):
        SQLiteBackend(path).get("session:1")
    monkeypatch.undo()
    log.unlink(missing_ok=True)
    path.with_name(path.name + "-shm").unlink(missing_ok=True)
    path.parent.chmod(0o700)
    assert SQLiteBackend(path).get("session:1") is None
    other.close()


def test_a_folder_of_another_user_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its owner can replace every file in it. [T47]"""
    if os.geteuid() == 0:
        os.chown(path.parent, 2, 2)  # the folders of root are trusted
    user = _become_another(monkeypatch)
    assert f"chown {user} {path.parent}" in _refusal(path)


def test_a_link_among_the_parent_folders_is_followed(tmp_path: Path) -> None:
    """On many systems ``/var/run`` is a link. [T47]"""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    backend = SQLiteBackend(tmp_path / "link" / "state.db")
    backend.put("k:1", b"v")
    assert backend.get("k:1") == b"v"
    assert (tmp_path / "real" / "state.db").is_file()
    backend.close()


@pytest.mark.parametrize("beside", ["left", "removed"])
def test_a_replaced_file_is_noticed(path: Path, beside: str, caplog: pytest.LogCaptureFixture) -> None:
    """The log of the old file is not taken for that of the new one. [T47]"""
    _stored(path.parent / "new", b"new")
    backend = SQLiteBackend(path)
    for number in range(50):
        backend.put(f"k:{number}", b"old" * 500, Terms(ttl=60, group="k:all"))
    (path.parent / "new").rename(path)
    if beside == "removed":
        for end in ("-wal", "-shm"):
            path.with_name(path.name + end).unlink()
    with caplog.at_level(logging.WARNING):
        assert backend.get("k:1") == b"new"
    assert "was replaced" in caplog.text
    assert backend.members("k:all") == []
    assert backend.put("k:2", b"later")
    backend.close()
    assert SQLiteBackend(path).get("k:2") == b"later"
    assert SQLiteBackend(path).get("k:3") is None


@pytest.mark.parametrize("ends", [("-wal",), ("-shm",), ("-wal", "-shm")])
def test_a_removed_log_stops_the_store_and_loses_no_record(path: Path, ends: tuple[str, ...]) -> None:
    """A second log beside it would lose records or damage the database. [T47]"""
    backends = [SQLiteBackend(path), SQLiteBackend(path)]
    for number, backend in enumerate(backends):
        backend.put(f"k:{number}", b"v")
    for end in ends:
        path.with_name(path.name + end).unlink()
    for backend in backends:
        with pytest.raises(StoreUnavailable, match="stop all programs that use the file, without force"):
            backend.put("k:2", b"v")
        with pytest.raises(StoreUnavailable):
            backend.get("k:0")
    for backend in backends:
        backend.close()
    again = SQLiteBackend(path)
    assert [again.get("k:0"), again.get("k:1"), again.get("k:2")] == [b"v", b"v", None]
    again.close()


@pytest.mark.parametrize("folder", [0o700, 0o1777])
def test_the_log_of_a_file_in_use_is_not_taken_for_that_of_the_new_one(path: Path, folder: int) -> None:
    """All connections are in use at the moment of the replacement. [T47]"""
    path.parent.chmod(folder)
    schema = ("CREATE TABLE t (n INTEGER)",)
    new, file = SQLiteFile(path.parent / "new", schema, 1), SQLiteFile(path, schema, 1)
    with new.connection() as connection:
        connection.execute("INSERT INTO t VALUES (1)")
    new.close()
    with file.connection() as first:
        first.executemany("INSERT INTO t VALUES (?)", [(number,) for number in range(2, 9)])
        (path.parent / "new").rename(path)
        for _ in range(2):
            with file.connection() as second:
                assert second.execute("SELECT n FROM t").fetchall() == [(1,)]
        assert len(first.execute("SELECT n FROM t").fetchall()) == 7
    with file.connection() as second:
        second.execute("INSERT INTO t VALUES (2)")
    file.close()
    with SQLiteFile(path, schema, 1).connection() as last:
        assert last.execute("SELECT n FROM t").fetchall() == [(1,), (2,)]
        assert last.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    path.parent.chmod(0o700)


def test_threads_in_the_middle_of_their_work_keep_the_old_file(path: Path) -> None:
    """A thread that holds a connection finishes with it, and the next one uses the new file. [T47]"""
    backend = SQLiteBackend(path)
    backend.put("k:1", b"old")
    together(4, lambda _: backend.get("k:1"))
    path.unlink()
    assert together(8, lambda number: backend.put(f"n:{number}", b"new")) == [True] * 8
    assert [backend.get(f"n:{number}") for number in range(8)] == [b"new"] * 8
    assert backend.get("k:1") is None
    assert path.stat().st_mode & 0o777 == 0o600
    backend.close()


def test_a_wide_file_in_place_of_the_removed_one_is_refused(path: Path) -> None:
    """The new file has the same checks as the first one. [T47]"""
    backend = SQLiteBackend(path)
    backend.put("k:1", b"old")
    path.unlink()
    path.touch(0o666)
    path.chmod(0o666)
    with pytest.raises(StoreUnavailable, match="chmod 600"):
        backend.put("k:1", b"secret")
    assert path.read_bytes() == b""


def test_a_link_in_place_of_the_open_file_is_refused(path: Path) -> None:
    """Even a link to the very same file. [T47]"""
    backend = SQLiteBackend(path)
    backend.put("k:1", b"old")
    path.rename(path.parent / "moved")
    path.symlink_to("moved")
    with pytest.raises(StoreUnavailable, match="symbolic link"):
        backend.get("k:1")


def test_a_removed_folder_is_not_created_again_by_a_running_program(path: Path) -> None:
    """The error says so; a new start creates the folder. [T47]"""
    folder = path.parent / "folder"
    backend = SQLiteBackend(folder / "state.db")
    backend.put("k:1", b"old")
    folder.rename(path.parent / "moved")
    with pytest.raises(StoreUnavailable, match="was removed: put it back, or restart"):
        backend.get("k:1")
    assert not folder.exists()
    (path.parent / "moved").rename(folder)
    assert backend.get("k:1") == b"old"
    shutil.rmtree(folder)
    with pytest.raises(StoreUnavailable, match="was removed"):
        backend.get("k:1")
    _stored(folder / "state.db")


def test_two_processes_agree_on_the_new_file(path: Path) -> None:
    """Each notices the replacement at its next use. [T47]"""
    backend = SQLiteBackend(path)
    backend.put("k:1", b"old")
    program = f"""
import sys
from pywry_auth.backends.sqlite import SQLiteBackend
backend = SQLiteBackend({str(path)!r})
for line in sys.stdin:
    print(backend.get("k:1"), backend.count("n:1", 60), flush=True)
backend.close()
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as other:
        assert other.stdin
        assert other.stdout
        other.stdin.write("\n")
        assert other.stdout.readline() == "b'old' 1\n"
        _stored(path.parent / "new", b"new")
        (path.parent / "new").rename(path)
        assert backend.count("n:1", 60) == 1
        other.stdin.write("\n")
        assert other.stdout.readline() == "b'new' 2\n"
        assert backend.count("n:1", 60) == 3
        other.communicate()
    backend.close()
    assert SQLiteBackend(path).count("n:1", 60) == 4
