"""``SingleFlight``: concurrent callers share one outcome."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from linecache import getline
from types import FrameType
from typing import Any

import pytest

from pywry_auth import single_flight
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError, ProviderBusy, TokenError
from pywry_auth.single_flight import SingleFlight
from tests.waiting import count_waiters

SOURCE = single_flight.__file__
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


# Keys, and waiting for a limited time


def test_runs_with_different_keys_are_independent() -> None:
    """One run can begin another one, and their threads do not wait for each other."""
    flight, both = SingleFlight[str](TokenError), threading.Barrier(2)

    def work(name: str) -> str:
        both.wait(_SECONDS)
        return name

    with ThreadPoolExecutor(2) as threads:
        results = list(threads.map(lambda name: flight.run(lambda: work(name), key=name), ("a", "b")))
    assert results == ["a", "b"]
    assert flight.run(lambda: flight.run(lambda: "inner", key="b"), key="a") == "inner"


def test_work_for_one_key_that_would_wait_for_itself_is_refused() -> None:
    flight = SingleFlight[str](TokenError)
    with pytest.raises(AuthenticationError, match="wait for itself"):
        flight.run(lambda: flight.run(lambda: "never", key=("a", 1)), key=("a", 1))


def _while_one_works(use: Callable[[SingleFlight[str]], object]) -> None:
    """Call a function while another thread does the work for the key ``a``."""
    flight = SingleFlight[str](TokenError)
    started, may_end = threading.Event(), threading.Event()

    def work() -> str:
        started.set()
        assert may_end.wait(_SECONDS)
        return "late"

    with ThreadPoolExecutor(1) as threads:
        leader = threads.submit(flight.run, work, key="a")
        try:
            assert started.wait(_SECONDS)
            use(flight)
        finally:
            may_end.set()
        assert leader.result(_SECONDS) == "late"


def test_a_caller_waits_no_longer_than_its_time() -> None:
    """The run itself continues, and the error says when to try again. [T44]"""

    def use(flight: SingleFlight[str]) -> None:
        with pytest.raises(TokenError) as caught:
            flight.run(lambda: pytest.fail("it ran twice"), key="a", wait=0.01)
        assert caught.value.error == ErrorCode.TEMPORARILY_UNAVAILABLE
        assert caught.value.retry_after == 5

    _while_one_works(use)


def test_a_caller_waits_only_if_there_is_room() -> None:
    """The room for waiting threads limits the time, or refuses the thread. [T44]"""
    asked: list[float | None] = []

    @contextmanager
    def little_time(wait: float | None) -> Iterator[float | None]:
        asked.append(wait)
        yield 0.01

    @contextmanager
    def full(wait: float | None) -> Iterator[float | None]:
        raise ProviderBusy("full", retry_after=7)
        yield wait

    def use(flight: SingleFlight[str]) -> None:
        with pytest.raises(TokenError, match="takes too long"):
            flight.run(lambda: "unused", key="a", wait=30, room=little_time)
        with pytest.raises(ProviderBusy, match="full"):
            flight.run(lambda: "unused", key="a", room=full)

    _while_one_works(use)
    assert asked == [30]


def test_a_timeout_error_of_the_work_reaches_the_waiting_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not mistaken for the end of their own time."""

    def fail() -> None:
        raise TimeoutError("of the work")

    _, callers = _one_run_for_all(monkeypatch, fail)
    assert {(type(caller.error), str(caller.error)) for caller in callers} == {(TimeoutError, "of the work")}


@pytest.mark.parametrize("fails", [False, True])
def test_an_interrupt_at_any_line_leaves_no_thread_that_waits_forever(fails: bool) -> None:
    """Ctrl-C can come between any two lines, also while an error is handled."""
    line = 0
    while _ends_when_interrupted(line, fails):
        line += 1
    assert line > 10


def _ends_when_interrupted(line: int, fails: bool) -> bool:
    """Interrupt a run for which another thread waits, and check that both threads continue.

    Returns:
        Whether the run had so many lines.
    """
    flight, waits = SingleFlight[str](TokenError), threading.Event()
    waiters: list[Future[str]] = []

    @contextmanager
    def room(wait: float | None) -> Iterator[float | None]:
        waits.set()
        yield wait

    def work() -> str:
        waiters.append(threads.submit(flight.run, lambda: "unused", wait=1, room=room))
        assert waits.wait(_SECONDS)
        return _fail() if fails else "done"

    with ThreadPoolExecutor(2) as threads:
        interrupted = _interrupted_at(line, lambda: flight.run(work))
        for waiter in waiters:
            error = waiter.exception(_SECONDS)
            assert getattr(error, "retry_after", None) is None, f"line {line}: the run did not end"
        assert threads.submit(flight.run, lambda: "next", wait=1).result(_SECONDS) == "next", line
    return interrupted


def _interrupted_at(line: int, call: Callable[[], object]) -> bool:
    """Call a function, and raise an interrupt at one line of ``SingleFlight``.

    Lines with ``with`` are left out: a trace function can interrupt the end of such a block before the lock
    is released, which a signal cannot.

    Returns:
        Whether the function has so many lines.
    """
    left = line

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal left
        if frame.f_code.co_filename != SOURCE:
            return None
        if event == "line" and not getline(SOURCE, frame.f_lineno).strip().startswith("with "):
            left -= 1
            if left == -1:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    except (KeyboardInterrupt, TokenError):
        pass
    finally:
        sys.settrace(before)
    return left < 0


def test_a_child_process_does_not_wait_for_a_thread_of_its_parent() -> None:
    """gunicorn forks its workers. [L11]"""
    flight, go_on = SingleFlight[int](AuthenticationError), threading.Event()
    running = threading.Event()

    def work() -> int:
        running.set()
        go_on.wait(20)
        return 1

    thread = threading.Thread(target=flight.run, args=(work,))
    thread.start()
    running.wait(20)
    child = os.fork()
    if child == 0:
        os._exit(flight.run(lambda: 7))
    _, status = os.waitpid(child, 0)
    go_on.set()
    thread.join()
    assert os.waitstatus_to_exitcode(status) == 7
