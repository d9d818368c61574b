"""The session store: signed-in users, on any backend."""

from __future__ import annotations

import logging
import math
import secrets
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from copy import copy
from dataclasses import replace
from itertools import islice
from typing import Any, Self

from pywry_auth.backend_names import PREFIX
from pywry_auth.backends.base import Backend, Terms, UnreadableRecord, bounded
from pywry_auth.digests import digest_of, handle_of
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError, StoreUnavailable
from pywry_auth.models import Grant, UserSession
from pywry_auth.per_process import PerProcess
from pywry_auth.state.auth import permissions_of
from pywry_auth.state.linked_users import LinkedUsers
from pywry_auth.state.role_table import RoleTable
from pywry_auth.state.session_filter import SessionFilter
from pywry_auth.state.session_record import (
    EmailCheck,
    SessionRecord,
    has_account,
    pack_session,
    read_session,
    unpack_session,
)
from pywry_auth.state.sign_in_index import SignInIndex
from pywry_auth.state.sites import UNBOUND, sites_of
from pywry_auth.state.tokens import TokenStore

_logger = logging.getLogger("pywry_auth.state")

SESSION_TTL = 86400.0
"""The default lifetime of a session in seconds."""

_KIND = "session:"
_BEARER = "pywry_"
_ALL = SessionFilter()
_BATCH = 200  # sessions that a search loads at once
_SECONDS_PER_WARNING = 60.0
_SPARE_SECONDS = 60.0  # by which the clocks of machines on one store may differ


