"""The memory of the site's workers."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_EVERY_SECONDS = 2.0
_WARM_SECONDS = 20.0  # a worker imports modules, starts threads and fills its caches before
_MEBIBYTE = 1024.0
_ANONYMOUS = re.compile(r"^Anonymous:\s+(\d+) kB", re.MULTILINE)


@dataclass
class _Worker:
    """One worker: when it was seen first, and its memory when it was warm and when it was seen last."""

    born: float
    warm: float = 0.0
    latest: float = 0.0
    seen: float = 0.0


class Memory:
    """Looks at the memory of all workers while they serve requests.

    Only anonymous memory counts: the objects of the program. Pages of files are shared with other processes
    of the machine, which come and go.

    Args:
        workers: Returns the process IDs of the workers.
    """

    def __init__(self, workers: Callable[[], list[int]]) -> None:
        self._list = workers
        self._workers: dict[int, _Worker] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="memory")

    def __enter__(self) -> Memory:
        """Begin to look."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def total(self) -> float:
        """Return the memory of the present workers in MiB."""
        return sum(map(_used, self._list()))

    def growth(self) -> tuple[float, float]:
        """Return the largest growth of a warm worker in MiB, and the time in seconds in which it grew."""
        grown = [
            (each.latest - each.warm, each.seen - each.born - _WARM_SECONDS)
            for each in self._workers.values()
            if each.warm
        ]
        return max(grown, default=(0.0, 0.0))

    def _watch(self) -> None:
        while not self._over.wait(_EVERY_SECONDS):
            now = time.monotonic()
            for pid in self._list():
                used = _used(pid)
                if not used:
                    continue
                worker = self._workers.setdefault(pid, _Worker(now))
                worker.latest, worker.seen = used, now
                if not worker.warm and now - worker.born >= _WARM_SECONDS:
                    worker.warm = used


def _used(pid: int) -> float:
    """Return the memory of a process in MiB, or 0 if it has ended."""
    with suppress(OSError):
        found = _ANONYMOUS.search(Path(f"/proc/{pid}/smaps_rollup").read_text())
        return int(found[1]) / _MEBIBYTE if found else 0.0
    return 0.0
