"""The quirks as words of a command line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from pywry_auth.testing.identity_provider.quirks import SHAPES, Quirks, named


@dataclass(frozen=True)
class QuirkLine:
    """One quirk in words, for help texts.

    Args:
        name: The name, with its value: ``refresh-error=CODE``.
        meaning: The deviation, in one sentence.
    """

    name: str
    meaning: str


def quirk_lines() -> Iterator[QuirkLine]:
    """Yield the description of each quirk."""
    for name, (_, shape) in SHAPES.items():
        value = f"={shape.value}" if shape.value else ""
        yield QuirkLine(name + (f"[{value}]" if shape.bare else value), shape.meaning)


def parse_quirks(words: Iterable[str], base: Quirks | None = None) -> Quirks:
    """Return the quirks of a command line.

    Args:
        words: Each is a name, or ``NAME=VALUE``.
        base: The quirks that apply unless a word replaces them; None for no deviation.

    Raises:
        ValueError: A quirk is unknown, is given twice, or has a value that is not allowed.
    """
    values: dict[str, Any] = {}
    for word in words:
        name, equals, given = word.partition("=")
        if name not in SHAPES:
            raise ValueError(f"{name!r} is not a quirk: --list-quirks shows their names")
        field_name, shape = SHAPES[name]
        if field_name in values and not shape.repeatable:
            raise ValueError(f"quirk {name}: it is given twice")
        if equals and not shape.value:
            raise ValueError(f"quirk {name}: it takes no value")
        if not equals and shape.value and not shape.bare:
            raise ValueError(f"quirk {name}: a value is missing: {name}={shape.value}")
        value = named(name, shape.read, given if equals else shape.bare)
        values[field_name] = (*values.get(field_name, ()), value) if shape.repeatable else value
    return replace(base or Quirks(), **values)
