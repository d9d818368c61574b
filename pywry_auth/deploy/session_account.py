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
        The session. One that the application created has the user's only linked account with tokens, unless
        its own account belongs to the user. None without such an account, or with several.

    Raises:
        StoreUnavailable: The store is down.
    """
    if session.grant is not None or tokens.owner_of(session.account) == session.user_id:
        return session
    accounts = tokens.accounts_of(session.user_id)
    if len(accounts) != 1:
        return None
    return replace(session, metadata={**session.metadata, "account": accounts[0]})
