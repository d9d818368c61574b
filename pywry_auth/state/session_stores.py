"""Session stores by the name of their backend."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pywry_auth.backends.factory import REDIS_PREFIX, REDIS_URL, get_backend
from pywry_auth.backends.memory import MemoryBackend
from pywry_auth.state.factory import shared_store
from pywry_auth.state.sessions import SESSION_TTL, SessionStore


class MemorySessionStore(SessionStore):
    """Sessions in this process's memory: for one process, and lost when it ends.

    Args:
        session_ttl: See :class:`SessionStore`.
        idle_ttl: See :class:`SessionStore`.
    """

    def __init__(self, *, session_ttl: float = SESSION_TTL, idle_ttl: float = 0.0) -> None:
        super().__init__(MemoryBackend(), session_ttl=session_ttl, idle_ttl=idle_ttl)


class SQLiteSessionStore(SessionStore):
    """Sessions in a file that only its owner can read, for several processes on one machine.

    Args:
        path: The file; default: one in the user's folder for state.
        session_ttl: See :class:`SessionStore`.
        idle_ttl: See :class:`SessionStore`.
    """

    def __init__(
        self, path: str | Path | None = None, *, session_ttl: float = SESSION_TTL, idle_ttl: float = 0.0
    ) -> None:
        super().__init__(get_backend("sqlite", path=path), session_ttl=session_ttl, idle_ttl=idle_ttl)


class RedisSessionStore(SessionStore):
    """Sessions on a Redis server under ``{prefix}:session:{id}``, for many machines.

    Args:
        redis_url: Where the server is.
        prefix: Begins all keys.
        session_ttl: See :class:`SessionStore`.
        idle_ttl: See :class:`SessionStore`.

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
    ) -> None:
        backend = get_backend("redis", redis_url=redis_url, prefix=prefix)
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

    Raises:
        ValueError: There is no such backend; the text names those there are.
        ImportError: The backend needs a package that is missing; the text is the command that installs it.
        AuthenticationError: A setting is wrong; the text names its variable.
    """
    given = {
        "redis_url": redis_url,
        "prefix": prefix,
        "path": path,
        "session_ttl": session_ttl,
        "idle_ttl": idle_ttl,
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
    }
