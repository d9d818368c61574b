"""The values of quirks: how each is written, validated and described."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

TEXT = re.compile(r"[\x20-\x7e]+")
"""Text that fits in a header."""

CODE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")
"""An error code or one scope (RFC 6749 §3.3, §5.2)."""

PATH = re.compile(r"/[A-Za-z0-9._~/-]*")
"""The path of a URL."""

PLACE = re.compile(rf"https?://[\x21-\x7e]+|{PATH.pattern}")
"""A URL, or a path of this provider."""


@dataclass(frozen=True)
class Shape:
    """The form of a quirk's value.

    Args:
        value: The value's name in help texts; empty for a quirk that is only switched on.
        meaning: The deviation, in one sentence.
        read: Returns the value of a text, or raises ``ValueError`` with the form that is required.
        bare: The text that counts if no value is given; empty if a value is required.
        repeatable: Whether the quirk may be given several times.
    """

    value: str
    meaning: str
    read: Callable[[str], Any]
    bare: str = ""
    repeatable: bool = False

    def check(self, value: Any) -> None:
        """Validate a value from code.

        Raises:
            ValueError: The value does not have this form.
        """
        if not self.value:
            if value is not True:
                raise ValueError("use True or False")
            return
        for item in value if self.repeatable else (value,):
            # The value is written as text first, so that code and command line follow one rule.
            if self.read(str(item)) != item:
                raise ValueError(f"{value!r} does not have the type of {self.value}")


def flag(meaning: str) -> Shape:
    """Return the shape of a quirk that is only switched on."""
    return Shape("", meaning, lambda _: True)


def text(value: str, pattern: re.Pattern[str], meaning: str, bare: str = "") -> Shape:
    """Return the shape of text that matches ``pattern``."""
    return Shape(value, meaning, _matching(value, pattern), bare)


def choice(allowed: Collection[str], meaning: str, bare: str = "") -> Shape:
    """Return the shape of one of the allowed texts."""
    return Shape("|".join(allowed), meaning, _one_of(allowed), bare)


def several(value: str, allowed: Collection[str], meaning: str) -> Shape:
    """Return the shape of any number of the allowed texts."""
    return Shape(value, meaning, _one_of(allowed), repeatable=True)


def whole(value: str, least: int, most: int, meaning: str) -> Shape:
    """Return the shape of a whole number; 0 means no deviation."""
    return Shape(value, meaning, _between(least, most, int))


def seconds(least: float, most: float, meaning: str) -> Shape:
    """Return the shape of a number of seconds; 0 means no deviation."""
    return Shape("SECONDS", meaning, _between(least, most, float))


def _matching(value: str, pattern: re.Pattern[str]) -> Callable[[str], str]:
    def read(given: str) -> str:
        if not pattern.fullmatch(given):
            raise ValueError(f"{value} is empty or has a character that is not allowed there")
        return given

    return read


def _one_of(allowed: Collection[str]) -> Callable[[str], str]:
    def read(given: str) -> str:
        if given not in allowed:
            raise ValueError(f"use one of: {', '.join(allowed)}")
        return given

    return read


def _between(least: float, most: float, kind: type[int] | type[float]) -> Callable[[str], float]:
    def read(given: str) -> float:
        try:
            number = kind(given)
        except ValueError:
            number = math.nan
        if not least <= number <= most:
            raise ValueError(f"use a {'whole ' if kind is int else ''}number from {least:g} to {most:g}")
        return number

    return read
