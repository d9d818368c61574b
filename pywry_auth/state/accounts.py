"""The accounts of one program: which was used last, and what the provider said of each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pywry_auth.backends.base import Backend
from pywry_auth.state.records import pack, unpack

_CURRENT = "oauth:current:"
_PROFILE = "oauth:profile:"


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

    def profile(self, user_id: str) -> dict[str, Any] | None:
        """Return what the provider said of a user at their last sign-in, or None."""
        data = self._backend.get(self._profile_key(user_id))
        return unpack(data, lambda members: members.mapping("user_info"), "profile") if data else None

    def remember(self, user_id: str, user_info: Mapping[str, Any]) -> None:
        """Store a profile, and make its user the current one."""
        self._backend.put(self._profile_key(user_id), pack({"user_info": dict(user_info)}))
        self.select(user_id)

    def select(self, user_id: str) -> None:
        """Make a user the current one."""
        self._backend.put(_CURRENT + self._client, pack({"user_id": user_id}))

    def forget(self, user_id: str) -> None:
        """Remove a user's profile; nobody is current if they were."""
        self._backend.pop(self._profile_key(user_id))
        if self.current == user_id:
            self._backend.pop(_CURRENT + self._client)

    def _profile_key(self, user_id: str) -> str:
        # The client's length keeps "a:b" + "c" and "a" + "b:c" apart.
        return f"{_PROFILE}{len(self._client)}:{self._client}:{user_id}"
