"""SQLite: permissions, size and damage of the file."""

from __future__ import annotations

import errno
import gc
import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pywry_auth.backends.base import Terms
from pywry_auth.backends.sqlite import SQLiteBackend, default_path
from pywry_auth.backends.sqlite_file import SQLiteFile
from pywry_auth.exceptions import StoreUnavailable
from tests.backends.fixtures import Clock
from tests.backends.threads import together

PREPARE = """
import os, resource, sys, tempfile  # another user may be unable to read the standard library
from pathlib import Path
from pywry_auth.exceptions import StoreUnavailable
from pywry_auth.backends.sqlite import SQLiteBackend

def become_another_user():
    if os.getuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)

place = Path(sys.argv[1])
"""


def in_subprocess(program: str, place: Path) -> list[str]:
    """Run a Python program and return its output as words."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PREPARE + program, str(place)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that all users can read, unlike ``tmp_path``."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_only_the_owner_can_read_the_files_with_any_umask(open_folder: Path) -> None:
    program = """
os.umask(0)
backend = SQLiteBackend(place)
backend.put("k:1", b"v")
print(*(oct(os.stat(f"{place}{end}").st_mode & 0o777) for end in ("", "-wal", "-shm")))
become_another_user()
for end in ("", "-wal", "-shm"):
    try:
        open(f"{place}{end}").close()
        print("read")
    except PermissionError:
        print("refused")
os._exit(0 if sys.stdout.flush() is None else 1)
"""
    answers = ["refused" if os.getuid() == 0 else "read"] * 3
    assert in_subprocess(program, open_folder / "state.db") == ["0o600"] * 3 + answers


def test_only_the_owner_can_enter_a_new_folder(tmp_path: Path) -> None:
    program = """
os.umask(0)
backend = SQLiteBackend(place)
backend.put("k:1", b"v")
print(oct(os.stat(place.parent).st_mode & 0o777))
backend.close()
"""
    assert in_subprocess(program, tmp_path / "new" / "state.db") == ["0o700"]


def test_a_read_only_file_can_be_read_and_the_remedy_needs_no_restart(open_folder: Path) -> None:
    """The error names the command for all files, also for those that SQLite created beside it. [S11]"""
    program = """
folder = place.parent / "own"
folder.mkdir(mode=0o700)
if os.getuid() == 0:
    os.chown(folder, 65534, 65534)
become_another_user()
place = folder / "state.db"
first = SQLiteBackend(place)
first.put("k:1", b"v")
first.close()
place.chmod(0o400)
backend = SQLiteBackend(place)
text = ""
for _ in range(2):
    try:
        backend.put("k:2", b"w")
    except StoreUnavailable as error:
        text = str(error)
    print(backend.get("k:1").decode())
command = text.rstrip(".").rpartition(": ")[2]
print(command.count("state.db"), os.system(command))
print(backend.put("k:2", b"w"), backend.get("k:1").decode())
folder.chmod(0)
try:
    backend.get("k:1")
except StoreUnavailable as error:
    print("EACCES" in str(error))
folder.chmod(0o700)
print(backend.put("k:1", b"w"))
backend.close()
"""
    expected = ["v", "v", "3", "0", "True", "v", "True", "True"]
    assert in_subprocess(program, open_folder / "state.db") == expected


def test_a_folder_that_cannot_be_created_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable, match="a file has the name of one of its folders"):
        SQLiteBackend(tmp_path / "file" / "state.db").get("k:1")


def test_a_full_disk_is_an_error_and_loses_no_record(tmp_path: Path) -> None:
    """Records from before the error stay readable. [S11]"""
    program = """
backend = SQLiteBackend(place)
backend.put("k:before", b"v")
limit = 400_000
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    for number in range(1000):
        backend.put(f"k:{number}", bytes(4000))
except StoreUnavailable as error:
    print("unavailable", error.error)
