"""The stores of the site, each with its faults."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from threading import Event
from typing import Protocol

Inject = Callable[[Event], None]
"""Injects a fault until the event is set, and returns when the store is whole again."""

EVERY = 0.05
"""Seconds between two looks at a server that offers no event to wait for."""


class Place(Protocol):
    """A store for the site's records.

    ``faults`` maps the name of each fault to a function that injects it until the given event is set.
    """

    kind: str
    faults: Mapping[str, Inject]

    @property
    def version(self) -> str:
        """The name and version of the store's program."""

    @property
    def where(self) -> str:
        """The path or URL."""

    @property
    def settings(self) -> dict[str, str]:
        """The settings of a site that uses the store."""


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Stop a process for the block."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def repeat(over: Event, act: Callable[[], object], pause: float = EVERY) -> None:
    """Act until the event is set, at least once.

    Args:
        over: Ends it.
        act: The action.
        pause: The time in seconds between two actions.
    """
    while True:
        act()
        if over.wait(pause):
            return


def wait_until(condition: Callable[[], bool], seconds: float, text: str) -> None:
    """Wait until a server is in a state.

    Args:
        condition: Whether it is.
        seconds: The longest wait.
        text: The error's text.

    Raises:
        RuntimeError: The time is over.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(text)
        time.sleep(EVERY)
