"""The token store: a token set per user, on any backend."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager

from pywry_auth.backends.base import Backend, Terms
from pywry_auth.backends.lease import Lease
from pywry_auth.models import OAuthTokenSet
from pywry_auth.state.records import pack_tokens, unpack_tokens

_GRACE = 300
"""Seconds for which a set is kept after its access token expired, so that a refresh can still begin."""

_KIND = "oauth:tokens:"
_GROUP = "oauth:tokens"


class TokenStore:
    """Token sets under user IDs, which may be any text.

    A set without a refresh token expires 300 s after its access token, because it is useless afterwards. A
    set whose access token does not expire is kept until it is deleted.

    Args:
        backend: The backend that keeps the records.
        refresh_token_ttl: Seconds for which a set with a refresh token is kept after it was saved, but at
            least until 300 s after its access token expired; None keeps it until it is deleted.
    """

    def __init__(self, backend: Backend, *, refresh_token_ttl: float | None = None) -> None:
        self._backend = backend
        self._refresh_token_ttl = refresh_token_ttl

    @property
    def backend(self) -> Backend:
        """The backend, which also keeps other records of the program."""
        return self._backend

    def save(self, key: str, tokens: OAuthTokenSet) -> None:
        """Store a user's token set, replacing an earlier one.

        Args:
            key: The user's ID.
            tokens: The token set that the provider issued.

        Raises:
            StoreUnavailable: The store is down; an earlier set is still there.
        """
        self._put(key, tokens)

    def replace(self, key: str, tokens: OAuthTokenSet, instead_of: OAuthTokenSet) -> bool:
        """Replace a token set with the refreshed one.

        The comparison and the write are one step, so that a refresh overwrites neither a sign-out nor a new
        sign-in.

        Args:
            key: The user's ID.
            tokens: The token set that the refresh returned.
            instead_of: The old token set, unchanged since it was loaded.

        Returns:
            Whether it was stored.
        """
        data = self._stored(key, instead_of)
        return data is not None and self._put(key, tokens, data)

    def load(self, key: str) -> OAuthTokenSet | None:
        """Return a user's token set; None if missing or unreadable."""
        data = self._backend.get(_KIND + key)
        return None if data is None else unpack_tokens(data)

    def delete(self, key: str) -> bool:
        """Remove a user's token set; return whether there was one."""
        return self._backend.pop(_KIND + key, group=_GROUP) is not None

    def take(self, key: str) -> OAuthTokenSet | None:
        """Remove a user's token set and return it, or None.

        This is one step: if several callers take one set, one of them gets it.
        """
        data = self._backend.pop(_KIND + key, group=_GROUP)
        return None if data is None else unpack_tokens(data)

    def discard(self, key: str, tokens: OAuthTokenSet) -> bool:
        """Remove a token set unless another one replaced it.

        Args:
            key: The user's ID.
            tokens: The token set to remove, unchanged since it was loaded.

        Returns:
            Whether it was removed.
        """
        data = self._stored(key, tokens)
        return data is not None and self._backend.pop(_KIND + key, data, group=_GROUP) is not None

    def exists(self, key: str) -> bool:
        """Return whether a token set is stored for a user."""
        return self._backend.get(_KIND + key) is not None

    def list_keys(self) -> list[str]:
        """Return the IDs of all users with stored tokens, unordered."""
        return [key.removeprefix(_KIND) for key in self._backend.members(_GROUP)]

    def lock(self, key: str, wait: float) -> AbstractContextManager[Lease]:
        """Return a lock on one user's tokens (see :meth:`Backend.lock`).

        Args:
            key: The user's ID.
            wait: Seconds to wait for another holder.
        """
        return self._backend.lock("oauth:lock:" + key, wait)

    def last_failure(self, key: str) -> str | None:
        """Return the last recorded failure, or None.

        Each failure has a different text. A failure expires after its lifetime.
        """
        data = self._backend.get("oauth:failed:" + key)
        return None if data is None else data.decode("ascii", "replace")

    def record_failure(self, key: str, error: str, lifetime: float) -> None:
        """Record that the work under a user's lock failed.

        The record is for the callers that wait for the lock.

        Args:
            key: The user's ID.
            error: The error code, which becomes the end of the recorded text.
            lifetime: Seconds after which the record expires.
        """
        text = f"{os.urandom(8).hex()} {error}"
        self._backend.put("oauth:failed:" + key, text.encode("ascii", "replace"), Terms(ttl=lifetime))

    def probe(self) -> None:
        """Check that tokens can be stored.

        A program calls this before a user signs in.

        Raises:
            StoreUnavailable: They cannot be stored; the text gives the reason and the remedy.
        """
        self._backend.probe()

    def close(self) -> None:
        """Close the backend's connections; a later call opens new ones."""
        self._backend.close()

    def _stored(self, key: str, tokens: OAuthTokenSet) -> bytes | None:
        """Return the stored bytes of a token set.

        Returns:
            The bytes, or None if another token set is stored.
        """
        data = self._backend.get(_KIND + key)
        return data if data is not None and unpack_tokens(data) == tokens else None

    def _put(self, key: str, tokens: OAuthTokenSet, expected: bytes | None = None) -> bool:
        terms = Terms(ttl=self._lifetime(tokens), group=_GROUP, expected=expected)
        return self._backend.put(_KIND + key, pack_tokens(tokens), terms)

    def _lifetime(self, tokens: OAuthTokenSet) -> float | None:
        if tokens.expires_in is None:
            return None
        useful = max(0, tokens.expires_in) + _GRACE
        if tokens.refresh_token is None:
            return useful
        return None if self._refresh_token_ttl is None else max(useful, self._refresh_token_ttl)
