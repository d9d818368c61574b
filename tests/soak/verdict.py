"""The judgement at the end: grants without an owner, and burned token families."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tests.soak.book import Book, Grant, Reuse
from tests.soak.journal import Journal
from tests.soak.life import Life, SignIn
from tests.soak.site import TIMEOUT_SECONDS


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
        life = self.lives[grant.user]
        sign_in = life.sign_in_of(grant)
        if self.stored.get(grant.user) in grant.uses:
            return self.cause(Reuse(grant, grant.uses[self.stored[grant.user]], self.journal.started + 1e9))
        if sign_in and sign_in.outcome == "lost" and self.journal.killed_between(sign_in.start, sign_in.end):
            return "worker killed in the sign-in"
        if any(
            sent.answer.status == 0 and self.journal.killed_between(sent.answer.start, sent.answer.end)
            for sent in life.requests_at(grant.issued)
        ):
            return "worker killed in a request"
        if sign_in and sign_in.worker and self._killed_later(sign_in):
            return "worker killed after a failed sign-in"
        return ""

    def _killed_later(self, sign_in: SignIn) -> bool:
        failed = sign_in.outcome in ("failed", "refused")
        return failed and self.journal.killed_between(sign_in.start, sign_in.end + 60, sign_in.worker)

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
        if reuse.first.answered - reuse.first.start > TIMEOUT_SECONDS - 0.7:
            return "the provider answered too late"
        return ""

    def kept_tokens(self) -> list[Life]:
        """Return the users that signed out everywhere and still have stored tokens."""
        return [
            life for user, life in self.lives.items() if life.closed == "everywhere" and user in self.stored
        ]
