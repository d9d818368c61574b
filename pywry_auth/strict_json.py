"""The one reader and the one writer of JSON (RFC 8259).

Both refuse the values that Python's parser accepts although other programs cannot read them.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

_DEEPEST = 100  # levels; a profile or a record has fewer than ten
_LONE = re.compile("[\ud800-\udfff]")
_LONGEST_INTEGER = 320  # characters; a double has at most 309 digits


def read_json(data: str | bytes, *, unique: bool = False) -> Any:
    """Return the value of a JSON text.

    If an object has a member twice, the last one counts. Lone surrogates in strings are kept, because JSON
    can express them (RFC 8259 §8.2).

    Args:
        data: The text. Bytes must be valid UTF-8, UTF-16 or UTF-32.
        unique: Whether a text with such an object is refused.

    Raises:
        ValueError: The text is not JSON, has NaN, Infinity or a number beyond the range of a double, or is
            nested more than 100 levels deep. The error neither quotes the text nor refers to it.
    """
    try:
        text = data if isinstance(data, str) else data.decode(json.detect_encoding(data))
        pairs = _unique if unique else None
        value = json.loads(
            text, parse_constant=_refuse, parse_float=_float, parse_int=_int, object_pairs_hook=pairs
        )
        # Each level has a bracket of its own, so most texts need no walk.
        usable = text.count("[") + text.count("{") <= _DEEPEST or _fault(value) is None
    except (ValueError, RecursionError):
        usable = False
    if not usable:  # outside of the except clause, because the parser's error contains the text
        raise ValueError("not valid JSON")
    return value


def write_json(value: object, *, sort_keys: bool = False, readable: bool = False) -> str:
    """Return a value as JSON in ASCII characters, without spaces.

    Args:
        value: JSON values under string names.
        sort_keys: Whether the members of objects are sorted by name.
        readable: Whether people read the text: then it has spaces, and letters of all languages.

    Raises:
        ValueError: The value has NaN, Infinity or a number beyond the range of a double, or is nested more
            than 100 levels deep. The error names the member.
        TypeError: The value has no representation in JSON.
    """
    require_json(value)
    separators = None if readable else (",", ":")
    return json.dumps(
        value, allow_nan=False, ensure_ascii=not readable, separators=separators, sort_keys=sort_keys
    )


def require_json(value: object) -> None:
    """Check the numbers and the nesting of a value, as :func:`write_json` does.

    Args:
        value: Nested mappings, lists and tuples.

    Raises:
        ValueError: JSON cannot represent a number, or the nesting is too deep.
    """
    if fault := _fault(value):
        raise ValueError(fault)


def without_surrogates(value: Any) -> Any:
    """Return a value with U+FFFD instead of each lone surrogate.

    A name that was cut within an emoji contains one. No page could show it.

    Args:
        value: A value that is not nested deeply, such as one that :func:`require_json` accepts.
    """
    if isinstance(value, str):
        # The codec would replace each surrogate with a question mark, which is a usual character.
        return _LONE.sub("\ufffd", value)
    if isinstance(value, list):
        return [without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {without_surrogates(name): without_surrogates(item) for name, item in value.items()}
    return value


def _fault(value: object) -> str | None:
    """Return the reason why a value is refused, or None."""
    waiting: list[tuple[object, str, int]] = [(value, "the value", 0)]
    while waiting:
        found, name, level = waiting.pop()
        if isinstance(found, float | int) and not _is_double(found):
            return f"{name} is not a number that JSON can represent: use a finite number, a string or null"
        if level >= _DEEPEST and isinstance(found, dict | list | tuple):
            return f"{name} is nested more than {_DEEPEST} levels deep: use a flatter value"
        if isinstance(found, dict):
            waiting += [(item, f"the member {key!s:.60}", level + 1) for key, item in found.items()]
        elif isinstance(found, list | tuple):
            waiting += [(item, name, level + 1) for item in found]
    return None


def _is_double(number: float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # an integer that is too large
        return False


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a member appears twice")
    return found


def _float(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _refuse(text)


def _int(text: str) -> int:
    # Check the length first: Python's limit for digits belongs to the process and may be switched off.
    if len(text) > _LONGEST_INTEGER:
        _refuse(text)
    value = int(text)
    return value if _is_double(value) else _refuse(text)


def _refuse(_: str) -> NoReturn:
    raise ValueError("a number that is not JSON")
