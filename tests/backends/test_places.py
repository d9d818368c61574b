"""The user's files: homes that are missing, read-only or full, and paths that begin with ``~``."""

from __future__ import annotations

import errno
import fcntl
import os
import pwd
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from pywry_auth import PyWry, SQLiteTokenStore, get_token_store
from pywry_auth.backends.file_locks import FileLocks
from pywry_auth.backends.keyring import KeyringBackend
from pywry_auth.backends.options import StorageOptions
from pywry_auth.backends.sqlite import SQLiteBackend, default_path
from pywry_auth.backends.sqlite_file import SQLiteFile
from pywry_auth.exceptions import AuthFlowTimeout, StoreUnavailable
from pywry_auth.native.handover import Handover
from pywry_auth.native.login_turn import login_turn
from pywry_auth.state import SQLiteSessionStore
from tests.backends.keyrings import WindowsKeyring

WAYS = "XDG_STATE_HOME.*SQLITE_PATH"


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The current directory of a process whose user has no home, as in a container with any user ID."""

    def unknown(uid: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    for name in ("HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.mark.parametrize("home", [None, "", "relative"])
@pytest.mark.parametrize("state", [None, "", "relative"])
def test_a_user_without_a_home_is_told_what_to_set(
    homeless: Path, monkeypatch: pytest.MonkeyPatch, home: str | None, state: str | None
) -> None:
    """Nothing is written to the current directory. [S11]"""
    for name, value in (("HOME", home), ("XDG_STATE_HOME", state)):
        if value is not None:
            monkeypatch.setenv(name, value)
    acts: list[Callable[[], object]] = [
        default_path,
        lambda: SQLiteTokenStore(),
        lambda: FileLocks().take("name", wait=False),
        lambda: KeyringBackend("desk", vault=WindowsKeyring()).get("k:1"),
    ]
    for act in acts:
        with pytest.raises(StoreUnavailable, match=f"no folder for this user's files.*{WAYS}"):
            act()
    assert list(homeless.iterdir()) == []


def test_a_relative_folder_for_state_is_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The specification of the variable says so."""
    monkeypatch.setenv("XDG_STATE_HOME", "state")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_path() == tmp_path / ".local" / "state" / "pywry-auth" / "state.sqlite3"