print(backend.get("k:before").decode(), (backend.get(f"k:{number - 1}") or b"").count(0))
print(backend.get(f"k:{number}"))
backend.close()
"""
    assert in_subprocess(program, tmp_path / "state.db") == [
        "unavailable",
        "temporarily_unavailable",
        "v",
        "4000",
        "None",
    ]


def test_a_database_at_its_size_limit_reports_a_full_disk(tmp_path: Path) -> None:
    file = SQLiteFile(tmp_path / "state.db", ("CREATE TABLE t (b BLOB)",), 1)
    with file.connection() as connection:
        connection.execute("PRAGMA max_page_count = 8")
    with pytest.raises(StoreUnavailable, match="the disk is full"), file.transaction() as connection:
        connection.execute("INSERT INTO t VALUES (zeroblob(100000))")
    with file.connection() as connection:
        assert connection.execute("SELECT count(*) FROM t").fetchone() == (0,)
    file.close()


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        (errno.ENOSPC, "the disk is full \\(ENOSPC\\). Make room there.$"),
        (errno.EDQUOT, "used up \\(EDQUOT\\). Make room there.$"),
        (errno.EMFILE, "too many files are open \\(EMFILE\\). Raise the limit of open files.$"),
        (errno.EROFS, "read-only \\(EROFS\\). Set PYWRY_DEPLOY__SQLITE_PATH"),
    ],
)
def test_a_place_that_cannot_be_written_has_its_own_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, remedy: str
) -> None:
    """Another path helps only if the place is the cause. [S11]"""
    backend = SQLiteBackend(tmp_path / "state.db")
    backend.put("k:1", b"v")
    backend.close()

    def fail(*arguments: object, **named: object) -> object:
        raise OSError(code, "the text of the system")

    monkeypatch.setattr("pywry_auth.backends.sqlite_file.sqlite3.connect", fail)
    with pytest.raises(StoreUnavailable, match=remedy):
        backend.put("k:1", b"w")


def test_a_file_of_another_kind_is_not_changed(tmp_path: Path) -> None:
    content = b"this is no database" * 1000
    (tmp_path / "state.db").write_bytes(content)
    (tmp_path / "state.db").chmod(0o600)
    with pytest.raises(StoreUnavailable, match="it is no SQLite database"):
        SQLiteBackend(tmp_path / "state.db").put("k:1", b"v")
    assert (tmp_path / "state.db").read_bytes() == content


def test_a_damaged_file_is_unavailable(tmp_path: Path) -> None:
    """The error reports the damage and quotes no content. [S11]"""
    path = tmp_path / "state.db"
    backend = SQLiteBackend(path)
    for number in range(500):
        backend.put(f"k:{number}", b"canary" * 100)
    backend.close()
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (size - 4096))
    with pytest.raises(StoreUnavailable, match="it is damaged") as caught:
        SQLiteBackend(path).put("k:1", b"v")
    assert "canary" not in str(caught.value)


def test_a_file_of_a_later_version_is_refused(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "state.db")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    (tmp_path / "state.db").chmod(0o600)
    with pytest.raises(StoreUnavailable, match="another version"):
        SQLiteBackend(tmp_path / "state.db").get("k:1")


def test_a_process_waits_while_another_one_creates_the_file(tmp_path: Path) -> None:
    """The workers of a new site create the file together.

    SQLite itself would refuse all but one of them at once.
    """
    maker = sqlite3.connect(tmp_path / "state.db", isolation_level=None)
    (tmp_path / "state.db").chmod(0o600)
    maker.execute("BEGIN IMMEDIATE")
    backend = SQLiteBackend(tmp_path / "state.db")
    with ThreadPoolExecutor(1) as pool:
        counting = pool.submit(backend.count, "c:1", 60)
        with pytest.raises(TimeoutError):
            counting.result(0.3)
        maker.execute("COMMIT")
        assert counting.result(30) == 1
    maker.close()
    backend.close()


def test_an_empty_file_becomes_a_store(tmp_path: Path) -> None:
    (tmp_path / "state.db").touch(0o600)
    backend = SQLiteBackend(tmp_path / "state.db")
    assert backend.put("k:1", b"v")
    backend.close()


def test_an_endless_transaction_makes_writers_fail_and_readers_go_on(tmp_path: Path) -> None:
    schema = ("CREATE TABLE t (n INTEGER)",)
    slow, other = (SQLiteFile(tmp_path / "state.db", schema, 1, patience=0.05) for _ in range(2))
    with slow.transaction() as connection:
        connection.execute("INSERT INTO t VALUES (1)")
        with pytest.raises(StoreUnavailable, match="locked"), other.transaction():
            pytest.fail("two write")
        with pytest.raises(StoreUnavailable, match="busy"):
            together(1, lambda _: slow.transaction().__enter__())
        with other.connection() as reader:
            assert reader.execute("SELECT count(*) FROM t").fetchone() == (0,)
    with other.transaction() as connection:
        assert connection.execute("SELECT count(*) FROM t").fetchone() == (1,)
    slow.close()
    other.close()


def test_a_failed_transaction_is_undone(tmp_path: Path) -> None:
    file = SQLiteFile(tmp_path / "state.db", ("CREATE TABLE t (n INTEGER)",), 1)

    def fail() -> None:
        with file.transaction() as connection:
            connection.execute("INSERT INTO t VALUES (1)")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    with file.transaction() as connection:
        assert connection.execute("SELECT count(*) FROM t").fetchone() == (0,)
    file.close()


def test_the_file_size_is_proportional_to_the_live_records(
    sqlite: SQLiteBackend, clock: Clock, tmp_path: Path
) -> None:
    """Without pruning, 100 of 3,000 records are always live."""
    for number in range(200):
        clock.now += 0.1
        sqlite.put(f"k:{number}", bytes(500), Terms(ttl=10, group="k:all"))
    size = sum(path.stat().st_size for path in tmp_path.iterdir())
    for number in range(200, 3000):
        clock.now += 0.1
        sqlite.put(f"k:{number}", bytes(500), Terms(ttl=10, group="k:all"))
    with sqlite3.connect(tmp_path / "state.sqlite3") as connection:
        (rows,) = connection.execute("SELECT count(*) FROM records").fetchone()
    connection.close()
    assert rows <= 110
    sqlite.close()
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= size


def test_nothing_is_opened_before_it_is_used(tmp_path: Path) -> None:
    backend = SQLiteBackend(tmp_path / "state.db")
    assert list(tmp_path.iterdir()) == []
    backend.close()
    assert list(tmp_path.iterdir()) == []


def test_threads_that_finished_leave_no_connection_behind(sqlite: SQLiteBackend) -> None:
    sqlite.put("k:1", b"v")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        together(4, lambda _: sqlite.get("k:1"))
    assert len(os.listdir("/proc/self/fd")) <= before + 4 * 3
    sqlite.close()
    assert len(os.listdir("/proc/self/fd")) < before


@pytest.mark.parametrize("end", ["", "del backend", "os.fork() or os._exit(0); os.wait()"])
def test_a_backend_that_is_never_closed_closes_its_connections_at_exit(tmp_path: Path, end: str) -> None:
    """SQLite removes its log when the last connection is closed."""
    program = f"""
