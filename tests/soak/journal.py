"""The figures of one run, and a log of its faults and violations."""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

MUST_BE_ZERO = (
    "let in",
    "lost",
    "signed out wrongly",
    "grants without owner",
    "burned families",
    "other 5xx",
    "503 without Retry-After",
    "driver: errors",
)
"""The figures that make a run fail unless they are zero."""

UNAVOIDABLE: Mapping[str, tuple[str, ...]] = {
    "Redis failed over, and its new primary did not have the refreshed token": (
        "redis: primary killed, replica promoted",
        "redis: primary stopped",
        "redis: primary killed and restarted at once",
        "redis: fails over on command",
    ),
    "PostgreSQL ended the connection that held the lock of the refresh": (
        "postgres: killed and restarted",
        "postgres: shut down and restarted",
        "postgres: stopped",
        "postgres: drops connections",
        "postgres: no connection left",
    ),
}
"""The consequences for a refresh that is under way, with the faults that have them."""

_LOGGED = 12  # violations of one kind
_STARTING = 6.0  # seconds
_COOLING = 2.0  # seconds after a fault in which a slow answer still counts as its consequence

RECOVERY = 6.0
"""Seconds after a fault in which the site may refuse requests: it spares a provider that did not answer."""


@dataclass
class Fault:
    """One injected fault.

    Args:
        kind: Its name, for example ``redis: killed``.
        start: Monotonic time in seconds.
        end: Monotonic time in seconds; None while it lasts.
    """

    kind: str
    start: float
    end: float | None = None


@dataclass
class Journal:
    """Counters, latencies, faults and violations; any thread may write.

    The lock guards all members but the path.

    Args:
        path: The log file.
        started: Monotonic time in seconds; the log counts from there.
    """

    path: Path
    started: float = field(default_factory=time.monotonic)
    counts: Counter[str] = field(default_factory=Counter)
    faults: list[Fault] = field(default_factory=list)
    kills: list[tuple[float, int]] = field(default_factory=list)
    _latencies: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def count(self, name: str, number: int = 1) -> None:
        """Add to a counter."""
        with self._lock:
            self.counts[name] += number

    def took(self, name: str, start: float, end: float) -> None:
        """Record the latency of one request, except at the start, when workers still import modules."""
        if start < self.started + _STARTING:
            return
        with self._lock:
            self._latencies[name].append((start, end))

    def write(self, text: str) -> None:
        """Add a line to the log."""
        with self._lock, self.path.open("a", encoding="utf-8") as log:
            log.write(f"{self.clock(time.monotonic())} {text}\n")

    def clock(self, moment: float) -> str:
        """Return a monotonic time as seconds since the start."""
        return f"{moment - self.started:8.3f}"

    def violation(self, name: str, text: str, history: Iterable[str] = ()) -> None:
        """Count and log a violation, and the user's history for the first ones of each kind."""
        label = "VIOLATION" if name in MUST_BE_ZERO else "noteworthy"
        with self._lock:
            self.counts[name] += 1
            if self.counts[name] > _LOGGED:
                self.write(f"{label} {name}: {text}")
                return
            recent = [
                f"{self.clock(fault.start)} to {self.clock(fault.end) if fault.end else '...'} {fault.kind}"
                for fault in self.faults[-8:]
            ]
            lines = [f"{label} {name}: {text}", *recent, *history]
            self.write("\n    ".join(lines))

    def begin(self, kind: str) -> Fault:
        """Record the begin of a fault."""
        fault = Fault(kind, time.monotonic())
        with self._lock:
            self.faults.append(fault)
            self.counts[f"fault {kind}"] += 1
        self.write(f"fault begins: {kind}")
        return fault

    def end(self, fault: Fault) -> None:
        """Record the end of a fault."""
        with self._lock:
            fault.end = time.monotonic()
        self.write(f"fault ends: {fault.kind}")

    def killed(self, pid: int) -> None:
        """Record that a worker is about to be killed."""
        with self._lock:
            self.kills.append((time.monotonic(), pid))

    def killed_between(self, start: float, end: float, worker: str = "") -> bool:
        """Return whether a worker was killed in a span of time.

        Args:
            start: Monotonic time in seconds.
            end: Monotonic time in seconds.
            worker: The worker's process ID; empty for any worker.
        """
        with self._lock:
            return any(start <= moment <= end and worker in ("", str(pid)) for moment, pid in self.kills)

    def disturbed(self, start: float, end: float, kind: str = "", consequences: float = _COOLING) -> bool:
        """Return whether a fault, or its immediate consequences, overlaps a span of time.

        Args:
            start: Monotonic time in seconds.
            end: Monotonic time in seconds.
            kind: The begin of the fault's name; empty for any fault.
            consequences: Seconds after a fault that belong to it.
        """
        with self._lock:
            return any(
                fault.start <= end
                and (fault.end is None or fault.end + consequences >= start)
                and fault.kind.startswith(kind)
                for fault in self.faults
            )

    def consequence(self, start: float, end: float) -> str:
        """Return the consequence of a fault for a refresh in a span of time; empty if no fault has one.

        Args:
            start: Monotonic time in seconds.
            end: Monotonic time in seconds.
        """
        for text, kinds in UNAVOIDABLE.items():
            if any(self.disturbed(start, end, kind, consequences=0.0) for kind in kinds):
                return text
        return ""

    def percentile(self, name: str, share: float, disturbed: bool) -> tuple[float, int]:
        """Return a percentile in milliseconds, and the number of its requests.

        Args:
            name: The kind of request.
            share: For example 0.99.
            disturbed: Whether to look at requests during faults, or at the others.
        """
        with self._lock:
            spans = list(self._latencies[name])
        taken = sorted(end - start for start, end in spans if self.disturbed(start, end) is disturbed)
        if not taken:
            return 0.0, 0
        return 1000 * taken[min(len(taken) - 1, int(share * len(taken)))], len(taken)

    def failed(self) -> list[str]:
        """Return the figures that must be zero and are not."""
        return [name for name in MUST_BE_ZERO if self.counts[name]]
