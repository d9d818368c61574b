"""The stores' methods as awaitables.

Each method runs in a thread, so that the event loop does not wait for it.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from starlette.concurrency import run_in_threadpool

from pywry_auth.state.sessions import SessionStore
from pywry_auth.state.tokens import TokenStore

_S = TypeVar("_S")
_P = ParamSpec("_P")
_R = TypeVar("_R")


class _AsyncStore(Generic[_S]):
    def __init__(self, store: _S) -> None:
        self._store = store


def _awaitable(
    method: Callable[Concatenate[_S, _P], _R],
) -> Callable[Concatenate[_AsyncStore[_S], _P], Coroutine[Any, Any, _R]]:
    @wraps(method)
    async def call(self: _AsyncStore[_S], /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        # Look the method up by name, so that a subclass of the store can override it.
        return await run_in_threadpool(getattr(self._store, method.__name__), *args, **kwargs)

    return call


class AsyncTokenStore(_AsyncStore[TokenStore]):
    """A :class:`TokenStore` for coroutines."""

    save = _awaitable(TokenStore.save)
    load = _awaitable(TokenStore.load)
    delete = _awaitable(TokenStore.delete)
    exists = _awaitable(TokenStore.exists)
    list_keys = _awaitable(TokenStore.list_keys)
    close = _awaitable(TokenStore.close)


class AsyncSessionStore(_AsyncStore[SessionStore]):
    """A :class:`SessionStore` for coroutines."""

    create_session = _awaitable(SessionStore.create_session)
    get_session = _awaitable(SessionStore.get_session)
    validate_session = _awaitable(SessionStore.validate_session)
    refresh_session = _awaitable(SessionStore.refresh_session)
    delete_session = _awaitable(SessionStore.delete_session)
    list_user_sessions = _awaitable(SessionStore.list_user_sessions)
    delete_user_sessions = _awaitable(SessionStore.delete_user_sessions)
    set_roles = _awaitable(SessionStore.set_roles)
    set_role_permissions = _awaitable(SessionStore.set_role_permissions)
    check_permission = _awaitable(SessionStore.check_permission)
    close = _awaitable(SessionStore.close)


@overload
def as_async(store: TokenStore) -> AsyncTokenStore: ...
@overload
def as_async(store: SessionStore) -> AsyncSessionStore: ...
def as_async(store: TokenStore | SessionStore) -> AsyncTokenStore | AsyncSessionStore:
    """Return a store with the same methods as awaitables.

    Args:
        store: A token store or session store.

    Returns:
        A store with the same records.
    """
    return AsyncTokenStore(store) if isinstance(store, TokenStore) else AsyncSessionStore(store)
