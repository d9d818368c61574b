"""The header ``Retry-After`` (RFC 9110 §10.2.3)."""

from __future__ import annotations

import re
from datetime import UTC
from email.utils import parsedate_to_datetime

_USUAL = 5.0  # seconds, for an answer without a usable value
_LONGEST = 300.0
_DELAY = re.compile("[0-9]+")


def seconds_of(value: str, now: float) -> float:
    """Return the seconds after which to try again: 1 to 300.

    Args:
        value: The header's value, a number of seconds or an HTTP date. Any other text means 5 seconds.
        now: Unix time in seconds.
    """
    return min(max(_seconds(value.strip(), now), 1.0), _LONGEST)


def _seconds(value: str, now: float) -> float:
    if _DELAY.fullmatch(value):
        return float(value)
    try:
        date = parsedate_to_datetime(value)
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now
    except (ValueError, OverflowError, TypeError):
        return _USUAL
