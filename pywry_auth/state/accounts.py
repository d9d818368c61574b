"""The accounts of one program, and the current one."""

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
    """The stored details of one user's last sign-in.

    Args:
        user_info: The user's profile, unchanged from the provider's response.
        asked: The requested scopes. Another request for them would bring no more than the provider granted
            then.
    """

    user_info: dict[str, Any] = field(repr=False)
    asked: frozenset[str] = frozenset()


class Accounts:
    """The users of one program, stored for silent sign-ins.

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
        data = self._backend.get(_CURRENT + self._client)
        return None if data is None else _user_id(data)

    def get(self, user_id: str) -> Account | None:
        """Return the account of a user, or None."""
        data = self._backend.get(self._profile_key(user_id))
        return unpack(data, _account, "profile") if data else None

    def remember(self, user_id: str, user_info: Mapping[str, Any], asked: Iterable[str]) -> None:
        """Store the account of a sign-in, and select its user.

        Args:
            user_id: The ID of the user who signed in.
            user_info: The provider's profile.
            asked: The requested scopes.
        """
        record = {"user_info": dict(user_info), "asked": sorted(asked)}
        self._backend.put(self._profile_key(user_id), pack(record))
        self.select(user_id)

    def select(self, user_id: str) -> None:
        """Make a user the current one."""
        self._backend.put(_CURRENT + self._client, pack({"user_id": user_id}))

    def forget(self, user_id: str) -> None:
        """Remove the account of a user.

        If it was the current account, there is no current account afterwards.
        """
        self._backend.pop(self._profile_key(user_id))
        data = self._backend.get(_CURRENT + self._client)
        if data is not None and _user_id(data) == user_id:
            self._backend.pop(_CURRENT + self._client, data)  # unless another user became the current one

    def _profile_key(self, user_id: str) -> str:
        # The client's length keeps "a:b" + "c" and "a" + "b:c" apart.
        return f"{_PROFILE}{len(self._client)}:{self._client}:{user_id}"


def _user_id(data: bytes) -> str | None:
    return unpack(data, lambda members: members.text("user_id"), "current account") or None


def _account(members: Members) -> Account:
    return Account(members.mapping("user_info"), frozenset(members.texts("asked")))
