"""The soak test notices workers that grow without end, and workers that end without a fault."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.soak.journal import Journal
from tests.soak.memory import MOST_GROWTH, Memory

_GREW = "workers that grew too much"
_ENDED = "workers ended without a fault"


@dataclass
class Workers:
    """Workers and their memory in MiB, as a test wants them."""

    used: dict[int, float] = field(default_factory=lambda: {7: 50.0, 8: 50.0})

    def look_at(self, memory: Memory, now: float, **used: float) -> None:
        """Change the memory of workers, and look."""
        self.used |= {int(pid.removeprefix("worker")): each for pid, each in used.items()}
        memory.look(now)


@pytest.fixture
def workers() -> Workers:
    return Workers()


@pytest.fixture
def memory(workers: Workers) -> Memory:
    """A memory that has seen the workers at second 0."""
    memory = Memory(lambda: list(workers.used), lambda pid: workers.used.get(pid, 0.0))
    memory.look(0)
    return memory


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "log", started=0.0)


@pytest.mark.parametrize(("more", "failed"), [(MOST_GROWTH, []), (MOST_GROWTH + 0.1, [_GREW])])
def test_a_warm_worker_that_grows_beyond_the_limit_fails_the_run(
    memory: Memory, workers: Workers, journal: Journal, more: float, failed: list[str]
) -> None:
    workers.look_at(memory, 21, worker7=80.0)
    workers.look_at(memory, 30, worker7=80.0 + more)
    memory.conclude(journal)
    assert journal.failed() == failed


def test_a_worker_may_grow_while_it_warms_up(memory: Memory, workers: Workers, journal: Journal) -> None:
    workers.look_at(memory, 19, worker7=200.0)
    memory.conclude(journal)
    assert journal.failed() == []
    assert memory.growth() == (0.0, 0.0)


def test_the_growth_of_a_worker_that_has_ended_counts(
    memory: Memory, workers: Workers, journal: Journal
) -> None:
    workers.look_at(memory, 20, worker7=80.0)
    workers.look_at(memory, 30, worker7=180.0)
    journal.killed(7)
    del workers.used[7]
    workers.look_at(memory, 32)
    memory.conclude(journal)
    assert journal.failed() == [_GREW]
    assert memory.growth() == (100.0, 10.0)


def test_a_worker_that_ends_without_a_fault_fails_the_run(
    memory: Memory, workers: Workers, journal: Journal
) -> None:
    del workers.used[7]
    workers.look_at(memory, 2)
    memory.conclude(journal)
    assert journal.failed() == [_ENDED]
    assert journal.counts[_ENDED] == 1
    assert "worker 7" in journal.path.read_text(encoding="utf-8")


@pytest.mark.parametrize("fault", ["killed", "reloaded"])
def test_a_worker_that_a_fault_ends_is_expected_to_end(
    memory: Memory, workers: Workers, journal: Journal, fault: str
) -> None:
    if fault == "killed":
        journal.killed(7)
    else:
        journal.reloads([7])
    del workers.used[7]
    workers.look_at(memory, 2)
    memory.conclude(journal)
    assert journal.failed() == []
