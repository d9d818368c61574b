"""Opens the system browser."""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import subprocess
import sys
import threading
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import suppress

from pywry_auth.native.child_environment import without_bundle
from pywry_auth.native.streams import in_terminal
from pywry_auth.native.surroundings import TEXT_BROWSERS, Place, recognize
from pywry_auth.native.terminal import write_line
from pywry_auth.native.wsl import windows_browser

Notify = Callable[[str], object]
"""Receives, once in each login, the address and instructions for the user."""

_logger = logging.getLogger("pywry_auth.native")


def print_to_stderr(message: str) -> None:
    """Write a message for the user to standard error.

    Standard output belongs to the program.

    Args:
        message: The message.

    Raises:
        OSError: Standard error is gone, for example because its terminal was closed.
        ValueError: The program has closed standard error.
    """
    write_line(sys.stderr, message)


def open_browser(url: str, on_failure: Callable[[], object] | None = None) -> None:
    """Open the system browser in the background.

    There is no result, because it cannot be known whether a browser has opened.

    Args:
        url: The address to open.
        on_failure: Called in another thread if it is certain that no browser was opened.
    """
    # Finding a browser runs programs, and opening one may block until the user closes it.
    threading.Thread(target=_open, args=(url, on_failure), name="pywry-auth-browser", daemon=True).start()


def _open(url: str, on_failure: Callable[[], object] | None) -> None:
    try:
        opened = _opens_in_windows(url) or any(_opens(browser, url) for browser in _browsers())
    except Exception as error:  # noqa: BLE001 - a registered browser may raise anything, and the user has the URL
        _logger.info("no browser could be opened: %s", type(error).__name__)  # its text may contain the URL
        opened = False
    if not opened and on_failure is not None:
        on_failure()


def _opens_in_windows(url: str) -> bool:
    """Open the browser of Windows from WSL, unless the user has chosen one."""
    if os.environ.get("BROWSER") or recognize(os.environ, sys.platform).place is not Place.WSL:
        return False
    command = next(windows_browser(url), None)
    if command is not None:
        _start(command)
    return command is not None


def _browsers() -> Iterator[webbrowser.BaseBrowser]:
    """Yield the user's browsers in their order; the first may be missing on this machine."""
    for name in (None, *os.environ.get("BROWSER", "").split(os.pathsep), "xdg-open"):
        with suppress(webbrowser.Error):
            if name != "":
                yield webbrowser.get(name)


def _opens(browser: webbrowser.BaseBrowser, url: str) -> bool:
    """Open a browser, and return whether it was there."""
    command = _command_of(browser, url) if os.name == "posix" else None
    if command is None:
        browser.open(url)
        return True
    if shutil.which(command[0]) is None:
        _logger.info("%s is not installed", os.path.basename(command[0]))
        return False
    if os.path.basename(command[0]) not in TEXT_BROWSERS:
        _start(command)
        return True
    if not in_terminal():
        _logger.info("%s needs a terminal, so it was not opened", browser.basename)
        return False
    subprocess.run(command, env=without_bundle(os.environ), check=False)  # noqa: S603 - as in _start
    return True


def _command_of(browser: webbrowser.BaseBrowser, url: str) -> list[str] | None:
    """Return the command that opens a browser, or None for a browser that is no command."""
    name = browser.name
    if isinstance(browser, webbrowser.Konqueror):
        return [name, *(["openURL"] if name == "kfmclient" else []), url]
    if not isinstance(browser, (webbrowser.GenericBrowser, webbrowser.UnixBrowser)):
        return None
    # BROWSER may have arguments without %s, which the standard library takes for a part of the name.
    words = [name] if shutil.which(name) else shlex.split(name)
    return [*words, *(argument.replace("%s", url) for argument in browser.args)]


def _start(command: list[str]) -> None:
    """Run a command as a detached process.

    It cannot block this process, write to its standard output or become a zombie.
    """
    subprocess.run(  # noqa: S603 - the user's own browser; the URL is an argument, which no shell parses
        ["/bin/sh", "-c", '"$@" &', "sh", *command],
        env=without_bundle(os.environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C in our terminal is not meant for the browser
        check=False,
    )
