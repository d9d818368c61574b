"""Signals when a thread waits for another thread, so that tests need not guess."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Container
from concurrent.futures import Future
from contextlib import suppress
from types import ModuleType
from typing import Any

import pytest


def count_waiters(monkeypatch: pytest.MonkeyPatch) -> threading.Semaphore:
    """Return a semaphore that is released whenever a thread requests the result of a Future."""
    waiters = threading.Semaphore(0)
    original = Future.result

    def result(future: Future[Any], timeout: float | None = None) -> Any:
        waiters.release()
        return original(future, timeout)

    monkeypatch.setattr(Future, "result", result)
    return waiters


def count_waiters_in(monkeypatch: pytest.MonkeyPatch, module: ModuleType) -> threading.Semaphore:
    """Return a semaphore that is released whenever code of a module waits for a condition.

    Until the thread waits it holds the condition's lock, so that the test cannot be too early.
    """
    waiters = threading.Semaphore(0)
    original = threading.Condition.wait

    def wait(condition: threading.Condition, timeout: float | None = None) -> bool:
        if sys._getframe(1).f_code.co_filename == module.__file__:
            waiters.release()
        return original(condition, timeout)

    monkeypatch.setattr(threading.Condition, "wait", wait)
    return waiters


def eventually(condition: Callable[[], bool], seconds: float = 10) -> bool:
    """Wait until a condition holds, and return whether it does."""
    ends = time.monotonic() + seconds
    while not condition() and time.monotonic() < ends:
        time.sleep(0.02)
    return condition()


def await_threads(*names: str, but: Container[threading.Thread] = (), seconds: float = 30) -> None:
    """Wait until the present threads have ended whose name begins with one of some texts.

    Args:
        names: The beginnings of the names.
        but: Threads that may stay.
        seconds: The longest wait.
    """
    ends = time.monotonic() + seconds
    for thread in threading.enumerate():
        while thread.name.startswith(names) and thread not in but and thread in threading.enumerate():
            assert time.monotonic() < ends, f"{thread.name} does not end"
            with suppress(RuntimeError):  # it is only starting, and cannot be joined yet
                thread.join(max(0.0, ends - time.monotonic()))
