"""A program for several processes of a service or a job, on one store.

Usage: ``python -m tests.service_worker threads``. The settings configure it. Each line of input is a user ID,
or empty for the service itself, whose token its threads request at the same time. It prints the digest
of each token, or the error.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from pywry_auth import ClientCredentials, UserTokens
from pywry_auth.exceptions import AuthenticationError
from tests.backends.threads import together
from tests.refresh_worker import digest


def main(threads: str) -> None:
    users, service = UserTokens(), ClientCredentials(scopes=["email"])

    def token_of(user_id: str) -> str:
        try:
            return digest(users.get_access_token(user_id) if user_id else service.get_access_token())
        except AuthenticationError as error:
            return f"{type(error).__name__}: {error}"

    print("ready", flush=True)
    for line in sys.stdin:
        user_id = line.strip()
        print(json.dumps(together(int(threads), lambda number: token_of(user_id))), flush=True)  # noqa: B023


class ServiceWorkers:
    """Processes of this program.

    Args:
        processes: How many.
        settings: The settings, as environment variables.
        threads: How many threads each process has.
    """

    def __init__(self, processes: int, settings: dict[str, str], threads: int) -> None:
        usual = {name: value for name, value in os.environ.items() if not name.startswith("PYWRY_")}
        self._running = [
            subprocess.Popen(
                [sys.executable, "-W", "error", "-m", "tests.service_worker", str(threads)],
                cwd=Path(__file__).parents[1],
                env=usual | settings,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(processes)
        ]

    def __enter__(self) -> ServiceWorkers:
        if [_line(process) for process in self._running] != ["ready\n"] * len(self._running):
            self.__exit__()
            raise AssertionError("a process does not start")
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._running:
            process.communicate(timeout=60)

    def ask(self, user_id: str = "") -> list[str]:
        """Let all threads request a token, and return their results."""
        for process in self._running:
            assert process.stdin is not None
            process.stdin.write(user_id + "\n")
            process.stdin.flush()
        return [got for process in self._running for got in json.loads(_line(process))]


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


if __name__ == "__main__":
    main(*sys.argv[1:])
