"""Operations that stop before a given step, and a backend whose calls are the steps."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pywry_auth.backends.base import Backend, Terms, When
from pywry_auth.backends.memory import MemoryBackend
from pywry_auth.exceptions import StoreUnavailable

_T = TypeVar("_T")
_BLOCKED = (
    1.0  # seconds without a step, after which an actor counts as blocked by something other than a lock
)
_PATIENCE = 30.0  # seconds
# A native login calls its store in a worker thread, which has the context of the caller.
_current: ContextVar[Actor | None] = ContextVar("actor", default=None)
_outage: ContextVar[Outage | None] = ContextVar("outage", default=None)


class Deadlock(AssertionError):
    """Two operations wait for each other."""


class Actor:
    """One operation in its own thread, which stops before a given step.

    Only one actor of a schedule runs at a time, so that a schedule always has the same course.

    Args:
        name: The name of the operation.
        act: The operation.
    """

    def __init__(self, name: str, act: Callable[[], Any]) -> None:
        self.name = name
        self.steps: list[str] = []
        self.grants: list[int] = []
        self.result: Any = None
        self.error: BaseException | None = None
        self.finished = False
        self._act = act
        self._until: int | None = None
        self._turn = threading.Event()  # set while the actor may run
        self._quiet = threading.Event()  # set while the actor has stopped
        self._waits = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._started = False

    @staticmethod
    def current() -> Actor | None:
        """Return the actor of this thread; None in other threads."""
        return _current.get()

    def reach(self, step: str) -> None:
        """Stop here if this is the step to stop before; then note the step."""
        if self._until is not None and len(self.steps) >= self._until:
            self._stop()
        self.steps.append(step)

    def wait(self) -> None:
        """Stop until another actor has released a lock."""
        self._waits = True
        self._stop()
        self._waits = False

    def run(self, until: int | None = None, patience: float = _PATIENCE) -> bool:
        """Let the actor run up to a number of steps, or to its end.

        Args:
            until: How many steps the actor makes in total; None for all.
            patience: Seconds without a step after which it counts as waiting.

        Returns:
            Whether it stopped there or ended. Otherwise it waits for another actor.
        """
        if self.finished:
            return True
        self._until, made = until, len(self.steps)
        self._quiet.clear()
        self._turn.set()
        if not self._started:
            self._started = True
            self._thread.start()
        while not self._quiet.wait(patience):
            if made == len(self.steps):
                return False
            made = len(self.steps)  # on a busy machine, a step may be late
        return not self._waits

    def join(self) -> None:
        """Wait for the end of the thread."""
        self._thread.join(_PATIENCE)
        assert not self._thread.is_alive(), f"{self.name} does not end"

    def _run(self) -> None:
        _current.set(self)
        try:
            self.result = self._act()
        except BaseException as error:  # noqa: BLE001 - the oracle reports it
            self.error = error
        finally:
            self.finished = True
            self._quiet.set()

    def _stop(self) -> None:
        self._turn.clear()
        self._quiet.set()
        if not self._turn.wait(_PATIENCE):
            raise Deadlock(f"{self.name} was never continued")


def drive(actor: Actor, until: int | None, other: Actor) -> None:
    """Run an actor up to a step, or to its end.

    If it needs a lock that the other actor holds, the other one runs to its end first.
    """
    if actor.run(until, _BLOCKED):
        return
    if not other.run():
        raise Deadlock(f"{actor.name} and {other.name} wait for each other")
    if not actor.run(until):
        raise Deadlock(f"{actor.name} still waits after the end of {other.name}")


@dataclass
class Outage:
    """A store that fails at one call and at those after it.

    Args:
        at: The number of the first failing call, from 0.
        done: Whether the first failing call takes effect before it fails.
        more: How many later calls fail; none of them takes effect.
        calls: The calls so far.
    """

    at: float
    done: bool = False
    more: float = 0
    calls: list[str] = field(default_factory=list)

    def next(self, call: str) -> tuple[bool, bool]:
        """Return whether a call fails, and whether it takes effect."""
        number = len(self.calls) - self.at
        self.calls.append(call)
        return 0 <= number <= self.more, number < 0 or (number == 0 and self.done) or number > self.more


class SteppedBackend(Backend):
    """Passes each call to another backend, as one step of the thread's actor.

    Args:
        watch: Called after each call that may have changed a record.
        name: Returns the name of a key or group in a step, which is the same in each run.
    """

    shared = False
    local = True

    def __init__(
        self, watch: Callable[[], None] = lambda: None, name: Callable[[str], str] = lambda key: key
    ) -> None:
        self.inner: Backend = MemoryBackend()
        self._watch = watch
        self._name = name
        self.abandoned_locks: list[str] = []

    @contextmanager
    def failing(self, outage: Outage) -> Iterator[Outage]:
        """Let the store fail for this thread, and for those that work for it, while the block runs."""
        before = _outage.set(outage)
        try:
            yield outage
        finally:
            _outage.reset(before)

    def get(self, key: str) -> bytes | None:
        return self._perform("get", key, lambda: self.inner.get(key))

    def put(self, key: str, value: bytes, terms: Terms = Terms()) -> bool:
        stored = self._perform("put", key, lambda: self.inner.put(key, value, terms))
        if stored or terms.when is not When.ABSENT or "lock" not in key:
            return stored
        actor = Actor.current()
        if actor is not None:
            actor.wait()
        elif self.inner.pop(key) is not None:
            self.abandoned_locks.append(key)  # in real life it would expire
        return self.inner.put(key, value, terms)

    def pop(self, key: str, expected: bytes | None = None, *, group: str | None = None) -> bytes | None:
        return self._perform("pop", key, lambda: self.inner.pop(key, expected, group=group))

    def members(self, group: str) -> list[str]:
        return self._perform("members", group, lambda: self.inner.members(group))

    def count(self, key: str, window: float) -> int:
        return self._perform("count", key, lambda: self.inner.count(key, window))

    def prune(self, kind: str, within: float = 0.0) -> int:
        return self._perform("prune", kind, lambda: self.inner.prune(kind, within))

    def close(self) -> None:
        self.inner.close()

    @contextmanager
    def replicated(self) -> Iterator[None]:
        """Begin and end with a call that can fail. It is no step, because it changes no record."""
        self._answer("replicated begins", lambda: None)
        yield
        self._answer("replicated ends", lambda: None)

    def _perform(self, operation: str, key: str, call: Callable[[], _T]) -> _T:
        step = f"{operation} {self._name(key)}"
        actor = Actor.current()
        if actor is not None:
            actor.reach(step)
        return self._answer(step, call)

    def _answer(self, step: str, call: Callable[[], _T]) -> _T:
        outage = _outage.get()
        fails, works = outage.next(step) if outage else (False, True)
        if works:
            result = call()
            if step.startswith(("put ", "pop ")):
                self._watch()
        if fails:
            raise StoreUnavailable("The store is down: a simulated failure.")
        return result
