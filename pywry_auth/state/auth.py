"""Roles with their permissions, and the application's sign-in options."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError

if TYPE_CHECKING:
    from pywry_auth.models import UserSession

DEFAULT_ROLE_PERMISSIONS: Mapping[str, frozenset[str]] = {
    "admin": frozenset({"read", "write", "admin", "delete", "manage_users"}),
    "editor": frozenset({"read", "write"}),
    "viewer": frozenset({"read"}),
    "anonymous": frozenset(),
}
"""The permissions of each role, unless the session store contains others."""

ADMIN = "admin"


class AuthConfig:
    """Sign-in options of a web application, set in code.

    An option that is given here overrides ``DeploySettings``; all others are read from there.

    Args:
        enabled: Whether users can sign in.
        session_cookie: The name of the session cookie.
        auth_header: The header in which API clients send ``Bearer`` session tokens.
        token_secret: The secret that signs the cookies. In a list with commas, the first signs and all
            verify, so that secrets can be rotated.
        session_ttl: The longest lifetime of a session in seconds.
    """

    enabled = False
    session_cookie = "pywry_session"
    auth_header = "Authorization"
    token_secret = ""
    session_ttl: float = 86400

    def __init__(
        self,
        enabled: bool | None = None,
        session_cookie: str | None = None,
        auth_header: str | None = None,
        token_secret: str | None = None,
        session_ttl: float | None = None,
    ) -> None:
        choices = {
            "enabled": enabled,
            "session_cookie": session_cookie,
            "auth_header": auth_header,
            "token_secret": token_secret,
            "session_ttl": session_ttl,
        }
        self.chosen = {name: value for name, value in choices.items() if value is not None}
        vars(self).update(self.chosen)

    def __repr__(self) -> str:
        return f"AuthConfig(enabled={self.enabled}, session_cookie={self.session_cookie!r})"


def get_role_permissions(role: str) -> frozenset[str]:
    """Return the default permissions of a role; none if unknown."""
    return DEFAULT_ROLE_PERMISSIONS.get(role, frozenset())


def permissions_of(
    roles: Iterable[str], table: Mapping[str, Iterable[str]] = DEFAULT_ROLE_PERMISSIONS
) -> frozenset[str]:
    """Return the permissions of all roles together.

    Args:
        roles: The roles; unknown ones have no permissions.
        table: The permissions of each role.
    """
    return frozenset(permission for role in roles for permission in table.get(role, ()))


def check_roles(roles: Iterable[object], guard: str) -> None:
    """Check the arguments of a guard that requires one of several roles.

    Args:
        roles: The arguments.
        guard: The name of the guard, for the error.

    Raises:
        AuthenticationError: There is no role, or a role is not a text (``invalid_configuration``).
    """
    given = list(roles)
    if not given or not all(isinstance(role, str) and role for role in given):  # a list, or the view itself
        raise AuthenticationError(
            f'{guard}() needs the names of one or more roles, for example {guard}("admin", "editor").',
            error=ErrorCode.INVALID_CONFIGURATION,
        )


def has_permission(session: UserSession | None, permission: str) -> bool:
    """Return whether a session's roles have a default permission.

    Args:
        session: The session; None for a visitor who has not signed in, and has no permissions.
        permission: For example ``write``.
    """
    return session is not None and permission in permissions_of(session.roles)


def is_admin(session: UserSession | None) -> bool:
    """Return whether a session has the role ``admin``."""
    return session is not None and ADMIN in session.roles
