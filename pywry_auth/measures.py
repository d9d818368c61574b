"""Measurements of calls, for metrics and traces.

Code that makes a call measures it with :func:`measured`. Without a watcher, this costs one check.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Literal

_logger = logging.getLogger("pywry_auth.measures")

Kind = Literal["provider", "store", "step", "refusal", "ending"]
"""A call to a provider or a store, a step of the sign-in, a refused request, or the end of a session.

Ends that are events of :mod:`pywry_auth.flow.events` are not measured.
"""

OK = "ok"
FAILED = "failed"
"""The outcome of a call that raised an error without a more exact outcome."""


@dataclass(slots=True)
class Measure:
    """One call.

    No member contains a secret, a user or a URL.

    Args:
        kind: The kind of the call.
        operation: Name of the call, from a closed set for each kind.
        target: Name of the provider, or of the storage system.
        facts: Further facts for traces: ``method``, ``host``, ``port`` and ``status`` of an HTTP request.
        outcome: ``ok``, or one word from a closed set for the failure.
        seconds: The duration, as soon as the call has ended.
    """

    kind: Kind
    operation: str
    target: str = ""
    facts: dict[str, str | int] = field(default_factory=dict)
    outcome: str = OK
    seconds: float = 0.0


Finish = Callable[[Measure], object]
"""Receives the measure of a call that has ended."""
Watcher = Callable[[Measure], Finish | None]
"""Receives the measure of a call that begins, and returns a function for its end, or None."""

# Each change is one atomic step of a dictionary, so that there is no lock, which a fork could copy while a
# thread holds it.
_watchers: dict[Watcher, None] = {}
_reported: dict[Watcher, None] = {}  # those of which a failure is in the log

WATCHERS: Mapping[Watcher, None] = _watchers
"""The watchers. Code that is called very often tests it before it makes a measure."""


def watch(watcher: Watcher) -> None:
    """Call ``watcher`` for every further call of this process and of its later forks.

    Adding it twice has no effect. It is called in the thread of the call, perhaps with a lock held, so it
    must be quick. If it fails, the failure is logged once, and the call goes on.

    Args:
        watcher: The watcher.
    """
    _watchers.setdefault(watcher)


def unwatch(watcher: Watcher) -> None:
    """Remove a watcher; do nothing if it was never added."""
    _watchers.pop(watcher, None)
    _reported.pop(watcher, None)


def measured(
    kind: Kind, operation: str, target: str = "", **facts: str | int
) -> AbstractContextManager[Measure]:
    """Measure the block as one call.

    The block may set the outcome and add facts. If it raises an error without an outcome, that is
    ``failed``.

    Args:
        kind: See :class:`Measure`.
        operation: See there.
        target: See there.
        facts: See there.
    """
    return _Watched(Measure(kind, operation, target, facts)) if _watchers else _UNWATCHED


def happened(kind: Kind, operation: str) -> None:
    """Tell the watchers of something without a duration.

    Args:
        kind: See :class:`Measure`.
        operation: See there.
    """
    if _watchers:
        with measured(kind, operation):
            pass


class _Unwatched:
    """A block that no watcher measures."""

    def __enter__(self) -> Measure:
        # A new value for each block: its outcome belongs to no other thread.
        return Measure("step", "")

    def __exit__(self, *raised: object) -> None:
        """Do nothing."""


_UNWATCHED = _Unwatched()


class _Watched:
    """A block that the watchers of its beginning measure.

    Args:
        measure: The measure.
    """

    __slots__ = ("_begun", "_finishes", "_measure")

    def __init__(self, measure: Measure) -> None:
        self._measure = measure
        self._finishes: list[tuple[Watcher, Finish]] = []
        self._begun = 0.0

    def __enter__(self) -> Measure:
        for watcher in tuple(_watchers):
            finish = _call(watcher, watcher, self._measure)
            if callable(finish):
                self._finishes.append((watcher, finish))
        self._begun = time.perf_counter()
        return self._measure

    def __exit__(self, kind: type[BaseException] | None, *raised: object) -> None:
        measure = self._measure
        measure.seconds = time.perf_counter() - self._begun
        if kind is not None and measure.outcome == OK:
            measure.outcome = FAILED
        # The last one first: a span inside another one ends first.
        for watcher, finish in reversed(self._finishes):
            _call(watcher, finish, measure)


def _call(watcher: Watcher, function: Callable[[Measure], object], measure: Measure) -> object:
    try:
        return function(measure)
    except Exception:
        if watcher not in _reported:
            _reported.setdefault(watcher)
            _logger.exception("a watcher of measurements failed, which changes nothing for users")
        return None
