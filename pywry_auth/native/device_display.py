"""The display of a login on another device: address, code, QR code and the time that is left."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO
from urllib.parse import urlsplit

from pywry_auth.exceptions import printable
from pywry_auth.native.browser import Notify, print_to_stderr
from pywry_auth.native.streams import is_terminal
from pywry_auth.native.terminal import columns_of, write, write_line
from pywry_auth.protocol.urls import is_loopback

if TYPE_CHECKING:
    from pywry_auth.protocol.device import DeviceAuthorization
    from pywry_auth.providers.base import OAuthProvider

_BLACK_ON_WHITE, _USUAL = "\x1b[30;107m", "\x1b[0m"
_USUAL_COLUMNS = 80
_BORDER = 2  # modules; readers manage with less than the standard's four
_TOP, _BOTTOM, _BOTH = "▀", "▄", "█"


class Display:
    """Shows the instructions once.

    Args:
        provider: The provider that the user signs in at.
        notify: Receives the instructions.
    """

    counts = False
    """Whether ``tick`` shows the time that is left."""

    def __init__(self, provider: OAuthProvider, notify: Notify) -> None:
        self._provider = provider
        self._notify = notify

    def show(self, authorization: DeviceAuthorization, seconds: float) -> None:
        """Show the address and the code.

        Args:
            authorization: The provider's answer.
            seconds: Seconds that the user has.
        """
        self._notify(instructions(self._provider, authorization, seconds))

    def tick(self, left: float) -> None:
        """Show the seconds that are left."""

    def close(self) -> None:
        """Remove the time from the screen."""


class TerminalDisplay(Display):
    """Shows the instructions, a QR code and the time that is left on a terminal.

    Args:
        provider: The provider that the user signs in at.
        stream: The terminal.
        colours: Whether the QR code may have colours; without them, it is for a dark terminal.
        shapes: Whether the terminal can show a QR code at all.
    """

    counts = True

    def __init__(
        self, provider: OAuthProvider, stream: TextIO, *, colours: bool = True, shapes: bool = True
    ) -> None:
        super().__init__(provider, print_to_stderr)
        self._stream = stream
        self._colours = colours
        self._shapes = shapes and (getattr(stream, "encoding", None) or "").lower().replace("-", "") == "utf8"
        self._code = ""
        self._shown = 0

    def show(self, authorization: DeviceAuthorization, seconds: float) -> None:
        """Show a QR code if there is room for it, and the instructions.

        The instructions come last, so that they stay visible on a low terminal.
        """
        complete = authorization.verification_uri_complete
        # Another device cannot open a loopback address.
        scanned = "" if _is_local(authorization) else complete or authorization.verification_uri
        rows = list(qr_rows(scanned, self._colours)) if scanned and self._shapes else []
        if rows and len(rows[0]) - self._colours * len(_BLACK_ON_WHITE + _USUAL) <= self._width():
            write(self._stream, "\n".join([*rows, ""]))
            check = ", and check that the page shows the same code" if complete else ""
            write_line(self._stream, f"Scan this QR code{check}. Or follow these steps:\n")
        write_line(self._stream, instructions(self._provider, authorization, seconds))
        self._code = authorization.user_code

    def tick(self, left: float) -> None:
        """Replace the line with the time that is left."""
        minutes, seconds = divmod(math.ceil(left), 60)
        time = f"{minutes}:{seconds:02d} left"
        room = self._width() - 1  # a full line would wrap
        text = f"Waiting for you to enter {self._code}, {time}"
        self._rewrite((text if len(text) <= room else time)[:room])

    def close(self) -> None:
        """Remove the line."""
        if self._shown:
            self._shown += len("^C")  # which a terminal shows after Ctrl-C
            self._rewrite("")

    def _rewrite(self, text: str) -> None:
        # Blanks work on every terminal; a sequence that clears the line does not.
        line = text.ljust(min(self._shown, self._width() - 1))
        with suppress(OSError, ValueError):  # the terminal is gone, and the login can still succeed
            write(self._stream, f"\r{line}" + ("" if text else "\r"), wait=0)
            self._shown = len(line) if text else 0

    def _width(self) -> int:
        return columns_of(self._stream) or _USUAL_COLUMNS


def display_for(provider: OAuthProvider, notify: Notify | None) -> Display:
    """Return the display for this process.

    Args:
        provider: The provider that the user signs in at.
        notify: Receives the instructions; None for standard error.
    """
    if notify is not None or not is_terminal(sys.stderr):
        return Display(provider, notify or print_to_stderr)
    colours, shapes = not os.environ.get("NO_COLOR"), os.environ.get("TERM") != "dumb"
    return TerminalDisplay(provider, sys.stderr, colours=colours, shapes=shapes)


def instructions(provider: OAuthProvider, authorization: DeviceAuthorization, seconds: float) -> str:
    """Return the text with the address and the code (RFC 8628 §3.3).

    It names the provider's host, the client and its scopes, so that the user can recognize the sign-in on the
    provider's page (RFC 10027 §6.1).

    Args:
        provider: The provider that the user signs in at.
        authorization: The provider's answer.
        seconds: Seconds that the user has.
    """
    scopes = f" with {printable(' '.join(provider.scopes), 300)}" if provider.scopes else ""
    client = f"The page should name the client {printable(provider.client_id)}{scopes}."
    warning = (
        "Enter the code only if you started this sign-in yourself, and do not send it to anyone. It is valid "
        f"for {_duration(seconds)}."
    )
    where = "in a browser on this machine" if _is_local(authorization) else "on any device"
    lines: Sequence[str] = (
        f"To sign in at {authorization.host}, open this address {where}:",
        f"    {authorization.verification_uri}",
        "Then enter this code:",
        f"    {authorization.user_code}",
        f"{warning}\n{client}",
    )
    return "\n\n".join(lines) + "\n"


def qr_rows(text: str, colours: bool) -> Iterator[str]:
    """Yield the lines of a QR code, two rows of it in each; none without segno.

    With colours, it is black on white on every terminal.

    Args:
        text: The content.
        colours: Whether the lines may have colours; otherwise the light parts are drawn.
    """
    try:
        import segno
    except ImportError:
        return
    try:
        code = segno.make(text, error="l", micro=False)
    except ValueError:  # the address is too long
        return
    rows = [[bool(module) == colours for module in row] for row in code.matrix_iter(border=_BORDER)]
    if len(rows) % 2:
        rows.append([not colours] * len(rows[0]))
    for top, bottom in zip(rows[::2], rows[1::2], strict=True):
        drawn = "".join(_block(*pair) for pair in zip(top, bottom, strict=True))
        yield f"{_BLACK_ON_WHITE}{drawn}{_USUAL}" if colours else drawn


def _block(top: bool, bottom: bool) -> str:
    return _BOTH if top and bottom else _TOP if top else _BOTTOM if bottom else " "


def _is_local(authorization: DeviceAuthorization) -> bool:
    """Return whether only this machine can open the address."""
    return is_loopback(urlsplit(authorization.verification_uri).hostname or "")


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{math.ceil(seconds)} seconds"
    return f"{seconds // 60:.0f} minutes"
