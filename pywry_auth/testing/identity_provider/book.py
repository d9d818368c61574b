"""The book of grants: the provider's grants, and which of their tokens are active."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pywry_auth.testing.identity_provider.vault import Grant, Kind

_Key = tuple["Kind", bytes]


@dataclass(frozen=True)
class IssuedGrant:
    """One grant for which the provider issued tokens.

    It contains digests instead of tokens (SHA-256, in hexadecimal).

    Args:
        number: The place in the order of issue, from 1. A later sign-in has a higher number.
        user_id: The user's ``sub``.
        client_id: The client that received the tokens.
        ended: Whether the grant has ended: its refresh token was revoked, one secret was used twice, or it
            was bound to a session at the provider that ended.
        refresh_tokens: The digests of the refresh tokens that are still active.
        access_tokens: The digests of the access tokens that are still active.
        tokens: The digests of all tokens of the grant, active or not.
    """

    number: int
    user_id: str
    client_id: str
    ended: bool
    refresh_tokens: frozenset[str] = field(repr=False)
    access_tokens: frozenset[str] = field(repr=False)
    tokens: frozenset[str] = field(repr=False)

    @property
    def live(self) -> bool:
        """Whether at least one token is still active."""
        return bool(self.refresh_tokens or self.access_tokens)


@dataclass
class _Entry:
    number: int
    grant: Grant
    keys: dict[_Key, None] = field(default_factory=dict)


class GrantBook:
    """Grants in their order of issue, with the keys of their tokens.

    The caller's lock guards it.

    Args:
        limit: The maximum number of tokens. The oldest token then makes room, so that memory stays bounded.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._numbers = count(1)
        self._entries: dict[int, _Entry] = {}  # by the identity of the grant, which the entry keeps alive
        self._size = 0

    def add(self, grant: Grant, key: _Key) -> None:
        """Note that a token was issued for a grant."""
        entry = self._entries.get(id(grant))
        if entry is None:
            entry = self._entries[id(grant)] = _Entry(next(self._numbers), grant)
        entry.keys[key] = None
        self._size += 1
        if self._size > self._limit:
            self._forget_oldest()

    def read(self, is_active: Callable[[_Key], bool], after: int) -> Iterator[IssuedGrant]:
        """Yield the grants, the newest first.

        Args:
            is_active: Returns whether a token is still active.
            after: Only grants with a higher number are read.
        """
        for entry in reversed(self._entries.values()):
            if entry.number <= after:
                return
            active = [key for key in entry.keys if is_active(key)]
            yield IssuedGrant(
                entry.number,
                entry.grant.user.subject,
                entry.grant.client_id,
                entry.grant.is_over,
                frozenset(digest.hex() for kind, digest in active if kind == "refresh"),
                frozenset(digest.hex() for kind, digest in active if kind == "access"),
                frozenset(digest.hex() for _, digest in entry.keys),
            )

    def _forget_oldest(self) -> None:
        name, entry = next(iter(self._entries.items()))
        del entry.keys[next(iter(entry.keys))]
        self._size -= 1
        if not entry.keys:
            del self._entries[name]
