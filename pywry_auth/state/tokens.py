"""The token store: a token set per user, on any backend."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from copy import copy
from typing import Self

from pywry_auth.backends.base import Backend, Terms, UnreadableRecord, When
from pywry_auth.backends.lease import Lease
from pywry_auth.exceptions import StoreUnavailable, TokenError
from pywry_auth.models import OAuthTokenSet
from pywry_auth.single_flight import SingleFlight
from pywry_auth.state.account_links import AccountLinks
from pywry_auth.state.revocations import RevocationQueue
from pywry_auth.state.token_record import StoredTokens, pack_tokens, unpack_stored, unpack_tokens
from pywry_auth.state.unsaved import UnsavedTokens

_GRACE = 300
"""Seconds for which a set is kept after its access token expired, so that a refresh can still begin."""

_SHORTEST = 60.0  # seconds, by which the clocks of machines on one store may differ
_KIND = "oauth:tokens:"
_GROUP = "oauth:tokens"


class TokenStore:
    """Token sets under user IDs, which may be any text.

    A set without a refresh token expires 300 s after its access token, unless a session needs its ID token
    (see :meth:`keep_for`). A set whose access token does not expire is kept until it is deleted, or on a site
    as long as a session may need it.

    Args:
        backend: The backend that keeps the records.
        refresh_token_ttl: Seconds for which a set with a refresh token is kept after it was saved, but at
            least until 300 s after its access token expired; None keeps it until it is deleted, or on a site
            as long as a session may need it.

    Attributes:
        refreshes: The refreshes that are under way in this process, by user ID.
        unsaved: Fresh tokens that wait in this process for the store.
        revocations: Tokens that the provider has not revoked yet, on the same backend.
        at_shared_default: Whether the store is at the place that every client uses by default.
    """

    at_shared_default = False

    def __init__(self, backend: Backend, *, refresh_token_ttl: float | None = None) -> None:
        self._backend = backend
        self._refresh_token_ttl = refresh_token_ttl
        self._at_least = 0.0
        self._extends = True
        self.refreshes = SingleFlight[OAuthTokenSet](TokenError)
        self.unsaved = UnsavedTokens()
        self.revocations = RevocationQueue(backend)
        self._links = AccountLinks(backend)

    @property
    def backend(self) -> Backend:
        """The backend, which also keeps other records of the program."""
        return self._backend

    def keep_for(self, seconds: float) -> None:
        """Keep sets that a session needs at least this long after they were saved.

        They are the sets that can be refreshed or whose access token does not expire, and those with an ID
        token, which a sign-out sends to the provider. No set is then kept until it is deleted. A web
        application calls this with the lifetime of its sessions.

        Args:
            seconds: The time; a shorter one than before has no effect.
        """
        self._at_least = max(self._at_least, seconds)

    def for_jobs(self) -> Self:
        """Return a view of this store whose refreshes make no set live longer.

        A job may refresh tokens for ever. A site's set still expires when the sessions that need it have
        expired, or when its refresh token lifetime (``refresh_token_ttl``) has passed after the last refresh.
        """
        view = copy(self)
        view._extends = False
        return view

    def link(self, user_id: str, account: str) -> None:
        """Note that an account at a provider belongs to a user with an ID of the site.

        It concerns the tokens that are stored by now, as ``owner`` of :meth:`save` does. An account has one
        owner: the last one. With the account itself as the user's ID, it has no other owner any more.

        Args:
            user_id: The site's ID of the user.
            account: The ID under which the user's tokens are stored.

        Raises:
            StoreUnavailable: The store is down.
        """
        owner = self._owner(user_id, account)
        while (stored := self.find(account)) is not None and stored.owner != owner:
            held, review = stored.held_until, stored.review
            if self._put(account, stored.tokens, stored, held_until=held, review=review, owner=owner):
                return

    def accounts_of(self, user_id: str) -> list[str]:
        """Return the accounts linked to a user that have tokens, sorted.

        An account is found for 400 days after the last sign-in with it.

        Args:
            user_id: The site's ID of the user.
        """
        found = ((account, self.find(account)) for account in self._links.of(user_id))
        return [account for account, stored in found if stored is not None and stored.owner == user_id]

    def owner_of(self, account: str) -> str:
        """Return the site's ID of the user that an account belongs to.

        Args:
            account: The ID under which the user's tokens are stored.

        Returns:
            The owner of the stored tokens; the account itself without one, and without tokens.
        """
        stored = self.find(account)
        return account if stored is None else stored.owner or account

    def keep_until(self, key: str, moment: float) -> None:
        """Keep a site's token set longer, because a session lasts longer than it.

        A set that :meth:`keep_for` did not concern when it was saved remains unchanged, and so does one that
        no session needs.

        Args:
            key: The user's ID.
            moment: Unix time in seconds at which the session expires.
        """
        while (stored := self.find(key)) is not None and 0 < stored.kept_until < moment:
            if self._lifetime(stored.tokens, 0) == self._lifetime(stored.tokens, math.inf):
                return  # no session needs it
            held, review = stored.held_until, stored.review
            if self._put(key, stored.tokens, stored, held_until=held, kept_until=moment, review=review):
                return

    def keep_accounts_until(self, user_id: str, moment: float, but: str = "") -> None:
        """Keep the token sets of all accounts linked to a user longer, see :meth:`keep_until`.

        Args:
            user_id: The site's ID of the user.
            moment: Unix time in seconds at which a session of the user expires.
            but: An account that is left out.
        """
        for account in self._links.of(user_id):
            if account != but and self.owner_of(account) == user_id:
                self.keep_until(account, moment)

    def save(self, key: str, tokens: OAuthTokenSet, *, hold: float = 0.0, owner: str | None = None) -> bool:
        """Store a user's token set, unless the tokens of a later sign-in are stored.

        The comparison and the write are one step. A token set without a grant always replaces the earlier
        one.

        Args:
            key: The user's ID.
            tokens: The token set that the provider issued.
            hold: Seconds for which a sign-out does not touch the set, because its login is still creating the
                session; :meth:`settle` ends the hold.
            owner: The site's ID of the user that the tokens belong to, perhaps ``key`` itself; None for the
                owner of the set that is replaced.

        Returns:
            Whether it was stored.

        Raises:
            StoreUnavailable: The store is down; an earlier set is still there.
        """
        return self._save(key, tokens, hold, owner)

    def save_if_lasting(self, key: str, tokens: OAuthTokenSet, *, hold: float, owner: str) -> bool:
        """Store a token set like :meth:`save`, unless only the stored one can be refreshed.

        Args:
            key: See :meth:`save`.
            tokens: See there.
            hold: See there.
            owner: See there.

        Returns:
            Whether it was stored.

        Raises:
            StoreUnavailable: The store is down; an earlier set is still there.
        """
        return self._save(key, tokens, hold, owner, lambda stored: _lasts_longer(stored, tokens))

    def settle(self, key: str, tokens: OAuthTokenSet, owner: str = "") -> None:
        """Note that the session of a sign-in exists now.

        The hold of its tokens ends. If no tokens are stored, for example because a later sign-in replaced
        them and was signed out already, they are stored again: the new session needs them.

        Args:
            key: The user's ID.
            tokens: The tokens of the sign-in.
            owner: The owner of the tokens if none are stored, see :meth:`save`; empty for ``key``.
        """
        owner = "" if owner == key else owner
        while True:
            data = self._backend.get(_KIND + key)
            stored = None if data is None else unpack_stored(data)
            if stored is not None and (stored.tokens.grant != tokens.grant or not stored.held_until):
                return
            current, review = (tokens, "") if stored is None else (stored.tokens, stored.review)
            user = owner if stored is None else stored.owner
            if self._put(key, current, stored or data, review=review, owner=user):
                return

    def replace(
        self, key: str, tokens: OAuthTokenSet, instead_of: OAuthTokenSet, *, review: str = ""
    ) -> bool:
        """Replace a token set with the refreshed one.

        The comparison and the write are one step, so that a refresh overwrites neither a sign-out nor a new
        sign-in.

        Args:
            key: The user's ID.
            tokens: The token set that the refresh returned.
            instead_of: The old token set, unchanged since it was loaded.
            review: The review of access rules that is due now, see :class:`StoredTokens`. One that the old
                set needs stays due.

        Returns:
            Whether it is stored now.
        """
        while (stored := self.find(key)) is not None:
            if stored.tokens == tokens:
                return True  # an earlier attempt stored it, and its answer was lost
            if stored.tokens != instead_of:
                return False
            due = review or stored.review
            if self._put(key, tokens, stored, held_until=stored.held_until, review=due):
                return True
        return False

    def note_reviewed(self, key: str, tokens: OAuthTokenSet) -> None:
        """Note that the review of a token set is finished, unless other tokens replaced the set.

        Args:
            key: The user's ID.
            tokens: The token set.
        """
        while (stored := self.find(key)) is not None and stored.tokens == tokens and stored.review:
            if self._put(key, tokens, stored, held_until=stored.held_until):
                return

    def find(self, key: str) -> StoredTokens | None:
        """Return a user's token set as it is stored; None if missing or damaged.

        Raises:
            StoreUnavailable: See :meth:`load`.
        """
        data = self._backend.get(_KIND + key)
        return None if data is None else unpack_stored(data)

    def remove(self, key: str, stored: StoredTokens) -> bool:
        """Remove a token set unless it changed since :meth:`find` returned it.

        Args:
            key: The user's ID.
            stored: The result of :meth:`find`.

        Returns:
            Whether it was removed.
        """
        return self._backend.pop(_KIND + key, stored.data, group=_GROUP) is not None

    def load(self, key: str) -> OAuthTokenSet | None:
        """Return a user's token set; None if missing or damaged.

        Raises:
            StoreUnavailable: The store is down. Or a newer version of this package wrote the set, or it is
                encrypted and this process has no keys.
        """
        data = self._backend.get(_KIND + key)
        return None if data is None else unpack_tokens(data)

    def delete(self, key: str) -> bool:
        """Remove a user's token set; return whether there was one."""
        return self._backend.pop(_KIND + key, group=_GROUP) is not None

    def discard(self, key: str, tokens: OAuthTokenSet) -> bool:
        """Remove a token set unless another one replaced it.

        Args:
            key: The user's ID.
            tokens: The token set to remove, unchanged since it was loaded.

        Returns:
            Whether it was removed.
        """
        while (stored := self.find(key)) is not None and stored.tokens == tokens:
            if self.remove(key, stored):
                return True
        return False

    def discard_unreadable(self, key: str, *, of_others: bool = False) -> None:
        """Remove a record that contains no token set.

        Args:
            key: The user's ID.
            of_others: Whether to remove also a set that another process can read, because a newer version
                wrote it or it is encrypted. A site leaves it to that process.

        Raises:
            StoreUnavailable: The store is down, or another process can read the set, which stays.
        """
        data = self._backend.get(_KIND + key)
        if data is None:
            return
        try:
            unreadable = unpack_tokens(data) is None
        except UnreadableRecord:
            if not of_others:
                raise
            unreadable = True
        if unreadable:
            self._backend.pop(_KIND + key, data, group=_GROUP)

    def exists(self, key: str) -> bool:
        """Return whether a token set is stored for a user."""
        return self._backend.get(_KIND + key) is not None

    def list_keys(self) -> list[str]:
        """Return the IDs of all users with stored tokens, unordered."""
        return [key.removeprefix(_KIND) for key in self._backend.members(_GROUP)]

    def lock(self, key: str, wait: float) -> AbstractContextManager[Lease]:
        """Return a lock on one user's tokens (see :meth:`Backend.lock`).

        Args:
            key: The user's ID.
            wait: Seconds to wait for another holder.
        """
        return self._backend.lock("oauth:lock:" + key, wait)

    def last_failure(self, key: str) -> str | None:
        """Return the last recorded failure, or None.

        Each failure has a different text. A failure expires after its lifetime.
        """
        data = self._backend.get("oauth:failed:" + key)
        return None if data is None else data.decode("ascii", "replace")

    def record_failure(self, key: str, error: str, lifetime: float, mark: str = "") -> None:
        """Record that the work under a user's lock failed.

        The record is for the callers that wait for the lock.

        Args:
            key: The user's ID.
            error: The error code, which becomes the end of the recorded text.
            lifetime: Seconds after which the record expires.
            mark: Hexadecimal digits that name the tokens, appended to the random digits of the text.
        """
        text = f"{os.urandom(8).hex()}{mark} {error}"
        self._backend.put("oauth:failed:" + key, text.encode("ascii", "replace"), Terms(ttl=lifetime))

    def probe(self) -> None:
        """Check that tokens can be stored.

        A program calls this before a user signs in.

        Raises:
            StoreUnavailable: They cannot be stored; the text gives the reason and the remedy.
        """
        self._backend.probe()

    def close(self) -> None:
        """Close the backend's connections; a later call opens new ones."""
        self._backend.close()

    def _owner(self, user_id: str, account: str) -> str:
        """Return the owner as it is recorded, after the account can be found by it."""
        if user_id == account:
            return ""
        self._links.add(user_id, account)
        return user_id

    def _save(
        self,
        key: str,
        tokens: OAuthTokenSet,
        hold: float,
        owner: str | None,
        keeps: Callable[[OAuthTokenSet], bool] = lambda stored: False,
    ) -> bool:
        held_until = time.time() + hold if hold else 0.0
        known = None if owner is None else self._owner(owner, key)
        try:
            return self._supersede(key, tokens, held_until, known, keeps)
        except StoreUnavailable:
            # The set may be stored, and only the answer lost. A second attempt finds out.
            return self._supersede(key, tokens, held_until, known, keeps)

    def _supersede(
        self,
        key: str,
        tokens: OAuthTokenSet,
        held_until: float,
        owner: str | None,
        keeps: Callable[[OAuthTokenSet], bool],
    ) -> bool:
        while True:
            data = self._backend.get(_KIND + key)
            stored = None if data is None else unpack_stored(data)
            if stored is not None and (_is_later(stored.tokens, tokens) or keeps(stored.tokens)):
                return False
            if self._put(key, tokens, stored or data, held_until=held_until, owner=owner):
                return True

    def _put(
        self,
        key: str,
        tokens: OAuthTokenSet,
        instead_of: StoredTokens | bytes | None = None,
        *,
        held_until: float = 0.0,
        kept_until: float = 0.0,
        review: str = "",
        owner: str | None = None,
    ) -> bool:
        """Store a set in place of the record that was read, which no other writer may have changed.

        A session that needed the earlier set, perhaps from before a change of ``SESSION_TTL``, needs the new
        one as long. The owner stays unless another one is given.
        """
        if isinstance(instead_of, StoredTokens):
            owner = instead_of.owner if owner is None else owner
            kept_until, instead_of = max(kept_until, instead_of.kept_until), instead_of.data
        now = time.time()
        lifetime: float | None
        if kept_until and not self._extends:
            lifetime = max(kept_until - now, self._refresh_token_ttl or 0.0, _SHORTEST)
        else:
            lifetime = self._lifetime(tokens, max(self._at_least, kept_until - now))
            if lifetime is not None and (self._at_least or kept_until):
                kept_until = max(kept_until, now + lifetime)
        terms = Terms(ttl=lifetime, group=_GROUP, when=When.ABSENT, expected=instead_of)
        data = pack_tokens(tokens, held_until, kept_until, review, owner or "")
        return self._backend.put(_KIND + key, data, terms)

    def _lifetime(self, tokens: OAuthTokenSet, needed: float) -> float | None:
        """Return the seconds for which a set is kept; None until it is deleted.

        Args:
            tokens: The token set.
            needed: Seconds for which a session may need it; 0 if no session does.
        """
        useful = None if tokens.expires_in is None else max(0.0, tokens.expires_in) + _GRACE
        if useful is not None and tokens.refresh_token is None:
            return max(useful, needed) if tokens.id_token else useful
        ttl = self._refresh_token_ttl
        if needed <= 0 and (useful is None or ttl is None or (not ttl and tokens.is_expired)):
            return None
        return max(useful or 0.0, ttl or 0.0, needed)


def _is_later(stored: OAuthTokenSet, tokens: OAuthTokenSet) -> bool:
    """Return whether a stored set belongs to a later sign-in, or to a later refresh of the same one.

    A sign-in in the future comes from a machine with another clock, so its order is unknown.
    """
    if stored.grant is None or tokens.grant is None or stored.grant.signed_in_at > time.time():
        return False
    if not _is_same_client(stored, tokens):
        return False
    if stored.grant.signed_in_at != tokens.grant.signed_in_at:
        return stored.grant.signed_in_at > tokens.grant.signed_in_at
    return stored.grant.grant_id == tokens.grant.grant_id and stored.issued_at > tokens.issued_at


def _lasts_longer(stored: OAuthTokenSet, tokens: OAuthTokenSet) -> bool:
    """Return whether a stored set can be refreshed, and another one of the same client cannot."""
    return _is_same_client(stored, tokens) and bool(stored.refresh_token) and not tokens.refresh_token


def _is_same_client(stored: OAuthTokenSet, tokens: OAuthTokenSet) -> bool:
    return (stored.issuer, stored.client_id) == (tokens.issuer, tokens.client_id)
