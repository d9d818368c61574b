"""The account whose tokens a session may use."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pywry_auth.models import UserSession
    from pywry_auth.state.tokens import TokenStore


def with_own_account(tokens: TokenStore, session: UserSession) -> UserSession | None:
    """Return a session with an account that belongs to its user, or None.

    A sign-in names the account of its session. A session that the application created, for example for an API
    client, has only the site's ID of the user, which may be equal to the account of another user.

    Args:
        tokens: The store of users' OAuth tokens.
        session: Any session.

    Returns:
        The session. One that the application created has the user's only account with tokens. None if there
        are several, or if its account belongs to another user.

    Raises:
        StoreUnavailable: The store is down.
    """
    if session.grant is not None:
        return session
    account, user = session.account, session.user_id
    is_own = tokens.owner_of(account) == user
    accounts = tokens.accounts_of(user) if account == user else []
    if not accounts:
        return session if is_own else None
    # An account without an owner may be another user's, from before the site gave IDs of its own.
    if len(accounts) > 1 or (is_own and tokens.exists(account)):
        return None
    return replace(session, account=accounts[0])
