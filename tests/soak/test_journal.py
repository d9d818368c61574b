"""The figures of the soak test, and the order of its faults."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path

import pytest

from tests.soak.conductor import Conductor
from tests.soak.journal import RECOVERY, Fault, Journal, Refusal


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    """A journal that began at second 0."""
    return Journal(tmp_path / "log", started=0.0)


def test_a_request_is_disturbed_by_a_fault_and_shortly_after_it(journal: Journal) -> None:
    journal.faults.append(Fault("redis: stopped", 10, 12))
    spans = [(8, 9), (9, 11), (11, 11.5), (13, 13.5), (20, 21)]
    assert [journal.disturbed(*span) for span in spans] == [False, True, True, True, False]
    assert not journal.disturbed(11, 12, "gunicorn")


def test_a_fault_that_lasts_disturbs_all_later_requests(journal: Journal) -> None:
    fault = journal.begin("redis: stopped")
    assert journal.disturbed(fault.start + 1, fault.start + 2)


def test_a_site_may_refuse_requests_at_the_start_and_around_faults(journal: Journal) -> None:
    journal.loaded = 5.0
    journal.faults.append(Fault("redis: stopped", 100, 110))
    moments = [(12, True), (14, False), (99, False), (105, True), (110 + RECOVERY, True), (117, False)]
    assert [journal.may_refuse(moment, moment) for moment, _ in moments] == [right for _, right in moments]


@pytest.mark.parametrize(
    ("slow", "failed"),
    [
        ((99, 102), []),
        ((101.5, 104), []),
        ((99, 100.9), ["503 without a fault"]),
        ((90, 98), ["503 without a fault"]),
    ],
)
def test_only_a_machine_that_is_too_slow_at_that_moment_explains_a_503_without_a_fault(
    journal: Journal, slow: tuple[float, float], failed: list[str]
) -> None:
    journal.refused(Refusal(100, 101, "user0: /auth/refresh", ["the first request"]))
    journal.answered(*slow)
    journal.conclude()
    assert journal.failed() == failed
    assert journal.counts["503 on a busy machine"] == (0 if failed else 1)


def test_latencies_are_separate_in_and_out_of_faults(journal: Journal) -> None:
    journal.faults.append(Fault("redis: stopped", 100, 200))
    for number in range(100):
        journal.took("/", 10 + number / 10, 10.01 + number / 10)
        journal.took("/", 110 + number / 10, 110 + number / 10 + number / 1000)
    assert journal.percentile("/", 0.99, disturbed=False) == pytest.approx((10, 100))
    assert journal.percentile("/", 0.99, disturbed=True) == pytest.approx((99, 100))


def test_a_violation_fails_the_run_and_is_logged_with_its_history(journal: Journal) -> None:
    assert journal.failed() == []
    journal.violation("let in", "user0", ["the first request", "the second request"])
    assert journal.failed() == ["let in"]
    assert "the second request" in journal.path.read_text(encoding="utf-8")


def test_every_fault_occurs_before_one_occurs_again(journal: Journal) -> None:
    seen: list[str] = []
    enough = threading.Event()

    def inject(name: str) -> None:
        seen.append(name)
        if len(seen) == 6:
            enough.set()

    faults = [(name, lambda over, name=name: inject(name)) for name in "abc"]
    with Conductor(journal, {"store": faults}, seed=1, pause=(0, 0), longest=0.3, delay=0):
        assert enough.wait(30)
    assert Counter(seen[:3]) == Counter(seen[3:6]) == Counter("abc")
