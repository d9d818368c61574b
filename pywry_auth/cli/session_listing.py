"""The work of ``pywry-auth sessions list``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from heapq import heappush, heappushpop
from typing import TYPE_CHECKING

from pywry_auth.cli.output import local_time
from pywry_auth.exceptions import printable
from pywry_auth.state.session_filter import SessionFilter

if TYPE_CHECKING:
    from pywry_auth.models import UserSession
    from pywry_auth.state.sessions import SessionStore


@dataclass
class Listing:
    """The newest of the selected sessions, with counts of all.

    Args:
        limit: The largest number of sessions to keep.
        matching: How many sessions were selected.
        seen: How many sessions were read.
        unreadable: How many sessions cannot be read.
    """

    limit: int
    matching: int = 0
    seen: int = 0
    unreadable: int = 0
    _newest: list[tuple[float, int, UserSession]] = field(default_factory=list, repr=False)  # a heap

    def load(self, store: SessionStore, wanted: SessionFilter) -> None:
        """Look at the sessions of a store.

        Args:
            store: The store.
            wanted: The filter.

        Raises:
            StoreUnavailable: The store is down, or its backend cannot list all records.
        """
        # The other members of the filter are compared here, so that all sessions are counted.
        own = SessionFilter(user_id=wanted.user_id)
        for session in store.find_sessions(own, unreadable=self._note_unreadable):
            self.seen += 1
            if wanted.matches(session):
                self._keep(session)

    def sessions(self) -> Iterator[UserSession]:
        """Return the kept sessions without their metadata, by user and time."""
        kept = (session for _, _, session in self._newest)
        return iter(sorted(kept, key=lambda session: (session.user_id, session.created_at)))

    @property
    def stored(self) -> int:
        """How many sessions there are, with those that cannot be read."""
        return self.seen + self.unreadable

    def counts(self) -> dict[str, int]:
        """Return the counts, as members of a JSON object."""
        return {
            "matching": self.matching,
            "seen": self.seen,
            "unreadable": self.unreadable,
            "stored": self.stored,
        }

    def _keep(self, session: UserSession) -> None:
        self.matching += 1  # it also decides between sessions of the same time
        entry = (session.created_at, self.matching, replace(session, metadata={}))
        if len(self._newest) < self.limit:
            heappush(self._newest, entry)
        else:
            heappushpop(self._newest, entry)

    def _note_unreadable(self, _session_id: str) -> None:
        self.unreadable += 1


def line_of(session: UserSession) -> str:
    """Return a line for people.

    Args:
        session: The session.
    """
    grant = session.grant
    where = "created by the application" if grant is None else f"signed in at {grant.provider or 'unknown'}"
    facts = [f"user ID {session.user_id}", where, session.browser, session.network]
    times = [f"since {local_time(session.created_at)}", f"until {local_time(session.expires_at)}"]
    return f"  {session.handle}  " + ", ".join([printable(each) for each in facts if each] + times)


def members_of(session: UserSession) -> dict[str, object]:
    """Return the members of the JSON object about a session.

    Args:
        session: The session.
    """
    grant = session.grant
    return {
        "handle": session.handle,
        "user_id": session.user_id,
        "account": session.account,
        "provider": grant.provider if grant else "",
        "issuer": grant.issuer if grant else "",
        "roles": session.roles,
        "browser": session.browser,
        "network": session.network,
        "created_at": session.created_at,
        "expires_at": session.expires_at,
    }
