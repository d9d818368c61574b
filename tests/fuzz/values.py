"""Properties of values that came as JSON."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import is_dataclass


def assert_storable(value: object) -> None:
    """Assert that a value can be stored as JSON, compared, and shown on a page.

    Args:
        value: Dataclasses, objects, lists, strings and numbers, nested in any way.
    """
    for leaf in _leaves(value):
        assert not isinstance(leaf, float) or math.isfinite(leaf)
        assert not isinstance(leaf, str) or leaf.encode() is not None  # a lone surrogate raises an error


def _leaves(value: object) -> Iterator[object]:
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            waiting += [*each, *each.values()]
        elif isinstance(each, list | tuple):
            waiting += each
        elif is_dataclass(each):
            waiting += vars(each).values()
        else:
            yield each
