"""The filter of a search for sessions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pywry_auth.models import UserSession


@dataclass(frozen=True, kw_only=True)
class SessionFilter:
    """The sessions that a search returns.

    A member without a value does not matter. A session without a grant, which the application created, has no
    provider, issuer, client, subject or session at the provider.

    Args:
        user_id: The user's ID. Such a search reads only the user's own sessions.
        account: The ID under which the user's OAuth tokens are stored.
        provider: The provider's name at the sign-in.
        issuer: The issuer.
        client_id: The client that received the tokens.
        subject: The user's ID at the provider.
        sid: The provider's ID of its own session.
        browser: A part of the description of browser and platform; upper and lower case are equal.
        network: The client's IPv4 address or IPv6 network.
        signed_in_before: Unix time in seconds, later than the beginning of the session.
        signed_in_after: Unix time in seconds, not later than the beginning of the session.
        bearer: Whether the application created the session, for example for an API client; False for
            sign-ins only.
        handle: The session's public name, see :attr:`UserSession.handle`.
    """

    user_id: str | None = None
    account: str | None = None
    provider: str | None = None
    issuer: str | None = None
    client_id: str | None = None
    subject: str | None = None
    sid: str | None = None
    browser: str | None = None
    network: str | None = None
    signed_in_before: float | None = None
    signed_in_after: float | None = None
    bearer: bool | None = None
    handle: str | None = None

    def matches(self, session: UserSession) -> bool:
        """Return whether a session is one of those that are searched."""
        return (
            self._has_equal_members(session)
            and (self.browser is None or self.browser.casefold() in session.browser.casefold())
            and (self.signed_in_before is None or session.created_at < self.signed_in_before)
            and (self.signed_in_after is None or session.created_at >= self.signed_in_after)
        )

    def _has_equal_members(self, session: UserSession) -> bool:
        grant = session.grant
        pairs = [
            (self.user_id, session.user_id),
            (self.account, session.account),
            (self.network, session.network),
            (self.bearer, grant is None),
            (self.provider, grant and grant.provider),
            (self.issuer, grant and grant.issuer),
            (self.client_id, grant and grant.client_id),
            (self.subject, grant and grant.subject),
            (self.sid, grant and grant.sid),
        ]
        equal = all(wanted is None or wanted == found for wanted, found in pairs)
        return equal and (self.handle is None or self.handle == session.handle)
