"""Bytes of any length in short keyring entries.

A value stays whole even if the program crashes while it writes.
"""

from __future__ import annotations

import base64
import logging
import re
import zlib
from dataclasses import dataclass
from typing import Protocol

from pywry_auth.digests import digest_of
from pywry_auth.exceptions import StoreUnavailable

_logger = logging.getLogger("pywry_auth.backends")

_SLOTS = ("a", "b")

ENTRY = 1200
"""Characters in an entry. Windows accepts 2560 bytes of UTF-16, which are 1280 characters."""

_HEADING = 100  # characters that are reserved for the other fields of the head
_MOST_PARTS = 4000
_TRUSTED_PARTS = 64  # that are removed without a look, so that a false number of parts costs little
_LARGEST = 4 << 20  # bytes of a value before compression
_LAST_SERIAL = 999_999_999  # the largest that a head can contain
_HEAD = re.compile(r"([0-9]{1,9}):([0-9]{1,9}):([0-9a-f]{64}):(.*)")


class Vault(Protocol):
    """One service's entries in a keyring."""

    def get(self, name: str) -> str | None:
        """Return the entry of a name, or None."""

    def set(self, name: str, text: str) -> None:
        """Write an entry, or replace an earlier one."""

    def delete(self, name: str) -> None:
        """Remove an entry if it exists."""


@dataclass(frozen=True)
class _Head:
    slot: str
    serial: int
    parts: int
    digest: str
    begin: str


class Entries:
    """Values under names, each split into numbered entries.

    Each name has two slots. A new value is written to the slot that does not contain the old value. Its first
    part, the head, is written last. Only then is the old value removed, its head first. Therefore the newest
    head whose parts all exist belongs, at any moment, either to the old value or to the new one. The next
    write or removal of the name also removes entries that a crash left behind.

    Any program of the user can change the entries. A head with a number that :meth:`write` never writes
    counts as missing, and no loop depends on such a number.

    Only one thread of one process may use the entries at a time.

    Args:
        vault: The keyring.
    """

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    def read(self, name: str) -> bytes | None:
        """Return the value of a name, or None."""
        heads = self._heads(name)
        for head in heads:
            data = self._value(name, head)
            if data is not None:
                return data
        if heads:
            _logger.warning("a record in the keyring is damaged and counts as missing")
        return None

    def holds(self, name: str) -> bool:
        """Return whether a value is stored, without reading all of it."""
        return bool(self._heads(name))

    def write(self, name: str, data: bytes) -> None:
        """Store or replace a value; failures keep the earlier one.

        Args:
            name: The name of the value.
            data: The value.

        Raises:
            StoreUnavailable: The value is too large; or the keyring failed.
        """
        text = base64.b64encode(zlib.compress(data)).decode("ascii")
        begin, rest = text[: ENTRY - _HEADING], text[ENTRY - _HEADING :]
        parts = [rest[at : at + ENTRY] for at in range(0, len(rest), ENTRY)]
        if len(data) > _LARGEST or len(parts) >= _MOST_PARTS:
            raise StoreUnavailable("A record is too large for the system's keyring: use the backend sqlite.")
        heads = self._heads(name)
        slot = _SLOTS[1] if heads and heads[0].slot == _SLOTS[0] else _SLOTS[0]
        self._clear(name, slot, heads)
        for number, part in enumerate(parts, 1):
            self._vault.set(_entry(name, slot, number), part)
        # After the last serial, the old value counts until its head is removed.
        serial = heads[0].serial + 1 if heads and heads[0].serial < _LAST_SERIAL else 1
        self._vault.set(_entry(name, slot, 0), f"{serial}:{len(parts) + 1}:{digest_of(text)}:{begin}")
        if heads:
            self._clear(name, heads[0].slot, heads)

    def erase(self, name: str) -> None:
        """Remove a value, and entries that crashes left behind."""
        heads = self._heads(name)
        newest = heads[0].slot if heads else ""
        # The newest value goes last, because otherwise the older one would reappear.
        for slot in sorted(_SLOTS, key=lambda slot: slot == newest):
            self._clear(name, slot, heads)

    def _heads(self, name: str) -> list[_Head]:
        """Return the existing heads, the newest first."""
        found = []
        for slot in _SLOTS:
            text = self._vault.get(_entry(name, slot, 0))
            match = _HEAD.fullmatch(text) if text and len(text) <= ENTRY else None
            if match and 1 <= int(match[2]) <= _MOST_PARTS:
                found.append(_Head(slot, int(match[1]), int(match[2]), match[3], match[4]))
        return sorted(found, key=lambda head: head.serial, reverse=True)

    def _value(self, name: str, head: _Head) -> bytes | None:
        text = head.begin
        for number in range(1, head.parts):
            part = self._vault.get(_entry(name, head.slot, number))
            if part is None or len(part) > ENTRY:
                return None
            text += part
        if digest_of(text) != head.digest:
            return None
        try:
            return _decompressed(base64.b64decode(text))
        except (ValueError, zlib.error):
            return None

    def _clear(self, name: str, slot: str, heads: list[_Head]) -> None:
        """Remove a slot's head, then its parts in reverse order.

        After a crash, the remaining parts have no gap, so that the next call finds their end.
        """
        self._vault.delete(_entry(name, slot, 0))
        end = next((min(head.parts, _TRUSTED_PARTS) for head in heads if head.slot == slot), 1)
        while end < _MOST_PARTS and self._vault.get(_entry(name, slot, end)) is not None:
            end += 1
        for number in reversed(range(1, end)):
            self._vault.delete(_entry(name, slot, number))


def _decompressed(data: bytes) -> bytes:
    decompressor = zlib.decompressobj()
    value = decompressor.decompress(data, _LARGEST)
    if not decompressor.eof:
        raise ValueError("the value is too large, or not complete")
    return value


def _entry(name: str, slot: str, number: int) -> str:
    return f"{name}.{slot}{number}"
