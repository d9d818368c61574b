"""Hands an authorization request to the browser, outside its command line."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from pywry_auth.exceptions import StoreUnavailable
from pywry_auth.native.wsl import in_wsl
from pywry_auth.pages import native as pages
from pywry_auth.private_files import cause_of

if TYPE_CHECKING:
    from pywry_auth.native.private_page import PrivatePage

# Set in a snap, in a flatpak, in a Linux container of ChromeOS, behind a remote editor, and over SSH.
_OTHER_SYSTEMS = (
    *("SNAP", "FLATPAK_ID", "SOMMELIER_VERSION"),
    *("VSCODE_IPC_HOOK_CLI", "REMOTE_CONTAINERS", "CODESPACES", "SSH_CONNECTION"),
)
_CONFINED = (
    *("snap/firefox", "snap/chromium", "snap/brave", ".dockerenv", "run/.containerenv"),
    *("var/lib/flatpak/app/org.mozilla.firefox", "var/lib/flatpak/app/org.chromium.Chromium"),
    "var/lib/flatpak/app/com.google.Chrome",
)
_logger = logging.getLogger("pywry_auth.native")


class OffersAddress(Protocol):
    """The part of the callback server that a handover needs."""

    def can_identify_users(self) -> bool:
        """Return whether this system shows the users of connections to this server."""

    def offer(self, url: str) -> str:
        """Return a one-time address of this server that redirects to a URL."""


def has_public_command_line(environ: Mapping[str, str], platform: str) -> bool:
    """Return whether other users can read the browser's command line.

    Windows and Android do not show the command lines of other users. On macOS, the system's browser gets the
    address through a pipe, but a browser that ``BROWSER`` names gets it as an argument.

    Args:
        environ: The process's environment.
        platform: As in ``sys.platform``.
    """
    if platform == "darwin":
        return bool(environ.get("BROWSER"))
    return platform not in ("win32", "cygwin", "android") and "ANDROID_ROOT" not in environ


def can_read_files(environ: Mapping[str, str], root: Path = Path("/")) -> bool:
    """Return whether the browser is likely to read a private file of this program.

    A browser from a snap or a flatpak cannot, and neither can a browser on another system, to which a
    container, a virtual machine or a remote development tool passes the address.

    Args:
        environ: The process's environment.
        root: The root of the file system.
    """
    if any(environ.get(name) for name in _OTHER_SYSTEMS) or any((root / name).exists() for name in _CONFINED):
        return False
    if in_wsl(environ, sys.platform, root):
        return False
    command = environ.get("BROWSER", "")
    return "snap" not in command and "flatpak" not in command


class Handover:
    """Gives the browser an address that other users cannot use.

    Every user of a machine can read the arguments of all processes, and the browser's address is one. With
    the URL of the authorization request, another user could sign the program in to an account of their own.
    Where the system shows the user of a connection, the browser gets a one-time address of the callback
    server, which only the same user can open. Otherwise it gets a private file. If it cannot read that file,
    it gets a one-time address that other users can open, but the second use ends the login. Use this as a
    context manager.

    Args:
        server: The callback server of the login.
        public: Whether other users can read the browser's command line.
        reads_files: Whether the browser can read a private file.
        folder: Folder of the private file; None uses the user's state folder.
    """

    def __init__(
        self,
        server: OffersAddress,
        *,
        public: bool | None = None,
        reads_files: bool | None = None,
        folder: Path | None = None,
    ) -> None:
        self._server = server
        self._public = has_public_command_line(os.environ, sys.platform) if public is None else public
        self._reads_files = can_read_files(os.environ) if reads_files is None else reads_files
        self._folder = folder
        self._file: PrivatePage | None = None

    def address_for(self, url: str) -> str | None:
        """Return the address for the browser.

        Without a private file, no browser may be opened, and the function returns None.

        Args:
            url: URL of the authorization request.
        """
        if not self._public:
            return url
        if self._server.can_identify_users() or not self._reads_files:
            return self._server.offer(url)
        return self._write(url)

    def close(self) -> None:
        """Remove the private file, if there is one."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> Handover:
        """Return this object."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write(self, url: str) -> str | None:
        from pywry_auth.native.private_page import PrivatePage  # Windows has no fcntl

        try:
            self._file = PrivatePage(pages.lead_to(url), self._folder)
        except (OSError, StoreUnavailable) as error:
            cause = cause_of(error) if isinstance(error, OSError) else error
            _logger.warning("no browser is opened, because a private file failed: %s", cause)
            return None
        return self._file.uri
