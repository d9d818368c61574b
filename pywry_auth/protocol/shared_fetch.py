"""Fetches a value from the provider once for all callers."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Generic, TypeVar

from pywry_auth.exceptions import AuthenticationError, own_copy
from pywry_auth.protocol.gate import CallGate
from pywry_auth.single_flight import SingleFlight

_T = TypeVar("_T")
_REMEMBERED_SECONDS = 3.0


class SharedFetch(Generic[_T]):
    """Fetches one value, such as the metadata, for all callers.

    A caller takes a slot of the gate before it waits for the fetch of another one, so the gate bounds those
    that wait too. If the gate has limits, a failure is remembered for 3 s: otherwise each visitor who tries
    to sign in would hold a thread for a whole time-out.

    Args:
        gate: Bounds the calls to the provider.
        clock: Monotonic time in seconds.
    """

    def __init__(self, gate: CallGate, clock: Callable[[], float] = time.monotonic) -> None:
        self._gate = gate
        self._clock = clock
        self._flight = SingleFlight[_T](AuthenticationError)
        self._failure: tuple[float, AuthenticationError] | None = None  # one value, so readers need no lock

    def get(self, fetch: Callable[[], _T], at_hand: Callable[[], _T | None]) -> _T:
        """Return the value at hand, or fetch it.

        Args:
            fetch: Fetches the value, and stores it where ``at_hand`` finds it.
            at_hand: Returns the value if it was fetched before, otherwise None. It makes no call.

        Raises:
            AuthenticationError: The fetch failed, now or just before.
            ProviderBusy: Too many threads call the provider already.
        """
        ready = self._ready(at_hand)
        if ready is not None:
            return ready
        # A static document says nothing about the time that a login takes at the provider.
        with self._gate.slot():
            return self._flight.run(lambda: self._attempt(fetch), lambda: self._ready(at_hand))

    def _ready(self, at_hand: Callable[[], _T | None]) -> _T | None:
        ready, failure = at_hand(), self._failure
        if ready is None and failure is not None and self._clock() - failure[0] < _REMEMBERED_SECONDS:
            raise own_copy(failure[1])
        return ready

    def _attempt(self, fetch: Callable[[], _T]) -> _T:
        self._failure = None
        try:
            return fetch()
        except AuthenticationError as error:
            if self._gate.limited:
                self._failure = (self._clock(), own_copy(error))
            raise
