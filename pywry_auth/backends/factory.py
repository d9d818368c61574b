"""Backends by name: one instance for the same arguments, its technology imported when it is asked for."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path

from pywry_auth.backends.base import Backend

CHOICES = ("memory", "sqlite", "redis")

REDIS_URL = "redis://localhost:6379/0"
REDIS_PREFIX = "pywry"


def get_backend(
    name: str = "memory",
    *,
    redis_url: str = REDIS_URL,
    prefix: str = REDIS_PREFIX,
    path: str | Path | None = None,
) -> Backend:
    """Return the backend of a name, the same instance whenever the same is asked for.

    Args:
        name: ``memory``, ``sqlite`` or ``redis``.
        redis_url: Where the Redis server is (redis alone).
        prefix: What begins all keys (redis alone).
        path: The file; default: one in the user's folder for state (sqlite alone).

    Raises:
        ValueError: There is no such backend, or ``redis_url`` is none.
        ImportError: The backend needs a package that is missing; the text is the command that installs it.
    """
    match name:
        case "memory":
            return _memory()
        case "sqlite":
            return _sqlite(Path(path).absolute() if path else None)
        case "redis":
            return _redis(redis_url, prefix)
    raise unknown(name, CHOICES)


def unknown(name: str, choices: Iterable[str]) -> ValueError:
    """Return the error that names the backends there are.

    Args:
        name: What was asked for.
        choices: What could have been.
    """
    return ValueError(f"unknown backend {name!r}; choose one of: {', '.join(choices)}")


@cache
def _memory() -> Backend:
    from pywry_auth.backends.memory import MemoryBackend

    return MemoryBackend()


@cache
def _sqlite(path: Path | None) -> Backend:
    from pywry_auth.backends.sqlite import SQLiteBackend

    return SQLiteBackend(path)


@cache
def _redis(url: str, prefix: str) -> Backend:
    from pywry_auth.backends.redis import RedisBackend

    return RedisBackend(url, prefix=prefix)
