"""The entries of one service in the system's keyring.

Every fault of the keyring becomes one kind of error.
"""

from __future__ import annotations

import logging
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from pywry_auth.backends.keyring_entries import ENTRY
from pywry_auth.exceptions import StoreUnavailable

try:
    import keyring
    from keyring import backend, core, errors
    from keyring.backends import fail, null
    from keyring.backends.chainer import ChainerBackend
except ImportError as error:
    raise ImportError(
        "The keyring backend needs another package: pip install 'pywry-auth[auth]'; or set"
        " PYWRY_OAUTH2__TOKEN_STORE_BACKEND=sqlite (a file that only you can read) or memory"
    ) from error

_logger = logging.getLogger("pywry_auth.backends")
_PROBE = "probe"  # cannot be the name of a record: those names are digests
_NAMED = "the one that PYTHON_KEYRING_BACKEND or keyringrc.cfg names"
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
        found: The keyring. None selects, at the first use, the first recommended keyring that keeps entries
            (see :func:`candidates`).
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
            _delete(self._keyring(), self._service, name)

    def prove(self) -> None:
        """Check that the keyring keeps an entry.

        A keyring that is switched off accepts all entries and keeps none.

        Raises:
            StoreUnavailable: It keeps none, or failed.
        """
        with _explained():
            kept = _keeps(self._keyring(), self._service)
        if not kept:
            reason = "it does not keep new entries, because it is switched off or only looks entries up"
            raise unusable(reason + _listed())

    def _keyring(self) -> Keyring:
        if self._found is None:
            self._found = self._first()
        return self._found

    def _first(self) -> Keyring:
        """Return the first keyring that keeps entries."""
        usable = candidates()
        for found in usable[:-1]:
            try:
                if _keeps(found, self._service):
                    return found
            except (errors.InitError, errors.KeyringLocked):
                raise  # its entries are there: another keyring would hide them
            except Exception as error:  # noqa: BLE001 - from any plugin, and it may contain a secret
                _logger.info("the keyring %s is not used: %s", _name(found), type(error).__name__)
        if not usable:
            raise errors.NoKeyringError
        return usable[-1]  # its own faults are reported by its use


def candidates() -> list[Keyring]:
    """Return the keyrings that may be used, the preferred one first.

    A keyring that the user named (in ``PYTHON_KEYRING_BACKEND`` or in the configuration file of the
    ``keyring`` package) is used whatever it is. Otherwise all recommended ones may be used: a keyring whose
    priority is below 1 may keep plain text. Tokens that an earlier version stored there are not read.

    Raises:
        StoreUnavailable: The keyring that the user named cannot be loaded, or its service does not run.
    """
    try:
        found = keyring.get_keyring()
        named = core.load_env() or core.load_config()
    except (RuntimeError, OSError):  # it exists, but its service does not run
        raise unusable(
            f"{_NAMED} does not work in this process{_without_bus()}", "Start its service"
        ) from None
    except (ImportError, AttributeError, ValueError) as error:
        raise unusable(f"{_NAMED} is missing ({type(error).__name__})", "Correct the name") from None
    if named is not None and not isinstance(found, ChainerBackend):
        return [found]
    every = sorted(backend.get_all_keyring(), key=lambda each: float(each.priority), reverse=True)
    if found not in every:
        every = [found]  # the program chose it
    single = [each for each in every if not isinstance(each, ChainerBackend)]
    usable = [each for each in single if core.recommended(each)]
    left = ", ".join(_name(each) for each in single if each not in usable and each.priority > 0)
    if usable and left:
        _logger.info("tokens are neither kept in %s nor read from it: it may keep plain text", left)
    return list(usable)


def _keeps(found: Keyring, service: str) -> bool:
    """Return whether a keyring returns an entry that was written to it."""
    text = secrets.token_hex(ENTRY // 2)
    try:
        found.set_password(service, _PROBE, text)
    except NotImplementedError:
        return False  # it only looks entries up, for example for package indexes
    kept = found.get_password(service, _PROBE)
    _delete(found, service, _PROBE)
    return kept == text


def _delete(found: Keyring, service: str, name: str) -> None:
    try:
        found.delete_password(service, name)
    except errors.PasswordDeleteError:
        if found.get_password(service, name) is not None:
            raise


def _name(found: object) -> str:
    return f"{type(found).__module__}.{type(found).__qualname__}"


def _listed() -> str:
    """Return the installed keyrings as the end of a sentence."""
    without = (ChainerBackend, fail.Keyring, null.Keyring)
    names = [_name(each) for each in backend.get_all_keyring() if not isinstance(each, without)]
    return f"; installed: {', '.join(sorted(names))}" if names else ""


def _without_bus() -> str:
    """Return the end of a sentence for a process that cannot reach the user's services."""
    if sys.platform != "linux" or os.environ.get("DBUS_SESSION_BUS_ADDRESS"):
        return ""
    return ", because this process has no session bus (DBUS_SESSION_BUS_ADDRESS), as in a job of cron"


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except StoreUnavailable:
        raise
    except errors.NoKeyringError as error:
        missing = _without_bus()
        remedy = "Start the program in the user's session" if missing else _INSTALL
        raise unusable(f"no secure keyring was found{missing}{_listed()}", remedy) from error
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
