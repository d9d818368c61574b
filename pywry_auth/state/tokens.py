"""The token store: one token set for each user ID, on any backend."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager

from pywry_auth.backends.base import Backend, Terms
from pywry_auth.models import OAuthTokenSet
from pywry_auth.state.records import pack_tokens, unpack_tokens

_GRACE = 300
"""Seconds that a set outlives its access token, so that a refresh can still begin."""

_KIND = "oauth:tokens:"
_GROUP = "oauth:tokens"


class TokenStore:
    """Token sets under user IDs, which may be any text.

    A set without a refresh token expires 300 s after its access token, because it is of no use afterwards. A
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
        """The backend, where other records of the same program belong too."""
        return self._backend

    def save(self, key: str, tokens: OAuthTokenSet) -> None:
        """Store the token set of a user, in place of an earlier one.

        Args:
            key: The user's ID.
            tokens: The token set that the provider issued.

        Raises:
            StoreUnavailable: The store is down; an earlier set is still there.
        """
        self._put(key, tokens)

    def replace(self, key: str, tokens: OAuthTokenSet, instead_of: OAuthTokenSet) -> bool:
        """Store a token set only in place of the one that it follows.

        The comparison and the write are one step: a refresh overwrites neither a sign-out nor a new sign-in.

        Args:
            key: The user's ID.
            tokens: The token set that the refresh returned.
            instead_of: The token set that was refreshed, as it was loaded.

        Returns:
            Whether it was stored.
        """
        data = self._stored(key, instead_of)
        return data is not None and self._put(key, tokens, data)

    def load(self, key: str) -> OAuthTokenSet | None:
        """Return the token set of a user, or None if there is no readable one."""
        data = self._backend.get(_KIND + key)
        return None if data is None else unpack_tokens(data)

    def delete(self, key: str) -> bool:
        """Remove the token set of a user and return whether there was one."""
        return self._backend.pop(_KIND + key, group=_GROUP) is not None

    def take(self, key: str) -> OAuthTokenSet | None:
        """Remove the token set of a user in one step and return it, or None without one."""
        data = self._backend.pop(_KIND + key, group=_GROUP)
        return None if data is None else unpack_tokens(data)

    def discard(self, key: str, tokens: OAuthTokenSet) -> bool:
        """Remove a token set unless another one has taken its place.

        Args:
            key: The user's ID.
            tokens: The useless set, as it was loaded.

        Returns:
            Whether it was removed.
        """
        data = self._stored(key, tokens)
        return data is not None and self._backend.pop(_KIND + key, data, group=_GROUP) is not None

    def exists(self, key: str) -> bool:
        """Return whether a token set is stored for a user."""
        return self._backend.get(_KIND + key) is not None

    def list_keys(self) -> list[str]:
        """Return the IDs of all users who have a token set, in no order."""
        return [key.removeprefix(_KIND) for key in self._backend.members(_GROUP)]

    def lock(self, key: str, lifetime: float) -> AbstractContextManager[None]:
        """Return a lock on one user's tokens (see :meth:`Backend.lock`).

        A caller waits for two lifetimes: the holder may have died, and the next one needs its time too.

        Args:
            key: The user's ID.
            lifetime: Seconds after which the lock frees itself.
        """
        return self._backend.lock("oauth:lock:" + key, lifetime, wait=2 * lifetime)

    def last_failure(self, key: str) -> str | None:
        """Return the last recorded failure, or None after its lifetime; no two texts are equal."""
        data = self._backend.get("oauth:failed:" + key)
        return None if data is None else data.decode("ascii", "replace")

    def record_failure(self, key: str, error: str, lifetime: float) -> None:
        """Record for the callers that wait for a user's lock that the work under it failed.

        Args:
            key: The user's ID.
            error: The error code, which becomes the end of the recorded text.
            lifetime: Seconds after which the record expires.
        """
        text = f"{os.urandom(8).hex()} {error}"
        self._backend.put("oauth:failed:" + key, text.encode("ascii", "replace"), Terms(ttl=lifetime))

    def probe(self) -> None:
        """Check that tokens can be stored, before a user signs in.

        Raises:
            StoreUnavailable: They cannot be stored; the text says why and what to do.
        """
        self._backend.probe()

    def close(self) -> None:
        """Close the backend's connections; a later call opens new ones."""
        self._backend.close()

    def _stored(self, key: str, tokens: OAuthTokenSet) -> bytes | None:
        """Return the stored bytes of a token set, or None if they stand for another one."""
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
