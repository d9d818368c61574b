"""The permissions of each role, which all processes on a store share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pywry_auth.backends.base import Backend, Terms, UnreadableRecord, When
from pywry_auth.state.auth import DEFAULT_ROLE_PERMISSIONS
from pywry_auth.state.records import Members, pack, unpack_strictly

_KEY = "session_roles:all"


class RoleTable:
    """One record with the roles that differ from the default ones.

    An unreadable record is an outage, because the default permissions could be more than it allows.

    Args:
        backend: The backend that keeps the record.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def permissions(self) -> Mapping[str, Iterable[str]]:
        """Return the permissions of each role.

        Raises:
            StoreUnavailable: The store is down, or this process cannot read the record.
        """
        return {**DEFAULT_ROLE_PERMISSIONS, **self._load()[1]}

    def set(self, role: str, permissions: Iterable[str]) -> None:
        """Replace the permissions of a role.

        Args:
            role: The name of a known or new role.
            permissions: All permissions of the role.

        Raises:
            StoreUnavailable: The store is down, or this process cannot read the record. Nothing was changed.
        """
        allowed = sorted(permissions)
        while True:
            data, table = self._load()
            if table.get(role) == allowed:
                return
            terms = Terms(when=When.ABSENT) if data is None else Terms(expected=data)
            if self._backend.put(_KEY, pack({"roles": {**table, role: allowed}}), terms):
                return

    def _load(self) -> tuple[bytes | None, dict[str, list[str]]]:
        """Return the stored bytes and the roles in them."""
        data = self._backend.read(_KEY)
        if data is None:
            return None, {}
        try:
            return data, unpack_strictly(data, _roles)
        except ValueError:
            raise UnreadableRecord("The stored table of roles cannot be read.") from None


def _roles(members: Members) -> dict[str, list[str]]:
    roles = Members(members.mapping("roles"))
    return {role: roles.texts(role) for role in members.mapping("roles")}
