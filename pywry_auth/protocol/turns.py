"""One caller at a time, and a failure shared by all who waited for it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from pywry_auth.exceptions import AuthenticationError


class Turns:
    """Lets one caller at a time fetch something that all of them need.

    Who waits while the attempt of another fails gets that failure: else, with an issuer that does not answer,
    the last of many threads would wait for everybody's time-out, one after the other. The lock guards the
    failure, and whatever the block changes.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failures = 0
        self._latest = ("", "")

    @contextmanager
    def take(self) -> Iterator[None]:
        """Run the block alone.

        Raises:
            AuthenticationError: The block's own, or that of the turn that was waited for.
        """
        seen = self._failures
        with self._lock:
            if self._failures != seen:
                message, error = self._latest
                raise AuthenticationError(message, error=error)
            try:
                yield
            except AuthenticationError as failure:
                self._failures, self._latest = self._failures + 1, (str(failure), failure.error)
                raise
