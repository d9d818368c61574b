"""Backends by name: one place for the same arguments, its technology imported when it is asked for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

from pywry_auth.backends.base import Backend

CHOICES = ("memory", "sqlite", "redis", "keyring")

REDIS_URL = "redis://localhost:6379/0"
REDIS_PREFIX = "pywry"
KEYRING_SERVICE = "pywry_auth"


def get_backend(
    name: str = "memory",
    *,
    redis_url: str = REDIS_URL,
    prefix: str = REDIS_PREFIX,
    path: str | Path | None = None,
    service_name: str = KEYRING_SERVICE,
    encryption_keys: Sequence[str] = (),
) -> Backend:
    """Return the backend of a name, the same instance whenever the same is asked for without encryption.

    Args:
        name: ``memory``, ``sqlite``, ``redis`` or ``keyring``.
        redis_url: Where the Redis server is (redis alone).
        prefix: What begins all keys (redis alone).
        path: The file; default: one in the user's folder for state (sqlite alone).
        service_name: Under which name the entries are kept (keyring alone).
        encryption_keys: See :func:`encrypted`.

    Raises:
        ValueError: There is no such backend, or ``redis_url`` or a key is none.
        ImportError: The backend needs a package that is missing; the text is the command that installs it.
    """
    match name:
        case "memory":
            backend = _memory()
        case "sqlite":
            backend = _sqlite(Path(path).absolute() if path else None)
        case "redis":
            backend = _redis(redis_url, prefix)
        case "keyring":
            backend = _keyring(service_name)
        case _:
            raise unknown(name, CHOICES)
    return encrypted(backend, encryption_keys)


def encrypted(backend: Backend, keys: Sequence[str]) -> Backend:
    """Return a backend that encrypts what ``backend`` keeps, or without keys the backend itself.

    Args:
        backend: Where the ciphertext is.
        keys: Base64url of 32 bytes each: the first encrypts, all decrypt.

    Raises:
        ValueError: A key is malformed; the text does not repeat it.
    """
    if not keys:
        return backend
    from pywry_auth.backends.encrypted import EncryptedBackend

    return EncryptedBackend(backend, keys)


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


@cache
def _keyring(service_name: str) -> Backend:
    from pywry_auth.backends.keyring import KeyringBackend

    return KeyringBackend(service_name)
