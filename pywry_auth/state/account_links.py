"""The accounts at providers that belong to a user with an ID of the site."""

from __future__ import annotations

import os
from collections.abc import Callable

from pywry_auth.backends.base import Backend, Terms
from pywry_auth.digests import digest_of

LINK_SECONDS = 400 * 86400.0
"""Seconds for which a link lasts after the last sign-in with the account."""

_MOST_ACCOUNTS = 100  # of one user
_LINK = "oauth:linked:"
_OWNER = "oauth:owner:"


class AccountLinks:
    """Links between users and accounts, on the backend of the tokens.

    The owner is stored under the account, and decides. The links under the user only find the accounts.

    Args:
        backend: The backend.
        has_tokens: Returns whether tokens are stored for an account.
    """

    def __init__(self, backend: Backend, has_tokens: Callable[[str], bool]) -> None:
        self._backend = backend
        self._has_tokens = has_tokens

    def add(self, user_id: str, account: str) -> None:
        """Note that an account belongs to a user; an earlier owner loses it."""
        if user_id == account:
            self._backend.pop(_OWNER + account)
            return
        # The owner comes first: without the link, no user gets the tokens, which is safe.
        self._backend.put(_OWNER + account, user_id.encode("utf-8", "surrogatepass"), Terms(ttl=LINK_SECONDS))
        group = _group(user_id)
        terms = Terms(ttl=LINK_SECONDS, group=group, limit=_MOST_ACCOUNTS)
        # The value differs for each sign-in, so that no other process removes a new link as an old one.
        self._backend.put(f"{group}:{account}", os.urandom(8), terms)

    def owner(self, account: str) -> str:
        """Return the ID of the user that an account belongs to; by default the account itself.

        Raises:
            UnreadableRecord: This process cannot read the owner.
        """
        owner = self._backend.read(_OWNER + account)
        return account if owner is None else owner.decode("utf-8", "surrogatepass")

    def accounts(self, user_id: str) -> list[str]:
        """Return a user's linked accounts with tokens, sorted; remove the other links."""
        group, found = _group(user_id), []
        for key in self._backend.members(group):
            account, link = key.removeprefix(f"{group}:"), self._backend.get(key)
            if link is None:
                continue
            if self._has_tokens(account) and self.owner(account) == user_id:
                found.append(account)
            else:
                self._backend.pop(key, link, group=group)
        return sorted(found)


def _group(user_id: str) -> str:
    # An ID may contain a colon, so that two IDs and accounts could give one key.
    return _LINK + digest_of(user_id)
