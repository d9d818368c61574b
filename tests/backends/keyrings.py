"""Imitations of other systems' keyrings, based on dictionaries."""

from __future__ import annotations

from keyring.errors import PasswordDeleteError


class Broken(Exception):
    """The program or the keyring stopped here."""


class WindowsKeyring:
    """An interruptible keyring with the limits of Windows.

    An entry has at most 2560 bytes of UTF-16, and a name at most 512 characters. Entries cannot be listed.

    Args:
        steps: The number of changes after which it stops; None for no limit.
    """

    def __init__(self, steps: int | None = None) -> None:
        self.entries: dict[tuple[str, str], str] = {}
        self.steps = steps

    def get_password(self, service: str, username: str) -> str | None:
        return self.entries.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        if len(password.encode("utf-16-le")) > 2560 or len(username) > 512:
            raise OSError(1783, "The stub received bad data.")
        self._step()
        self.entries[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        if (service, username) not in self.entries:
            raise PasswordDeleteError(username)
        self._step()
        del self.entries[service, username]

    def _step(self) -> None:
        if self.steps is not None:
            if self.steps == 0:
                raise Broken
            self.steps -= 1


class MacKeyring(WindowsKeyring):
    """A keyring that replaces an entry by removing it first."""

    def set_password(self, service: str, username: str, password: str) -> None:
        if (service, username) in self.entries:
            self.delete_password(service, username)
        super().set_password(service, username, password)


class SwitchedOffKeyring(WindowsKeyring):
    """A keyring that accepts all entries and keeps none."""

    def set_password(self, service: str, username: str, password: str) -> None:
        """Do nothing."""
