"""Token stores: one token set for each user ID, on any backend."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from pywry_auth.backends.base import Backend, When
from pywry_auth.backends.factory import KEYRING_SERVICE, REDIS_PREFIX, REDIS_URL, encrypted, get_backend
from pywry_auth.models import OAuthTokenSet
from pywry_auth.state.factory import clear_shared_stores, shared_store
from pywry_auth.state.records import pack_tokens, unpack_tokens

_GRACE = 300
"""Seconds that a set outlives its access token, so that a refresh can still begin."""

_KIND = "oauth:tokens:"
_GROUP = "oauth:tokens"


class TokenStore:
    """Token sets under user IDs, which may be any text.

    A set without a refresh token ends 300 s after its access token, since nothing can be done with it any
    more; one that the provider gave no end to stays.

    Args:
        backend: Where the bytes are.
        refresh_token_ttl: Seconds that a set with a refresh token is kept after it was saved, but at least
            until 300 s after its access token's end; None keeps it until it is deleted.
    """

    def __init__(self, backend: Backend, *, refresh_token_ttl: float | None = None) -> None:
        self._backend = backend
        self._refresh_token_ttl = refresh_token_ttl

    @property
    def backend(self) -> Backend:
        """Where the bytes are: other records of the same program belong there too."""
        return self._backend

    def save(self, key: str, tokens: OAuthTokenSet) -> None:
        """Store the token set of a user, in place of an earlier one.

        Args:
            key: The user's ID.
            tokens: What the provider issued.

        Raises:
            StoreUnavailable: The store is down; nothing was lost of what it held.
        """
        self._put(key, tokens, When.ALWAYS)

    def replace(self, key: str, tokens: OAuthTokenSet) -> bool:
        """Store a token set only if the user still has one, so that a refresh undoes no logout.

        Args:
            key: The user's ID.
            tokens: What the refresh returned.

        Returns:
            Whether it was stored.
        """
        return self._put(key, tokens, When.PRESENT)

    def load(self, key: str) -> OAuthTokenSet | None:
        """Return the token set of a user, or None where there is none that can be read."""
        data = self._backend.get(_KIND + key)
        return None if data is None else unpack_tokens(data)

    def delete(self, key: str) -> bool:
        """Remove the token set of a user, and return whether there was one."""
        return self._backend.pop(_KIND + key, group=_GROUP) is not None

    def take(self, key: str) -> OAuthTokenSet | None:
        """Remove the token set of a user and return it as it was at that moment, or None without one."""
        data = self._backend.pop(_KIND + key, group=_GROUP)
        return None if data is None else unpack_tokens(data)

    def discard(self, key: str, tokens: OAuthTokenSet) -> bool:
        """Remove a token set, but none that has taken its place meanwhile.

        Args:
            key: The user's ID.
            tokens: The set that is of no use any more, as it was loaded.

        Returns:
            Whether it was removed.
        """
        data = self._backend.get(_KIND + key)
        if data is None or unpack_tokens(data) != tokens:
            return False
        return self._backend.pop(_KIND + key, data, group=_GROUP) is not None

    def exists(self, key: str) -> bool:
        """Tell whether a token set is stored for a user."""
        return self._backend.get(_KIND + key) is not None

    def list_keys(self) -> list[str]:
        """Return the IDs of all users who have a token set, in no order."""
        return [key.removeprefix(_KIND) for key in self._backend.members(_GROUP)]

    def lock(self, key: str, lifetime: float) -> AbstractContextManager[None]:
        """Return a lock on one user's tokens (see :meth:`Backend.lock`).

        It is waited for as long as a dead holder's lasts, and then one that goes on after that.

        Args:
            key: The user's ID.
            lifetime: Seconds after which it frees itself.
        """
        return self._backend.lock("oauth:lock:" + key, lifetime, wait=2 * lifetime)

    def last_failure(self, key: str) -> str | None:
        """Return what :meth:`record_failure` wrote last, for a while; each time it is another text."""
        data = self._backend.get("oauth:failed:" + key)
        return None if data is None else data.decode("ascii", "replace")

    def record_failure(self, key: str, error: str, lifetime: float) -> None:
        """Tell whoever waits for a user's lock that the work under it failed.

        Args:
            key: The user's ID.
            error: Its code; it ends the text that is written.
            lifetime: Seconds that it is told for.
        """
        text = f"{os.urandom(8).hex()} {error}"
        self._backend.put("oauth:failed:" + key, text.encode("ascii", "replace"), ttl=lifetime)

    def probe(self) -> None:
        """Make sure that tokens can be stored, before anybody signs in only to learn that they cannot.

        Raises:
            StoreUnavailable: They cannot; the text says why, and what can be done.
        """
        self._backend.probe()

    def close(self) -> None:
        """Let the backend's connections go."""
        self._backend.close()

    def _put(self, key: str, tokens: OAuthTokenSet, when: When) -> bool:
        data = pack_tokens(tokens)
        return self._backend.put(_KIND + key, data, ttl=self._lifetime(tokens), group=_GROUP, when=when)

    def _lifetime(self, tokens: OAuthTokenSet) -> float | None:
        if tokens.expires_in is None:
            return None
        useful = max(0, tokens.expires_in) + _GRACE
        if tokens.refresh_token is None:
            return useful
        return None if self._refresh_token_ttl is None else max(useful, self._refresh_token_ttl)


