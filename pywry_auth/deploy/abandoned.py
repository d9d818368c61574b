"""Sign-ins that failed, and that an outage of the store kept from being undone."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from pywry_auth.backends.base import UnreadableRecord
from pywry_auth.models import OAuthTokenSet
from pywry_auth.per_process import PerProcess

_logger = logging.getLogger("pywry_auth.deploy")

_MOST = 1000  # more cannot be in flight when a store fails


@dataclass(frozen=True)
class AbandonedSignIn:
    """A sign-in that gave no browser a session.

    Args:
        name: The provider's name on this site; empty for the only one.
        account: The account.
        user: The user of the session.
        session_id: The session, which no browser knows.
        tokens: The tokens of the sign-in.
        by_provider: Whether the provider has ended the sign-in.
    """

    name: str
    account: str
    user: str
    session_id: str
    tokens: OAuthTokenSet
    by_provider: bool


class AbandonedSignIns:
    """The sign-ins that wait in this process to be undone.

    After a failover, the store may have a part of the records of such a sign-in, or none of them. The tokens
    are known to this process only then, so that it must revoke them. The lock guards the dictionary.
    """

    def __init__(self) -> None:
        self._lock = PerProcess(threading.Lock)
        self._by_session: dict[str, AbandonedSignIn] = {}

    def add(self, sign_in: AbandonedSignIn) -> None:
        """Keep a sign-in until it is undone.

        Args:
            sign_in: The sign-in.
        """
        with self._lock():
            if len(self._by_session) < _MOST:
                self._by_session[sign_in.session_id] = sign_in
                return
        _logger.warning("too many logins failed to undo each of them: the tokens of one stay valid")

    def undo(self, one: Callable[[AbandonedSignIn], object]) -> None:
        """Undo the sign-ins that wait, each in one thread only.

        Those whose records only another process can read wait again, and do not delay the others.

        Args:
            one: Undoes one of them. If it fails, the sign-in waits again.
        """
        unreadable: list[AbandonedSignIn] = []
        try:
            while (sign_in := self._taken()) is not None:
                try:
                    one(sign_in)
                except UnreadableRecord:
                    unreadable.append(sign_in)
                except BaseException:
                    self.add(sign_in)
                    raise
        finally:
            for each in unreadable:
                self.add(each)

    def _taken(self) -> AbandonedSignIn | None:
        with self._lock():
            return self._by_session.popitem()[1] if self._by_session else None
