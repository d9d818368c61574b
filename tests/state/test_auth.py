"""Roles, their permissions, and options set in code."""

from __future__ import annotations

import pytest

from pywry_auth.models import UserSession
from pywry_auth.state.auth import (
    DEFAULT_ROLE_PERMISSIONS,
    AuthConfig,
    get_role_permissions,
    has_permission,
    is_admin,
    permissions_of,
)


def _session(*roles: str) -> UserSession:
    return UserSession("id", "user", list(roles), 0.0, 1.0)


@pytest.mark.parametrize(
    ("role", "permissions"),
    [
        ("admin", {"read", "write", "admin", "delete", "manage_users"}),
        ("editor", {"read", "write"}),
        ("viewer", {"read"}),
        ("anonymous", set()),
        ("unknown", set()),
        ("", set()),
        ("ADMIN", set()),
    ],
)
def test_each_role_has_its_permissions(role: str, permissions: set[str]) -> None:
    assert get_role_permissions(role) == permissions
    assert permissions_of([role]) == permissions


def test_several_roles_have_the_permissions_of_all_of_them() -> None:
    assert permissions_of(["viewer", "editor"]) == {"read", "write"}
    assert permissions_of([]) == frozenset()
    assert permissions_of(["a", "b"], {"a": ["x"], "b": ["y", "x"]}) == {"x", "y"}


def test_a_session_without_a_role_has_no_permission() -> None:
    """A missing session, and one without roles, have no permission. [T28]"""
    assert not has_permission(None, "read")
    assert not is_admin(None)
    assert not has_permission(_session(), "read")
    assert not has_permission(_session("anonymous"), "read")


def test_a_session_has_the_permissions_of_its_roles() -> None:
    assert has_permission(_session("viewer"), "read")
    assert not has_permission(_session("viewer"), "write")
    assert has_permission(_session("viewer", "admin"), "manage_users")
    assert not has_permission(_session("admin"), "")


@pytest.mark.parametrize(
    ("roles", "admin"), [(["admin"], True), (["viewer", "admin"], True), (["Admin"], False), ([], False)]
)
def test_an_administrator_has_the_role(roles: list[str], admin: bool) -> None:
    assert is_admin(_session(*roles)) is admin


def test_default_permissions_cannot_be_changed_by_accident() -> None:
    for permissions in DEFAULT_ROLE_PERMISSIONS.values():
        assert isinstance(permissions, frozenset)


def test_a_config_has_the_documented_defaults() -> None:
    config = AuthConfig()
    assert (config.enabled, config.session_cookie, config.auth_header) == (
        False,
        "pywry_session",
        "Authorization",
    )
    assert (config.token_secret, config.session_ttl) == ("", 86400)
    assert config.chosen == {}


def test_a_config_records_each_chosen_value_even_a_default() -> None:
    config = AuthConfig(False, "pywry_session", "Authorization", "secret", 86400)
    assert config.chosen == {
        "enabled": False,
        "session_cookie": "pywry_session",
        "auth_header": "Authorization",
        "token_secret": "secret",
        "session_ttl": 86400,
    }


def test_a_config_shows_no_secret() -> None:
    """A repr does not contain the secret of the cookies. [T31]"""
    assert "canary" not in repr(AuthConfig(token_secret="canary"))
