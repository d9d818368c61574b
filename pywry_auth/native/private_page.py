"""A page in a file that only its owner can read."""

from __future__ import annotations

import fcntl
import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from pywry_auth.backends.file_locks import default_folder

_PREFIX, _SUFFIX = "sign-in-", ".html"


class PrivatePage:
    """An HTML file with mode 0600 in a folder with mode 0700.

    ``close`` removes it. The process holds a lock on the file, which the operating system frees if the
    process crashes. The next page of the same user then removes the file.

    Args:
        html: The document.
        folder: The folder of the files; None uses the user's state folder.

    Raises:
        OSError: The file cannot be written, or other users can reach the folder.
        StoreUnavailable: The user has no folder for state.
    """

    def __init__(self, html: str, folder: Path | None = None) -> None:
        folder = folder or default_folder().parent / "sign-in"
        _prepare(folder)
        _remove_abandoned(folder)
        self._handle, self._path = _create(folder)
        try:
            with open(self._handle, "w", encoding="utf-8", closefd=False) as file:
                file.write(html)
        except BaseException:
            self.close()
            raise

    @property
    def uri(self) -> str:
        """The file's URI."""
        return self._path.as_uri()

    def close(self) -> None:
        """Remove the file."""
        self._path.unlink(missing_ok=True)
        os.close(self._handle)


def _prepare(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    private = stat.S_ISDIR(found.st_mode) and not stat.S_IMODE(found.st_mode) & 0o077
    if not private or found.st_uid != os.geteuid():
        raise PermissionError("other users can reach the folder of the sign-in page")


def _create(folder: Path) -> tuple[int, Path]:
    while True:
        handle, name = tempfile.mkstemp(_SUFFIX, _PREFIX, folder)
        _lock(handle)
        # Another process may have taken the file for an abandoned one before it was locked.
        if os.fstat(handle).st_nlink:
            return handle, Path(name)
        os.close(handle)


def _remove_abandoned(folder: Path) -> None:
    for path in folder.glob(f"{_PREFIX}*{_SUFFIX}"):
        with suppress(OSError):
            handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                if _lock(handle):
                    path.unlink(missing_ok=True)
            finally:
                os.close(handle)


def _lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