class SessionStore:
    """Sessions under their IDs; a look-up takes one round trip.

    Bearer tokens belong to no site until :meth:`bind_tokens` is called, as ``create_auth_blueprint``,
    ``create_auth_router`` and ``get_session_store()`` do for the site's ``TOKEN_SECRET``.

    Args:
        backend: The backend that keeps the records.
        session_ttl: The lifetime of a session in seconds, unless it is created with another one.
        idle_ttl: Seconds without a look-up after which a session expires sooner; 0 for no such limit.
        clock: Unix time in seconds.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        session_ttl: float = SESSION_TTL,
        idle_ttl: float = 0.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._backend = backend
        self._session_ttl = session_ttl
        self._idle_ttl = idle_ttl
        self._clock = clock
        self._roles = RoleTable(backend)
        self._sites: tuple[str, ...] = ()  # empty until the store is given to a site
        self._warning = PerProcess(threading.Lock)  # guards the time of the last warning
        self._warned_at = -math.inf

    @property
    def backend(self) -> Backend:
        """The backend, which also keeps other records of the application."""
        return self._backend

    @property
    def shared(self) -> bool:
        """Whether other processes see the same sessions."""
        return self._backend.shared

    @property
    def sites(self) -> tuple[str, ...]:
        """The digests of the site whose bearer tokens this store issues, the current one first."""
        return self._sites or (UNBOUND,)

    def bind_tokens(self, *secrets: str, prefix: str = PREFIX) -> None:
        """Bind bearer tokens that are issued from now on to one site.

        Other sites on the same backend do not accept them. A site with a secret accepts only tokens that are
        bound to it.

        Args:
            secrets: The value of the site's ``TOKEN_SECRET``, with commas during a rotation, or each of its
                secrets, the current one first; nothing for a site without one.
            prefix: The site's ``REDIS_PREFIX``, with any backend.

        Raises:
            AuthenticationError: The store belongs to another site, whose tokens it would no longer issue.
        """
        sites = sites_of(secrets, prefix) or (UNBOUND,)
        if self._sites not in ((), sites):
            raise AuthenticationError(
                "This session store belongs to a site with another PYWRY_DEPLOY__TOKEN_SECRET or "
                "PYWRY_DEPLOY__REDIS_PREFIX, or with none: give each site a session store of its own.",
                error=ErrorCode.INVALID_CONFIGURATION,
            )
        self._sites = sites

    def bound_to(self, sites: tuple[str, ...]) -> Self:
        """Return a store with the same records that issues the bearer tokens of a site.

        Args:
            sites: The digests of the site, see :attr:`sites`.
        """
        store = copy(self)
        store._sites = sites
        return store

    def create_session(
        self,
        session_id: str,
        user_id: str,
        roles: Iterable[str] | None = None,
        ttl: float | None = None,
        metadata: Mapping[str, Any] | None = None,
        *,
        idle_ttl: float | None = None,
        grant: Grant | None = None,
        browser: str = "",
        network: str = "",
        account: str = "",
    ) -> UserSession:
        """Store and return a new session.

        A session without a grant is bound to the same site as the store's bearer tokens.

        Args:
            session_id: The digest of a secret that only the user has.
            user_id: The user's ID.
            roles: The user's roles; no roles by default.
            ttl: The lifetime in seconds; by default the store's ``session_ttl``.
            metadata: JSON values; :class:`UserSession` explains ``user_info`` and ``permissions``.
            idle_ttl: Seconds without a use after which it expires sooner; 0 for never; by default the
                store's value.
            grant: The grant of the sign-in; None for a session without one.
            browser: The browser and its platform, for people.
            network: The client's IPv4 address or IPv6 network.
            account: The ID under which the user's OAuth tokens are stored; by default ``user_id``.

        Raises:
            ValueError: ``ttl`` is not more than 0, or ``metadata`` contains NaN, Infinity or a number beyond
                a double; the text names the member.
            TypeError: ``metadata`` contains a value that JSON cannot represent.
            StoreUnavailable: The store is down.
        """
        now, life = self._clock(), bounded(self._session_ttl if ttl is None else ttl)
        session = UserSession(
            session_id,
            user_id,
            list(roles or ()),
            now,
            now + life,
            dict(metadata or {}),
            grant,
            browser,
            network,
            account,
        )
        idle = self._idle_ttl if idle_ttl is None else idle_ttl
        site = UNBOUND if grant else self.sites[0]  # after a sign-in, a signed cookie opens the session
        self._note_user(session, now)
        self._put(SessionRecord(session, life, idle, now, site))
        if grant is None:  # a sign-in stores its tokens itself
            self._keep_tokens(session)
        return session

    def get_session(self, session_id: str) -> UserSession | None:
        """Return a valid session, or None.

        The call counts as a use of the session. Uses are recorded at most once a minute, or once in a tenth
        of the idle time if that is longer. If a use cannot be recorded, for example because the store is
        full, the session stays valid and expires sooner.

        Args:
            session_id: The session's ID.

        Raises:
            StoreUnavailable: The store is down. Or a newer version of this package wrote the session, or it
                is encrypted and this process has no keys. No user gets access then, and no session becomes
                invalid.
        """
        data, record = self._load(session_id)
        return None if record is None else self._use(record, data)

    def find_bearer(self, session_id: str, sites: Collection[str]) -> UserSession | None:
        """Return the valid session of a bearer token, or None.

        The call counts as a use of the session, unless the token is bound to another site. A subclass that
        overrides :meth:`get_session` decides here too.

        Args:
            session_id: The session's ID.
            sites: The digests of the sites that accept the token, see :attr:`sites`.

        Raises:
            StoreUnavailable: See :meth:`get_session`.
        """
        data, record = self._load(session_id)
        if record is None:
            return None
        if record.site not in sites:
            if self._may_warn():
                _logger.warning(
                    "refused a bearer token that is not bound to this site: issue it again with the site's "
                    "PYWRY_DEPLOY__TOKEN_SECRET and PYWRY_DEPLOY__REDIS_PREFIX"
                )
            return None
        # Only a store with a method of its own pays for a second look-up.
        overridden = type(self).get_session is not SessionStore.get_session
        return self.get_session(session_id) if overridden else self._use(record, data)

    def is_unreadable(self, session_id: str) -> bool:
        """Return whether a session exists that this process cannot read.

        For such a session :meth:`get_session` returns None, as if it did not exist, or raises
        ``StoreUnavailable``. Another process may still accept it: one with a newer version of this package,
        or with other encryption keys.

        Args:
            session_id: The session's ID.

        Returns:
            False if the session is missing, expired or readable.

        Raises:
            StoreUnavailable: The store is down.
        """
        try:
            data = self._backend.read(_KIND + session_id)
            return data is not None and unpack_session(data, session_id) is None
        except UnreadableRecord:
            return True

    def validate_session(self, session_id: str) -> bool:
        """Return whether a session is valid."""
        return self.get_session(session_id) is not None

    def refresh_session(self, session_id: str, extend_ttl: float | None = None) -> bool:
        """Extend a valid session, and return whether there was one.

        Args:
            session_id: The session's ID.
            extend_ttl: The new lifetime in seconds, counted from now; by default the lifetime with which the
                session was created. The session never expires sooner than before.
        """
        while True:
            data, record = self._load(session_id)
            if record is None:
                return False
            now = self._clock()
            expires_at = now + (record.ttl if extend_ttl is None else extend_ttl)
            session = replace(record.session, expires_at=max(expires_at, record.session.expires_at))
            self._note_user(session, now)
            if self._put(replace(record, session=session, used_at=now), data):
                self._keep_tokens(session)
                return True

    def delete_session(self, session_id: str) -> bool:
        """Delete a session, and return whether there was one.

        A session that this process cannot read ends too.
        """
        record = None
        with suppress(UnreadableRecord):
            record = self._load(session_id)[1]
        group = None if record is None else _group(record.session.user_id)
        return self._backend.pop(_KIND + session_id, group=group) is not None

    def list_user_sessions(self, user_id: str) -> list[UserSession]:
        """Return a user's valid sessions, the oldest first."""
        return self._sorted(self.session_ids(user_id))

    def list_sessions_with_use(self, user_id: str) -> list[tuple[UserSession, float | None]]:
        """Return a user's valid sessions with their last uses, the oldest first.

        Args:
            user_id: The user's ID.

        Returns:
            Each session, and the Unix time in seconds of its last recorded use; None for a session without a
            limit of idle time, because its uses are not recorded.

        Raises:
            StoreUnavailable: The store is down.
        """
        records = self._records(self.session_ids(user_id))
        return [(each.session, each.used_at if each.idle_ttl else None) for each in records]

    def session_ids(self, user_id: str) -> list[str]:
        """Return the IDs of a user's sessions, including those that this process cannot read.

        Args:
            user_id: The user's ID.
        """
        return [key.removeprefix(_KIND) for key in self._backend.members(_group(user_id))]

    def find_sessions(
        self,
        wanted: SessionFilter = _ALL,
        *,
        unreadable: Callable[[str], object] = lambda session_id: None,
    ) -> Iterator[UserSession]:
        """Return the valid sessions that a filter describes, in no order.

        Sessions are loaded a few hundred at a time, so that any number of them fits into memory. The call
        does not count as a use. A search without a user looks at all sessions, which takes long if there are
        many. A search for a handle compares the IDs, and loads only the session with that handle.

        Args:
            wanted: The filter; by default all sessions.
            unreadable: Called with the ID of each session that this process cannot read. Another process may
                accept it: one with a newer version of this package, or with other encryption keys.

        Raises:
            StoreUnavailable: The store is down, or its backend cannot list all records. It may be raised at a
                later step of the iteration.
        """
        user = wanted.user_id
        ids = self.stored_ids() if user is None else iter(self.session_ids(user))
        if wanted.handle is not None:  # one session has it, so that the search ends there
            ids = islice((each for each in ids if handle_of(each) == wanted.handle), 1)
        while batch := list(islice(ids, _BATCH)):
            for session_id, data in self._data_of(batch):
                try:
                    session = self._shown(session_id, data)
                except ValueError:
                    unreadable(session_id)
                    continue
                if session is not None and wanted.matches(session):
                    yield session

    def stored_ids(self) -> Iterator[str]:
        """Return the IDs of all sessions, without loading any, including those that cannot be read.

        Raises:
            StoreUnavailable: See :meth:`find_sessions`.
        """
        return (key.removeprefix(_KIND) for key in self._backend.keys(_KIND))

    def sign_ins_beyond(self, user_id: str, limit: int) -> list[UserSession]:
        """Return a user's sign-ins other than the newest ones, the oldest first.

        A sign-in is a session with a grant. Sessions that the application created, for example with
        :func:`issue_session_token`, neither count nor are returned.

        Args:
            user_id: The user's ID.
            limit: The number of newest sign-ins to leave out.
        """
        ids = self.session_ids(user_id)
        if len(ids) <= limit:  # usually true, so that a sign-in costs only this look at the index
            return []
        sign_ins = [session for session in self._sorted(ids) if session.grant is not None]
        return sign_ins[: max(0, len(sign_ins) - limit)]

    def delete_user_sessions(self, user_id: str) -> int:
        """Delete all sessions of a user and return their number."""
        group = _group(user_id)
        return sum(self._backend.pop(key, group=group) is not None for key in self._backend.members(group))

    def set_roles(self, user_id: str, roles: Iterable[str]) -> int:
        """Replace the roles of all of a user's sessions.

        A simultaneous look-up or extension of a session does not restore its earlier roles, and a session
        that ended in the meantime stays ended.

        Args:
            user_id: The user's ID.
            roles: The new roles.

        Returns:
            The number of the user's valid sessions, which all have the new roles.

        Raises:
            StoreUnavailable: The store is down; some sessions may have the new roles. Or this process cannot
                read one of the sessions; all others have the new roles.
        """
        wanted, changed, unreadable = list(roles), 0, False
        for key in self._backend.members(_group(user_id)):
            session_id = key.removeprefix(_KIND)
            try:
                found = self._set_roles(session_id, wanted)
                unreadable = unreadable or (not found and self.is_unreadable(session_id))
                changed += found
            except UnreadableRecord:
                unreadable = True
        if unreadable:
            raise UnreadableRecord("The roles of a session that cannot be read were not changed.")
        return changed

    def set_given_roles(
        self,
        session_id: str,
        given: Mapping[str, Sequence[str]],
        doubtful: Collection[str] = (),
        renewed: Mapping[str, object] | None = None,
    ) -> bool:
        """Change a session's roles after access rules were evaluated again.

        Only the difference to the rules' last results is applied, so that roles from :meth:`set_roles` stay.
        The last results stand in the session's metadata as ``given``. The comparison and the write are one
        step: neither a simultaneous change of the roles is lost, nor does an ended session come back.

        Args:
            session_id: The session's ID.
            given: The roles that each evaluated rule gives, by the rule's name. A rule that is missing gives
                the same as before.
            doubtful: The roles that a session loses if no rule gives them and the session does not record
                which rule gave them; such a session gets no roles. Empty leaves it unchanged.
            renewed: The claims of rules that are newer than the session's profile; None leaves them
                unchanged.

        Returns:
            Whether there is such a session.

        Raises:
            StoreUnavailable: The store is down.
        """
        return self._change(session_id, lambda record: record.with_given(given, doubtful, renewed))

    def check_email(self, session_id: str, check: EmailCheck) -> bool:
        """Keep or replace a session's verified e-mail address after a later check.

        The comparison and the write are one step, see :meth:`set_given_roles`.

        Args:
            session_id: The session's ID.
            check: The result of the check.

        Returns:
            Whether there is such a session.

        Raises:
            StoreUnavailable: The store is down.
        """
        return self._change(session_id, lambda record: record.with_email(check))

    def set_role_permissions(self, role: str, permissions: Iterable[str]) -> None:
        """Replace the permissions of a role in all processes.

        The change applies to all processes that share this store.

        Args:
            role: The name of a known or new role.
            permissions: All permissions of the role.

        Raises:
            StoreUnavailable: The store is down, or this process cannot read its table of roles. Nothing was
                changed.
        """
        self._roles.set(role, permissions)

    def role_permissions(self) -> Mapping[str, Iterable[str]]:
        """Return the permissions of each role.

        Raises:
            StoreUnavailable: The store is down, or this process cannot read its table of roles.
        """
        return self._roles.permissions()

    def check_permission(
        self, session_id: str, resource_type: str, resource_id: str, permission: str
    ) -> bool:
        """Return whether a session has a permission on a resource.

        The permission can come from the session's roles, or from a grant on the resource.

        Args:
            session_id: The session's ID.
            resource_type: The kind of the resource.
            resource_id: The resource's ID.
            permission: The name of the permission, for example ``write``.
        """
        session = self.get_session(session_id)
        return session is not None and self.allows(session, resource_type, resource_id, permission)

    def allows(self, session: UserSession, resource_type: str, resource_id: str, permission: str) -> bool:
        """Return whether a loaded session has a permission.

        This is :meth:`check_permission` without a second look-up of the session.

        Args:
            session: The session.
            resource_type: The kind of the resource.
            resource_id: The resource's ID.
            permission: The name of the permission, for example ``write``.
        """
        grants = session.metadata.get("permissions")
        granted = grants.get(f"{resource_type}:{resource_id}") if isinstance(grants, dict) else None
        if isinstance(granted, list) and permission in granted:
            return True
        return permission in permissions_of(session.roles, self.role_permissions())

    def replicated(self) -> AbstractContextManager[None]:
        """Return a ``with`` block whose writes survive the loss of a server.

        The routes use it for every sign-in and sign-out. An application that ends sessions itself, for
        example with :meth:`delete_user_sessions`, needs it too. It does nothing unless the site has
        ``PYWRY_DEPLOY__REDIS_WAIT_REPLICAS``.

        Raises:
            StoreUnavailable: The block raises it if the writes are not known to be safe. It must then be
                repeated, also if it finds nothing to do.
        """
        return self._backend.replicated()

    def close(self) -> None:
        """Close the backend's connections; a later call opens new ones."""
        self._backend.close()

    def _sorted(self, session_ids: Iterable[str]) -> list[UserSession]:
        return [record.session for record in self._records(session_ids)]

    def _records(self, session_ids: Iterable[str]) -> list[SessionRecord]:
        """Return the records of the valid ones of some sessions; the order is the same in all processes."""
        records = []
        for session_id in session_ids:
            with suppress(UnreadableRecord):  # the caller asks for these itself
                records.append(self._load(session_id)[1])
        found = [record for record in records if record]
        return sorted(found, key=lambda each: (each.session.created_at, each.session.session_id))

    def _load(self, session_id: str) -> tuple[bytes | None, SessionRecord | None]:
        """Return the stored bytes and, if valid, the session's record."""
        data = self._backend.get(_KIND + session_id)
        record = None if data is None else unpack_session(data, session_id)
        return data, record if record and record.lifetime(self._clock()) > 0 else None

    def _data_of(self, session_ids: Iterable[str]) -> Iterator[tuple[str, bytes | None]]:
        """Return the stored bytes of the sessions that exist; None for those that cannot be decrypted."""
        found = self._backend.get_many([_KIND + each for each in session_ids])
        return ((key.removeprefix(_KIND), data) for key, data in found.items())

    def _shown(self, session_id: str, data: bytes | None) -> UserSession | None:
        """Return a stored session without recording a use, or None if it has expired.

        Raises:
            ValueError: This process cannot read it.
        """
        if data is None:
            raise ValueError("the record cannot be decrypted")
        record = read_session(data, session_id)
        return record.session if record.lifetime(self._clock()) > 0 else None

    def _put(self, record: SessionRecord, expected: bytes | None = None) -> bool:
        session = record.session
        ttl = max(0.001, record.lifetime(self._clock()))  # it may have expired since it was read
        terms = Terms(ttl=ttl, group=_group(session.user_id), expected=expected)
        return self._backend.put(_KIND + session.session_id, pack_session(record), terms)

    def _note_user(self, session: UserSession, now: float) -> None:
        """Note the user ID under which a sign-in can be found, for at least as long as its session lasts."""
        if session.grant is not None:
            SignInIndex(self._backend, self._clock).note(session.grant, session.user_id, session.expires_at)
        if session.account != session.user_id:
            ttl = max(0.0, session.expires_at - now) + _SPARE_SECONDS
            LinkedUsers(self._backend).note(session.account, session.user_id, ttl)

    def _keep_tokens(self, session: UserSession) -> None:
        """Keep the tokens of all the user's accounts as long as the session, if they are on this backend.

        A failure is not reported: the session exists, and a refresh keeps the tokens longer too.
        """
        try:
            tokens = TokenStore(self._backend)
            if has_account(session) or tokens.owner_of(session.account) == session.user_id:
                tokens.keep_until(session.account, session.expires_at)
            tokens.keep_accounts_until(session.user_id, session.expires_at, but=session.account)
        except StoreUnavailable as error:
            _logger.warning("a session may outlive its user's tokens: %s", error)

    def _use(self, record: SessionRecord, data: bytes | None) -> UserSession:
        """Return a loaded session, and record its use if the last one was recorded long ago."""
        now = self._clock()
        if record.idle_ttl and now - record.used_at > _touch_interval(record.idle_ttl):
            self._touch(replace(record, used_at=now), data)
        return record.session

    def _touch(self, record: SessionRecord, expected: bytes | None) -> None:
        """Record a use of a session.

        If another process changed the session in the meantime, its record stays and this use is not recorded.
        """
        try:
            self._put(record, expected)
        except StoreUnavailable as error:
            if self._may_warn():
                _logger.warning("uses of sessions cannot be recorded, so that they expire sooner: %s", error)

    def _may_warn(self) -> bool:
        """Return whether the last warning was at least a minute ago."""
        now = self._clock()
        with self._warning():
            due = abs(now - self._warned_at) >= _SECONDS_PER_WARNING
            if due:
                self._warned_at = now
        return due

    def _set_roles(self, session_id: str, roles: list[str]) -> bool:
        """Replace the roles of a valid session; return whether there was one."""
        return self._change(
            session_id, lambda record: replace(record, session=replace(record.session, roles=roles))
        )

    def _change(self, session_id: str, change: Callable[[SessionRecord], SessionRecord]) -> bool:
        """Change the record of a valid session in one step; return whether there was one."""
        while True:
            data, record = self._load(session_id)
            if record is None:
                return False
            changed = change(record)
            if changed == record or self._put(changed, data):
                return True


