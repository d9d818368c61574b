"""A backend in the operating system's keyring: for the programs of one user on one machine."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from pywry_auth.backends.base import Backend, Terms
from pywry_auth.backends.file_locks import FileLocks, default_folder
from pywry_auth.backends.keyring_entries import ENTRY, Entries
from pywry_auth.backends.keyring_records import Records
from pywry_auth.backends.keyring_vault import Keyring, ServiceVault, unusable
from pywry_auth.backends.options import StorageOptions
from pywry_auth.storage import KEYRING_SERVICE

_T = TypeVar("_T")


class KeyringBackend(Backend):
    """Records in the keyring that the system unlocks when its user signs in.

    A keyring has no operation that is one step to all others, so that each operation holds a lock between
    processes; and it may ask the user to unlock it, so that each runs in a thread that is not waited for
    longer than ``patience``.

    :meth:`Backend.lock` is a lock of files too: it ends with its holder's process, not after a lifetime.

    Args:
        service_name: Under which name the keyring keeps the entries; one for each application.
        vault: The keyring; None takes the one that the ``keyring`` package finds, unless that would store
            plain text and was not chosen by name (``PYTHON_KEYRING_BACKEND``).
        folder: Where the locks are; default: in the user's folder for state.
        patience: Seconds to wait for the keyring, or rather for the user whom it asks.
        clock: Unix time in seconds.
    """

    def __init__(
        self,
        service_name: str = KEYRING_SERVICE,
        *,
        vault: Keyring | None = None,
        folder: Path | None = None,
        patience: float = 60.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._service = service_name
        self._vault = ServiceVault(service_name, vault)
        self._records = Records(Entries(self._vault), clock)
        self._locks = FileLocks(folder or default_folder())
        self._patience = patience
        self._held: dict[bytes, int] = {}
        self._proved = False

    def get(self, key: str) -> bytes | None:
        """Return the live value of ``key``, or None."""
        return self._do(lambda: self._records.get(key))

    def put(self, key: str, value: bytes, terms: Terms = Terms()) -> bool:
        """Store a value and return whether it was stored (see :meth:`Backend.put`)."""

        def put() -> bool:
            self._prove()
            return self._records.put(key, value, terms)

        return self._do(put)

    def pop(self, key: str, expected: bytes | None = None, *, group: str | None = None) -> bytes | None:
        """Take a value and remove it in one step (see :meth:`Backend.pop`)."""
        return self._do(lambda: self._records.pop(key, expected))

    def members(self, group: str) -> list[str]:
        """Return the live keys of a group."""
        return self._do(lambda: self._records.members(group))

    def count(self, key: str, window: float) -> int:
        """Add one to a counter and return the count so far (see :meth:`Backend.count`)."""
        return self._do(lambda: self._records.count(key, window))

    def prune(self, kind: str, within: float = 0.0) -> int:
        """Remove the records of a kind that expired or are about to (see :meth:`Backend.prune`)."""
        return self._do(lambda: self._records.prune(kind, within))

    def probe(self) -> None:
        """Make sure that the keyring is there, unlocked, and keeps what it is given.

        Raises:
            StoreUnavailable: It does not; the text names what can be done.
        """
        self._proved = False
        self._do(self._prove)

    def close(self) -> None:
        """Do nothing: there is no connection."""

    def _do(self, act: Callable[[], _T]) -> _T:
        """Return what ``act`` returns in a thread that has the keyring for itself."""
        answer: Future[_T] = Future()

        def work() -> None:
            try:
                with self._locks.held(self._service):
                    if not answer.set_running_or_notify_cancel():
                        return
                    done = act()
            except Exception as error:  # noqa: BLE001 - it is raised where the answer is awaited
                with suppress(InvalidStateError):  # nobody awaits it any more
                    answer.set_exception(error)
            else:
                answer.set_result(done)

        threading.Thread(target=work, name="pywry_auth keyring", daemon=True).start()
        try:
            return answer.result(self._patience)
        except TimeoutError:
            answer.cancel()  # what has not begun will not; what has waits for the user
            raise unusable("it waits for an answer to a question that it asks somewhere") from None

    def _prove(self) -> None:
        """Make sure, once, that the keyring keeps what it is given: one that is switched off takes it all."""
        if self._proved:
            return
        name, text = "probe", secrets.token_hex(ENTRY // 2)
        self._vault.set(name, text)
        kept = self._vault.get(name)
        self._vault.delete(name)
        if kept != text:
            raise unusable("it does not keep what it is given (is it switched off?)")
        self._proved = True

    def _acquire(self, key: str, owner: bytes, lifetime: float) -> bool:
        handle = self._locks.take(f"{self._service}\0{key}", wait=False)
        if handle is not None:
            self._held[owner] = handle
        return handle is not None

    def _release(self, key: str, owner: bytes) -> None:
        self._locks.free(self._held.pop(owner))


def open_backend(options: StorageOptions) -> KeyringBackend:
    """Open the backend that the options describe."""
    return KeyringBackend(options.service_name)
