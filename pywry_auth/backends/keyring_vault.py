"""The entries of one service in the system's keyring.

Every fault of the keyring becomes one kind of error.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from pywry_auth.exceptions import StoreUnavailable

try:
    import keyring
    from keyring import core, errors
    from keyring.backends.chainer import ChainerBackend
except ImportError as error:
    raise ImportError(
        "The keyring backend needs another package: pip install 'pywry-auth[auth]'; or set"
        " PYWRY_OAUTH2__TOKEN_STORE_BACKEND=sqlite (a file that only you can read) or memory"
    ) from error

_INSTALL = "Install a working one (on Linux a Secret Service such as gnome-keyring)"


class Keyring(Protocol):
    """The methods of the ``keyring`` package that every keyring has."""

    def get_password(self, service: str, username: str) -> str | None:
        """Return a secret, or None."""

    def set_password(self, service: str, username: str, password: str) -> None:
        """Store a secret."""

    def delete_password(self, service: str, username: str) -> None:
        """Remove a secret."""


class ServiceVault:
    """The entries of one service in a keyring.

    Every fault of the keyring raises ``StoreUnavailable``.

    Args:
        service: The name of the service.
        found: The keyring. None selects the one that the ``keyring`` package finds. A keyring that
            stores plain text is refused, unless the user chose it by name.
    """

    def __init__(self, service: str, found: Keyring | None) -> None:
        self._service = service
        self._found = found

    def get(self, name: str) -> str | None:
        """Return the entry of a name, or None."""
        with _explained():
            return self._keyring().get_password(self._service, name)

    def set(self, name: str, text: str) -> None:
        """Write an entry, or replace an earlier one."""
        with _explained():
            self._keyring().set_password(self._service, name, text)

    def delete(self, name: str) -> None:
        """Remove an entry if it exists."""
        with _explained():
            try:
                self._keyring().delete_password(self._service, name)
            except errors.PasswordDeleteError:
                if self._keyring().get_password(self._service, name) is not None:
                    raise

    def _keyring(self) -> Keyring:
        if self._found is None:
            self._found = _found()
        return self._found


def _found() -> Keyring:
    found = keyring.get_keyring()
    first = found.backends[0] if isinstance(found, ChainerBackend) and found.backends else found
    if not core.recommended(first) and not core.load_env() and not core.load_config():
        raise errors.NoKeyringError(found.name)  # for example keyrings.alt, which keeps plain text in a file
    return found


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except StoreUnavailable:
        raise
    except errors.NoKeyringError as error:
        raise unusable("no secure keyring was found") from error
    except (errors.InitError, errors.KeyringLocked) as error:
        raise unusable("it is locked, and the user did not unlock it", "Unlock it") from error
    except Exception as error:  # noqa: BLE001 - from any system, and it may contain a secret
        raise unusable(f"it failed with {type(error).__name__}") from None


def unusable(reason: str, remedy: str = _INSTALL) -> StoreUnavailable:
    """Return the error for an unusable keyring, with the remedies.

    Args:
        reason: The condition of the keyring.
        remedy: The first remedy; the others are settings.
    """
    return StoreUnavailable(
        f"The system's keyring cannot be used: {reason}. {remedy}, or set"
        " PYWRY_OAUTH2__TOKEN_STORE_BACKEND=sqlite (a file that only you can read) or memory."
    )
