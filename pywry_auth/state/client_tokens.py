"""The token of a client itself, on the backend of the users' tokens."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager

from pywry_auth.backends.base import Backend, Terms
from pywry_auth.backends.lease import Lease
from pywry_auth.models import OAuthTokenSet
from pywry_auth.state.token_record import pack_tokens, unpack_tokens

_TOKENS = "oauth:client:"
_LOCK = "oauth:client_lock:"
_FAILED = "oauth:client_failed:"
_GRACE = 300.0  # seconds
_WITHOUT_LIFETIME = 3600.0  # seconds


class ClientTokenRecord:
    """One record, of a kind that is never among those of users.

    Args:
        backend: The backend.
        name: The name of the record.
    """

    def __init__(self, backend: Backend, name: str) -> None:
        self._backend = backend
        self._name = name

    def load(self) -> OAuthTokenSet | None:
        """Return the stored token; None if missing or unreadable."""
        data = self._backend.get(_TOKENS + self._name)
        return None if data is None else unpack_tokens(data)

    def save(self, tokens: OAuthTokenSet) -> None:
        """Store a token for as long as it can be used."""
        ttl = _WITHOUT_LIFETIME if tokens.expires_in is None else tokens.expires_in + _GRACE
        self._backend.put(_TOKENS + self._name, pack_tokens(tokens), Terms(ttl=ttl))

    def last_failure(self) -> str | None:
        """Return the last recorded failure, or None; each has a different text."""
        data = self._backend.get(_FAILED + self._name)
        return None if data is None else data.decode("ascii", "replace")

    def record_failure(self, text: str, lifetime: float) -> None:
        """Record a failure for the callers that wait for the lock.

        Args:
            text: The failure.
            lifetime: Seconds after which the record expires.
        """
        data = f"{os.urandom(8).hex()} {text}".encode("ascii", "replace")
        self._backend.put(_FAILED + self._name, data, Terms(ttl=lifetime))

    def lock(self, wait: float) -> AbstractContextManager[Lease]:
        """Return a lock on the record (see :meth:`Backend.lock`).

        Args:
            wait: Seconds to wait for another holder.
        """
        return self._backend.lock(_LOCK + self._name, wait)
