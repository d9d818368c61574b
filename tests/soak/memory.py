"""The memory of the site's workers."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.soak.journal import Journal

MOST_GROWTH = 16.0
"""MiB by which a warm worker may grow. The threads' allocators need several of them after the warm-up."""

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

    @property
    def grown(self) -> float:
        """Its growth in MiB since it was warm."""
        return self.latest - self.warm if self.warm else 0.0


class Memory:
    """Looks at all workers and their memory while they serve requests.

    Only anonymous memory counts: the objects of the program. Pages of files are shared with other processes
    of the machine, which come and go.

    Args:
        workers: Returns the process IDs of the workers.
        used: Returns the memory of a process in MiB, or 0 if it has ended.
    """

    def __init__(self, workers: Callable[[], list[int]], used: Callable[[int], float] | None = None) -> None:
        self._list = workers
        self._used = used or _used
        self._workers: dict[int, _Worker] = {}
        self._ended: set[int] = set()
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
        return sum(map(self._used, self._list()))

    def growth(self) -> tuple[float, float]:
        """Return the largest growth of a warm worker in MiB, and the time in seconds in which it grew."""
        grown = [
            (each.grown, each.seen - each.born - _WARM_SECONDS)
            for each in list(self._workers.values())
            if each.warm
        ]
        return max(grown, default=(0.0, 0.0))

    def conclude(self, journal: Journal) -> None:
        """Count the workers that ended although no fault ended them, and those that grew too much.

        Args:
            journal: Knows the workers that a fault ended.
        """
        for pid, worker in list(self._workers.items()):
            if pid in self._ended and not journal.has_ended(pid):
                text = f"worker {pid}, last seen at {journal.clock(worker.seen)}"
                journal.violation("workers ended without a fault", text)
            if worker.grown > MOST_GROWTH:
                journal.violation("workers that grew too much", f"worker {pid}: {worker.grown:.1f} MiB")

    def _watch(self) -> None:
        while not self._over.wait(_EVERY_SECONDS):
            self.look(time.monotonic())

    def look(self, now: float) -> None:
        """Look at all workers once.

        Args:
            now: Monotonic time in seconds.
        """
        present = self._list()
        self._ended |= set(self._workers) - set(present)
        for pid in present:
            used = self._used(pid)
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
