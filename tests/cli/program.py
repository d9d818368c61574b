"""The command as a user runs it: a process of its own, with a terminal of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

_SECONDS = 30
_HERE = ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER", "SSH_CONNECTION", "SSH_TTY", "TMUX", "STY", "ZELLIJ")
COMMAND = str(Path(sys.executable).with_name("pywry-auth"))


class Program:
    """A running command.

    Args:
        process: The process, whose output and error output are text.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self._read = ""

    def url(self) -> str:
        """Wait until it prints the address to sign in at, and return the address."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._read += line
            if line.startswith("    http"):
                return line.strip()
        raise AssertionError(f"it ended without an address: {self._read}")

    def notice(self) -> str:
        """Wait for the next line of its error output, and return the line."""
        assert self.process.stderr is not None
        line = self.process.stderr.readline()
        self._read += line
        return line

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self.process.send_signal(signal.SIGINT)

    def end(self) -> tuple[int, str, str]:
        """Wait for its end, and return exit status, output and error output."""
        out, err = self.process.communicate(timeout=_SECONDS)
        return self.process.returncode, out, self._read + err


@contextmanager
def terminal() -> Iterator[int]:
    """Yield the descriptor of a terminal, as standard input of a command that may ask its user."""
    ends = os.openpty()
    try:
        yield ends[1]
    finally:
        for end in ends:
            os.close(end)


@contextmanager
def started(*command: str, **variables: str) -> Iterator[Program]:
    """Start a command in a terminal whose browser opens nothing, and kill it at the end of the block.

    Args:
        command: The command line.
        variables: Its environment, in addition to that of this process.
    """
    with terminal() as user, _running(command, {"BROWSER": "true"} | variables, user) as program:
        yield program


@contextmanager
def scheduled(*command: str, **variables: str) -> Iterator[Program]:
    """Start a command without a terminal or a screen, and kill it at the end of the block.

    Args:
        command: The command line.
        variables: Its environment, in addition to that of this process.
    """
    with _running(command, variables, subprocess.DEVNULL) as program:
        yield program


@contextmanager
def _running(command: Sequence[str], variables: Mapping[str, str], stdin: int) -> Iterator[Program]:
    process = subprocess.Popen(
        command,
        env=environment(variables),
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_accept_ctrl_c,
    )
    with process:
        try:
            yield Program(process)
        finally:
            process.kill()


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without a screen or PYWRY settings, but with these variables."""
    kept = {n: v for n, v in os.environ.items() if n not in _HERE and not n.startswith("PYWRY_")}
    return kept | dict(variables)


def _accept_ctrl_c() -> None:
    """Accept SIGINT, which a shell disables for jobs in the background."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
