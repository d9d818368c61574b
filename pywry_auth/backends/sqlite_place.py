"""The path of an SQLite file: its safety, its creation and its replacement."""

from __future__ import annotations

import logging
import os
import stat
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pywry_auth.exceptions import StoreUnavailable
from pywry_auth.private_files import CHECKED, file_fault, folder_fault

if sys.platform != "win32":
    import fcntl

_logger = logging.getLogger("pywry_auth.backends")

_BESIDE = ("-wal", "-shm", "-journal")

Identity = tuple[int, int]
"""The device and the inode of a file."""


@dataclass(frozen=True)
class OpenFiles:
    """The files that a connection has open.

    As long as it has them open, no other file gets their inodes.

    Args:
        main: The database.
        beside: The files that SQLite made beside it, by the ends of their names.
    """

    main: Identity
    beside: Mapping[str, Identity]


class SQLitePlace:
    """The path of a database that only its owner may reach.

    No file is opened for a check. A process that closes any descriptor of a database loses all its locks on
    it, and with them those of SQLite (fcntl(2), "record locks").

    Args:
        path: The absolute path of the database.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def check(self, *, starting: bool = False) -> None:
        """Refuse files and a folder that other users can reach.

        Args:
            starting: Whether the process may still become another user, as a server that root starts does.

        Raises:
            StoreUnavailable: A file or the folder is not safe; the text contains the remedy.
        """
        if not CHECKED:
            return
        any_owner = starting and os.geteuid() == 0
        found = [(path, status) for path in self._files() if (status := _status(path)) is not None]
        faults = [file_fault(path, status, any_owner=any_owner) for path, status in found]
        faults.append(folder_fault(self._path.parent, any_owner=any_owner))
        if fault := "; and ".join(filter(None, faults)):
            raise StoreUnavailable(f"The SQLite store is not safe: {fault}.")

    def prepare(self, *, make_folder: bool) -> Identity:
        """Create the database if it is missing, and check it.

        Args:
            make_folder: Whether to create a missing folder with mode 0700.

        Returns:
            The identity of the database.

        Raises:
            StoreUnavailable: See :meth:`check`; or the folder was removed.
            OSError: The database cannot be created.
        """
        folder = self._path.parent
        if make_folder:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        elif not folder.is_dir():
            raise StoreUnavailable(
                f"The folder {folder} of the SQLite store was removed: restart the program."
            )
        self.check()
        status = _status(self._path)
        if status is None:
            with suppress(FileExistsError):
                _create(self._path)
            self.check()
            status = os.lstat(self._path)
        return _identity(status)

    def files_of(self, main: Identity) -> OpenFiles | None:
        """Return the files that a new connection has opened.

        Args:
            main: The result of :meth:`prepare` before it was opened.

        Returns:
            The files; None if the database was replaced in the meantime.
        """
        if self._identity_of("") != main:
            return None
        beside = {end: self._identity_of(end) for end in _BESIDE}
        return OpenFiles(main, {end: identity for end, identity in beside.items() if identity})

    def is_current(self, files: OpenFiles) -> bool:
        """Return whether the path still leads to the database of a connection.

        Args:
            files: The files of the connection.
        """
        return self._identity_of("") == files.main

    def leave(self, files: OpenFiles) -> None:
        """Remove what a replaced database left beside the new one.

        SQLite would take the log of the old database for that of the new one. The connection to the old
        database must still be open, so that the identity of its files is certain.

        Args:
            files: The files of the connection.
        """
        _logger.warning(
            "the SQLite file %s was replaced or removed while it was in use, and is opened again: stop all"
            " processes before you replace it",
            self._path,
        )
        if not CHECKED:
            return  # Windows does not replace files that are open
        with suppress(OSError), _alone_in(self._path.parent):
            for end, identity in files.beside.items():
                if self._identity_of(end) == identity:
                    self._named(end).unlink()

    def _files(self) -> list[Path]:
        return [self._named(end) for end in ("", *_BESIDE)]

    def _named(self, end: str) -> Path:
        return self._path.with_name(self._path.name + end)

    def _identity_of(self, end: str) -> Identity | None:
        try:
            return _identity(os.lstat(self._named(end)))
        except OSError:
            return None


def _create(path: Path) -> None:
    # SQLite would take the mode from the umask. The files that it creates beside this one copy its mode.
    if sys.platform == "linux":
        os.mknod(
            path, stat.S_IFREG | 0o600
        )  # opens nothing: another thread may have locks on the file by now
    else:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))


def _status(path: Path) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except FileNotFoundError:
        return None


def _identity(status: os.stat_result) -> Identity:
    return status.st_dev, status.st_ino


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder, so that two processes do not remove files at the same time."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        if sys.platform != "win32":
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
