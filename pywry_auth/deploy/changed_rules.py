"""Applies changed access rules to sessions that began before the change."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from pywry_auth.exceptions import StoreUnavailable
from pywry_auth.flow.access_review import AccessReview, review_stored
from pywry_auth.flow.events import SignedOut, emit
from pywry_auth.flow.sign_out import take
from pywry_auth.state.session_record import facts_of, with_given_roles

if TYPE_CHECKING:
    from pywry_auth.deploy.session_end import SessionEnd
    from pywry_auth.flow.access import AccessRules
    from pywry_auth.models import OAuthTokenSet, UserSession

_logger = logging.getLogger("pywry_auth.deploy")

_SECONDS_PER_WRITE = 60.0
"""Seconds in which one process writes the roles of a session at most once."""


class _Seen(NamedTuple):
    """A session that agrees with the rules of this process.

    Args:
        facts: What the rules read in it, and the roles that they gave.
        written_at: Unix time in seconds at which this process wrote its roles; 0 for never.
    """

    facts: object
    written_at: float


@dataclass(frozen=True)
class ChangedRules:
    """Evaluates the access rules for sessions of sign-ins.

    The rules of a process never change, so that each session is evaluated once, and again if a refresh or
    another process has changed it. During a rolling restart, two workers may have different rules. Each then
    decides by its own ones, and writes a session's roles at most once a minute.

    Args:
        ends: Ends sessions.
        rules: The rules of this process.
        clock: Unix time in seconds.
        most: How many sessions this process remembers.
    """

    ends: SessionEnd
    rules: AccessRules
    clock: Callable[[], float] = time.time
    most: int = 10_000
    _seen: dict[str, _Seen] = field(default_factory=dict)  # its single operations need no lock

    def __call__(self, session: UserSession, sender: object) -> UserSession | None:
        """Return a session with the roles that the rules give now.

        Args:
            session: The stored session. It stays unchanged if no sign-in began it.
            sender: The application, which is the sender of events.

        Returns:
            None if the rules do not admit the user any more. The user's sessions have ended, and their tokens
            are removed and revoked.

        Raises:
            StoreUnavailable: The rules do not admit the user any more, and the store is down. The user gets
                no access, and a repeated request finishes the work.
        """
        seen = self._seen.get(session.session_id)
        if seen is not None and seen.facts == facts_of(session):
            return session
        review = self._review(session)
        if review.admitted is False:
            self._end(session, sender)
            return None
        changed = with_given_roles(session, review.given, review.doubtful)
        written_at = seen.written_at if seen is not None else 0.0
        if changed != session:
            now = self.clock()
            if abs(now - written_at) >= _SECONDS_PER_WRITE:
                written_at = now
                if not self._write(session, review):
                    return None
        self._remember(session.session_id, _Seen(facts_of(changed), written_at))
        return changed

    def _review(self, session: UserSession) -> AccessReview:
        providers = self.ends.accounts.providers
        name = providers.name_of(session)
        if name is None:  # the site has the provider no longer, and the account begins with its name
            # A user ID may contain colons too, so that the account is not split at one.
            subject = session.grant.subject if session.grant else ""
            name = session.account.removesuffix(subject).removesuffix(":")
        return review_stored(self.rules, session, name)

    def _write(self, session: UserSession, review: AccessReview) -> bool:
        """Store the roles, and return whether the session still exists.

        If the store cannot be written, the present request has the right roles nevertheless.
        """
        store = self.ends.accounts.store
        try:
            return store.set_given_roles(session.session_id, review.given, review.doubtful)
        except StoreUnavailable as error:
            _logger.warning("the roles that changed rules give could not be stored: %s", error)
            return True

    def _remember(self, session_id: str, seen: _Seen) -> None:
        if len(self._seen) >= self.most:
            self._seen.clear()
        self._seen[session_id] = seen

    def _end(self, own: UserSession, sender: object) -> None:
        """End the sessions that the rules do not admit.

        The session of the request ends last.
        """
        accounts = self.ends.accounts
        ended: list[UserSession] = []
        found = [each for each in accounts.of_account(own) if each.grant is not None]
        refused = [each for each in found if self._review(each).admitted is False]
        stored = accounts.tokens.load(own.account)
        try:
            if len(refused) == len(found) and stored is not None and _brought(refused, stored):
                self._end_account(own, stored, refused, ended)
            else:
                self._end_each(own, refused, ended)
        finally:
            for each in ended:
                emit(sender, self._event(each))

    def _end_account(
        self, own: UserSession, stored: OAuthTokenSet, refused: list[UserSession], ended: list[UserSession]
    ) -> None:
        """End all sessions of an account, and remove its tokens.

        They are removed although others may need them.
        """
        accounts = self.ends.accounts
        provider = accounts.providers.of_session(own)
        taken = [self.ends.end_not_admitted(own, stored, refused, ended)]
        try:
            # Look again: a sign-in that began one of the sessions may just have stored its tokens once more.
            again = take(
                provider,
                accounts.tokens,
                own.account,
                is_last=lambda found: found.tokens.grant == stored.grant,
            )
            taken += [again] if again.removed else []
            for each in taken:
                self.ends.revoke(provider, own.account, each)
        except StoreUnavailable as error:
            _logger.warning("tokens of a user without access are revoked later: %s", error)

    def _end_each(self, own: UserSession, refused: list[UserSession], ended: list[UserSession]) -> None:
        """End sessions, and remove tokens that no other session needs."""
        others = [each for each in refused if each.session_id != own.session_id]
        with self.ends.accounts.replicated():
            for each in (*others, own):
                ids: list[str] = []
                try:
                    self.ends.end([each], ended=ids)
                finally:
                    ended += [each] if ids else []

    def _event(self, session: UserSession) -> SignedOut:
        label = self.ends.accounts.providers.label_of(session)
        return SignedOut(
            mode="web",
            user_id=session.user_id,
            provider=label,
            session=session,
            sessions=1,
            reason="access_changed",
        )


def _brought(sessions: list[UserSession], tokens: OAuthTokenSet) -> bool:
    """Return whether one of the sessions' sign-ins brought the tokens."""
    grant = tokens.grant
    return grant is not None and any(
        each.grant is not None and each.grant.grant_id == grant.grant_id for each in sessions
    )
