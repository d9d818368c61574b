"""The sessions that each browser was given during the last minutes."""

from __future__ import annotations

from collections.abc import Iterable

from pywry_auth.backends.base import Backend, Terms, When
from pywry_auth.state.records import pack, unpack

_KIND = "browser:"
_MOST = 8


class BrowserSessions:
    """Remembers which sessions a browser was given.

    A browser keeps one session cookie. If two of its tabs finish a sign-in at the same moment, or if the
    response to a sign-in is lost, the browser does not know the other session. Its next sign-in or sign-out
    ends that session.

    Args:
        backend: The backend that keeps the sessions too.
        seconds: How long a browser's sessions are remembered after its last sign-in.
    """

    def __init__(self, backend: Backend, seconds: float) -> None:
        self._backend = backend
        self._seconds = seconds

    def add(self, browser: str, session_id: str, others: Iterable[str] = ()) -> list[str]:
        """Remember a new session of a browser before it is created.

        Args:
            browser: The digest of the cookie that binds logins to the browser.
            session_id: The ID of the new session.
            others: IDs of the sessions that the browser sent cookies of.

        Returns:
            The IDs of the browser's other sessions. The caller ends them.

        Raises:
            StoreUnavailable: The store is down.
        """
        while True:
            data = self._backend.get(_KIND + browser)
            # The new session is in the record already if the answer to an earlier attempt was lost.
            known = [known for known in dict.fromkeys([*others, *_read(data)]) if known != session_id]
            terms = Terms(ttl=self._seconds, when=When.ABSENT, expected=data)
            record = pack({"sessions": [session_id, *known][:_MOST]})
            if self._backend.put(_KIND + browser, record, terms):
                return known

    def of(self, browser: str) -> list[str]:
        """Return the IDs of the sessions that a browser was given.

        Args:
            browser: The digest of the cookie that binds logins to the browser.
        """
        return _read(self._backend.get(_KIND + browser))


def _read(data: bytes | None) -> list[str]:
    if data is None:
        return []
    sessions = unpack(data, lambda members: members.texts("sessions"), "list of sessions") or []
    return sessions[:_MOST]
