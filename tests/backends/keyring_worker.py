"""A process that uses the Secret Service.

It is started as ``python -m tests.backends.keyring_worker act name folder``.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from keyring.backends.SecretService import Keyring

from pywry_auth.backends.base import Terms
from pywry_auth.backends.keyring import KeyringBackend
from pywry_auth.models import OAuthTokenSet
from pywry_auth.state.tokens import TokenStore

OLD, NEW = (b"".join(b"%s%d" % (word, number) for number in range(700)) for word in (b"old", b"new"))
"""Two values, each of which fills three entries."""


class SteppingKeyring(Keyring):
    """A keyring that announces each change and waits for permission."""

    def set_password(self, service: str, username: str, password: str) -> None:
        _wait(f"write {username}")
        Keyring.set_password(self, service, username, password)

    def delete_password(self, service: str, username: str) -> None:
        _wait(f"remove {username}")
        Keyring.delete_password(self, service, username)


def _wait(step: str) -> None:
    print(step, flush=True)
    sys.stdin.readline()


def count(backend: KeyringBackend, name: str) -> object:
    return [backend.count("n:1", 600) for _ in range(4)]


def add(backend: KeyringBackend, name: str) -> object:
    """Add in two steps that only a lock protects."""
    for _ in range(4):
        with backend.lock("lock:1", 60):
            backend.put("k:sum", b"%d" % (int(backend.get("k:sum") or b"0") + 1))
    return None


def save(backend: KeyringBackend, name: str) -> object:
    """Store tokens for an own and a shared user.

    Returns the access tokens of the shared user, as this process loaded them.
    """
    store, seen = TokenStore(backend), []
    for number in range(3):
        store.save(f"user {name}", OAuthTokenSet(name * 2000, refresh_token=str(number)))
        store.save("shared", OAuthTokenSet(name * 2000))
        tokens = store.load("shared")
        seen.append(tokens.access_token if tokens else None)
    return seen


def replace(backend: KeyringBackend, name: str) -> object:
    return backend.put("k:1", NEW, Terms(group="k:all"))


ACTS: dict[str, Callable[[KeyringBackend, str], object]] = {
    f.__name__: f for f in (count, add, save, replace)
}


def main(act: str, name: str, folder: str) -> None:
    kind: type[Keyring] = SteppingKeyring if act == "replace" else Keyring
    backend = KeyringBackend("desk", vault=kind(), folder=Path(folder))
    _wait("ready")
    print(json.dumps(ACTS[act](backend, name)), flush=True)


def start(act: str, name: str, folder: Path) -> subprocess.Popen[str]:
    """Return a process that is ready to begin."""
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "tests.backends.keyring_worker", act, name, str(folder)],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    return process


def go_on(process: subprocess.Popen[str]) -> str:
    """Let a process continue, and return its next line."""
    assert process.stdin
    assert process.stdout
    process.stdin.write("\n")
    process.stdin.flush()
    return process.stdout.readline().strip()


def together(names: str, act: str, folder: Path) -> list[Any]:
    """Run ``act`` in a process for each name at once.

    Returns the results of all processes.
    """
    processes = [start(act, name, folder) for name in names]
    answers = [process.communicate("\n", timeout=100)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(names)
    return [json.loads(answer) for answer in answers]


if __name__ == "__main__":
    main(*sys.argv[1:])
