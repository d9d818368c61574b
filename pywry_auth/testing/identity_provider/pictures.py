"""The pictures of users, as PNG images of a few squares."""

from __future__ import annotations

import hashlib
import struct
import zlib

from flask import Response
from werkzeug.exceptions import NotFound

from pywry_auth.testing.identity_provider.vault import Realm

_CELLS = 5
_CELL = 16  # pixels
_MARGIN = 8  # pixels
_PAPER = bytes((240, 242, 245))
_INKS = tuple(
    bytes.fromhex(ink) for ink in ("2f5d8a", "8a3f2f", "2f7a4d", "6a3f8a", "8a6a1f", "1f7a7a", "a0305f")
)


class Pictures:
    """Serves the pictures of the provider's users.

    Args:
        realm: The provider.
    """

    def __init__(self, realm: Realm) -> None:
        self._users = realm.users

    def view(self, username: str) -> Response:
        """Return the picture of a user."""
        if not any(user.username == username for user in self._users):
            raise NotFound
        return Response(picture(username), mimetype="image/png")


def picture(name: str) -> bytes:
    """Return a symmetric pattern that depends on the name, as a PNG of 96 by 96 pixels."""
    digest = hashlib.sha256(name.encode("utf-8", "replace")).digest()
    ink = _INKS[digest[-1] % len(_INKS)]
    half = (_CELLS + 1) // 2
    edge = _PAPER * _MARGIN
    blank = _PAPER * (_CELLS * _CELL + 2 * _MARGIN)
    rows = [blank] * _MARGIN
    for y in range(_CELLS):
        left = [digest[y * half + x] & 1 for x in range(half)]
        cells = left + left[-2::-1]
        rows += [edge + b"".join((ink if cell else _PAPER) * _CELL for cell in cells) + edge] * _CELL
    return _png(rows + [blank] * _MARGIN)


def _png(rows: list[bytes]) -> bytes:
    """Return an image of rows of RGB pixels (W3C PNG, third edition)."""
    header = struct.pack(">IIBBBBB", len(rows[0]) // 3, len(rows), 8, 2, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows), 9)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
