"""One login at a time for all processes of a user: the wait, its limit and its end."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pywry_auth.exceptions import AuthFlowCancelled, AuthFlowTimeout
from pywry_auth.native.login_turn import login_turn

_ROOT = Path(__file__).parents[2]
_SECONDS = 20.0
_HOLD = """
import sys, threading
from pathlib import Path
from pywry_auth.native.login_turn import login_turn
with login_turn("desk", 20, print, threading.Event(), Path(sys.argv[1])) as waited:
    print("mine", waited > 0, flush=True)
    sys.stdin.readline()
"""


class Holder:
    """Another process that holds the turn."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", _HOLD, str(folder)],
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def await_turn(self) -> str:
        """Wait until the process has the turn, and return its message."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def end(self, how: signal.Signals | None = None) -> None:
        """End the turn, in order or by a signal."""
        if how is not None:
            self.process.send_signal(how)
        self.process.communicate("\n", timeout=_SECONDS)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "locks"


@pytest.fixture
def holder(folder: Path) -> Iterator[Holder]:
    holder = Holder(folder)
    try:
        assert holder.await_turn() == "mine False"
        yield holder
    finally:
        holder.process.kill()
        holder.process.communicate()


class Notices(list[str]):
    """The notices for the user, and an event for the first one."""

    def __init__(self) -> None:
        super().__init__()
        self.came = threading.Event()

    def __call__(self, text: str) -> None:
        self.append(text)
        self.came.set()


def test_a_process_does_not_wait_for_its_own_earlier_turn(folder: Path) -> None:
    notices = Notices()
    for _ in range(2):
        with login_turn("desk", 0, notices, threading.Event(), folder) as waited:
            assert waited == 0
    assert notices == []


@pytest.mark.parametrize("how", [None, signal.SIGKILL])
def test_another_process_is_waited_for_until_it_ends_or_is_killed(
    folder: Path, holder: Holder, how: signal.Signals | None
) -> None:
    notices = Notices()
    end = threading.Thread(target=lambda: holder.end(how) if notices.came.wait(_SECONDS) else None)
    end.start()
    with login_turn("desk", _SECONDS, notices, threading.Event(), folder) as waited:
        assert 0 < waited < _SECONDS
    end.join(_SECONDS)
    assert len(notices) == 1
    assert "waits for you to sign in" in notices[0]


def test_another_program_is_not_waited_for(folder: Path, holder: Holder) -> None:
    with login_turn("another", 0, Notices(), threading.Event(), folder) as waited:
        assert waited == 0


def test_the_wait_ends_at_its_time_limit(folder: Path, holder: Holder) -> None:
    began = time.monotonic()
    with (
        pytest.raises(AuthFlowTimeout, match="still waits") as caught,
        login_turn("desk", 0.3, Notices(), threading.Event(), folder),
    ):
        pass
    assert 0.3 <= time.monotonic() - began < 10
    assert (caught.value.error, caught.value.timeout) == ("timeout", 0.3)


def test_the_wait_can_be_cancelled(folder: Path, holder: Holder) -> None:
    notices, cancelled = Notices(), threading.Event()
    cancel = threading.Thread(target=lambda: cancelled.set() if notices.came.wait(_SECONDS) else None)
    cancel.start()
    with (
        pytest.raises(AuthFlowCancelled) as caught,
        login_turn("desk", _SECONDS, notices, cancelled, folder),
    ):
        pass
    cancel.join(_SECONDS)
    assert caught.value.error == "cancelled"


def test_threads_take_turns_too(folder: Path) -> None:
    inside: list[int] = []

    def act(number: int) -> None:
        with login_turn("desk", _SECONDS, Notices(), threading.Event(), folder):
            inside.append(number)
            assert inside == [number]
            inside.clear()

    threads = [threading.Thread(target=act, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(_SECONDS)
    assert inside == []


def test_an_error_in_the_block_ends_the_turn(folder: Path) -> None:
    with (
        pytest.raises(ZeroDivisionError),
        login_turn("desk", 0, Notices(), threading.Event(), folder),
    ):
        raise ZeroDivisionError
    with login_turn("desk", 0, Notices(), threading.Event(), folder) as waited:
        assert waited == 0


def test_a_folder_that_cannot_be_used_does_not_prevent_a_sign_in(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with login_turn("desk", 0, Notices(), threading.Event(), tmp_path / "file" / "locks") as waited:
        assert waited == 0
