"""The sessions of users at the provider.

Each knows the clients that received tokens in it.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from pywry_auth.testing.identity_provider.parties import User

SESSION_SECONDS = 12 * 3600
"""Lifetime of a session at the provider."""

LIMIT = 20_000
"""The maximum number of sessions. The oldest session then makes room, so that memory stays bounded."""


@dataclass(frozen=True)
class ProviderSession:
    """A user's session in one browser.

    Args:
        sid: The session's public ID (OIDC Back-Channel Logout 1.0 §2.1).
        user: The user.
        ended: Set once, at the end of the session.
    """

    sid: str
    user: User
    ended: threading.Event = field(default_factory=threading.Event, repr=False, compare=False)


@dataclass
class _Entry:
    session: ProviderSession
    expires_at: float
    clients: dict[str, None] = field(default_factory=dict)  # in the order of their first token


class ProviderSessions:
    """The live sessions in their order of start.

    The lock guards the sessions and the clients of each.

    Args:
        clock: Returns Unix time in seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: dict[str, _Entry] = {}

    def begin(self, user: User, current: ProviderSession | None = None) -> ProviderSession:
        """Return the session after a sign-in.

        Args:
            user: The user.
            current: The browser's session; it continues if the same user signs in again.
        """
        expires_at = self._clock() + SESSION_SECONDS
        with self._lock:
            entry = self._entries.get(current.sid) if current and current.user == user else None
            if entry is None:
                entry = _Entry(ProviderSession(secrets.token_urlsafe(16), user), expires_at)
                self._make_room()
                self._entries[entry.session.sid] = entry
            entry.expires_at = expires_at
            return entry.session

    def join(self, session: ProviderSession, client_id: str) -> bool:
        """Note that a client receives tokens in a session.

        The result says whether the session is live.
        """
        with self._lock:
            entry = self._entries.get(session.sid)
            if entry is None:
                return False
            entry.clients[client_id] = None
            return True

    def live(self, username: str) -> list[ProviderSession]:
        """Return the live sessions of a user.

        Args:
            username: The user's name or e-mail address.
        """
        now = self._clock()
        with self._lock:
            entries = [entry for entry in self._entries.values() if now < entry.expires_at]
        return [entry.session for entry in entries if entry.session.user.is_called(username)]

    def end(self, session: ProviderSession) -> list[str]:
        """End a session, and return its clients.

        A session that has ended has none.
        """
        with self._lock:
            entry = self._entries.pop(session.sid, None)
            session.ended.set()
        return list(entry.clients) if entry else []

    def _make_room(self) -> None:
        now = self._clock()
        while self._entries:
            oldest = next(iter(self._entries))
            if len(self._entries) < LIMIT and now < self._entries[oldest].expires_at:
                return
            del self._entries[oldest]