def test_a_login_needs_no_home_if_the_file_is_named(
    homeless: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The lock that keeps a second window closed is only a help."""
    settings = {"OAUTH2__CLIENT_ID": "desk", "OAUTH2__PROVIDER": "github", "OAUTH2__OPEN_BROWSER": "false"}
    settings |= {"OAUTH2__TOKEN_STORE_BACKEND": "sqlite", "DEPLOY__SQLITE_PATH": str(tmp_path / "t.db")}
    for name, value in settings.items():
        monkeypatch.setenv(f"PYWRY_{name}", value)
    with pytest.raises(AuthFlowTimeout):
        PyWry().login(timeout=0, notify=lambda message: None)
    assert (tmp_path / "t.db").exists()
    assert list(homeless.iterdir()) == []


def test_a_turn_to_sign_in_needs_no_home(homeless: Path) -> None:
    with login_turn("desk", 0, print, threading.Event()) as waited:
        assert waited == 0


class _Server:
    def can_identify_users(self) -> bool:
        return False

    def offer(self, url: str) -> str:
        raise NotImplementedError


@pytest.mark.parametrize("trouble", ["no home", "read-only"])
def test_no_browser_is_opened_without_a_place_for_a_private_file(
    homeless: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    trouble: str,
) -> None:
    """The address is printed instead, and the log gives the cause in words."""
    if trouble == "read-only":
        monkeypatch.setenv("XDG_STATE_HOME", str(homeless))
        monkeypatch.setattr(Path, "mkdir", _failing(errno.EROFS))
    with Handover(_Server(), public=True, reads_files=True) as handover:
        assert handover.address_for("https://id.example.com/authorize?state=canary") is None
    assert ("read-only" if trouble == "read-only" else "XDG_STATE_HOME") in caplog.text
    assert "canary" not in caplog.text


# Paths


@pytest.mark.parametrize(
    "open_store",
    [
        lambda path: SQLiteTokenStore(path).list_keys(),
        lambda path: get_token_store("sqlite", path=path).list_keys(),
        lambda path: SQLiteSessionStore(path).get_session("none"),
        lambda path: SQLiteBackend(path).get("k:1"),
    ],
)
@pytest.mark.parametrize("kind", [str, Path])
def test_the_home_directory_in_a_path_is_expanded(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    open_store: Callable[[str | Path], object],
    kind: type[str] | type[Path],
) -> None:
    """No shell has done so in an argument. [S3]"""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    open_store(kind("~/kept/state.db"))
    assert (tmp_path / "kept" / "state.db").exists()
    assert list((tmp_path / "here").iterdir()) == []
    assert StorageOptions("sqlite", path="~/kept/state.db").path == tmp_path / "kept" / "state.db"


@pytest.mark.parametrize("path", ["~nobody-of-this-name/state.db", "state\0.db", "state.db\n", " state.db"])
def test_a_path_that_cannot_be_used_is_a_typed_error(path: str) -> None:
    for act in (SQLiteTokenStore, SQLiteBackend, lambda path: get_token_store("sqlite", path=path)):
        with pytest.raises(StoreUnavailable, match="the path"):
            act(path)


# Places that cannot be written, or have no locks


def _failing(number: int) -> Callable[..., None]:
    def fail(*arguments: object, **options: object) -> None:
        raise OSError(number, "canary")

    return fail


CAUSES = [
    (errno.EROFS, "read-only"),
    (errno.ENOLCK, "no locks"),
    (errno.EOPNOTSUPP, "no locks"),
    (errno.ENOSPC, "disk is full"),
    (errno.EDQUOT, "quota"),
    (errno.EACCES, "no write access"),
    (errno.EPERM, "no write access"),
    (errno.EIO, "network file system failed"),
    (errno.EBADMSG, "cannot be used"),
]


@pytest.mark.parametrize(("number", "words"), CAUSES)
def test_a_folder_for_locks_that_fails_is_explained(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: int, words: str
) -> None:
    """The error gives the cause in words, and the settings that help. No file stays open. [S11]"""
    before = len(os.listdir("/proc/self/fd"))
    for module, name in ((Path, "mkdir"), (os, "open"), (fcntl, "flock")):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, _failing(number))
            with pytest.raises(StoreUnavailable, match=f"locks: .*{words}.*{WAYS}") as caught:
                FileLocks(tmp_path / "locks").take("name", wait=True)
        assert "canary" not in str(caught.value)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(("number", "words"), CAUSES)
def test_a_folder_for_a_database_that_fails_is_explained(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: int, words: str
) -> None:
    monkeypatch.setattr(Path, "mkdir", _failing(number))
    with pytest.raises(StoreUnavailable, match=f"{words}.*(SQLITE_PATH.*path=|Make room there)"):
        SQLiteBackend(tmp_path / "new" / "state.db").get("k:1")


@pytest.mark.parametrize(("number", "words"), CAUSES[1:3])
def test_a_file_system_without_locks_is_not_called_a_busy_database(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: int, words: str
) -> None:
    """SQLite reports both with one code."""
    file = SQLiteFile(tmp_path / "state.db", ("CREATE TABLE t (b BLOB)",), 1, patience=0.01)
    with file.connection() as connection:
        connection.execute("BEGIN IMMEDIATE")
        other = SQLiteFile(tmp_path / "state.db", (), 1, patience=0.01)
        with pytest.raises(StoreUnavailable, match="other processes kept it locked"), other.transaction():
            pytest.fail("two transactions at once")
        monkeypatch.setattr(fcntl, "lockf", _failing(number))
        with pytest.raises(StoreUnavailable, match=f"{words}.*SQLITE_PATH"), other.transaction():
            pytest.fail("two transactions at once")
        connection.execute("ROLLBACK")
    other.close()
    file.close()
    assert [path.name for path in tmp_path.iterdir()] == ["state.db"]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("SQLITE_READONLY_DBMOVED", "cannot be written to.*SQLITE_PATH"),
        ("SQLITE_CANTOPEN", "cannot be opened.*SQLITE_PATH"),
        ("SQLITE_IOERR_SHMMAP", "cannot share memory or locks.*SQLITE_PATH"),
        ("SQLITE_IOERR_SHMSIZE", "quota is full.*SQLITE_PATH"),
        ("SQLITE_IOERR_WRITE", "quota is full.*SQLITE_PATH"),
        ("SQLITE_IOERR_LOCK", "no locks.*SQLITE_PATH"),
        ("SQLITE_IOERR_READ", "network file system failed.*SQLITE_PATH"),
        ("SQLITE_CORRUPT", "is damaged; move it away"),
    ],
)
def test_each_fault_of_sqlite_has_its_own_words(tmp_path: Path, code: str, words: str) -> None:
    error = sqlite3.OperationalError("canary")
    error.sqlite_errorname = code
    file = SQLiteFile(tmp_path / "state.db", ("CREATE TABLE t (b BLOB)",), 1)
    with pytest.raises(StoreUnavailable, match=f"{words}") as caught, file.connection():
        raise error
    assert code in str(caught.value)
    assert "canary" not in str(caught.value)
    file.close()