class MemoryTokenStore(TokenStore):
    """Token sets in this process's memory, lost when it ends; safe to use from many threads.

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
    """Token sets in a file that only its owner can read, for several processes on one machine.

    Args:
        path: The file; default: one in the user's folder for state.
        refresh_token_ttl: See :class:`TokenStore`.
        encryption_keys: See :func:`get_token_store`.
    """

    def __init__(
        self,
        path: str | Path | None = None,
        *,
        refresh_token_ttl: float | None = None,
        encryption_keys: Sequence[str] = (),
    ) -> None:
        backend = get_backend("sqlite", path=path, encryption_keys=encryption_keys)
        super().__init__(backend, refresh_token_ttl=refresh_token_ttl)


class RedisTokenStore(TokenStore):
    """Token sets on a Redis server under ``{prefix}:oauth:tokens:{key}``, for many machines.

    Args:
        redis_url: Where the server is.
        prefix: Begins all keys.
        refresh_token_ttl: See :class:`TokenStore`; 0 ends a set with a refresh token like every other.
        encryption_keys: See :func:`get_token_store`.

    Raises:
        ImportError: The ``redis`` package is missing; the text is the command that installs it.
        ValueError: ``redis_url`` is none.
    """

    def __init__(
        self,
        redis_url: str = REDIS_URL,
        prefix: str = REDIS_PREFIX,
        *,
        refresh_token_ttl: float = 0,
        encryption_keys: Sequence[str] = (),
    ) -> None:
        backend = get_backend("redis", redis_url=redis_url, prefix=prefix, encryption_keys=encryption_keys)
        super().__init__(backend, refresh_token_ttl=refresh_token_ttl)


class KeyringTokenStore(TokenStore):
    """Token sets in the operating system's keyring, for the programs of one user on one machine.

    :meth:`TokenStore.probe` tells whether there is a keyring, and whether it is unlocked.

    Args:
        service_name: Under which name the keyring keeps them; one for each application.
        refresh_token_ttl: See :class:`TokenStore`.
        encryption_keys: See :func:`get_token_store`.

    Raises:
        ImportError: The ``keyring`` package is missing; the text is the command that installs it.
    """

    def __init__(
        self,
        service_name: str = KEYRING_SERVICE,
        *,
        refresh_token_ttl: float | None = None,
        encryption_keys: Sequence[str] = (),
    ) -> None:
        backend = get_backend("keyring", service_name=service_name, encryption_keys=encryption_keys)
        super().__init__(backend, refresh_token_ttl=refresh_token_ttl)


_STORES: dict[str, type[TokenStore]] = {
    "memory": MemoryTokenStore,
    "sqlite": SQLiteTokenStore,
    "redis": RedisTokenStore,
    "keyring": KeyringTokenStore,
}


def get_token_store(
    backend: str = "memory",
    *,
    service_name: str | None = None,
    redis_url: str | None = None,
    prefix: str | None = None,
    path: str | Path | None = None,
    refresh_token_ttl: float = 0,
    encryption_keys: Sequence[str] = (),
) -> TokenStore:
    """Return the token store of a backend: the same instance whenever the same is asked for.

    Args:
        backend: ``memory``, ``sqlite``, ``redis`` or ``keyring``.
        service_name: Under which name the keyring keeps them (keyring); default ``pywry_auth``.
        redis_url: Where the Redis server is (redis); default ``redis://localhost:6379/0``.
        prefix: Begins all keys (redis); default ``pywry``.
        path: The file (sqlite); default: one in the user's folder for state.
        refresh_token_ttl: Seconds that a set with a refresh token is kept at least; 0: the store's own.
        encryption_keys: Base64url of 32 bytes each: the first encrypts what is stored (AES-256-GCM), all
            decrypt. Default: nothing is encrypted. User IDs, which name the records, stay in clear.

    Raises:
        ValueError: There is no such backend; the text names those there are. Or a key or URL is malformed.
        ImportError: The backend needs a package that is missing; the text is the command that installs it.
    """
    return shared_store(
        _STORES,
        backend,
        service_name=service_name,
        redis_url=redis_url,
        prefix=prefix,
        path=path,
        refresh_token_ttl=refresh_token_ttl,
        encryption_keys=tuple(encryption_keys),
    )


get_token_store.cache_clear = clear_shared_stores  # type: ignore[attr-defined]  # as functools.cache names it
