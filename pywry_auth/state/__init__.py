"""Stores over the backends, one for each kind of record.

The package itself offers the public names for sessions.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pywry_auth.models import UserSession
    from pywry_auth.state.session_stores import (
        MemorySessionStore,
        PostgresSessionStore,
        RedisSessionStore,
        SQLiteSessionStore,
        get_session_store,
    )
    from pywry_auth.state.sessions import SessionStore, issue_session_token

# Each module is loaded at its first use, because a desktop program needs no sessions.
_HOME = {
    "MemorySessionStore": "pywry_auth.state.session_stores",
    "PostgresSessionStore": "pywry_auth.state.session_stores",
    "RedisSessionStore": "pywry_auth.state.session_stores",
    "SQLiteSessionStore": "pywry_auth.state.session_stores",
    "SessionStore": "pywry_auth.state.sessions",
    "UserSession": "pywry_auth.models",
    "get_session_store": "pywry_auth.state.session_stores",
    "issue_session_token": "pywry_auth.state.sessions",
}

__all__ = [
    "MemorySessionStore",
    "PostgresSessionStore",
    "RedisSessionStore",
    "SQLiteSessionStore",
    "SessionStore",
    "UserSession",
    "get_session_store",
    "issue_session_token",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value
