"""Locks between processes: empty files in a folder that only its owner can enter."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pywry_auth.exceptions import StoreUnavailable

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
        fcntl.flock(handle, fcntl.LOCK_UN)  # not by closing alone: a child may have the file open too


class FileLocks:
    """Locks by name, each held by one thread of one process; the system frees those of a process that ends.

    Args:
        folder: Where the files are. It is made when missing, with mode 0700; the files have mode 0600 and
            stay, since one that was removed and made again would be two locks of one name.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def take(self, name: str, *, wait: bool) -> int | None:
        """Take a lock and return what :meth:`free` needs, or None where somebody else holds it.

        Args:
            name: The lock's; any text.
            wait: Whether to wait until it is free, however long that takes, in the order of arrival.

        Raises:
            StoreUnavailable: The folder or the file cannot be made or opened.
        """
        try:
            handle = self._open(name)
            if _lock(handle, wait):
                return handle
        except OSError as error:
            raise StoreUnavailable(
                f"No lock can be taken in {self._folder} ({type(error).__name__}): it must be a folder of "
                "yours that you can write to."
            ) from error
        os.close(handle)
        return None

    def free(self, handle: int) -> None:
        """Free a lock that was taken."""
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

    def _open(self, name: str) -> int:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
        return os.open(self._folder / f"{digest}.lock", flags, 0o600)


def default_folder() -> Path:
    """Return where the files are unless the caller says otherwise: in the user's folder for state."""
    from platformdirs import user_state_path

    return user_state_path("pywry-auth") / "locks"
