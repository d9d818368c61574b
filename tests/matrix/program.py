"""A program of a trial: its processes and its output."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

START_SECONDS = 40.0
STOP_SECONDS = 15.0


class Fault(Exception):
    """A trial failed; the text says how."""


@dataclass
class Program:
    """A running program in a session of its own.

    Args:
        process: The process.
        log: The file with its output.
    """

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def output(self) -> str:
        """Everything that it wrote so far."""
        return self.log.read_text(errors="replace")

    def left(self) -> list[int]:
        """Return the running processes of its session."""
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                state, _, _, session = stat.read_text().rpartition(")")[2].split()[:4]
            except OSError:  # the process has just ended
                continue
            if int(session) == self.process.pid and state != "Z":
                found.append(int(stat.parent.name))
        return found

    def stop(self) -> None:
        """Stop it with SIGTERM.

        Raises:
            Fault: It did not stop in time, or left processes.
        """
        self.process.terminate()
        stopped = soon(lambda: self.process.poll() is not None and not self.left(), STOP_SECONDS)
        remaining = self.left()
        for pid in remaining:
            os.kill(pid, signal.SIGKILL)
        self.process.wait()
        if not stopped:
            raise Fault(f"{len(remaining)} processes were left {STOP_SECONDS:g} s after SIGTERM")


@contextmanager
def running(
    command: list[str], folder: Path, variables: Mapping[str, str], user: str = ""
) -> Iterator[Program]:
    """Run a program in a folder, and stop it at the end of the block.

    Args:
        command: The program and its arguments.
        folder: Its working directory.
        variables: Its environment.
        user: The user of the process; empty means that of this process.
    """
    log = folder / f"{Path(command[0]).name}.log"
    with log.open("ab") as output:
        if user:
            shutil.chown(log, user)  # Apache opens it again, as /dev/stderr
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=dict(variables),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            user=user or None,
            group=user or None,
            extra_groups=[] if user else None,
        )
    program = Program(process, log)
    try:
        yield program
    except BaseException:
        for pid in program.left():
            os.kill(pid, signal.SIGKILL)
        process.wait()
        raise
    program.stop()


def free_port() -> int:
    """Return a port of 127.0.0.1 that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    return port


def soon(done: Callable[[], bool], seconds: float) -> bool:
    """Wait until a condition holds; return whether it does in time."""
    end = time.monotonic() + seconds
    while not done():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True
