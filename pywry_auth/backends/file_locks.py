"""Locks between processes: empty files in the owner's private folder."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pywry_auth.backends.places import NAME_ANOTHER, state_folder
from pywry_auth.digests import digest_of
from pywry_auth.exceptions import StoreUnavailable
from pywry_auth.private_files import cause_of, file_fault, folder_fault

if sys.platform == "win32":
    import errno
    import msvcrt

    def _lock(handle: int, wait: bool) -> bool:
        while True:
            try:
                msvcrt.locking(handle, msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
            except OSError as error:
                if error.errno not in (errno.EACCES, errno.EDEADLK):
                    raise
                if not wait:
                    return False
            else:
                return True

    def _unlock(handle: int) -> None:
        os.lseek(handle, 0, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _lock(handle: int, wait: bool) -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _unlock(handle: int) -> None:
        # Closing the file is not enough, because a child process may have it open too.
        fcntl.flock(handle, fcntl.LOCK_UN)


class FileLocks:
    """Named locks, each held by one thread of one process.

    The operating system frees the locks of a process that exits.

    Args:
        folder: The folder of the files; None uses one in the user's folder for state. It is created with mode
            0700 if it is missing. The files have mode 0600 and are never removed: after a removal, two
            processes could hold one lock, each through a different file of the same name.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._given = folder

    def take(self, name: str, *, wait: bool) -> int | None:
        """Take a lock and return its handle.

        Args:
            name: The name of the lock; any text.
            wait: Whether to wait, without a time limit and in the order of arrival, until the lock is free.

        Returns:
            The handle for :meth:`free`, or None if another caller holds the lock.

        Raises:
            StoreUnavailable: The folder or the file cannot be created, opened or locked, or other users can
                reach it. The text gives the cause and the remedy.
        """
        folder = self._given or default_folder()
        try:
            handle = _open(folder, name)
            try:
                taken = _lock(handle, wait)
            except BaseException:
                os.close(handle)
                raise
        except OSError as error:
            raise StoreUnavailable(
                f"The folder {folder} cannot be used for locks: {cause_of(error)}. {NAME_ANOTHER}."
            ) from error
        if not taken:
            os.close(handle)
        return handle if taken else None

    def free(self, handle: int) -> None:
        """Free the lock of a handle."""
        _unlock(handle)
        os.close(handle)

    @contextmanager
    def held(self, name: str) -> Iterator[None]:
        """Hold a lock while the ``with`` block runs (see :meth:`take`)."""
        handle = self.take(name, wait=True)
        try:
            yield
        finally:
            if handle is not None:
                self.free(handle)


def default_folder() -> Path:
    """Return the default folder, inside the user's folder for state.

    Raises:
        StoreUnavailable: The user has no such folder.
    """
    return state_folder() / "locks"


def _open(folder: Path, name: str) -> int:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"{digest_of(name)}.lock"
    # Without O_NONBLOCK, a named pipe in place of the file could stop this thread.
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    handle = os.open(path, flags, 0o600)
    # Any user who can open the file can hold the lock forever.
    fault = file_fault(path, os.fstat(handle)) or folder_fault(folder)
    if fault:
        os.close(handle)
        raise StoreUnavailable(f"A lock is not safe: {fault}.")
    return handle
