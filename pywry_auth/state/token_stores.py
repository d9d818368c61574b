"""The token store of each backend."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, Protocol, TypeVar, cast

from pywry_auth.backend_names import KEYRING_SERVICE, PREFIX, REDIS_URL
from pywry_auth.backends.client_place import for_client, is_shared_default
from pywry_auth.backends.factory import encrypted, open_backend
from pywry_auth.backends.options import StorageOptions
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError
from pywry_auth.state.auto_place import IN_USE, chosen_place
from pywry_auth.state.tokens import TokenStore

if TYPE_CHECKING:
    from pywry_auth.config import DeploySettings, OAuth2Settings, PyWrySettings
    from pywry_auth.models import OAuthTokenSet

_P = ParamSpec("_P")
_T = TypeVar("_T", covariant=True)


class MemoryTokenStore(TokenStore):
    """Token sets in process memory, lost at exit.

    Many threads can use the store.

    Args:
        refresh_token_ttl: See :class:`TokenStore`.
        encryption_keys: See :func:`get_token_store`.
    """

    def __init__(
        self, *, refresh_token_ttl: float | None = None, encryption_keys: Sequence[str] = ()
    ) -> None:
        from pywry_auth.backends.memory import MemoryBackend

        super().__init__(encrypted(MemoryBackend(), encryption_keys), refresh_token_ttl=refresh_token_ttl)


class SQLiteTokenStore(TokenStore):
    """Token sets in a file, for processes on one machine.

    Only the owner can read the file.

    Args:
        path: The file; by default one in the user's folder for state.
        refresh_token_ttl: See :class:`TokenStore`.
        encryption_keys: See :func:`get_token_store`.
        prefix: The site to which encrypted records are bound.
        client_id: See :func:`get_token_store`.
        read_plaintext: Whether records without encryption are read too, and encrypted when they are used.
    """

    def __init__(
        self,
        path: str | Path | None = None,
        *,
        refresh_token_ttl: float | None = None,
        encryption_keys: Sequence[str] = (),
        prefix: str = PREFIX,
        client_id: str = "",
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
        options = for_client(options, client_id)
        self.at_shared_default = is_shared_default(options)
        super().__init__(open_backend(options), refresh_token_ttl=refresh_token_ttl)


class RedisTokenStore(TokenStore):
    """Token sets on a Redis server, for many machines.

    The keys are ``{prefix}:oauth:tokens:{key}``.

    Args:
        redis_url: The address of the server.
        prefix: The text at the beginning of all keys.
        refresh_token_ttl: See :class:`TokenStore`; with 0, a fresh set with a refresh token expires as early
            as one without.
        encryption_keys: See :func:`get_token_store`.
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
        refresh_token_ttl: float = 0,
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
        super().__init__(open_backend(options), refresh_token_ttl=refresh_token_ttl)


