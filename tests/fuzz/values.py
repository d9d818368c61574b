"""Properties of values that came as JSON."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import is_dataclass


def assert_storable(value: object, *, shown: bool = True) -> None:
    """Assert that a value can be stored as JSON, compared, and shown on a page.

    Args:
        value: Dataclasses, objects, lists, strings and numbers, nested in any way.
        shown: Whether it came from a provider, so that a page must be able to show it.
    """
    for leaf in _leaves(value):
        assert not isinstance(leaf, float) or math.isfinite(leaf)
        if shown and isinstance(leaf, str):
            leaf.encode()  # a lone surrogate raises an error


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
