"""The files of locks between processes: only their owner can reach them."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from pywry_auth.backends.file_locks import FileLocks
from pywry_auth.exceptions import StoreUnavailable
from pywry_auth.native.login_turn import login_turn


@pytest.fixture
def lock_file(tmp_path: Path) -> Path:
    locks = FileLocks(tmp_path)
    handle = locks.take("name", wait=False)
    assert handle is not None
    locks.free(handle)
    (file,) = tmp_path.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    return file


def _as_link(file: Path) -> None:
    file.rename(file.parent / "real")
    file.symlink_to("real")


def _as_pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file, 0o600)


_SPOILED: dict[str, Callable[[Path], object]] = {
    "readable": lambda file: file.chmod(0o604),
    "writable": lambda file: file.chmod(0o620),
    "link": _as_link,
    "hard link": lambda file: os.link(file, file.parent / "second"),
    "pipe": _as_pipe,
    "folder": lambda file: file.parent.chmod(0o777),
}


@pytest.mark.parametrize("how", _SPOILED)
def test_a_lock_that_others_can_reach_is_refused(lock_file: Path, how: str) -> None:
    """Another user could hold it forever. [T47]"""
    _SPOILED[how](lock_file)
    open_files = len(os.listdir("/proc/self/fd"))
    try:
        with pytest.raises(StoreUnavailable, match=r"chmod|find|mv|your own folder"):
            FileLocks(lock_file.parent).take("name", wait=True)
    finally:
        lock_file.parent.chmod(0o700)
    assert len(os.listdir("/proc/self/fd")) == open_files


def test_a_login_does_not_wait_for_a_lock_of_another_user(tmp_path: Path) -> None:
    """The user signs in without the turn. [T47]"""
    tmp_path.chmod(0o777)
    try:
        with login_turn("name", 5, print, threading.Event(), tmp_path) as waited:
            assert waited == 0
    finally:
        tmp_path.chmod(0o700)