def issue_session_token(
    session_store: SessionStore,
    user_id: str,
    roles: Iterable[str] | None = None,
    ttl: float | None = None,
    *,
    user_info: Mapping[str, Any] | None = None,
) -> str:
    """Create a session for an API client; return its token.

    The client sends it as ``Authorization: Bearer …``. Only the site to which the store's tokens are bound
    accepts it: see :meth:`SessionStore.bind_tokens`.

    Args:
        session_store: The store in which the session is created.
        user_id: The ID of the user for whom the client acts.
        roles: The roles of the session.
        ttl: The lifetime in seconds; by default the store's ``session_ttl``.
        user_info: The profile, for views that read ``metadata["user_info"]``; by default it is absent.
            JSON values.

    Raises:
        ValueError: See :meth:`SessionStore.create_session`.
        TypeError: See there.
        StoreUnavailable: The store is down.
    """
    token = _BEARER + secrets.token_urlsafe(32)
    metadata = None if user_info is None else {"user_info": dict(user_info)}
    session_store.create_session(digest_of(token), user_id, roles, ttl, metadata)
    return token


def session_id_of_bearer(token: str) -> str | None:
    """Return the session ID that belongs to a bearer token.

    Args:
        token: The token from the request; any text.

    Returns:
        The ID, or None if the text is not such a token.
    """
    return digest_of(token) if token.startswith(_BEARER) and len(token) < 100 and token.isascii() else None


def _group(user_id: str) -> str:
    return _KIND + user_id


def _touch_interval(idle_ttl: float) -> float:
    """Return the seconds in which a session is written at most once."""
    return min(max(60.0, idle_ttl / 10), idle_ttl / 4)
