"""SingleFlight: callers at the same time share one outcome, and no call waits for itself."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from pywry_auth.exceptions import AuthenticationError, ErrorCode, TokenError
from pywry_auth.single_flight import SingleFlight
from tests.waiting import count_waiters

_SECONDS = 20


class _Asker(threading.Thread):
    """Asks for one run, and keeps what came of it."""

    def __init__(self, flight: SingleFlight[Any], work: Callable[[], Any]) -> None:
        super().__init__()
        self._flight, self._work = flight, work
        self.result: Any = None
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self.result = self._flight.run(self._work)
        except BaseException as error:  # noqa: BLE001 - it is what the test asks about
            self.error = error


def _one_run_for_all(
    monkeypatch: pytest.MonkeyPatch, end: Callable[[], Any], askers: int = 8
) -> tuple[SingleFlight[Any], list[_Asker]]:
    """Let all ask while the first one's work is under way, and return them once they have their answer."""
    flight = SingleFlight[Any](TokenError)
    waiters = count_waiters(monkeypatch)
    started, may_end = threading.Event(), threading.Event()

    def work() -> Any:
        started.set()
        assert may_end.wait(_SECONDS)
        return end()

    leader = _Asker(flight, work)
    assert started.wait(_SECONDS)
    others = [_Asker(flight, lambda: pytest.fail("it ran twice")) for _ in range(askers - 1)]
    for _ in others:
        assert waiters.acquire(timeout=_SECONDS)
    may_end.set()
    for thread in (leader, *others):
        thread.join(_SECONDS)
    return flight, [leader, *others]


def test_all_who_ask_meanwhile_get_the_one_result(monkeypatch: pytest.MonkeyPatch) -> None:
    result = object()
    _, askers = _one_run_for_all(monkeypatch, lambda: result)
    assert [asker.error for asker in askers] == [None] * 8
    assert all(asker.result is result for asker in askers)


def test_all_who_ask_meanwhile_get_the_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    error = TokenError("the provider is away", error=ErrorCode.PROVIDER_UNREACHABLE)

    def fail() -> None:
        raise error

    flight, askers = _one_run_for_all(monkeypatch, fail)
    assert askers[0].error is error
    assert {(type(asker.error), str(asker.error)) for asker in askers} == {(TokenError, str(error))}
    assert {asker.error.error for asker in askers if isinstance(asker.error, TokenError)} == {error.error}
    assert len({id(asker.error) for asker in askers}) == 8, "an exception has one traceback, so one thread"
    assert flight.run(lambda: "the next run") == "the next run"


def test_ctrl_c_is_for_the_thread_it_came_to_and_the_others_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    flight, (leader, *others) = _one_run_for_all(monkeypatch, interrupt)
    assert type(leader.error) is KeyboardInterrupt
    for other in others:
        assert isinstance(other.error, TokenError)
        assert other.error.error == "cancelled"
    assert flight.run(lambda: "the next run") == "the next run"


def test_work_that_asks_for_itself_is_refused_instead_of_waiting_for_ever() -> None:
    flight = SingleFlight[str](TokenError)
    with pytest.raises(AuthenticationError, match="wait for itself"):
        flight.run(lambda: flight.run(lambda: "never"))
    assert flight.run(lambda: "the next run") == "the next run"


def test_who_asks_later_gets_a_run_of_their_own() -> None:
    flight = SingleFlight[int](TokenError)
    numbers = iter((1, 2))
    assert [flight.run(lambda: next(numbers)) for _ in range(2)] == [1, 2]


def test_a_result_at_hand_makes_the_run_unnecessary() -> None:
    flight = SingleFlight[str](TokenError)
    assert flight.run(lambda: pytest.fail("it ran"), lambda: "at hand") == "at hand"
    assert flight.run(lambda: "the run", lambda: None) == "the run"


def test_of_many_callers_at_any_time_only_one_does_lasting_work() -> None:
    """Also a caller that arrives just after the run has ended."""
    flight, runs, kept = SingleFlight[str](TokenError), [], []

    def work() -> str:
        runs.append(1)
        kept.append("kept")
        return kept[0]

    def use(_: int) -> str:
        return flight.run(work, lambda: kept[0] if kept else None)

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(use, range(500))) == {"kept"}
    assert len(runs) == 1


def test_no_two_runs_overlap_and_the_lock_is_free_while_one_works() -> None:
    flight, inside, alone = SingleFlight[None](TokenError), threading.Semaphore(1), []

    def work() -> None:
        alone.append(inside.acquire(blocking=False))
        inside.release()

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: flight.run(work), range(200)))
    assert set(alone) == {True}


def test_a_failure_is_not_remembered() -> None:
    flight = SingleFlight[str](TokenError)
    with pytest.raises(KeyboardInterrupt):
        flight.run(_interrupt)
    with pytest.raises(TokenError):
        flight.run(_fail)
    assert flight.run(lambda: "the next run") == "the next run"


def _interrupt() -> str:
    raise KeyboardInterrupt


def _fail() -> str:
    raise TokenError("the provider is away")


class _OddError(AuthenticationError):
    def __init__(self, place: str, number: int) -> None:
        super().__init__(f"{place} {number}")
        self.number = number


def test_an_error_class_with_its_own_constructor_reaches_every_caller(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail() -> None:
        raise _OddError("here", 7)

    _, askers = _one_run_for_all(monkeypatch, fail)
    for asker in askers:
        assert isinstance(asker.error, _OddError)
        assert (str(asker.error), asker.error.number) == ("here 7", 7)
    assert len({id(asker.error) for asker in askers}) == len(askers)
