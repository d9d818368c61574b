"""The queue of revocations that the provider has not confirmed yet."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace
from weakref import WeakMethod

from pywry_auth.backends.base import Backend, Terms, UnreadableRecord, When
from pywry_auth.digests import digest_of
from pywry_auth.models import OAuthTokenSet
from pywry_auth.per_process import PerProcess
from pywry_auth.state.records import Members, pack, unpack
from pywry_auth.state.token_record import token_members, tokens_of

KEPT_SECONDS = 24 * 3600.0
"""Seconds for which a revocation is tried again."""

PER_USER = 100
"""How many revocations of one user are tried again in that time."""

OF_UNKNOWN_USERS = 1000
"""How many revocations of sign-ins without a known user are tried again in that time, together."""

_GROUP = "oauth:revocations"
_FAILED = "oauth:unrevoked:"
_KIND = "oauth:revocation:"
_FIRST_PAUSE = 10.0  # seconds
_LONGEST_PAUSE = 600.0  # seconds
_MOST_HERE = 1000  # more cannot be in flight when the store and the provider fail at once
_MOST_TRIES = 10_000  # more than fit into the time for which a revocation is kept


def _any(tokens: OAuthTokenSet) -> bool:
    return True


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
    answered. It therefore survives the end of the process. If the store and the provider fail at once, the
    process keeps it. The lock guards the list of these.

    Args:
        backend: The backend that keeps the tokens too.
        clock: Unix time in seconds.
    """

    def __init__(self, backend: Backend, clock: Callable[[], float] = time.time) -> None:
        self._backend = backend
        self._clock = clock
        self._listeners: list[WeakMethod[Callable[[], None]]] = []
        self._lock = PerProcess(threading.Lock)
        self._kept_here: list[tuple[str, OAuthTokenSet]] = []

    def on_postponed(self, listener: Callable[[], None]) -> None:
        """Call a method whenever work is left that must be tried again.

        Args:
            listener: A bound method; its object is not kept alive.
        """
        living = [each for each in self._listeners if each() is not None]
        self._listeners = [*living, WeakMethod(listener)]

    def postponed(self) -> None:
        """Tell the listeners that work is left."""
        for reference in self._listeners:
            listener = reference()
            if listener is not None:
                listener()

    def add(self, user_id: str, tokens: OAuthTokenSet) -> Revocation:
        """Store a revocation and return it.

        The caller makes the first attempt itself, or leaves it to the workers with :meth:`leave`.

        Args:
            user_id: The user of the sign-in; empty if unknown.
            tokens: The tokens to revoke.

        Raises:
            StoreUnavailable: The store is down.
        """
        now = self._clock()
        key = f"{_KIND}{digest_of(user_id)}:{os.urandom(12).hex()}"
        revocation = Revocation(key, user_id, tokens, now, 1, now + _FIRST_PAUSE)
        data = _pack(revocation)
        self._backend.put(key, data, Terms(ttl=KEPT_SECONDS, group=_GROUP, when=When.ABSENT))
        return replace(revocation, data=data)

    def keep_here(self, user_id: str, tokens: OAuthTokenSet) -> bool:
        """Keep a revocation in this process until the store answers.

        Args:
            user_id: The user of the sign-in; empty if unknown.
            tokens: The tokens to revoke.

        Returns:
            False if too many wait already.
        """
        with self._lock():
            room = len(self._kept_here) < _MOST_HERE
            if room:
                self._kept_here.append((user_id, tokens))
        self.postponed()
        return room

    def store_kept(self) -> None:
        """Store the revocations that this process keeps, each in one thread only; they are due at once.

        Raises:
            StoreUnavailable: The store is still down; the process keeps the others.
        """
        while True:
            with self._lock():
                if not self._kept_here:
                    return
                user_id, tokens = self._kept_here.pop()
            try:
                revocation = self.add(user_id, tokens)
            except BaseException:
                with self._lock():
                    self._kept_here.append((user_id, tokens))
                raise
            self.leave(revocation)

    def leave(self, revocation: Revocation) -> None:
        """Leave the first attempt to the workers, which make it at once.

        Without this call, they make it after a pause. If another process has claimed the revocation, nothing
        happens.

        Args:
            revocation: The result of :meth:`add`.

        Raises:
            StoreUnavailable: The store is down.
        """
        now = self._clock()
        left = max(1.0, revocation.added_at + KEPT_SECONDS - now)
        due = replace(revocation, tries=0, due_at=now)
        self._backend.put(revocation.key, _pack(due), Terms(ttl=left, group=_GROUP, expected=revocation.data))

    def keep(self, revocation: Revocation) -> bool:
        """Keep a revocation whose first attempt failed, unless its user has too many.

        A user can cause any number of them while the provider revokes no token, and each is stored and tried
        for 24 hours. Those beyond the limit leave the queue.

        Args:
            revocation: The revocation.

        Returns:
            Whether it will be tried again.

        Raises:
            StoreUnavailable: The store is down; the revocation may still be in the queue.
        """
        if revocation.tries > 1:
            return True
        limit = PER_USER if revocation.user_id else OF_UNKNOWN_USERS
        if self._backend.count(_FAILED + digest_of(revocation.user_id), KEPT_SECONDS) <= limit:
            return True
        self.remove(revocation)
        return False

    def remove(self, revocation: Revocation) -> None:
        """Remove a revocation from the queue.

        Raises:
            StoreUnavailable: The store is down; the revocation will be tried once more.
        """
        self._backend.pop(revocation.key, group=_GROUP)

    def of_user(self, user_id: str, ours: Callable[[OAuthTokenSet], bool] = _any) -> Iterator[Revocation]:
        """Claim and return the revocations of one user, due or not.

        Args:
            user_id: The user.
            ours: Whether the caller can revoke a token set. Other applications may share the store.
        """
        return self.of_users([user_id], ours)

    def of_users(
        self, users: Collection[str], ours: Callable[[OAuthTokenSet], bool] = _any
    ) -> Iterator[Revocation]:
        """Claim and return the revocations of several users, due or not.

        Args:
            users: The users.
            ours: Whether the caller can revoke a token set. Other applications may share the store.
        """
        return self._claimed(self._keys_of(users), float("inf"), ours)

    def count_of(self, users: Collection[str]) -> int:
        """Return how many revocations of some users are left.

        Args:
            users: The users.
        """
        return sum(1 for _ in self._keys_of(users))

    def due(
        self, ours: Callable[[OAuthTokenSet], bool] = _any, *, at_once: bool = False
    ) -> Iterator[Revocation]:
        """Claim and return the revocations that are due.

        A claimed revocation is due again after a pause, which doubles with each attempt. Two processes never
        claim one revocation at the same time.

        Args:
            ours: Whether the caller can revoke a token set.
            at_once: Whether to return those that are not due yet, too.
        """
        due_by = float("inf") if at_once else self._clock()
        return self._claimed(iter(self._backend.members(_GROUP)), due_by, ours)

    def next_due(self, ours: Callable[[OAuthTokenSet], bool] = _any) -> float | None:
        """Return the Unix time in seconds of the next attempt.

        Args:
            ours: Whether the caller can revoke a token set.

        Returns:
            The time; None if the queue has no such set.
        """
        found = (self._find(key) for key in self._backend.members(_GROUP))
        return min((each.due_at for each in found if each and ours(each.tokens)), default=None)

    def _keys_of(self, users: Collection[str]) -> Iterator[str]:
        digests = {digest_of(user) for user in users}
        for key in self._backend.members(_GROUP):
            if key.removeprefix(_KIND).partition(":")[0] in digests:
                yield key

    def _claimed(
        self, keys: Iterator[str], due_by: float, ours: Callable[[OAuthTokenSet], bool]
    ) -> Iterator[Revocation]:
        for key in keys:
            revocation = self._find(key)
            if revocation is None or revocation.due_at > due_by or not ours(revocation.tokens):
                continue
            claimed = self._claim(revocation)
            if claimed is not None:
                yield claimed

    def _claim(self, revocation: Revocation) -> Revocation | None:
        now = self._clock()
        tries = min(revocation.tries, _MOST_TRIES - 1)
        pause = min(_FIRST_PAUSE * 2 ** min(tries, 10), _LONGEST_PAUSE)
        claimed = replace(revocation, tries=tries + 1, due_at=now + pause)
        left = max(1.0, revocation.added_at + KEPT_SECONDS - now)
        terms = Terms(ttl=left, group=_GROUP, expected=revocation.data)
        return claimed if self._backend.put(revocation.key, _pack(claimed), terms) else None

    def _find(self, key: str) -> Revocation | None:
        data = self._backend.get(key)
        if data is None:
            return None
        try:
            return unpack(data, lambda members: _revocation(members, key, data), "revocation")
        except UnreadableRecord:
            return None  # a worker with the keys, or of the newer version, does this work


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
    added_at, due_at = members.moment("added_at"), members.moment("due_at")
    if due_at > added_at + KEPT_SECONDS + _LONGEST_PAUSE:
        raise ValueError("due_at is later than the end of the record")
    return Revocation(
        key,
        members.text("user_id"),
        tokens_of(Members(members.mapping("tokens"))),
        added_at,
        members.count("tries", _MOST_TRIES),
        due_at,
        data,
    )
