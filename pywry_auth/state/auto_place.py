"""The place that the token store ``auto`` chooses: the keyring where it works, otherwise a file."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import cache
from pathlib import Path

from pywry_auth.backends.factory import open_backend
from pywry_auth.backends.options import StorageOptions
from pywry_auth.exceptions import StoreUnavailable
from pywry_auth.state.tokens import TokenStore

_logger = logging.getLogger("pywry_auth.native")
PATIENCE = 15.0
"""Seconds that the user has to unlock the keyring."""

IN_USE = "oauth:auto"
"""The record of a file that ``auto`` has stored tokens in. It outlives them."""


def chosen_place(options: StorageOptions) -> StorageOptions:
    """Return the options of the keyring or of the file.

    A program must find its tokens again at every start, also in a session without the keyring, such as one
    of SSH. So the first sign-in without the keyring decides: from then on, the file is used even where the
    keyring works. The record for it stays after a sign-out: otherwise older tokens in the keyring would sign
    the user in again.

    Args:
        options: Options with the backend ``auto``, which name both places.

    Raises:
        StoreUnavailable: The file exists and cannot be used.
    """
    file = replace(options, backend="sqlite")
    if _is_in_use(file):
        return _announced(file, "it has been in use since a sign-in without the keyring")
    keyring = replace(options, backend="keyring")
    fault = _fault_of_keyring(keyring)
    return _announced(file, fault) if fault else _announced(keyring, "it works")


def _is_in_use(file: StorageOptions) -> bool:
    from pywry_auth.backends.sqlite import default_path

    if not Path(file.path or default_path()).exists():
        return False
    backend = open_backend(replace(file, encryption_keys=()))
    return backend.get(IN_USE) is not None or bool(TokenStore(backend).list_keys())


def _fault_of_keyring(options: StorageOptions) -> str:
    """Return the reason why the keyring cannot be used, or an empty text."""
    try:
        from pywry_auth.backends.keyring import KeyringBackend
    except ImportError:
        return "the package keyring is not installed (pip install 'pywry-auth[auth]')"
    try:
        keyring = KeyringBackend(options.service_name, patience=PATIENCE)
        if not TokenStore(keyring).list_keys():  # a keyring that returns tokens has kept them
            keyring.probe()
    except StoreUnavailable as error:
        return str(error).partition(". ")[0]
    return ""


@cache
def _announced(options: StorageOptions, reason: str) -> StorageOptions:
    """Log the place once, and return it."""
    place = "the system's keyring" if options.backend == "keyring" else f"the file {options.path}"
    _logger.info("token store auto: tokens are kept in %s (%s)", place, reason)
    return options
