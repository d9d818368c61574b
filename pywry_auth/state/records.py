"""Converts records to bytes and back, as versioned JSON.

Records are read strictly, and a damaged one counts as missing. One that another process can read does not: it
is encrypted, or a newer version of this package wrote it.
"""

from __future__ import annotations

import logging
import math
import zlib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pywry_auth.backends.base import UnreadableRecord
from pywry_auth.backends.record_form import LARGEST_RECORD, compressed, decompressed, may_be_encrypted
from pywry_auth.strict_json import read_json, write_json

_logger = logging.getLogger("pywry_auth.state")

_T = TypeVar("_T")

VERSION = 1
"""The version of all records. A newer record is an outage, because another process can read it."""

_LATEST = 253_370_764_800.0  # Unix time in seconds: the year 9999, the last that Python can represent
_LONGEST = 200 * 366 * 86400.0  # seconds; more than any backend keeps a record


class _NewerRecord(ValueError):
    """A newer version of this package wrote the record."""


class Members:
    """The members of a record, read with their types.

    Apart from :meth:`flag`, each method raises ``ValueError`` if the member has another type.

    Args:
        values: The members of the JSON object.
    """

    def __init__(self, values: Mapping[str, object]) -> None:
        self._values = values

    def text(self, name: str) -> str:
        """Return a string."""
        value = self._values.get(name)
        if not isinstance(value, str):
            raise ValueError(f"{name} is not a string")
        return value

    def optional_text(self, name: str) -> str | None:
        """Return a string, or None if it is missing."""
        return None if self._values.get(name) is None else self.text(name)

    def optional_number(self, name: str) -> float | None:
        """Return a finite number, or None if it is missing."""
        return None if self._values.get(name) is None else self.number(name)

    def number(self, name: str) -> float:
        """Return a finite number."""
        value = self._values.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"{name} is not a number")
        return value

    def moment(self, name: str) -> float:
        """Return a Unix time in seconds, before the year 9999."""
        value = self.number(name)
        if abs(value) > _LATEST:
            raise ValueError(f"{name} is not a time")
        return value

    def optional_moment(self, name: str) -> float | None:
        """Return a Unix time in seconds, or None if it is missing."""
        return None if self._values.get(name) is None else self.moment(name)

    def seconds(self, name: str) -> float:
        """Return a time span in seconds, of at most 200 years."""
        value = self.number(name)
        if abs(value) > _LONGEST:
            raise ValueError(f"{name} is not a time span")
        return value

    def optional_seconds(self, name: str) -> float | None:
        """Return a time span in seconds, or None if it is missing."""
        return None if self._values.get(name) is None else self.seconds(name)

    def count(self, name: str, most: int) -> int:
        """Return a whole number from 0 to ``most``."""
        value = self.number(name)
        if not 0 <= value <= most or value != int(value):
            raise ValueError(f"{name} is not a count")
        return int(value)

    def optional_count(self, name: str, most: int) -> int | None:
        """Return a whole number up to ``most``; None if missing."""
        return None if self._values.get(name) is None else self.count(name, most)

    def flag(self, name: str) -> bool:
        """Return a Boolean; False if it is missing."""
        return self._values.get(name) is True

    def texts(self, name: str) -> list[str]:
        """Return a list of strings."""
        value = self._values.get(name)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise ValueError(f"{name} is not a list of strings")
        return value

    def optional_texts(self, name: str) -> list[str]:
        """Return a list of strings; an empty one if it is missing."""
        return [] if self._values.get(name) is None else self.texts(name)

    def optional_mapping(self, name: str) -> dict[str, Any] | None:
        """Return an object, or None if it is missing."""
        return None if self._values.get(name) is None else self.mapping(name)

    def mapping(self, name: str) -> dict[str, Any]:
        """Return an object."""
        value = self._values.get(name)
        if not isinstance(value, dict):
            raise ValueError(f"{name} is not an object")
        return value


def pack(record: Mapping[str, object], *, compress: bool = False) -> bytes:
    """Return a record as bytes.

    Args:
        record: JSON values under string names; members that are None are left out.
        compress: Whether the record is compressed, so that it is smaller but not readable by people.

    Raises:
        TypeError: A value has no representation in JSON.
        ValueError: A number has none, for example NaN, or the values are nested too deeply. The error names
            the member. Or the record is larger than 8 MiB.
    """
    members = {name: value for name, value in record.items() if value is not None}
    data = write_json({"v": VERSION, **members}).encode("ascii")
    if len(data) > LARGEST_RECORD:
        raise ValueError(
            f"a record of {len(data)} bytes is too large: at most {LARGEST_RECORD} can be stored"
        )
    return compressed(data) if compress else data


def unpack(data: bytes, build: Callable[[Members], _T], kind: str) -> _T | None:
    """Return the value of a stored record.

    Args:
        data: The bytes from the store.
        build: Builds the value from the members, and raises ``ValueError`` if a member is invalid.
        kind: The kind of the record for the log; its content is not logged.

    Returns:
        The value, or None, with a warning in the log, if the bytes cannot be read.

    Raises:
        UnreadableRecord: Another process can read the record: a newer version of this package wrote it, or it
            is encrypted and this process has no keys.
    """
    try:
        return unpack_strictly(data, build)
    except _NewerRecord:
        raise UnreadableRecord(
            f"A newer version of this package wrote a stored {kind}: use that version in all processes."
        ) from None
    except ValueError:
        if may_be_encrypted(data):
            raise UnreadableRecord(
                f"A stored {kind} is encrypted, and this process has no keys: set "
                "PYWRY_DEPLOY__ENCRYPTION_KEYS to the same value in all processes."
            ) from None
        _logger.warning("a stored %s cannot be read and counts as missing", kind)
        return None


def unpack_strictly(data: bytes, build: Callable[[Members], _T]) -> _T:
    """Return the value of a stored record, like :func:`unpack`.

    Args:
        data: The bytes from the store.
        build: Builds the value from the members, and raises ``ValueError`` if a member is invalid.

    Raises:
        ValueError: The bytes cannot be read; the text does not repeat them.
    """
    try:
        if len(data) > LARGEST_RECORD:
            raise ValueError
        values = read_json(data if data.startswith(b"{") else decompressed(data))
        if not isinstance(values, dict):
            raise ValueError
        version = values.get("v")
        if version != VERSION:
            raise _NewerRecord if isinstance(version, int) and version > VERSION else ValueError
        return build(Members(values))
    except _NewerRecord:
        raise _NewerRecord("a record of a newer version") from None
    except (ValueError, OverflowError, zlib.error):
        raise ValueError("not a readable record of this version") from None
