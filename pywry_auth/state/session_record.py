"""Converts sessions to bytes and back."""

from __future__ import annotations

from dataclasses import dataclass

from pywry_auth.models import UserSession
from pywry_auth.state.grant_record import grant_members, grant_of
from pywry_auth.state.records import Members, pack, unpack
from pywry_auth.state.sites import UNBOUND


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
        },
        compress=True,
    )


def unpack_session(data: bytes, session_id: str) -> SessionRecord | None:
    """Return a session from :func:`pack_session`, or None if unreadable."""
    return unpack(data, lambda members: _record(members, session_id), "session")


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
    )
    return SessionRecord(
        session,
        ttl=members.seconds("ttl"),
        idle_ttl=members.optional_seconds("idle_ttl") or 0.0,
        used_at=members.optional_moment("used_at") or session.created_at,
        site=members.optional_text("site") or UNBOUND,
    )
