"""The sessions of users that the access rules do not admit any more."""

from __future__ import annotations

import time
from collections.abc import Sequence

from pywry_auth.backends.base import Backend, Terms
from pywry_auth.models import UserSession
from pywry_auth.state.records import pack, unpack

_KIND = "ending:"


class EndingSessions:
    """Remembers which sessions of a user must end.

    The tokens of such a user are removed before the sessions end. Without the tokens, an interrupted worker's
    successor could not find out that the user is not admitted.

    Args:
        backend: The backend that keeps the sessions too.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def note(self, user_id: str, sessions: Sequence[UserSession]) -> None:
        """Remember sessions until they have expired.

        Args:
            user_id: The user's ID.
            sessions: The sessions.

        Raises:
            StoreUnavailable: The store is down.
        """
        if not sessions:
            return
        ttl = max(1.0, max(each.expires_at for each in sessions) - time.time())
        record = pack({"sessions": [each.session_id for each in sessions]})
        self._backend.put(_KIND + user_id, record, Terms(ttl=ttl))

    def of(self, user_id: str) -> list[str]:
        """Return the IDs of a user's sessions that must end; some may have ended already.

        Args:
            user_id: The user's ID.
        """
        data = self._backend.get(_KIND + user_id)
        if data is None:
            return []
        return unpack(data, lambda members: members.texts("sessions"), "list of sessions") or []

    def forget(self, user_id: str) -> None:
        """Forget the sessions, because the user is admitted again.

        Args:
            user_id: The user's ID.
        """
        self._backend.pop(_KIND + user_id)
