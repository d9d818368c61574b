"""Helpers for tests: sign-in for test clients, a local identity provider and the backend contract.

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
    from pywry_auth.testing.local_provider import LocalProvider
    from pywry_auth.testing.sign_in import login_as, logout
    from pywry_auth.testing.unguarded import unguarded_routes

__all__ = [
    "AssertionIssuer",
    "Client",
    "IdentityProvider",
    "LocalProvider",
    "Quirks",
    "User",
    "Workload",
    "login_as",
    "logout",
    "unguarded_routes",
]

_HOME = {
    **dict.fromkeys(
        ("AssertionIssuer", "Client", "IdentityProvider", "Quirks", "User", "Workload"), "identity_provider"
    ),
    "LocalProvider": "local_provider",
    "login_as": "sign_in",
    "logout": "sign_in",
    "unguarded_routes": "unguarded",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value
