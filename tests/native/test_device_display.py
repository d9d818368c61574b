"""The screen of a login on another device: text, QR code and the time that is left."""

from __future__ import annotations

import io
import os
import pty
import re
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from fcntl import ioctl
from select import select
from termios import TIOCSWINSZ
from typing import TextIO

import pytest

from pywry_auth.native.device_display import Display, TerminalDisplay, display_for, qr_rows
from pywry_auth.protocol.device import DeviceAuthorization
from pywry_auth.providers.oidc import GenericOIDCProvider

_PROVIDER = GenericOIDCProvider("desktop", issuer_url="https://id.example.com")
_CODES = DeviceAuthorization(
    "secret", "WDJB-MJHT", "https://id.example.com/device", "https://id.example.com/d?c=W"
)
_BLOCKS = re.compile("[▀▄█]")


@contextmanager
def terminal(columns: int = 80, encoding: str = "utf-8") -> Iterator[tuple[TextIO, int]]:
    """Return a terminal's stream, and the descriptor from which its other end reads."""
    outside, inside = pty.openpty()
    ioctl(inside, TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with open(inside, "w", encoding=encoding, newline="") as stream:
        yield stream, outside
    os.close(outside)


def shown(outside: int) -> str:
    """Return the news on the terminal, which may come in parts."""
    news = os.read(outside, 65536)
    while select([outside], [], [], 0.05)[0]:
        news += os.read(outside, 65536)
    return news.decode().replace("\r\n", "\n")


def test_a_terminal_gets_a_qr_code_and_the_steps() -> None:
    """The code is black on white on dark and light terminals, and the steps come last."""
    with terminal() as (stream, outside):
        TerminalDisplay(_PROVIDER, stream).show(_CODES, 600)
        text = shown(outside)
    rows = [line for line in text.splitlines() if _BLOCKS.search(line)]
    assert len(rows) > 10
    assert all(row.startswith("\x1b[30;107m") and row.endswith("\x1b[0m") for row in rows)
    assert "the page shows the same code" in text
    assert text.index(rows[-1]) < text.index("\n    https://id.example.com/device\n")
    assert "\n\n    WDJB-MJHT\n\n" in text
    assert "secret" not in text


@pytest.mark.parametrize(
    ("columns", "encoding", "options"),
    [(25, "utf-8", {}), (80, "ascii", {}), (80, "latin-1", {}), (80, "utf-8", {"shapes": False})],
)
def test_a_terminal_without_room_or_shapes_gets_no_qr_code(
    columns: int, encoding: str, options: dict[str, bool]
) -> None:
    with terminal(columns, encoding) as (stream, outside):
        display = TerminalDisplay(_PROVIDER, stream, **options)
        display.show(_CODES, 600)
        text = shown(outside)
        display.tick(61)
        assert shown(outside).isascii()
    assert text.isascii()
    assert "\x1b" not in text
    lines = [line for line in text.splitlines() if "https://" not in line]
    assert max(map(len, lines)) <= columns


def test_a_qr_code_without_colours_has_no_escape_sequences() -> None:
    """It is drawn in reverse, for a dark terminal: readers accept both."""
    plain, coloured = (
        list(qr_rows("https://id.example.com", False)),
        list(qr_rows("https://id.example.com", True)),
    )
    assert set("".join(plain)) <= set(" ▀▄█")
    assert plain[0][0] == "█"
    assert coloured[0].removeprefix("\x1b[30;107m")[0] == " "
    assert len(plain) == len(coloured)


def test_no_qr_code_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither segno nor a short address is."""
    assert list(qr_rows("x" * 9000, True)) == []
    monkeypatch.setitem(sys.modules, "segno", None)
    with terminal() as (stream, outside):
        TerminalDisplay(_PROVIDER, stream).show(_CODES, 600)
        assert shown(outside).startswith("To sign in at id.example.com")


def test_a_loopback_address_is_for_this_machine() -> None:
    """Another device cannot open it, so there is nothing to scan."""
    local = replace(_CODES, verification_uri="http://127.0.0.1:9000/device")
    with terminal() as (stream, outside):
        TerminalDisplay(_PROVIDER, stream).show(local, 13.4)
        text = shown(outside)
    assert text.startswith("To sign in at 127.0.0.1:9000, open this address in a browser on this machine:")
    assert "14 seconds" in text
    assert not _BLOCKS.search(text)


def test_the_time_is_rewritten_on_one_line_and_removed() -> None:
    with terminal() as (stream, outside):
        display = TerminalDisplay(_PROVIDER, stream)
        display.show(_CODES, 600)
        shown(outside)
        display.tick(599.2)
        assert shown(outside) == "\rWaiting for you to enter WDJB-MJHT, 10:00 left"
        display.tick(59)
        assert shown(outside) == "\rWaiting for you to enter WDJB-MJHT, 0:59 left "
        display.close()
        cleared = shown(outside)
    assert cleared.strip("\r ") == ""
    assert cleared.endswith("\r")
    assert cleared.count(" ") >= len("Waiting for you to enter WDJB-MJHT, 0:59 left^C")


def test_the_time_fits_a_narrow_terminal_and_survives_its_end() -> None:
    with terminal(20) as (stream, outside):
        display = TerminalDisplay(_PROVIDER, stream)
        display.tick(61)
        assert shown(outside) == "\r1:01 left"
        os.close(os.dup(outside))
    display.tick(60)
    display.close()


def test_other_streams_get_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """So do functions, also on a terminal."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    display = display_for(_PROVIDER, None)
    display.show(_CODES, 600)
    display.tick(3)
    display.close()
    assert type(display) is Display
    assert stream.getvalue().count("WDJB-MJHT") == 1
    assert not _BLOCKS.search(stream.getvalue())
    assert "\r" not in stream.getvalue()
    with terminal() as (screen, _):
        monkeypatch.setattr(sys, "stderr", screen)
        assert type(display_for(_PROVIDER, print)) is Display
        assert type(display_for(_PROVIDER, None)) is TerminalDisplay
        monkeypatch.setattr(sys, "stderr", stream)
