"""Events that a signal handler may set, also while its own thread waits for them."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

import pytest

from pywry_auth.exceptions import AuthFlowCancelled
from pywry_auth.native.bounded_call import Bounds
from pywry_auth.native.waiting import SignalSafeEvent, wait_for

_PATIENCE = 20


def test_all_waiting_threads_wake() -> None:
    event, awake = SignalSafeEvent(), list[bool]()
    threads = [threading.Thread(target=lambda: awake.append(event.wait(_PATIENCE))) for _ in range(5)]
    for thread in threads:
        thread.start()
    assert not event.wait(0.01)
    event.set()
    for thread in threads:
        thread.join(_PATIENCE)
    assert awake == [True] * 5
    assert wait_for(event, 0)


@pytest.fixture
def on_alarm() -> Iterator[list[Any]]:
    """Functions that the handler of SIGALRM calls."""
    calls: list[Any] = []
    before = signal.signal(signal.SIGALRM, lambda *_: [call() for call in calls])
    yield calls
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("line", range(1, 16))
def test_a_signal_handler_may_cancel_at_any_line_of_the_wait(line: int, on_alarm: list[Any]) -> None:
    """An event with a lock would make the handler wait for the code that it interrupted."""
    bounds, released, lines = Bounds(_PATIENCE), threading.Event(), 0
    on_alarm.append(bounds.cancel)

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal lines
        if not frame.f_code.co_filename.endswith(("waiting.py", "bounded_call.py")):
            return None
        if event == "line":
            lines += 1
            if lines == line:
                sys.settrace(None)
                signal.raise_signal(signal.SIGALRM)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        with pytest.raises(AuthFlowCancelled):
            bounds.run(lambda: released.wait(_PATIENCE))
    finally:
        sys.settrace(before)
        released.set()
