"""Converts sessions to bytes and back."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pywry_auth.models import UserSession
from pywry_auth.state.grant_record import grant_members, grant_of
from pywry_auth.state.records import Members, pack, unpack, unpack_strictly
from pywry_auth.state.sites import UNBOUND

_GIVEN = "given"

SITE_RULE = "on_sign_in"
"""The rule that gives the roles which the site's own hook has set."""

_MAILBOX = "mailbox"
_RENEWED = "renewed"

RESERVED_METADATA = frozenset({_GIVEN, _MAILBOX, _RENEWED, "user_info", "provider", "asked", "stepped_up"})
"""The members of a session's metadata that a sign-in sets itself."""


@dataclass(frozen=True)
class EmailCheck:
    """A later check of a user's e-mail address.

    Args:
        address: The address that the provider sent, in canonical form; None if it cannot be used.
        verified: Whether the provider has verified it; None if it did not say.
    """

    address: str | None = field(repr=False)
    verified: bool | None

    def result(self, before: str) -> str:
        """Return the verified address; empty without one.

        Args:
            before: The address that was verified before, or an empty text. It stays only if the provider
                still names it and says nothing about its verification.
        """
        if self.verified:
            return self.address or ""
        return before if self.verified is None and self.address == before else ""

    def changes(self, session: UserSession) -> bool:
        """Return whether a session has another verified address than before."""
        before = verified_email_of(session)
        return self.result(before) != before


@dataclass(frozen=True)
class SessionRecord:
    """A session, with the values that determine its lifetime.

    Args:
        session: The session.
        ttl: The lifetime in seconds with which it was created.
        idle_ttl: Seconds without a use after which it expires sooner; 0 for no such limit.
        used_at: Unix time in seconds of its last recorded use.
        site: The digest of the site where a bearer token opens the session; ``UNBOUND`` for no site.
    """

    session: UserSession
    ttl: float
    idle_ttl: float
    used_at: float
    site: str = UNBOUND

    def lifetime(self, now: float) -> float:
        """Return the remaining lifetime in seconds.

        Args:
            now: Unix time in seconds.
        """
        left = self.session.expires_at - now
        return min(left, self.used_at + self.idle_ttl - now) if self.idle_ttl else left

    def with_given(
        self,
        given: Mapping[str, Sequence[str]],
        doubtful: Collection[str] = (),
        renewed: Mapping[str, object] | None = None,
    ) -> SessionRecord:
        """Return the record after access rules were evaluated again.

        Args:
            given: See :func:`with_given_roles`.
            doubtful: See there.
            renewed: The claims that are newer than the profile; None leaves them unchanged.
        """
        session = self.session
        if renewed is not None:
            others = {name: value for name, value in session.metadata.items() if name != _RENEWED}
            member = {_RENEWED: dict(renewed)} if renewed else {}
            session = replace(session, metadata=others | member)
        return replace(self, session=with_given_roles(session, given, doubtful))

    def with_email(self, check: EmailCheck) -> SessionRecord:
        """Return the record after the user's e-mail address was checked again."""
        session = self.session
        address = check.result(verified_email_of(session))
        others = {name: value for name, value in session.metadata.items() if name != _MAILBOX}
        return replace(self, session=replace(session, metadata=others | email_member(address)))


def pack_session(record: SessionRecord) -> bytes:
    """Return a session as bytes, without its ID.

    The ID is the key of the record.
    """
    session, grant = record.session, record.session.grant
    return pack(
        {
            "user_id": session.user_id,
            "roles": session.roles,
            "created_at": session.created_at,
            "expires_at": session.expires_at,
            "metadata": session.metadata,
            "ttl": record.ttl,
            "idle_ttl": record.idle_ttl or None,
            "used_at": record.used_at if record.idle_ttl else None,
            "issuer": (grant and grant.issuer) or None,
            "client_id": (grant and grant.client_id) or None,
            "grant": grant_members(grant),
            "browser": session.browser or None,
            "network": session.network or None,
            "site": record.site or None,
            "account": None if session.account == session.user_id else session.account,
        },
        compress=True,
    )


def unpack_session(data: bytes, session_id: str) -> SessionRecord | None:
    """Return a session from :func:`pack_session`, or None if damaged.

    Raises:
        UnreadableRecord: See :func:`unpack`.
    """
    return unpack(data, lambda members: _record(members, session_id), "session")


def read_session(data: bytes, session_id: str) -> SessionRecord:
    """Return a session from :func:`pack_session`.

    Raises:
        ValueError: It is unreadable; the text does not repeat it.
    """
    return unpack_strictly(data, lambda members: _record(members, session_id))


