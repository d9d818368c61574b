"""Ends sessions for an operator, or for the application."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pywry_auth.backends.base import UnreadableRecord
from pywry_auth.flow.events import Event, SignedOut

if TYPE_CHECKING:
    from pywry_auth.deploy.session_end import SessionEnd
    from pywry_auth.models import UserSession

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
        notify: Receives one event for each user, also about the sessions that ended before a failure.
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
        store, ended = self.ends.accounts.store, list[str]()
        found = store.list_user_sessions(user_id)
        try:
            with self.ends.accounts.replicated():
                self.ends.end_user(user_id, ended)
        finally:
            self._report(found, ended)
        if any(store.is_unreadable(each) for each in store.session_ids(user_id)):
            raise UnreadableRecord(_UNREADABLE)
        return len(ended)

    def end(self, sessions: Collection[UserSession]) -> int:
        """End sessions of one user, and return how many ended.

        The caller makes sure that the end of all sessions is replicated, see
        :meth:`AccountSessions.replicated`.

        Args:
            sessions: The sessions.

        Raises:
            StoreUnavailable: The store is down; a repeated call finishes the work.
        """
        ended: list[str] = []
        try:
            self.ends.end(sessions, ended=ended)
        finally:
            self._report(sessions, ended)
        return len(ended)

    def _report(self, sessions: Iterable[UserSession], ended: Collection[str]) -> None:
        """Report the end of a user's sessions.

        Args:
            sessions: The user's sessions that this process can read.
            ended: The IDs of all sessions that ended.
        """
        session = next(iter(sessions), None)
        if session is None or not ended:
            return
        self.notify(
            SignedOut(
                mode="web",
                user_id=session.user_id,
                provider=self.ends.accounts.providers.label_of(session),
                session=session,
                sessions=len(ended),
                reason=_REASON,
            )
        )
