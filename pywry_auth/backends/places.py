"""The places where files of the user are kept."""

from __future__ import annotations

import sys
from pathlib import Path

from pywry_auth.exceptions import StoreUnavailable
from pywry_auth.private_files import whole_path

_FOLDER = "pywry-auth"

NAME_ANOTHER = (
    "Set XDG_STATE_HOME to the whole path of your own folder on a local disk"
    if sys.platform != "win32"
    else "Make the folder of LOCALAPPDATA writable"
) + (
    ", or keep tokens in a file (PYWRY_OAUTH2__TOKEN_STORE_BACKEND=sqlite) and write its whole path to"
    " PYWRY_DEPLOY__SQLITE_PATH (in code, path=)"
)
"""How to name another place, without the full stop."""


def state_folder() -> Path:
    """Return this package's folder in the user's folder for state.

    A relative ``XDG_STATE_HOME`` is not used (XDG Base Directory Specification, "Basics"). The current
    directory is never used either.

    Raises:
        StoreUnavailable: The user has no such folder; the text names the settings that help.
    """
    from platformdirs import user_state_path

    try:
        folder = user_state_path(_FOLDER)
    except RuntimeError:
        folder = Path()
    if not folder.is_absolute():
        raise StoreUnavailable(
            "There is no folder for this user's files: neither XDG_STATE_HOME nor HOME is a whole path, and"
            f" the system does not know the user. {NAME_ANOTHER}."
        )
    return folder


def file_at(path: str | Path) -> Path:
    """Return the absolute path of a file that a setting or an argument names.

    Args:
        path: The file; see :func:`pywry_auth.private_files.whole_path`.

    Raises:
        StoreUnavailable: The path cannot be used; the text says why.
    """
    try:
        return whole_path(path)
    except ValueError as error:
        raise StoreUnavailable(f"The file of the store cannot be used: {error}.") from None
