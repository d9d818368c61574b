"""Signals when a thread waits for another thread, so that tests need not guess."""

from __future__ import annotations

import threading
from concurrent.futures import Future
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
