"""Measurements: watchers see each call, and a failing watcher changes nothing."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator

import pytest

from pywry_auth.measures import Finish, Measure, Watcher, happened, measured, unwatch, watch


class Recorder:
    """A watcher that keeps each call that has ended."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.ended: list[Measure] = []

    def look(self, measure: Measure) -> Finish:
        self.begun.append(measure.operation)
        return self.ended.append


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    recorder = Recorder()
    watch(recorder.look)
    yield recorder
    unwatch(recorder.look)


def test_a_watcher_sees_begin_and_end_of_a_call(recorder: Recorder) -> None:
    with measured("provider", "exchange", "google", method="POST") as measure:
        assert recorder.begun == ["exchange"]
        assert recorder.ended == []
        measure.facts["status"] = 200
    (seen,) = recorder.ended
    assert (seen.kind, seen.target, seen.outcome) == ("provider", "google", "ok")
    assert seen.facts == {"method": "POST", "status": 200}
    assert seen.seconds > 0


def test_an_error_is_a_failed_call_unless_the_block_says_more(recorder: Recorder) -> None:
    def fail(outcome: str = "") -> None:
        with measured("store", "get") as measure:
            measure.outcome = outcome or measure.outcome
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    with pytest.raises(KeyError):
        fail("unavailable")
    assert [each.outcome for each in recorder.ended] == ["failed", "unavailable"]


def test_a_fact_without_duration_is_told_too(recorder: Recorder) -> None:
    happened("refusal", "invalid_state")
    assert [(each.kind, each.operation) for each in recorder.ended] == [("refusal", "invalid_state")]


def test_a_watcher_is_called_once_for_each_call(recorder: Recorder) -> None:
    """Each application of a process adds the same watcher."""
    watch(recorder.look)
    happened("refusal", "invalid_state")
    assert len(recorder.ended) == 1


def test_the_watcher_that_begins_last_ends_first() -> None:
    """So that a span inside another one ends before it."""
    order: list[str] = []

    def watcher(name: str) -> Watcher:
        return lambda measure: lambda ended: order.append(name)

    watchers = [watcher("outer"), watcher("inner")]
    for each in watchers:
        watch(each)
    try:
        happened("refusal", "invalid_state")
    finally:
        for each in watchers:
            unwatch(each)
    assert order == ["inner", "outer"]


def test_without_a_watcher_nothing_is_measured() -> None:
    recorder = Recorder()
    watch(recorder.look)
    unwatch(recorder.look)
    unwatch(recorder.look)
    with measured("store", "get") as measure:
        measure.outcome = "unavailable"
    assert recorder.begun == []


_UNWATCHED = """
from pywry_auth.measures import WATCHERS, measured
with measured("store", "get") as first, measured("store", "put") as second:
    first.outcome = "unavailable"
    print(len(WATCHERS), second.outcome)
"""


def test_blocks_without_a_watcher_share_no_outcome() -> None:
    """In a process of its own, because other tests may have left watchers here."""
    run = subprocess.run(
        [sys.executable, "-c", _UNWATCHED], capture_output=True, text=True, check=True, timeout=60
    )
    assert run.stdout == "0 ok\n"


def _fails_at_the_begin(measure: Measure) -> Finish | None:
    raise ValueError("a watcher's own fault")


def _fails_at_the_end(measure: Measure) -> Finish | None:
    return _fails_at_the_begin


@pytest.mark.parametrize("watcher", [_fails_at_the_begin, _fails_at_the_end])
def test_a_failing_watcher_is_logged_once_and_changes_nothing(
    watcher: Watcher, recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    watch(watcher)
    try:
        with caplog.at_level(logging.ERROR, "pywry_auth"):
            for _ in range(3):
                with measured("store", "get") as measure:
                    measure.outcome = "unavailable"
    finally:
        unwatch(watcher)
    assert [each.outcome for each in recorder.ended] == ["unavailable"] * 3
    assert [record.message for record in caplog.records] == [
        "a watcher of measurements failed, which changes nothing for users"
    ]
