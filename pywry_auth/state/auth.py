"""Roles and what they may do, and the web application's own choices about sign-in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pywry_auth.models import UserSession

DEFAULT_ROLE_PERMISSIONS: Mapping[str, frozenset[str]] = {
    "admin": frozenset({"read", "write", "admin", "delete", "manage_users"}),
    "editor": frozenset({"read", "write"}),
    "viewer": frozenset({"read"}),
    "anonymous": frozenset(),
}
"""What each role may do, unless the session store was told otherwise."""

ADMIN = "admin"


class AuthConfig:
    """Choices about sign-in made in code; what is set here wins, what is left comes from ``DeploySettings``.

    Args:
        enabled: Whether anybody can be signed in at all.
        session_cookie: Name of the session cookie.
        auth_header: Header in which API clients send ``Bearer`` session tokens.
        token_secret: Signs the cookies; a comma list rotates: the first signs, all verify.
        session_ttl: Seconds that a session lasts at most.
    """

    def __init__(
        self,
        enabled: bool | None = None,
        session_cookie: str | None = None,
        auth_header: str | None = None,
        token_secret: str | None = None,
        session_ttl: float | None = None,
    ) -> None:
        self.chosen = {
            name: value
            for name, value in (
                ("enabled", enabled),
                ("session_cookie", session_cookie),
                ("auth_header", auth_header),
                ("token_secret", token_secret),
                ("session_ttl", session_ttl),
            )
            if value is not None
        }
        self.enabled = bool(enabled)
        self.session_cookie = session_cookie or "pywry_session"
        self.auth_header = auth_header or "Authorization"
        self.token_secret = token_secret or ""
        self.session_ttl = 86400 if session_ttl is None else session_ttl

    def __repr__(self) -> str:
        return f"AuthConfig(enabled={self.enabled}, session_cookie={self.session_cookie!r})"


def get_role_permissions(role: str) -> frozenset[str]:
    """Return what a role may do by default; nothing for a role that nobody knows."""
    return DEFAULT_ROLE_PERMISSIONS.get(role, frozenset())


def permissions_of(
    roles: Iterable[str], table: Mapping[str, Iterable[str]] = DEFAULT_ROLE_PERMISSIONS
) -> frozenset[str]:
    """Return all that any of the roles may do, by a table from role to permissions."""
    return frozenset(permission for role in roles for permission in table.get(role, ()))


def has_permission(session: UserSession | None, permission: str) -> bool:
    """Tell whether a session's roles allow something by default; nobody's session allows nothing.

    Args:
        session: The session; None for a visitor who has not signed in.
        permission: For example ``write``.
    """
    return session is not None and permission in permissions_of(session.roles)


def is_admin(session: UserSession | None) -> bool:
    """Tell whether a session has the role ``admin``."""
    return session is not None and ADMIN in session.roles
