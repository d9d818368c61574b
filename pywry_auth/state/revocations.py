"""The queue of revocations that the provider has not confirmed yet."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from pywry_auth.backends.base import Backend, Terms, When
from pywry_auth.digests import digest_of
from pywry_auth.models import OAuthTokenSet
from pywry_auth.state.records import Members, pack, unpack
from pywry_auth.state.token_record import token_members, tokens_of

KEPT_SECONDS = 24 * 3600.0
"""Seconds for which a revocation is tried again."""

_GROUP = "oauth:revocations"
_KIND = "oauth:revocation:"
_FIRST_PAUSE = 10.0  # seconds
_LONGEST_PAUSE = 600.0  # seconds


@dataclass(frozen=True)
class Revocation:
    """Tokens that must be revoked.

    Args:
        key: The key of the record.
        user_id: The user of the sign-in; empty if it failed before the user was known.
        tokens: The tokens.
        added_at: Unix time in seconds.
        tries: How many attempts have begun.
        due_at: Unix time in seconds of the next attempt.
        data: The stored bytes.
    """

    key: str
    user_id: str
    tokens: OAuthTokenSet
    added_at: float
    tries: int = 0
    due_at: float = 0.0
    data: bytes = field(default=b"", repr=False)


class RevocationQueue:
    """Tokens that must be revoked, stored for 24 hours.

    A revocation enters the queue before the request to the provider, and leaves it when the provider has
    answered. It therefore survives the end of the process.

    Args:
        backend: The backend that keeps the tokens too.
        clock: Unix time in seconds.
        on_postponed: Called when a first attempt failed and the revocation stays in the queue.
    """

    def __init__(
        self,
        backend: Backend,
        clock: Callable[[], float] = time.time,
        on_postponed: Callable[[], None] = lambda: None,
    ) -> None:
        self._backend = backend
        self._clock = clock
        self.on_postponed = on_postponed

    def add(self, user_id: str, tokens: OAuthTokenSet) -> Revocation:
        """Store a revocation and return it.

        The caller makes the first attempt itself.

        Args:
            user_id: The user of the sign-in; empty if unknown.
            tokens: The tokens to revoke.

        Raises:
            StoreUnavailable: The store is down.
        """
        now = self._clock()
        key = f"{_KIND}{digest_of(user_id)}:{os.urandom(12).hex()}"
        revocation = Revocation(key, user_id, tokens, now, 1, now + _FIRST_PAUSE)
        self._backend.put(key, _pack(revocation), Terms(ttl=KEPT_SECONDS, group=_GROUP, when=When.ABSENT))
        return revocation

    def remove(self, revocation: Revocation) -> None:
        """Remove a revocation from the queue.

        Raises:
            StoreUnavailable: The store is down; the revocation will be tried once more.
        """
        self._backend.pop(revocation.key, group=_GROUP)

    def of_user(self, user_id: str) -> Iterator[Revocation]:
        """Claim and return the revocations of one user, due or not.

        Args:
            user_id: The user.
        """
        return self._claimed(f"{_KIND}{digest_of(user_id)}:", due_by=float("inf"))

    def due(self) -> Iterator[Revocation]:
        """Claim and return the revocations that are due.

        A claimed revocation is due again after a pause, which doubles with each attempt. Two processes never
        claim one revocation at the same time.
        """
        return self._claimed(_KIND, due_by=self._clock())

    def next_due(self) -> float | None:
        """Return the Unix time in seconds of the next attempt; None if the queue is empty."""
        found = (self._find(key) for key in self._backend.members(_GROUP))
        return min((revocation.due_at for revocation in found if revocation), default=None)

    def _claimed(self, prefix: str, due_by: float) -> Iterator[Revocation]:
        for key in self._backend.members(_GROUP):
            revocation = self._find(key) if key.startswith(prefix) else None
            if revocation is not None and revocation.due_at <= due_by and self._claim(revocation):
                yield revocation

    def _claim(self, revocation: Revocation) -> bool:
        now = self._clock()
        pause = min(_FIRST_PAUSE * 2**revocation.tries, _LONGEST_PAUSE)
        claimed = replace(revocation, tries=revocation.tries + 1, due_at=now + pause)
        left = max(1.0, revocation.added_at + KEPT_SECONDS - now)
        terms = Terms(ttl=left, group=_GROUP, expected=revocation.data)
        return self._backend.put(revocation.key, _pack(claimed), terms)

    def _find(self, key: str) -> Revocation | None:
        data = self._backend.get(key)
        if data is None:
            return None
        return unpack(data, lambda members: _revocation(members, key, data), "revocation")


def _pack(revocation: Revocation) -> bytes:
    return pack(
        {
            "user_id": revocation.user_id,
            "tokens": token_members(revocation.tokens),
            "added_at": revocation.added_at,
            "tries": revocation.tries,
            "due_at": revocation.due_at,
        }
    )


def _revocation(members: Members, key: str, data: bytes) -> Revocation:
    return Revocation(
        key,
        members.text("user_id"),
        tokens_of(Members(members.mapping("tokens"))),
        members.number("added_at"),
        int(members.number("tries")),
        members.number("due_at"),
        data,
    )
