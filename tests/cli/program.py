"""The command line as a person meets it: a process of its own, in a terminal that nobody shares."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

_SECONDS = 30
_HERE = ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER", "SSH_CONNECTION", "SSH_TTY")
COMMAND = str(Path(sys.executable).with_name("pywry-auth"))


class Program:
    """A running command.

    Args:
        process: The process, its output and error output as text.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self._heard = ""

    def url(self) -> str:
        """Wait until it says where to sign in, and return that."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._heard += line
            if line.startswith("    http"):
                return line.strip()
        raise AssertionError(f"it ended without an address: {self._heard}")

    def notice(self) -> str:
        """Wait until it says something on its error output, and return that line."""
        assert self.process.stderr is not None
        line = self.process.stderr.readline()
        self._heard += line
        return line

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self.process.send_signal(signal.SIGINT)

    def end(self) -> tuple[int, str, str]:
        """Wait for its end; return exit status, output and error output."""
        out, err = self.process.communicate(timeout=_SECONDS)
        return self.process.returncode, out, self._heard + err


@contextmanager
def started(*command: str, **variables: str) -> Iterator[Program]:
    """Start a command that finds no screen, and see that it is gone at the end.

    Args:
        command: The command line.
        variables: Its environment, beside what this process has.
    """
    process = subprocess.Popen(
        command,
        env=environment(variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_heed_ctrl_c,
    )
    with process:
        try:
            yield Program(process)
        finally:
            process.kill()


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment without a screen or settings of ours, and with these variables."""
    kept = {n: v for n, v in os.environ.items() if n not in _HERE and not n.startswith("PYWRY_")}
    return kept | dict(variables)


def _heed_ctrl_c() -> None:
    """Undo what a shell does to the signals of a job in the background."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
