"""The figures of one run, and a log of its faults and violations."""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

MUST_BE_ZERO = (
    "let in",
    "lost",
    "signed out wrongly",
    "grants without owner",
    "burned families",
    "tokens kept after everywhere",
    "unexpected answers",
    "other 5xx",
    "503 without Retry-After",
    "503 without a fault",
    "no answer without a cause",
    "workers ended without a fault",
    "workers that grew too much",
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

LOST_LOGINS: Mapping[str, tuple[str, ...]] = {
    "Redis forgot the begun sign-in, or its client had to send the redemption again": (
        "redis: primary killed, replica promoted",
        "redis: primary stopped",
        "redis: primary killed and restarted at once",
        "redis: fails over on command",
        "redis: drops connections",
    ),
}
"""The consequences for a sign-in that is under way, with the faults that have them."""

_LOGGED = 12  # violations of one kind
_STARTING = 8.0  # seconds with load in which the workers still import modules
_COOLING = 2.0  # seconds after a fault in which a slow answer still counts as its consequence

_PATIENCE = 2.0  # seconds that the site lets a request wait for another one
_AROUND = 1.0  # seconds around an answer that took longer

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


@dataclass(frozen=True)
class Refusal:
    """An answer with 503 outside all faults.

    Args:
        start: When the request was sent, in monotonic seconds.
        end: When its answer arrived.
        text: The user and the request.
        history: The user's latest requests.
    """

    start: float
    end: float
    text: str
    history: Sequence[str]


@dataclass
class Journal:
    """Counters, latencies, faults and violations; any thread may write.

    The lock guards all members but the path.

    Args:
        path: The log file.
        started: Monotonic time in seconds; the log counts from there.
        loaded: When the load began, in monotonic seconds; 0 for the same time.
    """

    path: Path
    started: float = field(default_factory=time.monotonic)
    loaded: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    faults: list[Fault] = field(default_factory=list)
    kills: list[tuple[float, int]] = field(default_factory=list)
    stops: list[tuple[float, int]] = field(default_factory=list)
    reloaded: set[int] = field(default_factory=set)
    _slow: list[tuple[float, float]] = field(default_factory=list)
    _refusals: list[Refusal] = field(default_factory=list)
    _latencies: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def count(self, name: str, number: int = 1) -> None:
        """Add to a counter."""
        with self._lock:
            self.counts[name] += number

    def took(self, name: str, start: float, end: float) -> None:
        """Record the latency of one request, except at the start, when workers still import modules."""
        if self._is_starting(start):
            return
        with self._lock:
            self._latencies[name].append((start, end))

    def answered(self, start: float, end: float) -> None:
        """Record a request with a result: a very slow one shows that the machine is too busy."""
        if end - start > _PATIENCE:
            with self._lock:
                self._slow.append((start, end))

    def refused(self, refusal: Refusal) -> None:
        """Record an answer with 503, unless it belongs to a fault."""
        if not self.may_refuse(refusal.start, refusal.end):
            with self._lock:
                self._refusals.append(refusal)

    def conclude(self) -> None:
        """Count the answers with 503 that neither a fault nor a busy machine explains."""
        for each in self._refusals:
            if any(a - _AROUND <= each.end and b + _AROUND >= each.start for a, b in self._slow):
                self.count("503 on a busy machine")
            else:
                span = f"{self.clock(each.start)} to {self.clock(each.end)}"
                self.violation("503 without a fault", f"{each.text}, {span}", each.history)

    def _is_starting(self, moment: float) -> bool:
        return moment < max(self.started, self.loaded) + _STARTING

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

    def stopped(self, pid: int) -> None:
        """Record that a worker is about to be stopped."""
        with self._lock:
            self.stops.append((time.monotonic(), pid))

    def stopped_between(self, start: float, end: float, worker: str) -> bool:
        """Return whether a worker was stopped in a span of time.

        Args:
            start: Monotonic time in seconds.
            end: Monotonic time in seconds.
            worker: The worker's process ID.
        """
        with self._lock:
            return any(start <= moment <= end and worker == str(pid) for moment, pid in self.stops)

    def reloads(self, pids: Iterable[int]) -> None:
        """Record that workers are about to be told to end."""
        with self._lock:
            self.reloaded.update(pids)

    def has_ended(self, pid: int) -> bool:
        """Return whether a fault ended a worker, or told it to end."""
        with self._lock:
            return pid in self.reloaded or any(pid == killed for _, killed in self.kills)

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

    def may_refuse(self, start: float, end: float) -> bool:
        """Return whether the site may refuse a request with 503.

        It may during a fault, shortly after it, and while its workers start.

        Args:
            start: When the request was sent, in monotonic seconds.
            end: When its answer arrived.
        """
        return self._is_starting(start) or self.disturbed(start, end, consequences=RECOVERY)

    def consequence(
        self, start: float, end: float, consequences: Mapping[str, tuple[str, ...]] = UNAVOIDABLE
    ) -> str:
        """Return the consequence of a fault in a span of time; empty if no fault has one.

        Args:
            start: Monotonic time in seconds.
            end: Monotonic time in seconds.
            consequences: The possible ones, with the faults that have them.
        """
        for text, kinds in consequences.items():
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
