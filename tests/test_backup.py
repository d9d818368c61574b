"""Copies of a store, made with the programs of ``docs/operating/upgrades.md``."""

from __future__ import annotations

import shlex
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

from pywry_auth import MemoryTokenStore, SQLiteTokenStore
from pywry_auth.models import OAuthTokenSet
from pywry_auth.state import SQLiteSessionStore
from tests.documents import DOCS, block

_PAGE = DOCS / "operating" / "upgrades.md"


def test_a_copy_of_a_site_under_load_can_be_used_in_its_place(tmp_path: Path) -> None:
    """It has every record from before, is private, and keeps its write-ahead log."""
    path, copy = tmp_path / "site" / "state.sqlite3", tmp_path / "backup" / "state.sqlite3"
    copy.parent.mkdir(mode=0o700)
    sessions = SQLiteSessionStore(path)
    before = [sessions.create_session(f"session-{number}", "alice", ["viewer"]) for number in range(50)]
    ended = threading.Event()

    def work() -> None:
        while not ended.is_set():
            sessions.create_session("other", "bob", [])
            sessions.delete_session("other")

    traffic = threading.Thread(target=work)
    traffic.start()
    try:
        code = block(_PAGE, "python", "site.backup")
        subprocess.run([sys.executable, "-c", code, str(path), str(copy)], check=True, timeout=60)
    finally:
        ended.set()
        traffic.join()
    assert copy.stat().st_mode & 0o777 == 0o600
    with closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    restored = SQLiteSessionStore(copy)
    assert all(restored.validate_session(session.session_id) for session in before)


def test_the_page_copies_as_the_user_of_the_site_and_keeps_the_copy_private() -> None:
    """Files of root beside the store would be refused, and so would a copy that others can read."""
    command = block(_PAGE, "sh", ".backup").splitlines()[1]
    words = shlex.split(command)
    assert words[:4] == ["sudo", "-u", "site", "sh"]
    assert words[-1].startswith("umask 077; sqlite3 state.sqlite3 ")
    assert "install -o site -g site -m 600 backup.sqlite3" in block(_PAGE, "sh", "mv state.sqlite3*")


def test_tokens_for_jobs_move_to_another_store(tmp_path: Path) -> None:
    """A token set that the new store already has is newer, and stays."""
    names: dict[str, object] = {}
    exec(block(_PAGE, "python", "copy_tokens"), names)  # noqa: S102
    old, new = MemoryTokenStore(), SQLiteTokenStore(tmp_path / "state" / "tokens.sqlite3")
    old.save("alice", OAuthTokenSet(access_token="of-alice", refresh_token="refresh"))
    old.save("bob", OAuthTokenSet(access_token="old"))
    new.save("bob", OAuthTokenSet(access_token="new"))
    copy_tokens = names["copy_tokens"]
    assert callable(copy_tokens)
    copy_tokens(old, new)
    moved, kept = new.load("alice"), new.load("bob")
    assert moved is not None
    assert (moved.access_token, moved.refresh_token) == ("of-alice", "refresh")
    assert kept is not None
    assert kept.access_token == "new"
