"""A backend in the operating system's keyring.

It is for the programs of one user on one machine.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, InvalidStateError
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from pywry_auth.backend_names import KEYRING_SERVICE
from pywry_auth.backends.base import Backend, Terms
from pywry_auth.backends.file_locks import FileLocks
from pywry_auth.backends.keyring_entries import Entries
from pywry_auth.backends.keyring_records import Records
from pywry_auth.backends.keyring_vault import Keyring, ServiceVault, unusable
from pywry_auth.backends.lease import LEASE, Lease, UnlimitedLease
from pywry_auth.backends.options import StorageOptions

_T = TypeVar("_T")


class KeyringBackend(Backend):
    """Records in the keyring of the operating system's user.

    The system unlocks the keyring when the user signs in.

    A keyring has no atomic operations, so that each operation holds a lock between processes. A keyring may
    prompt the user to unlock it, so that each operation runs in a thread, and the caller waits for it no
    longer than ``patience``.

    :meth:`Backend.lock` is a file lock too: it is freed when its holder's process exits, so that it needs no
    renewal.

    Args:
        service_name: The name under which the keyring keeps the entries; one for each application.
        vault: The keyring. None selects the first recommended one that keeps entries. One that may store
            plain text is only used if it was chosen by name (``PYTHON_KEYRING_BACKEND``).
        folder: The folder of the locks. By default, it is inside the user's folder for state.
        patience: Seconds to wait for the keyring, in which the user can respond to its prompt.
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
        self._locks = FileLocks(folder)
        self._patience = patience
        self._proved = False

    def get(self, key: str) -> bytes | None:
        """Return the live value of ``key``, or None."""
        return self._do(lambda: self._records.get(key))

    def put(self, key: str, value: bytes, terms: Terms = Terms()) -> bool:
        """Store a value, as :meth:`Backend.put` describes."""

        def put() -> bool:
            self._prove()
            return self._records.put(key, value, terms)

        return self._do(put)

    def rewrite(self, key: str, expected: bytes, value: bytes) -> bool:
        """Replace a value, as :meth:`Backend.rewrite` describes."""
        return self._do(lambda: self._records.rewrite(key, expected, value))

    def pop(self, key: str, expected: bytes | None = None, *, group: str | None = None) -> bytes | None:
        """Remove and return a value, as :meth:`Backend.pop` describes."""
        return self._do(lambda: self._records.pop(key, expected))

    def members(self, group: str) -> list[str]:
        """Return the live keys of a group."""
        return self._do(lambda: self._records.members(group))

    def count(self, key: str, window: float) -> int:
        """Add one to a counter, as :meth:`Backend.count` describes."""
        return self._do(lambda: self._records.count(key, window))

    def prune(self, kind: str, within: float = 0.0) -> int:
        """Remove expired records, as :meth:`Backend.prune` describes."""
        return self._do(lambda: self._records.prune(kind, within))

    def probe(self) -> None:
        """Check that the keyring is unlocked and keeps new entries.

        Raises:
            StoreUnavailable: The keyring cannot be used; the text names the remedies.
        """
        self._proved = False
        self._do(self._prove)

    @contextmanager
    def lock(self, key: str, wait: float, lease: float = LEASE) -> Iterator[Lease]:
        """Hold a lock while the ``with`` block runs (see :meth:`Backend.lock`).

        Args:
            key: The name of the lock.
            wait: Seconds to wait for another holder.
            lease: Not used: the operating system frees the lock of a process that exits.

        Raises:
            StoreUnavailable: Another caller still held the lock after ``wait`` seconds.
        """
        handle = self._in_turn(lambda: self._locks.take(f"{self._service}\0{key}", wait=False), wait)
        held = UnlimitedLease()
        try:
            yield held
        finally:
            held.end()
            self._locks.free(handle)

    def close(self) -> None:
        """Do nothing: there is no connection."""

    def _do(self, act: Callable[[], _T]) -> _T:
        """Run ``act`` in a thread that holds the keyring's lock."""
        answer: Future[_T] = Future()

        def work() -> None:
            try:
                with self._locks.held(self._service):
                    if not answer.set_running_or_notify_cancel():
                        return
                    done = act()
            except Exception as error:  # noqa: BLE001 - the waiting caller raises it
                with suppress(InvalidStateError):  # the caller no longer waits
                    answer.set_exception(error)
            else:
                answer.set_result(done)

        threading.Thread(target=work, name="pywry_auth keyring", daemon=True).start()
        try:
            return answer.result(self._patience)
        except TimeoutError:
            answer.cancel()  # an act that has not begun is dropped; a running one waits for the user
            raise unusable("it waits for the user's response to a prompt", "Answer the prompt") from None

    def _prove(self) -> None:
        """Check, only once, that the keyring keeps an entry."""
        if self._proved:
            return
        self._vault.prove()
        self._proved = True


def open_backend(options: StorageOptions) -> KeyringBackend:
    """Open the backend that the options describe."""
    return KeyringBackend(options.service_name)
