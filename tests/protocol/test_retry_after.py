"""The header ``Retry-After`` of a provider."""

from __future__ import annotations

import pytest

from pywry_auth.protocol.retry_after import seconds_of

_NOW = 1_800_000_000.0  # Fri, 15 Jan 2027 08:00:00 GMT


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("60", 60),
        (" 60 ", 60),
        ("0", 1),
        ("301", 300),
        ("999999999", 300),
        ("9999999999", 300),
        ("9" * 5000, 300),
        ("Fri, 15 Jan 2027 08:02:00 GMT", 120),
        ("Friday, 15-Jan-27 08:02:00 GMT", 120),
        ("Fri Jan 15 08:02:00 2027", 120),
        ("Fri, 15 Jan 2027 07:00:00 GMT", 1),
        ("Fri, 15 Jan 9999 08:00:00 GMT", 300),
        ("Fri, 15 Jan 0001 00:00:00 +1400", 1),
        ("", 5),
        ("soon", 5),
        ("-5", 5),
        ("1.5", 5),
        ("nan", 5),
        ("\u0661\u0662", 5),
        ("Fri, 99 Jan 2027 08:02:00 GMT", 5),
    ],
)
def test_the_value_is_a_bounded_number_of_seconds(value: str, seconds: float) -> None:
    """It is a number or a date (RFC 9110 §10.2.3), and 5 s without a usable value. [T73]"""
    assert seconds_of(value, _NOW) == seconds
