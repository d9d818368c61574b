"""The accounts of one program: which was used last, and what the provider said of each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pywry_auth.backends.base import Backend
from pywry_auth.state.records import Members, pack, unpack

_CURRENT = "oauth:current:"
_PROFILE = "oauth:profile:"


@dataclass(frozen=True)
class Account:
    """What is known of a user since they signed in.

    Args:
        user_info: The provider's profile, as it sent it.
        asked: The scopes that were asked for: asking again brings no more than it granted then.
    """

    user_info: dict[str, Any] = field(repr=False)
    asked: frozenset[str] = frozenset()


class Accounts:
    """What a program remembers of its users beside their tokens, so that it can sign them in silently.

    Args:
        backend: Where the tokens are too.
        client_id: The program's: two programs on one store do not see each other's.
    """

    def __init__(self, backend: Backend, client_id: str) -> None:
        self._backend = backend
        self._client = client_id

    @property
    def current(self) -> str | None:
        """The user ID that was used last, or None."""
        data = self._backend.get(_CURRENT + self._client)
        return (data and unpack(data, lambda members: members.text("user_id"), "current account")) or None

    def get(self, user_id: str) -> Account | None:
        """Return what is known of a user, or None."""
        data = self._backend.get(self._profile_key(user_id))
        return unpack(data, _account, "profile") if data else None

    def remember(self, user_id: str, user_info: Mapping[str, Any], asked: Iterable[str]) -> None:
        """Store what a sign-in brought, and make its user the current one.

        Args:
            user_id: Who signed in.
            user_info: The provider's profile.
            asked: The scopes that were asked for.
        """
        record = {"user_info": dict(user_info), "asked": sorted(asked)}
        self._backend.put(self._profile_key(user_id), pack(record))
        self.select(user_id)

    def select(self, user_id: str) -> None:
        """Make a user the current one."""
        self._backend.put(_CURRENT + self._client, pack({"user_id": user_id}))

    def forget(self, user_id: str) -> None:
        """Remove what is known of a user; nobody is current if they were."""
        self._backend.pop(self._profile_key(user_id))
        if self.current == user_id:
            self._backend.pop(_CURRENT + self._client)

    def _profile_key(self, user_id: str) -> str:
        # The client's length keeps "a:b" + "c" and "a" + "b:c" apart.
        return f"{_PROFILE}{len(self._client)}:{self._client}:{user_id}"


def _account(members: Members) -> Account:
    return Account(members.mapping("user_info"), frozenset(members.texts("asked")))
