"""Ends sessions for an operator, or for the application."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pywry_auth.backends.base import UnreadableRecord
from pywry_auth.flow.events import Event, SignedOut

if TYPE_CHECKING:
    from pywry_auth.deploy.session_end import SessionEnd
    from pywry_auth.models import OAuthTokenSet, UserSession

_REASON = "operator"
_UNREADABLE = (
    "No session of the user can be read, so that they and the tokens stay: use the site's version of this "
    "package and its PYWRY_DEPLOY__ENCRYPTION_KEYS."
)


@dataclass(frozen=True)
class OperatorEnd:
    """Ends sessions that are not those of the caller.

    Args:
        ends: Ends sessions.
        notify: Receives one event for each user.
    """

    ends: SessionEnd
    notify: Callable[[Event], object]

    def end_user(self, user_id: str) -> int:
        """End all sessions of a user, and return their number.

        Args:
            user_id: The user's ID.

        Raises:
            UnreadableRecord: This process can read none of the user's sessions, which stay.
            StoreUnavailable: The store is down; a repeated call finishes the work.
        """
        ended, store = self._reported(self.ends.end_user(user_id)), self.ends.accounts.store
        if any(store.is_unreadable(each) for each in store.session_ids(user_id)):
            raise UnreadableRecord(_UNREADABLE)
        return ended

    def end(self, sessions: Iterable[UserSession]) -> int:
        """End sessions of one user, and return how many ended.

        Args:
            sessions: The sessions.

        Raises:
            StoreUnavailable: The store is down; a repeated call finishes the work.
        """
        return self._reported(self.ends.end(sessions))

    def _reported(self, results: list[tuple[UserSession, int, OAuthTokenSet | None]]) -> int:
        providers = self.ends.accounts.providers
        for session, ended, _ in results:
            if ended:
                self.notify(
                    SignedOut(
                        mode="web",
                        user_id=session.user_id,
                        provider=providers.label_of(session),
                        session=session,
                        sessions=ended,
                        reason=_REASON,
                    )
                )
        return sum(ended for _, ended, _ in results)
