"""The accounts at providers that a user with an ID of the site has had."""

from __future__ import annotations

from pywry_auth.backends.base import Backend, Terms
from pywry_auth.digests import digest_of

LINK_SECONDS = 400 * 86400.0
"""Seconds for which a link lasts after the last sign-in with the account."""

_MOST_ACCOUNTS = 100  # of one user
_LINK = "oauth:linked:"


class AccountLinks:
    """Links from users to accounts, on the backend of the tokens.

    They only find the accounts. The owner of an account is recorded with its tokens, in one step, so that it
    never differs from the sign-in that brought them.

    Args:
        backend: The backend.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def add(self, user_id: str, account: str) -> None:
        """Note that a user has an account, before its tokens are stored."""
        group = _group(user_id)
        terms = Terms(ttl=LINK_SECONDS, group=group, limit=_MOST_ACCOUNTS)
        self._backend.put(f"{group}:{account}", b"1", terms)

    def of(self, user_id: str) -> list[str]:
        """Return the accounts that a user has had, sorted."""
        group = _group(user_id)
        return sorted(key.removeprefix(f"{group}:") for key in self._backend.members(group))


def _group(user_id: str) -> str:
    # An ID may contain a colon, so that two IDs and accounts could give one key.
    return _LINK + digest_of(user_id)
