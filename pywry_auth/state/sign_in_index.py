"""Finds the sessions of a provider's user or session, and remembers which ones the provider has ended.

A logout token names the user at the provider (``sub``) or the provider's session (``sid``), not the user's ID
on the site (OIDC Back-Channel Logout 1.0 §2.4).
"""

from __future__ import annotations

import hashlib
import os
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from pywry_auth.backends.base import Backend, Terms, When
from pywry_auth.exceptions import StoreUnavailable
from pywry_auth.models import Grant
from pywry_auth.state.pending import PENDING_SECONDS
from pywry_auth.state.records import Members, pack, unpack, unpack_strictly
from pywry_auth.strict_json import write_json

MARK_SECONDS = PENDING_SECONDS + 300.0
"""How long a logout is remembered: the lifetime of a pending login, and the time to finish the login."""

CLAIM_SECONDS = 5.0
"""For how long a request that died keeps others from using its logout token.

If a living request loses its claim, two requests end the same sessions, and one of them reports success.
"""

_INDEX, _ENDED, _RECEIVED, _LOCK = "signins:", "signout:", "logout:", "logout:lock:"
_UNKNOWN = ""  # in the key of a mark: a session of which the provider did not tell the ID at the sign-in
_SPARE_SECONDS = 60.0  # by which the clocks of machines on one store may differ


class AlreadyReceived(Exception):
    """The same logout token was received before."""


@dataclass(frozen=True)
class EndedSignIns:
    """The sign-ins that a logout at the provider ends.

    Args:
        issuer: The issuer, as grants record it.
        client_id: The client.
        subject: The user at the provider; None for the user of the session.
        sid: The provider's session; None for all sessions of the user.
    """

    issuer: str
    client_id: str
    subject: str | None = None
    sid: str | None = None

    def include(self, grant: Grant | None) -> bool:
        """Return whether a session with a grant ends.

        If the provider did not tell the session's ID at the sign-in, the claim ``sub`` decides.

        Args:
            grant: The grant of the session; None for a session that the application created.
        """
        if grant is None or (grant.issuer, grant.client_id) != (self.issuer, self.client_id):
            return False
        if self.subject is not None and grant.subject != self.subject:
            return False
        return self.sid in (None, grant.sid) or (not grant.sid and self.subject is not None)


