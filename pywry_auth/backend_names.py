"""The storage backends, their options and defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

REDIS_URL = "redis://localhost:6379/0"
PREFIX = "pywry"
KEYRING_SERVICE = "pywry_auth"
AUTO = "auto"
"""The token store of a program that chooses between the keyring and a file; not a backend itself."""

BUILT_IN: Mapping[str, Mapping[str, str]] = {
    "memory": {},
    "sqlite": {"path": ""},
    "redis": {"url": REDIS_URL, "prefix": PREFIX},
    "postgres": {"url": "", "prefix": PREFIX},
    "keyring": {"service_name": KEYRING_SERVICE},
}
"""The options that each built-in backend reads, with their defaults; a name is a module of ``backends/``."""

ENTRY_POINTS = "pywry_auth.backends"
"""The entry-point group for other packages' functions from ``StorageOptions`` to ``Backend``."""


def installed_backends() -> dict[str, EntryPoint]:
    """Return the entry points of other packages' backends by name."""
    from importlib.metadata import entry_points

    return {point.name: point for point in entry_points(group=ENTRY_POINTS)}


def refused_backend(name: str, *, without: str = "") -> str:
    """Return the valid names if a backend does not exist.

    Args:
        name: The name of the backend.
        without: The name of a backend that is unsuitable for the purpose.

    Returns:
        The end of an error text, or an empty text if the backend exists.
    """
    if name != without and (name in BUILT_IN or name in installed_backends()):
        return ""
    names = dict.fromkeys([*BUILT_IN, *installed_backends()])
    return "choose one of: " + ", ".join(name for name in names if name != without)
