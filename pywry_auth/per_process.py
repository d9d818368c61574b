"""Values that each process makes for itself."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar
from weakref import ReferenceType, ref

_T = TypeVar("_T")


class PerProcess(Generic[_T]):
    """A value, such as a lock, that each process makes at its first use.

    A server may create the application, and only then start its workers with a fork. A worker would get a
    copy of each lock, perhaps as a thread held it, but no copy of this thread. gevent replaces locks and
    threads in each worker, so a lock from before would stop all of its requests. Therefore objects of the
    application keep their locks, threads and connections in such a value.

    Args:
        make: Makes the value. Threads that ask at the same moment may all call it; they get the same result.
    """

    def __init__(self, make: Callable[[], _T]) -> None:
        self._make = make
        self._made: dict[int, _T] = {}

    def __call__(self) -> _T:
        """Return the value of the current process."""
        process = os.getpid()
        try:
            return self._made[process]
        except KeyError:
            return self._made.setdefault(process, self._make())  # this call is atomic


class OncePerProcess:
    """Tells the first call in a process from later ones, without a lock."""

    def __init__(self) -> None:
        self._calls: dict[tuple[int, Hashable], object] = {}

    def is_first(self, key: Hashable = None) -> bool:
        """Return whether this call is the first one in this process.

        Args:
            key: Calls with different keys are independent of each other.
        """
        mine = object()
        return self._calls.setdefault((os.getpid(), key), mine) is mine


class Living(Generic[_T]):
    """The objects of one kind that exist, for any number of threads.

    It keeps none of them alive, and has no lock, because it is used before a server's fork.
    """

    def __init__(self) -> None:
        self._references: dict[object, ReferenceType[_T]] = {}

    def add(self, each: _T) -> None:
        """Add an object."""
        references, key = self._references, object()
        references[key] = ref(each, lambda _: references.pop(key, None))

    def all(self) -> list[_T]:
        """Return the objects that exist."""
        found = (reference() for reference in self._references.copy().values())  # copy() is atomic
        return [each for each in found if each is not None]