backend = SQLiteBackend(place)
backend.put("k:1", b"v")
print(os.path.exists(f"{{place}}-wal"))
{end}
"""
    assert in_subprocess(program, tmp_path / "state.db") == ["True"]
    assert [path.name for path in tmp_path.iterdir()] == ["state.db"]


def test_an_unused_backend_keeps_no_file_open(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))

    def use() -> None:
        backend = SQLiteBackend(tmp_path / "state.db")
        together(4, lambda _: backend.get("k:1"))
        assert len(os.listdir("/proc/self/fd")) > before

    use()
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before


def test_the_default_is_in_the_users_folder_for_state(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert default_path() == tmp_path / "pywry-auth" / "state.sqlite3"


def test_later_writes_remove_expired_records(sqlite: SQLiteBackend, clock: Clock, tmp_path: Path) -> None:
    """Neither the file nor a group keeps them, although nothing prunes the store. [T56]"""
    for number in range(300):
        sqlite.put(f"session:{number}", b"", Terms(ttl=10, group="session:alice"))
    clock.advance(11)
    for number in range(300, 340):
        sqlite.put(f"session:{number}", b"", Terms(ttl=600, group="session:alice"))
    with sqlite3.connect(tmp_path / "state.sqlite3") as connection:
        assert connection.execute("SELECT count(*) FROM records").fetchone() == (40,)
    connection.close()
