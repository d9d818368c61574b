"""Measures the operations of every backend.

The operations of a class are wrapped once, when the class is made. Without a watcher, a wrapper costs one
check.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from functools import wraps
from typing import Any

from pywry_auth.exceptions import StoreUnavailable
from pywry_auth.measures import WATCHERS, measured

OPERATIONS = ("get", "read", "get_many", "put", "rewrite", "pop", "members", "count", "prune")
"""The operations that are measured."""

UNAVAILABLE = "unavailable"
"""The outcome of an operation to which the store did not respond."""

_NAMES = {"read": "get"}  # the same operation, for callers that must know of unreadable records
_SYSTEMS = {
    "memory": "memory",
    "sqlite": "sqlite",
    "redis": "redis",
    "postgres": "postgresql",
    "keyring": "keyring",
}
_PACKAGE = "pywry_auth.backends."
_known: dict[type, str] = {}  # each entry is written once or twice, with one value

# A method may call another one of the same backend, or of its base class: only the outer one counts.
_inside: ContextVar[bool] = ContextVar("_inside", default=False)


def measure_operations(kind: type) -> None:
    """Wrap the operations that a class of backends defines itself.

    Args:
        kind: The class.
    """
    for operation in OPERATIONS:
        method = vars(kind).get(operation)
        if callable(method):
            setattr(kind, operation, _measuring(method, _NAMES.get(operation, operation)))


def system_of(kind: type) -> str:
    """Return the name of the storage system of a class, as OpenTelemetry writes it.

    Args:
        kind: The class of a backend.

    Returns:
        The name; ``other`` for a backend of another package.
    """
    if kind not in _known:
        _known[kind] = _system_of(kind)
    return _known[kind]


def _system_of(kind: type) -> str:
    for each in kind.__mro__:
        module = each.__module__.removeprefix(_PACKAGE).partition("_")[0]
        if each.__module__.startswith(_PACKAGE) and module in _SYSTEMS:
            return _SYSTEMS[module]
    return "other"


def _measuring(method: Callable[..., Any], operation: str) -> Callable[..., Any]:
    def measure(self: Any, *arguments: Any, **named: Any) -> Any:
        if _inside.get():
            return method(self, *arguments, **named)
        token = _inside.set(True)
        try:
            with measured("store", operation, system_of(type(self))) as found:
                try:
                    return method(self, *arguments, **named)
                except StoreUnavailable:
                    found.outcome = UNAVAILABLE
                    raise
        finally:
            _inside.reset(token)

    if operation == "get":  # each request of a signed-in user calls it, and such a wrapper is the fastest

        @wraps(method)
        def measured_get(self: Any, key: str) -> Any:
            return measure(self, key) if WATCHERS else method(self, key)

        return measured_get

    @wraps(method)
    def measured_other(self: Any, *arguments: Any, **named: Any) -> Any:
        return measure(self, *arguments, **named) if WATCHERS else method(self, *arguments, **named)

    return measured_other