class PostgresTokenStore(TokenStore):
    """Token sets in a PostgreSQL database, for many machines.

    Args:
        postgres_url: The address of the server and the name of the database.
        prefix: The text at the beginning of all keys.
        refresh_token_ttl: See :class:`TokenStore`; with 0, a fresh set with a refresh token expires as early
            as one without.
        encryption_keys: See :func:`get_token_store`.
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
        refresh_token_ttl: float = 0,
        encryption_keys: Sequence[str] = (),
        read_plaintext: bool = False,
    ) -> None:
        keys = tuple(encryption_keys)
        options = StorageOptions(
            "postgres", postgres_url, prefix, encryption_keys=keys, read_plaintext=read_plaintext
        )
        super().__init__(open_backend(options), refresh_token_ttl=refresh_token_ttl)


class KeyringTokenStore(TokenStore):
    """Token sets in the operating system's keyring.

    The store is for the programs of one user on one machine. :meth:`TokenStore.probe` checks that there is a
    keyring and that it is unlocked.

    Args:
        service_name: The name under which the keyring keeps them; one for each application.
        refresh_token_ttl: See :class:`TokenStore`.
        encryption_keys: See :func:`get_token_store`.
        client_id: See :func:`get_token_store`.
        read_plaintext: Whether records without encryption are read too, and encrypted when they are used.

    Raises:
        ImportError: The ``keyring`` package is missing; the text names the command for it.
    """

    def __init__(
        self,
        service_name: str = KEYRING_SERVICE,
        *,
        refresh_token_ttl: float | None = None,
        encryption_keys: Sequence[str] = (),
        client_id: str = "",
        read_plaintext: bool = False,
    ) -> None:
        keys = tuple(encryption_keys)
        options = StorageOptions(
            "keyring", service_name=service_name, encryption_keys=keys, read_plaintext=read_plaintext
        )
        options = for_client(options, client_id)
        self.at_shared_default = is_shared_default(options)
        super().__init__(open_backend(options), refresh_token_ttl=refresh_token_ttl)


@cache
def token_store_for(options: StorageOptions, refresh_token_ttl: float = 0) -> TokenStore:
    """Return the token store of storage options.

    Equal arguments return the same instance, as with :func:`get_token_store`.
    """
    ttl, keys, clear = refresh_token_ttl or None, options.encryption_keys, options.read_plaintext
    match options.backend:
        case "memory":
            return MemoryTokenStore(refresh_token_ttl=ttl, encryption_keys=keys)
        case "sqlite":
            path, site = options.path, options.site
            return SQLiteTokenStore(
                path, refresh_token_ttl=ttl, encryption_keys=keys, prefix=site, read_plaintext=clear
            )
        case "redis":
            return RedisTokenStore(
                options.url,
                options.prefix,
                refresh_token_ttl=refresh_token_ttl,
                encryption_keys=keys,
                wait_replicas=options.wait_replicas,
                read_plaintext=clear,
            )
        case "postgres":
            return PostgresTokenStore(
                options.url,
                options.prefix,
                refresh_token_ttl=refresh_token_ttl,
                encryption_keys=keys,
                read_plaintext=clear,
            )
        case "keyring":
            return KeyringTokenStore(
                options.service_name, refresh_token_ttl=ttl, encryption_keys=keys, read_plaintext=clear
            )
        case "auto":
            return _auto_store(chosen_place(options), refresh_token_ttl)
    return TokenStore(open_backend(options), refresh_token_ttl=ttl)


class _AutoFile(SQLiteTokenStore):
    """The file that ``auto`` chose, and chooses again after the first sign-in in it."""

    def save(self, key: str, tokens: OAuthTokenSet, *, hold: float = 0.0, owner: str | None = None) -> bool:
        saved = super().save(key, tokens, hold=hold, owner=owner)
        self.backend.put(IN_USE, b"1")
        return saved


def _auto_store(options: StorageOptions, refresh_token_ttl: float) -> TokenStore:
    if options.backend == "keyring":
        return token_store_for(options, refresh_token_ttl)
    ttl, keys = refresh_token_ttl or None, options.encryption_keys
    return _AutoFile(
        options.path,
        refresh_token_ttl=ttl,
        encryption_keys=keys,
        prefix=options.site,
        read_plaintext=options.read_plaintext,
    )


def token_store_of_settings(oauth2: OAuth2Settings | None, deploy: DeploySettings) -> TokenStore:
    """Return a site's token store, for the site and for its jobs.

    Args:
        oauth2: ``get_settings().oauth2``.
        deploy: ``get_settings().deploy``.
    """
    if oauth2 is None:
        return token_store_for(StorageOptions.from_settings(deploy))
    options = StorageOptions.from_settings(deploy, oauth2.site_token_backend, client_id=oauth2.client_id)
    return token_store_for(options, oauth2.refresh_token_ttl_seconds)


def program_storage(settings: PyWrySettings, client_id: str) -> StorageOptions:
    """Return where a program keeps its tokens.

    Args:
        settings: The settings, with a provider.
        client_id: The client ID, which selects the client's own file or keyring service.
    """
    backend = settings.oauth2.token_store_backend if settings.oauth2 else "memory"
    return for_client(StorageOptions.from_settings(settings.deploy, backend, client_id=client_id), client_id)


def program_token_store(settings: PyWrySettings, client_id: str) -> TokenStore:
    """Return a program's token store.

    Args:
        settings: The settings, with a provider.
        client_id: As for ``program_storage``.

    Raises:
        AuthenticationError: The backend cannot be used; the text says why.
    """
    ttl = settings.oauth2.refresh_token_ttl_seconds if settings.oauth2 else 0
    try:
        return token_store_for(program_storage(settings, client_id), ttl)
    except (ValueError, ImportError) as error:
        raise AuthenticationError(
            f"PYWRY_OAUTH2__TOKEN_STORE_BACKEND cannot be used: {error}.",
            error=ErrorCode.INVALID_CONFIGURATION,
        ) from error


class _Clearable(Protocol[_P, _T]):
    """A function that keeps its results."""

    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Return the result."""

    def cache_clear(self) -> None:
        """Drop the results, so that later calls create new ones."""


