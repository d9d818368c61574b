"""Stores by the name of their backend: one instance for the same arguments."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import cache
from typing import TypeVar, cast

from pywry_auth.backends.factory import unknown

_T = TypeVar("_T")


def shared_store(stores: Mapping[str, Callable[..., _T]], backend: str, **options: object) -> _T:
    """Return a store, the same instance whenever the same is asked for.

    Args:
        stores: Makes the store, by the name of its backend.
        backend: Which to take.
        options: Arguments of any of them. What is empty or 0 counts as not given, and what the chosen one
            does not know is left out, so that settings for all of them can be handed over at once.

    Raises:
        ValueError: There is no such backend; the text names those there are.
        ImportError: The backend needs a package that is missing; the text is the command that installs it.
    """
    if backend not in stores:
        raise unknown(backend, stores)
    known = inspect.signature(stores[backend]).parameters
    given = {
        name: value
        for name, value in options.items()
        if value
        and name in known
        and value != known[name].default  # so that defaults said aloud are the same
    }
    return cast("_T", _store(stores[backend], tuple(sorted(given.items()))))


@cache
def _store(make: Callable[..., object], options: tuple[tuple[str, object], ...]) -> object:
    return make(**dict(options))


clear_shared_stores = _store.cache_clear
"""Forgets the instances, so that the next call makes new ones."""
