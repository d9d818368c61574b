"""The session store of each backend."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from pywry_auth.backend_names import PREFIX, REDIS_URL, refused_backend
from pywry_auth.backends.factory import encrypted, open_backend
from pywry_auth.backends.memory import MemoryBackend
from pywry_auth.backends.options import StorageOptions
from pywry_auth.per_process import Living
from pywry_auth.state.sessions import SESSION_TTL, SessionStore
from pywry_auth.state.sites import sites_of

_logger = logging.getLogger("pywry_auth.state")
_of_sites: Living[SessionStore] = Living()
_ELSEWHERE = (
    "get_session_store() of pywry_auth.state returns a store in memory that no application of this process "
    "uses: it reads the environment only. In an application context, pywry_auth.flask.get_session_store() "
    "returns the store of the application"
)


class MemorySessionStore(SessionStore):
    """Sessions in the memory of one process, lost at exit.

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
    """Sessions in a file, for several processes on one machine.

    Only the owner can read the file.

    Args:
        path: The file; by default one in the user's folder for state.
        session_ttl: See :class:`SessionStore`.
        idle_ttl: See :class:`SessionStore`.
        encryption_keys: See :func:`get_session_store`.
        prefix: The site to which encrypted records are bound.
        read_plaintext: Whether records without encryption are read too, and encrypted when they are used.
    """

    def __init__(
        self,
        path: str | Path | None = None,
        *,
        session_ttl: float = SESSION_TTL,
        idle_ttl: float = 0.0,
        encryption_keys: Sequence[str] = (),
        prefix: str = PREFIX,
        read_plaintext: bool = False,
    ) -> None:
        keys = tuple(encryption_keys)
        options = StorageOptions(
            "sqlite",
            prefix=prefix,
            path=path or "",
            encryption_keys=keys,
            read_plaintext=read_plaintext,
        )
        super().__init__(open_backend(options), session_ttl=session_ttl, idle_ttl=idle_ttl)


class RedisSessionStore(SessionStore):
    """Sessions on a Redis server, for many machines.

    The keys are ``{prefix}:session:{id}``.

    Args:
        redis_url: The address of the server.
        prefix: The text at the beginning of all keys.
        session_ttl: See :class:`SessionStore`.
        idle_ttl: See :class:`SessionStore`.
        encryption_keys: See :func:`get_session_store`.
        wait_replicas: How many replicas must have the writes of a sign-in or sign-out; 0 for no wait.
        read_plaintext: Whether records without encryption are read too, and encrypted when they are used.

    Raises:
        ImportError: The ``redis`` package is missing; the text names the command for it.
        ValueError: ``redis_url`` is not a valid Redis URL.
    """

    def __init__(
        self,
        redis_url: str = REDIS_URL,
        prefix: str = PREFIX,
        *,
        session_ttl: float = SESSION_TTL,
        idle_ttl: float = 0.0,
        encryption_keys: Sequence[str] = (),
        wait_replicas: int = 0,
        read_plaintext: bool = False,
    ) -> None:
        keys = tuple(encryption_keys)
        options = StorageOptions(
            "redis",
            redis_url,
            prefix,
            encryption_keys=keys,
            wait_replicas=wait_replicas,
            read_plaintext=read_plaintext,
        )
        super().__init__(open_backend(options), session_ttl=session_ttl, idle_ttl=idle_ttl)


class PostgresSessionStore(SessionStore):
    """Sessions in a PostgreSQL database, for many machines.

    Args:
        postgres_url: The address of the server and the name of the database.
        prefix: The text at the beginning of all keys.
        session_ttl: See :class:`SessionStore`.
        idle_ttl: See :class:`SessionStore`.
        encryption_keys: See :func:`get_session_store`.
        read_plaintext: Whether records without encryption are read too, and encrypted when they are used.

    Raises:
        ImportError: The ``psycopg`` package is missing; the text names the command for it.
        ValueError: ``postgres_url`` is not a valid PostgreSQL URL.
    """

    def __init__(
        self,
        postgres_url: str,
        prefix: str = PREFIX,
        *,
        session_ttl: float = SESSION_TTL,
        idle_ttl: float = 0.0,
        encryption_keys: Sequence[str] = (),
        read_plaintext: bool = False,
    ) -> None:
        keys = tuple(encryption_keys)
        options = StorageOptions(
            "postgres", postgres_url, prefix, encryption_keys=keys, read_plaintext=read_plaintext
        )
        super().__init__(open_backend(options), session_ttl=session_ttl, idle_ttl=idle_ttl)


def session_store_for(
    options: StorageOptions,
    session_ttl: float = SESSION_TTL,
    idle_ttl: float = 0.0,
    sites: tuple[str, ...] = (),
) -> SessionStore:
    """Return the session store that the options describe.

    Equal arguments return the same instance, as with :func:`get_session_store`. The sites of one process can
    use one backend, and each of them has a store that issues its own bearer tokens.

    Args:
        options: The place where sessions are kept.
        session_ttl: See :class:`SessionStore`.
        idle_ttl: See :class:`SessionStore`.
        sites: The digests of the site; without them, the application can bind the store.
    """
    store = _store_for(options, session_ttl, idle_ttl)
    return _bound(store, sites) if sites else store