def _record(members: Members, session_id: str) -> SessionRecord:
    session = UserSession(
        session_id,
        members.text("user_id"),
        members.texts("roles"),
        members.moment("created_at"),
        members.moment("expires_at"),
        members.mapping("metadata"),
        grant_of(members),
        members.optional_text("browser") or "",
        members.optional_text("network") or "",
        members.optional_text("account") or "",
    )
    return SessionRecord(
        session,
        ttl=members.seconds("ttl"),
        idle_ttl=members.optional_seconds("idle_ttl") or 0.0,
        used_at=members.optional_moment("used_at") or session.created_at,
        site=members.optional_text("site") or UNBOUND,
    )


def united(given: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the roles that all rules give together, without duplicates."""
    return list(dict.fromkeys(role for roles in given.values() for role in roles))


def given_member(given: Mapping[str, Sequence[str]]) -> dict[str, dict[str, list[str]]]:
    """Return the member of a session's metadata with the roles that each access rule gave.

    Args:
        given: The roles by the rule's name.
    """
    return {_GIVEN: {rule: list(roles) for rule, roles in given.items() if roles or rule == SITE_RULE}}


def with_given_roles(
    session: UserSession, given: Mapping[str, Sequence[str]], doubtful: Collection[str] = ()
) -> UserSession:
    """Return a session with the roles that access rules give now.

    Only the difference is applied. The session loses the roles that no rule gives any more, and gets those
    that no rule gave before. Roles that the site itself has added or removed stay so, and so do all roles if
    the site's hook has set them.

    Args:
        session: The session.
        given: The roles that each evaluated rule gives, by the rule's name. Other rules give the same as
            before.
        doubtful: The roles that a session of an earlier version loses if no rule gives them. It does not
            record which rule gave which role, so that it gets none. Empty leaves it unchanged.
    """
    last = roles_by_rule(session)
    if SITE_RULE in (last or ()) or (last is None and not doubtful):
        return session
    merged = {**(last or {}), **given}
    now, before = united(merged), doubtful if last is None else united(last)
    roles = [role for role in session.roles if role in now or role not in before]
    if last is not None:
        roles += [role for role in now if role not in before and role not in roles]
    metadata = {**session.metadata, **given_member(merged)}
    return replace(session, roles=roles, metadata=metadata)


def profile_of(session: UserSession) -> Mapping[str, Any]:
    """Return the profile that a session stores; empty without one."""
    profile = session.metadata.get("user_info")
    return profile if isinstance(profile, dict) else {}


def renewed_claims_of(session: UserSession) -> Mapping[str, Any]:
    """Return the claims that are newer than a session's profile.

    They are those of access rules, by the setting's value.
    A refresh brought them. The name of a claim may be a path.
    """
    renewed = session.metadata.get(_RENEWED)
    return renewed if isinstance(renewed, dict) else {}


def facts_of(session: UserSession) -> object:
    """Return the members of a session that access rules use.

    The rules read and change them. The result is for a comparison.
    """
    metadata = session.metadata
    return metadata.get(_GIVEN), metadata.get(_MAILBOX), metadata.get(_RENEWED)


def email_member(address: str | None) -> dict[str, str]:
    """Return the member of a session's metadata with the user's verified address.

    Args:
        address: The address; empty or None for none.
    """
    return {_MAILBOX: address} if address else {}


def verified_email_of(session: UserSession) -> str:
    """Return the user's verified e-mail address, in canonical form.

    Args:
        session: Any session.

    Returns:
        An empty text if no address is verified, or if the session began with an earlier version.
    """
    address = session.metadata.get(_MAILBOX)
    return address if isinstance(address, str) and session.grant is not None else ""


def records_other_roles(session: UserSession, given: Mapping[str, Sequence[str]]) -> bool:
    """Return whether a session records that access rules gave other roles.

    The rules do not change the roles that the site's hook has set.

    Args:
        session: The session.
        given: The roles by the rule's name.
    """
    last = session.metadata.get(_GIVEN)
    is_set = isinstance(last, dict) and SITE_RULE in last
    return last is not None and not is_set and last != given_member(given)[_GIVEN]


def has_account(session: UserSession) -> bool:
    """Return whether a session certainly belongs to the account that it names.

    A session that the application created for a user names the user's ID by default, which may be the account
    of another user.

    Args:
        session: The session.
    """
    return session.grant is not None or session.account != session.user_id


def roles_by_rule(session: UserSession) -> Mapping[str, Sequence[str]] | None:
    """Return the roles that each access rule gave last; None if they are unknown."""
    try:
        values = Members(session.metadata).optional_mapping(_GIVEN)
        return None if values is None else {rule: Members(values).texts(rule) for rule in values}
    except ValueError:
        return None