class SignInIndex:
    """The site's user IDs of a provider's users and sessions.

    A record grows with the number of user IDs that one user or session of the provider has on this site.
    Expired ones are removed.

    Args:
        backend: The backend that keeps the sessions too.
        clock: Unix time in seconds.
    """

    def __init__(self, backend: Backend, clock: Callable[[], float] = time.time) -> None:
        self._backend = backend
        self._clock = clock

    def note(self, grant: Grant, user_id: str, until: float) -> None:
        """Remember a sign-in before its session begins or becomes longer.

        Args:
            grant: The grant of the sign-in.
            user_id: The user's ID on the site.
            until: Unix time in seconds at which the session expires.

        Raises:
            StoreUnavailable: The store is down.
        """
        for key in _keys(grant.issuer, grant.subject, grant.sid):
            self._note(key, user_id, until + _SPARE_SECONDS)

    def users(self, issuer: str, subject: str | None, sid: str | None) -> list[str]:
        """Return the user IDs that a provider's user or session may have here.

        Args:
            issuer: The issuer, as grants record it.
            subject: The user at the provider; None if unknown.
            sid: The provider's session; None if unknown.

        Raises:
            StoreUnavailable: The store is down, or this process cannot read a record.
        """
        found: dict[str, None] = {}
        for key in _keys(issuer, subject, sid):
            data = self._backend.read(key)
            try:
                known = {} if data is None else unpack_strictly(data, _users)
            except ValueError:
                raise StoreUnavailable("A stored index of sign-ins cannot be read.") from None
            found |= dict.fromkeys(known)
        return list(found)

    def mark(self, ended: EndedSignIns) -> None:
        """Remember that the provider has ended sign-ins, before their sessions end.

        A sign-in that is about to begin its session then notices the logout. The time of the mark is this
        site's own.

        Args:
            ended: The sign-ins.

        Raises:
            StoreUnavailable: The store is down.
        """
        at = self._clock()
        for key in _marks_of_logout(ended):
            self._mark(key, at)

    def is_ended(self, grant: Grant, begun: float) -> bool:
        """Return whether the provider has ended a sign-in in the meantime.

        A logout ends a sign-in that :meth:`EndedSignIns.include` includes and that began before the logout
        arrived. Times of the provider have no effect: the user can have authenticated long before the
        provider issued the ID token.

        Args:
            grant: The grant of the sign-in.
            begun: Unix time in seconds at which the sign-in was begun at this site.

        Raises:
            StoreUnavailable: The store is down.
        """
        times = map(self._marked, _marks_for(grant))
        return any(at is not None and begun <= at for at in times)

    @contextmanager
    def once(self, issuer: str, client_id: str, token_id: str, until: float) -> Iterator[None]:
        """Run the block for a logout token, unless it has run before.

        If the block fails, another request may run it again. While it runs, no other request does, in any
        process.

        Args:
            issuer: The issuer.
            client_id: The client.
            token_id: Identifies the token among those of the issuer.
            until: Unix time in seconds from which the token is not accepted any more.

        Raises:
            AlreadyReceived: The block has run for this token.
            StillHeld: It runs now, in another request, or did when a request died less than
                :data:`CLAIM_SECONDS` ago.
            StoreUnavailable: The store is down.
        """
        name = _key("", issuer, client_id, token_id)
        with self._backend.lock(_LOCK + name, wait=0, lease=CLAIM_SECONDS):
            if self._backend.read(_RECEIVED + name) is not None:
                raise AlreadyReceived
            yield
            self._remember(_RECEIVED + name, max(1.0, until - self._clock()) + _SPARE_SECONDS)

    def _remember(self, key: str, ttl: float) -> None:
        own = os.urandom(16)
        try:
            # If a response was lost and the command was sent again, the first attempt stored the value.
            stored = self._backend.put(key, own, Terms(ttl=ttl, when=When.ABSENT))
            if not stored and self._backend.get(key) != own:
                raise AlreadyReceived
        except StoreUnavailable:
            with suppress(StoreUnavailable):
                self._backend.pop(key, own)  # the write may have been done, although its response is missing
            raise

    def _note(self, key: str, user_id: str, until: float) -> None:
        while True:
            data, now = self._backend.get(key), self._clock()
            known = {} if data is None else unpack(data, _users, "index of sign-ins") or {}
            if known.get(user_id, 0.0) >= until:
                return
            users = {name: moment for name, moment in known.items() if moment > now} | {user_id: until}
            ttl = max(1.0, max(users.values()) - now)
            # Whole seconds make the record shorter.
            record = pack({"users": {name: int(moment) + 1 for name, moment in users.items()}})
            if self._backend.put(key, record, Terms(ttl=ttl, when=When.ABSENT, expected=data)):
                return

    def _mark(self, key: str, at: float) -> None:
        while True:
            data = self._backend.get(key)
            known = None if data is None else unpack(data, _moment, "logout")
            record = pack({"at": at if known is None else max(at, known)})
            terms = Terms(ttl=MARK_SECONDS, when=When.ABSENT, expected=data)
            if self._backend.put(key, record, terms):
                return

    def _marked(self, key: str) -> float | None:
        """Return the time of a logout; a record that cannot be read counts as one of the present."""
        data = self._backend.read(key)
        if data is None:
            return None
        found = unpack(data, _moment, "logout")
        return self._clock() if found is None else found


def _moment(members: Members) -> float:
    return members.moment("at")


def _users(members: Members) -> Mapping[str, float]:
    users = Members(members.mapping("users"))
    return {name: users.moment(name) for name in members.mapping("users")}


def _keys(issuer: str, subject: str | None, sid: str | None) -> list[str]:
    named = {"sub": subject, "sid": sid}
    return [_key(_INDEX, kind, issuer, name) for kind, name in named.items() if issuer and name]


def _marks_of_logout(ended: EndedSignIns) -> list[str]:
    """Return the keys under which a logout is remembered, one for each kind of grant that it includes."""
    subject, sid = ended.subject, ended.sid
    keys = [_mark_key(ended, subject, sid)]
    return keys if subject is None or sid is None else [*keys, _mark_key(ended, subject, _UNKNOWN)]


def _marks_for(grant: Grant) -> list[str]:
    """Return the keys of all logouts that include a grant."""
    subject, sid = grant.subject, grant.sid
    if sid:
        return [_mark_key(grant, *claims) for claims in ((subject, None), (None, sid), (subject, sid))]
    return [_mark_key(grant, subject, known) for known in (None, _UNKNOWN)]


def _mark_key(of: EndedSignIns | Grant, subject: str | None, sid: str | None) -> str:
    return _key(_ENDED, of.issuer, of.client_id, subject, sid)


def _key(kind: str, *parts: str | None) -> str:
    """Return a short key; different parts have different keys."""
    digest = hashlib.sha256(write_json(parts).encode()).digest()[:16]
    return kind + urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")
