"""The work of ``pywry-auth sessions end``."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

from pywry_auth.backends.base import UnreadableRecord
from pywry_auth.cli.output import complain
from pywry_auth.deploy.operator_end import OperatorEnd
from pywry_auth.deploy.queued_revocations import QueuedRevocations
from pywry_auth.deploy.session_end import SessionEnd, by_user
from pywry_auth.exceptions import StoreUnavailable
from pywry_auth.flow.events import SignedOut, emit
from pywry_auth.state.session_filter import SessionFilter

if TYPE_CHECKING:
    from pywry_auth.deploy.account_sessions import AccountSessions
    from pywry_auth.flow.events import Event
    from pywry_auth.models import UserSession

_BATCH = 200  # sessions that are loaded at once


@dataclass
class Ending:
    """Ends the selected sessions, and counts what was done.

    Args:
        accounts: The sessions with their tokens.
        ended: How many sessions ended.
        seen: How many sessions were looked at, without those that cannot be read.
        unreadable: How many sessions cannot be read, and stay.
        removed: From how many accounts tokens were removed.
        revoked: How many revocations of their tokens the provider has confirmed.
        queued: How many are left to the workers of the site.
    """

    accounts: AccountSessions
    ended: int = 0
    seen: int = 0
    unreadable: int = 0
    removed: int = 0
    revoked: int = 0
    queued: int = 0
    _accounts: set[str] = field(default_factory=set)

    def end(self, wanted: SessionFilter, *, whole_user: bool) -> None:
        """End the selected sessions, and then revoke their tokens.

        A provider that does not answer delays the end of no session.

        Args:
            wanted: The filter.
            whole_user: Whether all sessions of the user of the filter end, and tokens without a session too.

        Raises:
            StoreUnavailable: The store is down; the counts say how much was done, and a repeated call
                finishes the work.
        """
        try:
            # Also if no session is left: an earlier attempt may have ended them on one server only.
            with self.accounts.replicated():
                self._end_sessions(wanted, whole_user)
        except StoreUnavailable:
            self._revoke()  # the tokens of those that have ended
            raise
        self._revoke()

    def _end_sessions(self, wanted: SessionFilter, whole_user: bool) -> None:
        ends = SessionEnd(self.accounts, leave_to_site=True, revoke_later=True, settled=self._note)
        work = OperatorEnd(ends, self._notify)
        if whole_user and wanted.user_id is not None:
            self.seen = len(self.accounts.store.list_user_sessions(wanted.user_id))
            self._end_user(work, wanted.user_id)
            return
        # The other members of the filter are compared here, so that all sessions are counted.
        own = SessionFilter(user_id=wanted.user_id)
        found = self.accounts.store.find_sessions(own, unreadable=self._note_unreadable)
        for batch in _batches(self._matching(found, wanted)):
            for sessions in by_user(batch).values():
                self._end_some(work, sessions)

    def _end_user(self, work: OperatorEnd, user_id: str) -> None:
        try:
            work.end_user(user_id)
        except UnreadableRecord:
            store = self.accounts.store
            self.unreadable = sum(store.is_unreadable(each) for each in store.session_ids(user_id))
            if not self.unreadable:  # the tokens cannot be read
                raise

    def _end_some(self, work: OperatorEnd, sessions: list[UserSession]) -> None:
        """End sessions of one user; those whose tokens cannot be read stay, and do not delay other users."""
        before = self.ended
        try:
            work.end(sessions)
        except UnreadableRecord:
            left = max(0, len(sessions) - (self.ended - before))
            self.seen -= left
            self.unreadable += left

    def _matching(self, found: Iterable[UserSession], wanted: SessionFilter) -> Iterator[UserSession]:
        for session in found:
            self.seen += 1
            if wanted.matches(session):
                yield session

    def _notify(self, event: Event) -> None:
        if isinstance(event, SignedOut):
            self.ended += event.sessions or 0
        emit(self, event)

    def _note(self, account: str, removed: bool) -> None:
        self.removed += removed
        self.queued += removed
        self._accounts.add(account)

    def _revoke(self) -> None:
        """Revoke the tokens, and leave to the workers of the site all that is not done in a few seconds."""
        work = QueuedRevocations(self.accounts.providers, self.accounts.tokens)
        try:
            self.queued = work.revoke(self._accounts)
        except StoreUnavailable:  # the tokens are in the queue, and their number is unknown
            self.queued = max(0, self.queued - work.confirmed)
        finally:
            self.revoked = work.confirmed

    def _note_unreadable(self, _session_id: str) -> None:
        self.unreadable += 1


@contextmanager
def audit_shown() -> Iterator[None]:
    """Show the audit lines of the block on standard error.

    The log of the site is in another process, which does not learn of this work.
    """
    logger, lines = logging.getLogger("pywry_auth.audit"), _AuditLines(logging.INFO)
    level = logger.level
    logger.addHandler(lines)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(lines)


class _AuditLines(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        complain(record.getMessage())


def _batches(sessions: Iterator[UserSession]) -> Iterator[list[UserSession]]:
    while batch := list(islice(sessions, _BATCH)):
        yield batch
