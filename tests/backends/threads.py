"""Many threads that begin at one moment."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

_T = TypeVar("_T")


def together(number: int, act: Callable[[int], _T]) -> list[_T]:
    """Return what ``act(0)``, ``act(1)`` … returned, each in a thread of its own behind one barrier."""
    barrier = threading.Barrier(number, timeout=30)

    def run(index: int) -> _T:
        barrier.wait()
        return act(index)

    with ThreadPoolExecutor(number) as pool:
        return list(pool.map(run, range(number)))
