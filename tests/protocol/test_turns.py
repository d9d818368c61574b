"""One at a time, and a failure shared by those who waited for it, and by nobody else."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from pywry_auth.exceptions import AuthenticationError, ErrorCode
from pywry_auth.protocol.turns import Turns


def test_no_two_blocks_run_at_once() -> None:
    turns, inside, together = Turns(), threading.Semaphore(1), []

    def run(_: int) -> None:
        with turns.take():
            together.append(inside.acquire(blocking=False))
            inside.release()

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(run, range(200)))
    assert together == [True] * 200


def test_a_failure_is_shared_by_who_waited_and_not_remembered() -> None:
    turns, attempts, waiting = Turns(), [], threading.Barrier(8)

    def attempt() -> None:
        with turns.take():
            attempts.append(1)
            threading.Event().wait(0.3)  # long enough for the others to queue up
            raise AuthenticationError("away", error=ErrorCode.PROVIDER_UNREACHABLE)

    def run(_: int) -> AuthenticationError:
        waiting.wait(10)
        with pytest.raises(AuthenticationError, match="away") as caught:
            attempt()
        return caught.value

    with ThreadPoolExecutor(8) as threads:
        errors = list(threads.map(run, range(8)))
    assert {error.error for error in errors} == {ErrorCode.PROVIDER_UNREACHABLE}
    assert len({id(error) for error in errors}) == 8, "an exception has one traceback, so one thread"
    assert len(attempts) <= 2
    with turns.take():
        attempts.append(2)
    assert attempts[-1] == 2


def test_another_kind_of_error_is_the_callers_own() -> None:
    turns, later = Turns(), []
    with pytest.raises(KeyboardInterrupt), turns.take():
        raise KeyboardInterrupt
    with turns.take():
        later.append("not locked out")
    assert later
