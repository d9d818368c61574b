"""The check at the end: grants without an owner, and burned token families."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.soak.book import Book, Grant, Reuse
from tests.soak.journal import Journal
from tests.soak.life import Life, SignIn
from tests.soak.oracle import Session
from tests.soak.site import IDLE_SECONDS, TIMEOUT_SECONDS

_STORED_SECONDS = 0.5
"""The longest time from the provider's answer until a token is stored and every replica has it."""


@dataclass(frozen=True)
class Ledger:
    """All that is known at the end.

    Args:
        journal: The figures.
        book: The provider's grants.
        lives: The users by their ``sub``.
        stored: The digest of each user's stored refresh token.
    """

    journal: Journal
    book: Book
    lives: Mapping[str, Life]
    stored: Mapping[str, str]

    def without_owner(self) -> list[tuple[Grant, str]]:
        """Return the live grants without an owner, each with its explanation; empty for no explanation."""
        found = []
        for grant in self.book.grants():
            if self.book.is_live(grant) and not self._is_owned(grant):
                found.append((grant, self._explained(grant)))
        return found

    def _is_owned(self, grant: Grant) -> bool:
        if self.stored.get(grant.user) == grant.tokens[-1]:
            return True
        return any(
            self._superseded(later) for later in self.book.grants(grant.user) if later.order > grant.order
        )

    def _superseded(self, later: Grant) -> bool:
        """Return whether a later grant took the place of an earlier one.

        It did not if its own sign-in failed and revoked it.
        """
        sign_in = self.lives[later.user].sign_in_of(later)
        if sign_in is None or sign_in.outcome in ("received", "lost"):
            return True
        if len(later.tokens) > 1 or self.stored.get(later.user) == later.tokens[-1]:
            return True
        return not (later.ended and later.ended[0] <= sign_in.end)

    def _explained(self, grant: Grant) -> str:
        life, killed = self.lives[grant.user], self.journal.killed_between
        sign_in, stored = life.sign_in_of(grant), self.stored.get(grant.user, "")
        if stored in grant.uses:
            return self.cause(Reuse(grant, grant.uses[stored], time.monotonic()))
        if len(grant.tokens) > 1:  # the site may have ended the grant with its last token but one
            cause = self.cause(Reuse(grant, grant.uses[grant.tokens[-2]], time.monotonic()))
            if cause:
                return cause
        if sign_in and self._has_rival(grant, sign_in):
            return "another sign-in of the user at the same moment"
        if sign_in and sign_in.outcome == "lost" and killed(sign_in.start, sign_in.end):
            return "worker killed in the sign-in"
        for sent in life.requests_after(grant.issued):
            if sent.answer.status == 0 and killed(sent.answer.start, sent.answer.end):
                return f"worker killed in a later request ({sent.what})"
        failed = sign_in and sign_in.outcome in ("failed", "refused") and sign_in.worker
        if sign_in and failed and killed(sign_in.start, time.monotonic(), sign_in.worker):
            return "worker killed after a failed sign-in"
        return ""

    def _has_rival(self, grant: Grant, sign_in: SignIn) -> bool:
        """Return whether the site may take an earlier grant for the later one.

        It goes by its own time of the token requests, which may arrive at the provider in another order.
        """
        earlier = [each for each in self.book.grants(grant.user) if each.order < grant.order]
        return any(sign_in.start <= each.arrived and self._superseded(each) for each in earlier)

    def cause(self, reuse: Reuse) -> str:
        """Return the explanation of a token that was used twice; empty for no explanation."""
        sent = self.lives[reuse.grant.user].requests_at(reuse.first.start)
        killed = self.journal.killed_between
        if any(each.answer.status == 0 and killed(each.answer.start, each.answer.end) for each in sent):
            return "worker killed before the answer"
        for each in sent:
            worker = each.answer.worker if each.answer.status >= 500 else ""
            if worker and killed(reuse.first.start, reuse.again, worker):
                return "worker killed after the store had failed"
            if worker and self.journal.stopped_between(each.answer.start, each.answer.end, worker):
                return "worker stopped while the provider answered"
        if reuse.first.answered - reuse.first.start > TIMEOUT_SECONDS - 0.7:
            return "the provider answered too late"
        return self.journal.consequence(reuse.first.start, reuse.first.answered + _STORED_SECONDS)

    def without_grant(self) -> list[tuple[Life, Session, str]]:
        """Return the users that are certainly signed in, without a grant that can be used.

        Each comes with a session and its explanation; empty for no explanation.
        """
        live = {grant.tokens[-1] for grant in self.book.grants() if self.book.is_live(grant)}
        found, now = [], time.monotonic()
        for life in self.lives.values():
            sure = [
                session
                for session in life.oracle.sessions
                if not session.may_be_over(now) and now - session.seen < IDLE_SECONDS / 2
            ]
            if sure and self.stored.get(life.user) not in live:
                found.append((life, sure[0], self._outdated(life)))
        return found

    def _outdated(self, life: Life) -> str:
        """Return why the store has a refresh token that was used already; empty for no explanation."""
        stored = self.stored.get(life.user, "")
        uses = [(grant, grant.uses[stored]) for grant in self.book.grants(life.user) if stored in grant.uses]
        return next((self.cause(Reuse(*use, time.monotonic())) for use in uses), "")

    def kept_tokens(self) -> list[Life]:
        """Return the users that signed out everywhere and still have stored tokens."""
        return [
            life for user, life in self.lives.items() if life.closed == "everywhere" and user in self.stored
        ]

    def conclude(self, reuses: Sequence[tuple[Reuse, Sequence[str]]]) -> None:
        """Count and log all of it.

        Args:
            reuses: The refresh tokens that were used twice, with the user's history at that time.
        """
        for grant, cause in self.without_owner():
            life = self.lives[grant.user]
            text = f"grant {grant.order} ({life.closed}), {life.sign_in_of(grant)}"
            life.violation(f"grants without owner{_explained(cause)}", text)
        for reuse, history in reuses:
            first = self.journal.clock(reuse.first.start)
            text = f"{reuse.grant.user}: grant {reuse.grant.order}, first use at {first}"
            self.journal.violation(f"burned families{_explained(self.cause(reuse))}", text, history)
        for life, session, cause in self.without_grant():
            life.violation(f"lost{_explained(cause)}", f"the grant of session {session.name} ({life.closed})")
        for life in self.kept_tokens():
            life.violation("tokens kept after everywhere", life.closed)


def _explained(cause: str) -> str:
    return f", explained: {cause}" if cause else ""
