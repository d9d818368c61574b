"""The files of a process in the folder that the workers share."""

from __future__ import annotations

import errno
import logging
import os
import sys
import threading
from collections.abc import Hashable
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path

from pywry_auth.deploy.metrics_folder import FOLDER, REMOVED, folder_fault, is_shared
from pywry_auth.per_process import PerProcess

_KINDS = ("counter", "histogram")
_FIRST = 1 << 16  # bytes of a new file, as prometheus-client makes it
_MARGIN = 1 << 15  # bytes for the series that all threads may add before the next look
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)

_logger = logging.getLogger("pywry_auth.deploy")


@dataclass
class _Files:
    """The files of one process.

    The lock guards the other members and the size of the files.

    Args:
        lock: The lock.
        series: The series that have room.
        fault: The reason why this process does not count; empty if it does.
    """

    lock: threading.Lock = field(default_factory=lambda: threading.Lock())
    series: set[Hashable] = field(default_factory=set)
    fault: str = ""


class MetricsFiles:
    """Reserves room on the disk for the values of each process.

    prometheus-client writes to its files through memory. If the disk is full, the system kills a process that
    does so (SIGBUS). Therefore the room is reserved before each new series. A process without room counts
    nothing until it ends, and its requests go on.
    """

    def __init__(self) -> None:
        self._shared = is_shared()
        self._here = PerProcess(_Files)

    def have_room(self, series: Hashable) -> bool:
        """Return whether this process can count in a series. The log has the reason if not, once.

        Args:
            series: Identifies the series.
        """
        if not self._shared:
            return True
        here = self._here()
        if not here.fault and series not in here.series:
            with here.lock:
                self._look(here)
                here.series.add(series)
        return not here.fault

    def fault(self) -> str:
        """Return the reason why this process does not count, with a remedy; empty if it does."""
        if not self._shared:
            return ""
        here = self._here()
        with here.lock:
            self._look(here)
        return here.fault

    def _look(self, here: _Files) -> None:
        if here.fault:
            return
        try:
            for path in _own_files():
                _reserve(path, is_new=not here.series)
        except OSError as error:
            here.fault = _reason(error)
            _logger.error("no metrics of this process: %s", here.fault)
        here.series.add(None)  # from now on, the files must exist


def _own_files() -> list[Path]:
    folder = Path(os.environ[FOLDER])
    return [folder / f"{kind}_{os.getpid()}.db" for kind in _KINDS]


def _reserve(path: Path, is_new: bool) -> None:
    """Let a file have room for further series.

    Args:
        path: The file.
        is_new: Whether to create it if it does not exist.

    Raises:
        OSError: It has none, or the file was removed.
    """
    if is_new and not path.exists():
        whole = path.with_suffix(".new")  # another process reads only whole files
        try:
            with FileIO(whole, "wb") as file:
                _fill(file, _FIRST)
            whole.replace(path)
        except OSError:
            whole.unlink(missing_ok=True)
            raise
    with FileIO(path, "rb+") as file:
        used = int.from_bytes(file.read(4), sys.byteorder)
        size = file.seek(0, os.SEEK_END)
        if is_new:
            _close_holes(file, size)
        if used + _MARGIN > size:
            try:
                _fill(file, size or _FIRST)  # prometheus-client, too, doubles it
            except OSError:
                file.truncate(size)
                raise


def _close_holes(file: FileIO, size: int) -> None:
    """Reserve the room of a file that prometheus-client has made for metrics of the application."""
    if not hasattr(os, "posix_fallocate"):
        return
    try:
        os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:  # not each file system can do it
        if error.errno in _NO_ROOM:
            raise


def _fill(file: FileIO, count: int) -> None:
    """Append bytes, which occupy room on the disk: the file must have no holes."""
    left = bytes(count)
    while left:
        left = left[file.write(left) :]


def _reason(error: OSError) -> str:
    folder = os.environ[FOLDER]
    if error.errno in _NO_ROOM:
        return (
            f"{folder}, which {FOLDER} names, is full: stop the site, enlarge or empty it, and start the site"
        )
    if isinstance(error, FileNotFoundError) and os.path.isdir(folder):
        return REMOVED
    return folder_fault() or f"{folder}, which {FOLDER} names, cannot be used: {error.strerror}"
