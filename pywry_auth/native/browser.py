"""Opens the system browser, or shows the user the address."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import webbrowser
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

Notify = Callable[[str], object]
"""Receives, once in each login, the address and instructions for the user."""

_TEXT_BROWSERS = {"www-browser", "links", "links2", "elinks", "lynx", "w3m"}
_logger = logging.getLogger("pywry_auth.native")


def print_to_stderr(message: str) -> None:
    """Write a message for the user to standard error.

    Standard output belongs to the program.
    """
    # A program without a console has no stderr, and print would take stdout for it.
    if sys.stderr is not None:
        print(message, file=sys.stderr, flush=True)


def has_browser(environ: Mapping[str, str], platform: str) -> bool:
    """Return whether a visible browser can be opened from here.

    Args:
        environ: The process's environment. ``BROWSER`` means that the user has chosen a browser.
        platform: As in ``sys.platform``.
    """
    if environ.get("BROWSER"):
        return True
    if platform in ("win32", "cygwin", "darwin"):
        return not is_remote(environ)  # over SSH it would open on the remote screen
    return bool(environ.get("DISPLAY") or environ.get("WAYLAND_DISPLAY"))


def is_remote(environ: Mapping[str, str]) -> bool:
    """Return whether the user is connected by SSH.

    Args:
        environ: The process's environment.
    """
    return bool(environ.get("SSH_CONNECTION") or environ.get("SSH_TTY"))


def instructions(url: str, redirect_uri: str, *, opening: bool, remote: bool) -> str:
    """Return the instructions for the user, with the address.

    Args:
        url: The address to sign in at.
        redirect_uri: The redirect URI, whose port must reach this machine.
        opening: Whether a browser or a window is being opened.
        remote: Whether the user is at another machine.
    """
    if opening:
        lead = "Sign in with the browser that is opening. If none opens, open this address yourself:"
    else:
        lead = "To sign in, open this address in a browser on this machine:"
    lines = [lead, "", f"    {url}", ""]
    if remote and not opening:
        port = urlsplit(redirect_uri).port
        lines += [
            "To use a browser on your own machine, first open a tunnel from there:",
            "",
            f"    ssh -L {port}:127.0.0.1:{port} <this machine>",
            "",
        ]
    return "\n".join(lines)


def open_browser(url: str) -> None:
    """Open the system browser in the background.

    There is no result, because it cannot be known whether a browser has opened.

    Args:
        url: The address to open.
    """
    # Finding a browser runs programs, and opening one may block until the user closes it.
    threading.Thread(target=_open, args=(url,), name="pywry-auth-browser", daemon=True).start()


def _open(url: str) -> None:
    try:
        browser = webbrowser.get()
        text = browser.basename in _TEXT_BROWSERS
        if text and not (sys.stdin.isatty() and sys.stdout.isatty()):
            _logger.info("%s needs a terminal, so no browser was opened", browser.basename)
        elif os.name == "posix" and not text and isinstance(browser, _COMMANDS):
            _start([browser.name, *(argument.replace("%s", url) for argument in browser.args)])
        else:
            browser.open(url)
    except Exception as error:  # noqa: BLE001 - a registered browser may raise anything, and the user has the URL
        _logger.info("no browser could be opened: %s", type(error).__name__)  # its text may contain the URL


_COMMANDS = (webbrowser.GenericBrowser, webbrowser.UnixBrowser)


def _start(command: list[str]) -> None:
    """Run a command as a detached process.

    It cannot block this process, write to its standard output or become a zombie.
    """
    subprocess.run(  # noqa: S603 - the user's own browser; the URL is an argument, which no shell parses
        ["/bin/sh", "-c", '"$@" &', "sh", *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C in our terminal is not meant for the browser
        check=False,
    )