def _clearable(function: Callable[_P, _T]) -> _Clearable[_P, _T]:
    vars(function)["cache_clear"] = token_store_for.cache_clear
    return cast("_Clearable[_P, _T]", function)


@_clearable
def get_token_store(
    backend: str = "memory",
    *,
    service_name: str | None = None,
    redis_url: str | None = None,
    postgres_url: str | None = None,
    prefix: str | None = None,
    path: str | Path | None = None,
    refresh_token_ttl: float = 0,
    encryption_keys: Sequence[str] = (),
    client_id: str = "",
    wait_replicas: int = 0,
    read_plaintext: bool = False,
) -> TokenStore:
    """Return the token store of a backend.

    Equal arguments return the same instance, until ``get_token_store.cache_clear()`` is called.

    Args:
        backend: ``memory``, ``sqlite``, ``redis``, ``postgres``, ``keyring``, ``auto`` (the keyring where it
            works, otherwise the file), or the name of a backend of another package.
        service_name: The name under which the keyring keeps them (keyring); default ``pywry_auth``.
        redis_url: The address of the server (redis); default ``redis://localhost:6379/0``.
        postgres_url: The address of the server and the name of the database (postgres).
        prefix: The text at the beginning of all keys (redis, postgres); default ``pywry``. Encrypted records
            are bound to it.
        path: The file (sqlite); by default one in the user's folder for state.
        refresh_token_ttl: The shortest time in seconds for which a set with a refresh token is kept; 0
            selects the default of the store.
        encryption_keys: Base64url of 32 bytes each: the first encrypts (AES-256-GCM), all decrypt. Nothing is
            encrypted by default. User IDs, which name the records, are never encrypted.
        client_id: The client ID of a program: without a ``path`` or ``service_name``, it selects the client's
            own file (sqlite) or service (keyring), the same as the settings of the program. ``PyWry`` refuses
            a store that has none of them, because its place is shared with sites and other programs.
        wait_replicas: How many replicas must have the writes of a sign-in or sign-out (redis); 0 for no wait.
        read_plaintext: Whether records without encryption are read too, and encrypted when they are used.
            Needed while a site switches encryption on.

    Raises:
        ValueError: There is no such backend; the text lists those that exist. Or a key or URL is malformed.
        ImportError: The backend needs a package that is missing; the text names the command for it.
    """
    keys = tuple(encryption_keys)
    url = (postgres_url if backend == "postgres" else redis_url) or ""
    options = StorageOptions(
        backend,
        url,
        prefix or "",
        path or "",
        service_name or "",
        keys,
        wait_replicas=wait_replicas,
        read_plaintext=read_plaintext,
    )
    return token_store_for(for_client(options, client_id), refresh_token_ttl)
