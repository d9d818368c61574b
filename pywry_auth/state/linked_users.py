"""The user IDs of the site that one account has had."""

from __future__ import annotations

import time

from pywry_auth.backends.base import Backend, Terms, When
from pywry_auth.state.records import pack, unpack

_KIND = "linked:"
_MOST = 100


class LinkedUsers:
    """Remembers under which user IDs of the site an account has signed in.

    An account is a user's ID at a provider, under which the OAuth tokens are stored. The site may give it
    another user ID at a later sign-in, while sessions with the earlier one last.

    Args:
        backend: The backend that keeps the sessions too.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def note(self, account: str, user_id: str, ttl: float) -> None:
        """Remember a user ID of an account before a session with it begins or becomes longer.

        An account has few of them, unless the site gives it another one at each sign-in. The oldest beyond
        100 are then forgotten. A session that lasts longer keeps its time.

        Args:
            account: The account.
            user_id: The user's ID on the site.
            ttl: Seconds; at least the lifetime of the session.

        Raises:
            StoreUnavailable: The store is down.
        """
        group, now = _group(account), time.time()
        until = now + ttl
        while True:
            data = self._backend.get(group + user_id)
            known = None if data is None else unpack(data, lambda members: members.moment("until"), "link")
            if known is not None and known >= until:
                return
            terms = Terms(ttl=ttl, group=group, limit=_MOST, when=When.ABSENT, expected=data)
            if self._backend.put(group + user_id, pack({"until": until}), terms):
                return

    def of(self, account: str) -> list[str]:
        """Return the user IDs of an account, without its own.

        Args:
            account: The account.

        Raises:
            StoreUnavailable: The store is down.
        """
        group = _group(account)
        return [key.removeprefix(group) for key in self._backend.members(group)]


def _group(account: str) -> str:
    # With its length, no account is the beginning of another key.
    return f"{_KIND}{len(account)}:{account}:"
