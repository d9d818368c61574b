"""Fresh tokens that could not be stored, kept in this process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pywry_auth.models import OAuthTokenSet
from pywry_auth.per_process import PerProcess


@dataclass(frozen=True)
class Unsaved:
    """Fresh tokens, and the stored set that they replace.

    Args:
        instead_of: The stored set. Its refresh token is invalid by now.
        fresh: The tokens that the refresh returned.
        review: See :class:`StoredTokens`.
    """

    instead_of: OAuthTokenSet
    fresh: OAuthTokenSet
    review: str = ""


class UnsavedTokens:
    """The fresh tokens that wait in this process for the store, by user ID.

    The lock guards the dictionary.
    """

    def __init__(self) -> None:
        self._lock = PerProcess(threading.Lock)
        self._by_key: dict[str, Unsaved] = {}

    def keep(self, key: str, instead_of: OAuthTokenSet, fresh: OAuthTokenSet, review: str = "") -> None:
        """Keep fresh tokens for the next caller.

        Args:
            key: The user's ID.
            instead_of: The stored set that they replace.
            fresh: The fresh tokens.
            review: See :class:`StoredTokens`.
        """
        with self._lock():
            self._by_key[key] = Unsaved(instead_of, fresh, review)

    def users(self) -> list[str]:
        """Return the IDs of the users with tokens that wait."""
        with self._lock():
            return list(self._by_key)

    @contextmanager
    def taken(self, key: str) -> Iterator[Unsaved | None]:
        """Take a user's tokens out while the ``with`` block stores them.

        One caller gets them. If the block fails, they are kept again.

        Args:
            key: The user's ID.
        """
        with self._lock():
            unsaved = self._by_key.pop(key, None)
        try:
            yield unsaved
        except BaseException:
            if unsaved is not None:
                with self._lock():
                    self._by_key.setdefault(key, unsaved)
            raise
