"""The figures of one run, as a value that can be kept in a file."""

from __future__ import annotations

import datetime
import json
import os
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.soak.journal import MUST_BE_ZERO, Journal

ROUTES: Mapping[str, str] = {
    "/auth/status": "session check",
    "/account": "guarded page",
    "/auth/refresh": "refresh",
    "/auth/callback": "callback of a sign-in",
}
"""The routes whose latency is shown, with their names for readers."""


@dataclass(frozen=True)
class Figures:
    """The figures of one run.

    Args:
        store: ``redis``, ``sqlite`` or ``postgres``.
        seconds: The time with load and faults.
        seed: The seed of the run.
        date: The day of the run, such as ``1 May 2026``.
        machine: The machine and its versions.
        counts: The counters.
        latencies: Median and 99th percentile of each route in ms, out of faults and in faults.
        memory: The workers' memory in MiB: at the start, at the end, the largest growth, and its seconds.
    """

    store: str
    seconds: float
    seed: int
    date: str
    machine: str
    counts: Mapping[str, int]
    latencies: Mapping[str, Sequence[float]]
    memory: Sequence[float]

    def failed(self) -> list[str]:
        """Return the figures that must be zero and are not."""
        return [name for name in MUST_BE_ZERO if self.counts.get(name)]

    def save(self, path: Path) -> None:
        """Write them to a file."""
        path.write_text(json.dumps(asdict(self), indent=1, sort_keys=True) + "\n", encoding="utf-8")


def read_figures(path: Path) -> Figures:
    """Return the figures of a file."""
    return Figures(**json.loads(path.read_text(encoding="utf-8")))


def figures_of(
    journal: Journal, store: str, seconds: float, seed: int, memory: Sequence[float], version: str
) -> Figures:
    """Return the figures of a run that is over.

    Args:
        journal: The run's journal.
        store: The store.
        seconds: The time with load and faults.
        seed: The seed.
        memory: See :class:`Figures`.
        version: The store's name and version.
    """
    today = datetime.datetime.now(datetime.UTC)
    latencies = {
        route: [
            round(journal.percentile(route, share, disturbed)[0], 1)
            for disturbed in (False, True)
            for share in (0.5, 0.99)
        ]
        for route in ROUTES
    }
    machine = f"{_machine()}, {version}"
    date = f"{today.day} {today:%B %Y}"
    return Figures(store, seconds, seed, date, machine, dict(journal.counts), latencies, list(memory))


def _machine() -> str:
    """Return the processors, the memory and the Python of this machine."""
    processors = os.cpu_count() or 1
    found = re.search(r"^model name\s*: (.*)", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    model = f" ({found[1].strip()})" if found else ""
    memory = round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30)
    return f"{processors} processors{model}, {memory} GiB, Linux, Python {platform.python_version()}"
