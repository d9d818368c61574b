"""Many threads that begin at one moment."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

_T = TypeVar("_T")


def together(number: int, act: Callable[[int], _T]) -> list[_T]:
    """Call ``act(0)``, ``act(1)`` … in threads at the same moment.

    Returns the results in their order.
    """
    barrier = threading.Barrier(number, timeout=30)

    def run(index: int) -> _T:
        barrier.wait()
        return act(index)

    with ThreadPoolExecutor(number) as pool:
        return list(pool.map(run, range(number)))
