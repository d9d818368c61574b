"""``SingleFlight``: concurrent callers share one outcome."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError, TokenError
from pywry_auth.single_flight import SingleFlight
from tests.waiting import count_waiters

_SECONDS = 20


class _Caller(threading.Thread):
    """A caller of one run that records its outcome."""

    def __init__(self, flight: SingleFlight[Any], work: Callable[[], Any]) -> None:
        super().__init__()
        self._flight, self._work = flight, work
        self.result: Any = None
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self.result = self._flight.run(self._work)
        except BaseException as error:  # noqa: BLE001 - the test checks it
            self.error = error


def _one_run_for_all(
    monkeypatch: pytest.MonkeyPatch, end: Callable[[], Any], callers: int = 8
) -> tuple[SingleFlight[Any], list[_Caller]]:
    """Start all callers during one run.

    Returns the callers when all of them have an outcome.
    """
    flight = SingleFlight[Any](TokenError)
    waiters = count_waiters(monkeypatch)
    started, may_end = threading.Event(), threading.Event()

    def work() -> Any:
        started.set()
        assert may_end.wait(_SECONDS)
        return end()

    leader = _Caller(flight, work)
    assert started.wait(_SECONDS)
    others = [_Caller(flight, lambda: pytest.fail("it ran twice")) for _ in range(callers - 1)]
    for _ in others:
        assert waiters.acquire(timeout=_SECONDS)
    may_end.set()
    for thread in (leader, *others):
        thread.join(_SECONDS)
    return flight, [leader, *others]


def test_concurrent_callers_share_one_result(monkeypatch: pytest.MonkeyPatch) -> None:
    result = object()
    _, callers = _one_run_for_all(monkeypatch, lambda: result)
    assert [caller.error for caller in callers] == [None] * 8
    assert all(caller.result is result for caller in callers)


def test_concurrent_callers_share_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    error = TokenError("the provider is away", error=ErrorCode.PROVIDER_UNREACHABLE)

    def fail() -> None:
        raise error

    flight, callers = _one_run_for_all(monkeypatch, fail)
    assert callers[0].error is error
    assert {(type(caller.error), str(caller.error)) for caller in callers} == {(TokenError, str(error))}
    assert {caller.error.error for caller in callers if isinstance(caller.error, TokenError)} == {error.error}
    assert len({id(caller.error) for caller in callers}) == 8, "an exception has one traceback, so one thread"
    assert flight.run(lambda: "the next run") == "the next run"


def test_ctrl_c_interrupts_one_thread_and_the_others_get_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    flight, (leader, *others) = _one_run_for_all(monkeypatch, interrupt)
    assert type(leader.error) is KeyboardInterrupt
    for other in others:
        assert isinstance(other.error, TokenError)
        assert other.error.error == "cancelled"
    assert flight.run(lambda: "the next run") == "the next run"


def test_work_that_would_wait_for_itself_is_refused() -> None:
    flight = SingleFlight[str](TokenError)
    with pytest.raises(AuthenticationError, match="wait for itself"):
        flight.run(lambda: flight.run(lambda: "never"))
    assert flight.run(lambda: "the next run") == "the next run"


def test_a_later_call_starts_a_new_run() -> None:
    flight = SingleFlight[int](TokenError)
    numbers = iter((1, 2))
    assert [flight.run(lambda: next(numbers)) for _ in range(2)] == [1, 2]


def test_a_result_at_hand_makes_the_run_unnecessary() -> None:
    flight = SingleFlight[str](TokenError)
    assert flight.run(lambda: pytest.fail("it ran"), lambda: "at hand") == "at hand"
    assert flight.run(lambda: "the run", lambda: None) == "the run"


def test_only_one_of_many_callers_does_lasting_work() -> None:
    """A caller just after the run does not start another."""
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
    flight, inside, exclusive = SingleFlight[None](TokenError), threading.Semaphore(1), []

    def work() -> None:
        exclusive.append(inside.acquire(blocking=False))
        inside.release()

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: flight.run(work), range(200)))
    assert set(exclusive) == {True}


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