@cache
def _bound(store: SessionStore, sites: tuple[str, ...]) -> SessionStore:
    return store.bound_to(sites)


@cache
def _store_for(options: StorageOptions, session_ttl: float, idle_ttl: float) -> SessionStore:
    if refusal := refused_backend(options.backend, without="keyring"):
        raise ValueError(f"unknown backend {options.backend!r}; {refusal}")
    keys, clear = options.encryption_keys, options.read_plaintext
    match options.backend:
        case "memory":
            return MemorySessionStore(session_ttl=session_ttl, idle_ttl=idle_ttl, encryption_keys=keys)
        case "sqlite":
            path, site = options.path, options.site
            return SQLiteSessionStore(
                path,
                session_ttl=session_ttl,
                idle_ttl=idle_ttl,
                encryption_keys=keys,
                prefix=site,
                read_plaintext=clear,
            )
        case "redis":
            return RedisSessionStore(
                options.url,
                options.prefix,
                session_ttl=session_ttl,
                idle_ttl=idle_ttl,
                encryption_keys=keys,
                wait_replicas=options.wait_replicas,
                read_plaintext=clear,
            )
        case "postgres":
            return PostgresSessionStore(
                options.url,
                options.prefix,
                session_ttl=session_ttl,
                idle_ttl=idle_ttl,
                encryption_keys=keys,
                read_plaintext=clear,
            )
    return SessionStore(open_backend(options), session_ttl=session_ttl, idle_ttl=idle_ttl)


def note_site(store: SessionStore) -> None:
    """Note that an application of this process uses a store.

    Args:
        store: The store.
    """
    _of_sites.add(store)


def get_session_store(
    backend: str | None = None,
    *,
    redis_url: str | None = None,
    postgres_url: str | None = None,
    prefix: str | None = None,
    path: str | Path | None = None,
    session_ttl: float | None = None,
    idle_ttl: float | None = None,
    encryption_keys: Sequence[str] | None = None,
    wait_replicas: int | None = None,
    read_plaintext: bool | None = None,
) -> SessionStore:
    """Return the session store of a backend.

    Equal arguments return the same instance. Without ``backend``, the store binds the bearer tokens that it
    issues to the site of the settings' ``TOKEN_SECRET``.

    This function knows no application, and reads the environment only. A Flask application with settings in
    ``app.config``, with a store in code, or in debug mode has another store:
    :func:`pywry_auth.flask.get_session_store` returns it.

    Args:
        backend: ``memory``, ``sqlite``, ``redis``, ``postgres``, or the name of a backend of another package.
            Without it, every argument that is not given comes from the ``PYWRY_DEPLOY__*`` settings.
        redis_url: The address of the server (redis); default ``redis://localhost:6379/0``.
        postgres_url: The address of the server and the name of the database (postgres).
        prefix: The text at the beginning of all keys (redis, postgres); default ``pywry``. Encrypted records
            are bound to it.
        path: The file (sqlite); by default one in the user's folder for state.
        session_ttl: Lifetime of a session in seconds; default one day.
        idle_ttl: Seconds without a use after which a session expires sooner; default never.
        encryption_keys: Base64url of 32 bytes each: the first encrypts (AES-256-GCM), all decrypt. Nothing is
            encrypted by default. User IDs, by which sessions are found, are never encrypted.
        wait_replicas: How many replicas must have the writes of a sign-in or sign-out (redis); 0 for no wait.
        read_plaintext: Whether records without encryption are read too, and encrypted when they are used.
            Needed while a site switches encryption on.

    Raises:
        ValueError: There is no such backend; the text lists those that exist. Or a key or URL is malformed.
        ImportError: The backend needs a package that is missing; the text names the command for it.
        AuthenticationError: A setting is wrong; the text names its variable.
    """
    sites: tuple[str, ...] = ()
    if backend is not None:
        options = StorageOptions(backend)
    else:
        from pywry_auth.config import get_settings

        deploy = get_settings().deploy
        options = StorageOptions.from_settings(deploy)
        session_ttl = deploy.session_ttl if session_ttl is None else session_ttl
        idle_ttl = deploy.session_idle_ttl if idle_ttl is None else idle_ttl
        secrets = [secret.get_secret_value() for secret in deploy.token_secret]
        sites = sites_of(secrets, deploy.redis_prefix)
    url = postgres_url if options.backend == "postgres" else redis_url
    given = {
        "url": url,
        "prefix": prefix,
        "path": path,
        "encryption_keys": None if encryption_keys is None else tuple(encryption_keys),
        "wait_replicas": wait_replicas,
        "read_plaintext": read_plaintext,
    }
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    store = session_store_for(replace(options, **changes), session_ttl or SESSION_TTL, idle_ttl or 0.0, sites)
    sites_here = [each.backend for each in _of_sites.all()]
    if backend is None and not store.shared and sites_here and store.backend not in sites_here:
        _logger.warning(_ELSEWHERE)
    return store
