"""The stores' methods for coroutines."""

from __future__ import annotations

import asyncio
import inspect
import threading

import pytest

from pywry_auth.asgi import as_async
from pywry_auth.backends.memory import MemoryBackend
from pywry_auth.models import OAuthTokenSet
from pywry_auth.state.sessions import SessionStore
from pywry_auth.state.token_stores import MemoryTokenStore
from pywry_auth.state.tokens import TokenStore

# The methods for applications; the other methods are for the routes.
NAMES = {
    TokenStore: {"save", "load", "delete", "exists", "list_keys"},
    SessionStore: {
        *("create_session", "get_session", "validate_session", "refresh_session", "delete_session"),
        *("list_user_sessions", "delete_user_sessions", "set_roles"),
        *("set_role_permissions", "check_permission"),
    },
}


def test_an_async_token_store_changes_the_given_store() -> None:
    store = MemoryTokenStore()

    async def work() -> None:
        tokens = as_async(store)
        await tokens.save("alice", OAuthTokenSet("at", expires_in=60))
        found = await tokens.load("alice")
        assert found is not None
        assert found.access_token == "at"
        assert await tokens.exists("alice")
        assert await tokens.list_keys() == ["alice"]
        assert await tokens.delete("alice")
        assert await tokens.load("alice") is None

    asyncio.run(work())
    assert store.list_keys() == []


def test_an_async_session_store_changes_the_given_store() -> None:
    store = SessionStore(MemoryBackend())

    async def work() -> None:
        sessions = as_async(store)
        session = await sessions.create_session("id", "alice", roles=["editor"], ttl=60)
        assert await sessions.get_session("id") == session
        assert await sessions.check_permission("id", "document", "7", "write")
        assert await sessions.delete_user_sessions("alice") == 1

    asyncio.run(work())
    assert store.get_session("id") is None


@pytest.mark.parametrize("kind", [TokenStore, SessionStore])
def test_every_method_is_a_coroutine_function_with_the_same_parameters(kind: type) -> None:
    wrapped = as_async(kind(MemoryBackend()))
    for name in NAMES[kind]:
        method = getattr(wrapped, name)
        assert inspect.iscoroutinefunction(method)
        assert inspect.signature(method).parameters.keys() == (
            inspect.signature(getattr(kind(MemoryBackend()), name)).parameters.keys()
        )


def test_a_slow_store_does_not_block_the_event_loop() -> None:
    asked, go_on = threading.Event(), threading.Event()

    class Slow(SessionStore):
        def validate_session(self, session_id: str) -> bool:
            asked.set()
            return go_on.wait(30)

    async def work() -> bool:
        slow = asyncio.ensure_future(as_async(Slow(MemoryBackend())).validate_session("id"))
        while not asked.is_set():
            await asyncio.sleep(0)
        assert not slow.done()
        go_on.set()
        return await slow

    assert asyncio.run(work())
