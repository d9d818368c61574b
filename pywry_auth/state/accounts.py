"""The accounts of one program, and the current one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pywry_auth.backends.base import Backend, Terms, When
from pywry_auth.state.records import Members, pack, unpack

_CURRENT = "oauth:current:"
_PROFILE = "oauth:profile:"


@dataclass(frozen=True)
class StoredProfile:
    """The stored details of one user's last sign-in.

    Args:
        user_info: The user's profile, unchanged from the provider's response.
        asked: The requested scopes. Another request for them would bring no more than the provider granted
            then.
    """

    user_info: dict[str, Any] = field(repr=False)
    asked: frozenset[str] = frozenset()


@dataclass(frozen=True)
class AccountRecords:
    """The records of one account at one time, to be removed only if they are still the same.

    Args:
        profile: The record with the profile, or None.
        current: The record of the current account, if it is this account.
    """

    profile: bytes | None = field(repr=False)
    current: bytes | None = field(repr=False)


class Accounts:
    """The users of one program, stored for silent sign-ins.

    Each write has a mark of its own, so that a removal never affects a later sign-in of the same user.

    Args:
        backend: The backend that keeps the tokens too.
        client_id: The client ID of the program. Two programs on one backend do not see each other's accounts.
    """

    def __init__(self, backend: Backend, client_id: str) -> None:
        self._backend = backend
        self._client = client_id

    @property
    def current(self) -> str | None:
        """The ID of the user selected last, or None."""
        return next(iter(self.candidates), None)

    @property
    def candidates(self) -> tuple[str, ...]:
        """The ID of the user selected last, and that of the user before if a sign-in was interrupted."""
        data = self._backend.get(_CURRENT + self._client)
        return () if data is None else _user_ids(data)

    def get(self, user_id: str) -> StoredProfile | None:
        """Return the stored profile of a user, or None."""
        data = self._backend.get(self._profile_key(user_id))
        return unpack(data, _profile, "profile") if data else None

    def expect(self, user_id: str, has_tokens: Callable[[str], bool]) -> None:
        """Select a user whose tokens will be stored next.

        If the process ends before that, the user before is still known. Another process may select a user at
        the same time, so the record is replaced only if it is still the one that was read.

        Args:
            user_id: The user's ID.
            has_tokens: Returns whether a user is signed in.
        """
        while True:
            data = self._backend.get(_CURRENT + self._client)
            users = () if data is None else _user_ids(data)
            before = next((user for user in users if user != user_id and has_tokens(user)), "")
            if self._put_current(user_id, before, Terms(when=When.ABSENT, expected=data)):
                return

    def remember(self, user_id: str, user_info: Mapping[str, Any], asked: Iterable[str]) -> None:
        """Store the account of a sign-in, and select its user.

        Args:
            user_id: The user's ID.
            user_info: The provider's profile.
            asked: The requested scopes.
        """
        record = {"user_info": dict(user_info), "asked": sorted(asked), "mark": _mark()}
        self._backend.put(self._profile_key(user_id), pack(record))
        self.select(user_id)

    def select(self, user_id: str) -> None:
        """Make a user the current one."""
        self._put_current(user_id)

    def records(self, user_id: str) -> AccountRecords:
        """Return the present records of a user, for ``forget``."""
        current = self._backend.get(_CURRENT + self._client)
        is_current = current is not None and user_id in _user_ids(current)
        profile = self._backend.get(self._profile_key(user_id))
        return AccountRecords(profile, current if is_current else None)

    def forget(self, user_id: str, records: AccountRecords | None = None) -> None:
        """Remove the account of a user.

        If it was the current account, there is no current account afterwards.

        Args:
            user_id: The ID of the user.
            records: The records to remove, unless they were replaced; by default the present ones.
        """
        found = self.records(user_id) if records is None else records
        if found.profile is not None:
            self._backend.pop(self._profile_key(user_id), found.profile)
        if found.current is not None:
            self._backend.pop(_CURRENT + self._client, found.current)

    def _put_current(self, user_id: str, before: str = "", terms: Terms = Terms()) -> bool:
        record = {"user_id": user_id, "before": before, "mark": _mark()}
        return self._backend.put(_CURRENT + self._client, pack(record), terms)

    def _profile_key(self, user_id: str) -> str:
        # The client's length keeps "a:b" + "c" and "a" + "b:c" apart.
        return f"{_PROFILE}{len(self._client)}:{self._client}:{user_id}"


def _mark() -> str:
    return os.urandom(9).hex()


def _user_ids(data: bytes) -> tuple[str, ...]:
    def read(members: Members) -> tuple[str, ...]:
        found = (members.text("user_id"), members.optional_text("before"))
        return tuple(user_id for user_id in found if user_id)

    return unpack(data, read, "current account") or ()


def _profile(members: Members) -> StoredProfile:
    return StoredProfile(members.mapping("user_info"), frozenset(members.texts("asked")))
