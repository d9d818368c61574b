"""Helpers for tests: a local identity provider and the backend contract.

An import of this package loads the standard library only; each public name is loaded on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pywry_auth.testing.identity_provider import (
        AssertionIssuer,
        Client,
        IdentityProvider,
        Quirks,
        User,
        Workload,
    )

__all__ = ["AssertionIssuer", "Client", "IdentityProvider", "Quirks", "User", "Workload"]

_HOME = dict.fromkeys(__all__, "pywry_auth.testing.identity_provider")


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value
