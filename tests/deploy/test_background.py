"""Work in the background: a thread exists only while work is left."""

from __future__ import annotations

import gc
import logging
import threading
import time
from collections.abc import Callable

import pytest

from pywry_auth.deploy.background import Retries
from pywry_auth.exceptions import StoreUnavailable
from tests.waiting import eventually


class Work:
    """Work with scripted results."""

    def __init__(self, *results: Callable[[], float | None]) -> None:
        self.results = list(results)
        self.calls = 0
        self.threads: set[int] = set()

    def run(self) -> float | None:
        self.calls += 1
        self.threads.add(threading.get_ident())
        return self.results.pop(0)() if self.results else None


_before: set[threading.Thread] = set()
"""The threads that other tests of this process left; their work may take hours."""


def running() -> bool:
    return any(thread.name == "pywry-auth-retries" for thread in set(threading.enumerate()) - _before)


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    _before.update(threading.enumerate())
    monkeypatch.setattr("pywry_auth.deploy.background._SHORTEST_PAUSE", 0.02)


def soon() -> float:
    return time.time()


def fails() -> float:
    raise StoreUnavailable("The store is down.")


def test_the_thread_ends_with_the_work() -> None:
    work = Work(soon, soon)
    Retries(work.run).wake()
    assert eventually(lambda: work.calls == 3 and not running())
    assert threading.get_ident() not in work.threads


def test_work_that_fails_is_tried_again() -> None:
    work = Work(fails, fails)
    Retries(work.run).wake()
    assert eventually(lambda: work.calls == 3 and not running())


def fails_otherwise() -> float:
    raise StoreUnavailable("The store is full.")


def test_each_cause_of_an_outage_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """An outage may last for hours, with an attempt every few seconds. The next outage is logged again."""
    caplog.set_level(logging.INFO, "pywry_auth.deploy")
    outage = (fails, fails, fails_otherwise, fails, fails_otherwise)
    work = Work(*outage, soon, soon, fails)
    Retries(work.run).wake()
    assert eventually(lambda: work.calls == 9 and not running())
    failed, again = (
        "work in the background failed and is tried again: ",
        "work in the background succeeds again",
    )
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", f"{failed}The store is down."),
        ("WARNING", f"{failed}The store is full."),
        ("INFO", again),
        ("WARNING", f"{failed}The store is down."),
        ("INFO", again),
    ]


def test_an_unexpected_error_does_not_end_the_retries(caplog: pytest.LogCaptureFixture) -> None:
    """It can come from a provider class of the application, and its text can quote a token. [T31]"""
    work = Work(*[lambda: float("canary-token")] * 2)
    Retries(work.run).wake()
    assert eventually(lambda: work.calls == 3 and not running())
    assert caplog.text.count("ValueError") == 1
    assert "canary" not in caplog.text


def test_many_calls_start_one_thread() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def first() -> None:
        begun.set()
        assert go_on.wait(10)

    work = Work(first)
    retries = Retries(work.run)
    retries.wake()
    assert begun.wait(10)
    for _ in range(50):
        retries.wake()
    go_on.set()
    assert eventually(lambda: not running())
    assert work.calls == 2, "once more, because work may have come in the meantime"
    assert len(work.threads) == 1


def test_much_work_causes_few_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each attempt may read the whole queue."""
    monkeypatch.setattr("pywry_auth.deploy.background._SHORTEST_PAUSE", 0.2)
    work = Work(*[lambda: time.time()] * 3)
    retries = Retries(work.run)
    ends = time.monotonic() + 0.3
    while time.monotonic() < ends:
        retries.wake()
    assert work.calls <= 3
    work.results.clear()
    assert eventually(lambda: not running())


def test_a_look_starts_a_thread_at_most_once_a_minute() -> None:
    """Another process may have left work. [S7]"""
    work = Work()
    retries = Retries(work.run)
    for _ in range(5):
        retries.look()
        assert eventually(lambda: not running())
    assert work.calls == 1


def test_the_thread_does_not_keep_the_application_alive() -> None:
    work = Work(soon)
    retries = Retries(work.run)
    del work
    gc.collect()
    retries.wake()
    assert eventually(lambda: not running())
