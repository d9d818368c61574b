"""A program for several processes on one store.

Usage: ``python -m tests.refresh_worker kind place issuer client lock``. For each line of input, its threads
request alice's access token at the same time. It prints ``asking`` just before, and afterwards the result of
each thread: the digest of the token, or the name of the error.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType

from pywry_auth.backends.lease import Lease
from pywry_auth.exceptions import AuthenticationError
from pywry_auth.native.session_manager import SessionManager
from pywry_auth.providers.oidc import GenericOIDCProvider
from pywry_auth.state.token_stores import PostgresTokenStore, RedisTokenStore, SQLiteTokenStore
from pywry_auth.state.tokens import TokenStore
from tests.backends.threads import together

THREADS = 8
LOCK_SECONDS = 1.0
_SECONDS = 60


class _ShortLock(TokenStore):
    """A store whose locks expire soon, so that a test need not wait for long."""

    def lock(self, key: str, wait: float) -> AbstractContextManager[Lease]:
        return self.backend.lock("oauth:lock:" + key, wait, lease=LOCK_SECONDS)


def open_store(kind: str, place: str) -> TokenStore:
    """Return the store of a kind, with its usual locks."""
    opened: dict[str, Callable[[str], TokenStore]] = {
        "sqlite": SQLiteTokenStore,
        "redis": RedisTokenStore,
        "postgres": PostgresTokenStore,
    }
    return opened[kind](place)


def digest(token: str) -> str:
    """Return a digest that may be printed instead of the token."""
    return hashlib.sha256(token.encode()).hexdigest()[:16]


def main(kind: str, place: str, issuer: str, client_id: str, lock: str) -> None:
    store = open_store(kind, place)
    if lock == "short":
        store = _ShortLock(store.backend)
    provider = GenericOIDCProvider(client_id, issuer_url=issuer)
    session = SessionManager(provider, store, "user-alice")

    def ask(number: int) -> str:
        if number == 0:
            print("asking", flush=True)
        try:
            return digest(session.get_access_token())
        except AuthenticationError as error:
            return type(error).__name__

    print("ready", flush=True)
    for _ in sys.stdin:
        print(json.dumps(together(THREADS, ask)), flush=True)
    provider.close()
    store.close()


class Worker:
    """One process of this program.

    Args:
        arguments: Its command line.
    """

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "tests.refresh_worker", *arguments],
            cwd=Path(__file__).parents[1],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ready(self) -> None:
        """Wait until the process is ready."""
        assert self._line() == "ready"

    def go(self) -> None:
        """Let its threads request the token."""
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def asking(self) -> None:
        """Wait until the threads start their requests."""
        assert self._line() == "asking"

    def got(self) -> list[str]:
        """Return the result of each thread."""
        got = json.loads(self._line())
        assert len(got) == THREADS
        return list(got)

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        killer = threading.Timer(_SECONDS if error is None else 0, self.process.kill)
        killer.start()
        self.process.communicate()
        killer.cancel()
        killer.join()

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


if __name__ == "__main__":
    main(*sys.argv[1:])
