"""Session stores by the name of their backend."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pywry_auth.backends.factory import REDIS_PREFIX, REDIS_URL, encrypted, get_backend
from pywry_auth.backends.memory import MemoryBackend
from pywry_auth.state.factory import shared_store
from pywry_auth.state.sessions import SESSION_TTL, SessionStore


class MemorySessionStore(SessionStore):
    """Sessions in this process's memory: for one process, and lost when it ends.

    Args:
        session_ttl: See :class:`SessionStore`.
        idle_ttl: See :class:`SessionStore`.
        encryption_keys: See :func:`get_session_store`.
    """

    def __init__(
        self,
        *,
        session_ttl: float = SESSION_TTL,
        idle_ttl: float = 0.0,
        encryption_keys: Sequence[str] = (),
    ) -> None:
        backend = encrypted(MemoryBackend(), encryption_keys)
        super().__init__(backend, session_ttl=session_ttl, idle_ttl=idle_ttl)


class SQLiteSessionStore(SessionStore):
    """Sessions in a file that only its owner can read, for several processes on one machine.

    Args:
        path: The file; default: one in the user's folder for state.
        session_ttl: See :class:`SessionStore`.
        idle_ttl: See :class:`SessionStore`.
        encryption_keys: See :func:`get_session_store`.
    """

    def __init__(
        self,
        path: str | Path | None = None,
        *,
        session_ttl: float = SESSION_TTL,
        idle_ttl: float = 0.0,
        encryption_keys: Sequence[str] = (),
    ) -> None:
        backend = get_backend("sqlite", path=path, encryption_keys=encryption_keys)
        super().__init__(backend, session_ttl=session_ttl, idle_ttl=idle_ttl)


class RedisSessionStore(SessionStore):
    """Sessions on a Redis server under ``{prefix}:session:{id}``, for many machines.

    Args:
        redis_url: Where the server is.
        prefix: Begins all keys.
        session_ttl: See :class:`SessionStore`.
        idle_ttl: See :class:`SessionStore`.
        encryption_keys: See :func:`get_session_store`.

    Raises:
        ImportError: The ``redis`` package is missing; the text is the command that installs it.
        ValueError: ``redis_url`` is none.
    """

    def __init__(
        self,
        redis_url: str = REDIS_URL,
        prefix: str = REDIS_PREFIX,
        *,
        session_ttl: float = SESSION_TTL,
        idle_ttl: float = 0.0,
        encryption_keys: Sequence[str] = (),
    ) -> None:
        backend = get_backend("redis", redis_url=redis_url, prefix=prefix, encryption_keys=encryption_keys)
        super().__init__(backend, session_ttl=session_ttl, idle_ttl=idle_ttl)


_STORES: dict[str, type[SessionStore]] = {
    "memory": MemorySessionStore,
    "sqlite": SQLiteSessionStore,
    "redis": RedisSessionStore,
}


def get_session_store(
    backend: str | None = None,
    *,
    redis_url: str | None = None,
    prefix: str | None = None,
    path: str | Path | None = None,
    session_ttl: float | None = None,
    idle_ttl: float | None = None,
    encryption_keys: Sequence[str] | None = None,
) -> SessionStore:
    """Return the session store of a backend: the same instance whenever the same is asked for.

    Args:
        backend: ``memory``, ``sqlite`` or ``redis``; without it, all that is not given comes from the
            ``PYWRY_DEPLOY__*`` settings.
        redis_url: Where the Redis server is (redis); default ``redis://localhost:6379/0``.
        prefix: Begins all keys (redis); default ``pywry``.
        path: The file (sqlite); default: one in the user's folder for state.
        session_ttl: Seconds that a session lasts; default a day.
        idle_ttl: Seconds without a use after which it ends sooner; default never.
        encryption_keys: Base64url of 32 bytes each: the first encrypts what is stored (AES-256-GCM), all
            decrypt. Default: nothing is encrypted. User IDs, by which sessions are found, stay in clear.

    Raises:
        ValueError: There is no such backend; the text names those there are. Or a key or URL is malformed.
        ImportError: The backend needs a package that is missing; the text is the command that installs it.
        AuthenticationError: A setting is wrong; the text names its variable.
    """
    given = {
        "redis_url": redis_url,
        "prefix": prefix,
        "path": path,
        "session_ttl": session_ttl,
        "idle_ttl": idle_ttl,
        "encryption_keys": None if encryption_keys is None else tuple(encryption_keys),
    }
    if backend is None:
        backend, settings = _settings()
        given = settings | {name: value for name, value in given.items() if value is not None}
    return shared_store(_STORES, backend, **given)


def _settings() -> tuple[str, dict[str, Any]]:
    from pywry_auth.config import get_settings

    deploy = get_settings().deploy
    return deploy.state_backend, {
        "redis_url": deploy.redis_url.get_secret_value(),
        "prefix": deploy.redis_prefix,
        "path": deploy.sqlite_path,
        "session_ttl": deploy.session_ttl,
        "idle_ttl": deploy.session_idle_ttl,
        "encryption_keys": tuple(key.get_secret_value() for key in deploy.encryption_keys),
    }
