"""A test of the stores when a site starts."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from weakref import WeakValueDictionary

from pywry_auth.backends.base import Backend
from pywry_auth.exceptions import StoreUnavailable

_logger = logging.getLogger("pywry_auth.deploy")

_tested: WeakValueDictionary[int, Backend] = WeakValueDictionary()
"""The tested backends by their identity, because a backend of another package may have no hash."""


class StoreProbe(threading.Thread):
    """The test of one backend, in a thread of its own, because a backend may wait without a limit.

    Args:
        store: The name of the store.
        backend: Its backend.
        closes: Whether the test leaves no connection open, which a fork would share.
    """

    def __init__(self, store: str, backend: Backend, *, closes: bool = True) -> None:
        super().__init__(name="pywry-auth-store-probe", daemon=True)
        self._backend = backend
        self._closes = closes
        self.store = store
        self._fault = ""

    def begin(self) -> None:
        """Start the test; a process that cannot start a thread is a fault of the test."""
        try:
            self.start()
        except RuntimeError:
            self._fault = (
                "The system lets this process start no further thread for the test: raise the limit of its "
                "threads, for example TasksMax= of systemd or --pids-limit of the container."
            )

    def run(self) -> None:
        """Store, read and remove a record."""
        try:
            self._backend.probe()
        except StoreUnavailable as error:
            self._fault = str(error)
        except Exception as error:  # noqa: BLE001  # of a backend of another package
            self._fault = f"Its backend failed with {type(error).__name__}: see its documentation."
        if self._closes:
            with suppress(Exception):
                self._backend.close()

    def fault_by(self, end: float, seconds: float) -> str:
        """Wait for the test, and return its fault; empty for none.

        Args:
            end: The time of ``time.monotonic`` at which the wait ends.
            seconds: The time limit, for the text.
        """
        if self.ident is not None:  # it has started
            self.join(max(0.0, end - time.monotonic()))
        if self.is_alive():
            return f"It does not answer within {seconds:g} seconds: check its server and its settings."
        return self._fault


def probe_stores(sessions: Backend, tokens: Backend, seconds: float = 2.0) -> None:
    """Log one error for each store that cannot be used.

    The site starts in any case, because a store may start later. Each backend is tested once in a process. A
    backend in the memory of the process is not tested.

    Args:
        sessions: The backend of the sessions.
        tokens: The backend of the tokens, often the same one.
        seconds: The time by which the tests may delay the start, all together.
    """
    due = [(store, backend) for store, backend in named_stores(sessions, tokens) if _is_due(backend)]
    for store, fault in store_faults(due, seconds):
        _logger.error(
            "the %s cannot be used, and requests that it refuses get 503 until it can: %s", store, fault
        )


def named_stores(sessions: Backend, tokens: Backend) -> list[tuple[str, Backend]]:
    """Return the stores outside of the process, each with its name and its backend.

    Args:
        sessions: The backend of the sessions.
        tokens: The backend of the tokens, often the same one.
    """
    if sessions is tokens:
        stores = [("session and token store", sessions)]
    else:
        stores = [("session store", sessions), ("token store", tokens)]
    return [(store, backend) for store, backend in stores if backend.shared]


def store_faults(stores: Sequence[tuple[str, Backend]], seconds: float) -> Iterator[tuple[str, str]]:
    """Yield the name and the fault of each store that cannot be used.

    Args:
        stores: The stores, each with its name and its backend.
        seconds: The time limit of all tests together.
    """
    probes = [StoreProbe(store, backend) for store, backend in stores]
    end = time.monotonic() + seconds
    for probe in probes:
        probe.begin()
    for probe in probes:
        if fault := probe.fault_by(end, seconds):
            yield probe.store, fault


def _is_due(backend: Backend) -> bool:
    if _tested.get(id(backend)) is backend:
        return False
    _tested[id(backend)] = backend
    return True
