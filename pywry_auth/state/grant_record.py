"""Converts the grant of a sign-in to members of a record and back."""

from __future__ import annotations

from typing import Any

from pywry_auth.models import Grant
from pywry_auth.state.records import Members


def grant_members(grant: Grant | None) -> dict[str, Any] | None:
    """Return a grant as the members of an object; None without one.

    Unknown values are left out. ``issuer`` and ``client_id`` are left out too: the record that contains the
    object has members for them.

    Args:
        grant: The grant of a session or of a token set.
    """
    if grant is None:
        return None
    members = {
        "id": grant.grant_id,
        "at": grant.signed_in_at,
        "provider": grant.provider,
        "sub": grant.subject,
        "sid": grant.sid,
        "auth_time": grant.auth_time,
        "acr": grant.acr,
        "amr": list(grant.amr),
    }
    return {name: value for name, value in members.items() if value or value == 0}


def grant_of(members: Members) -> Grant | None:
    """Return the grant of a record with the member ``grant``.

    Args:
        members: The members of the whole record, with ``issuer`` and ``client_id``.

    Returns:
        The grant, or None if the record has none. Records of earlier versions have none.

    Raises:
        ValueError: A member has another type.
    """
    values = members.optional_mapping("grant")
    if values is None:
        return None
    grant = Members(values)
    return Grant(
        grant.text("id"),
        grant.moment("at"),
        provider=grant.optional_text("provider") or "",
        issuer=members.optional_text("issuer") or "",
        client_id=members.optional_text("client_id") or "",
        subject=grant.optional_text("sub") or "",
        sid=grant.optional_text("sid"),
        auth_time=grant.optional_moment("auth_time"),
        acr=grant.optional_text("acr") or "",
        amr=tuple(grant.optional_texts("amr")),
    )
