"""Damaged records among readable ones, and records with further members."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pywry_auth.backends.base import Backend, Terms
from pywry_auth.backends.redis import RedisBackend
from pywry_auth.state.records import pack, unpack_strictly
from tests.deploy.web import Web
from tests.peers.redis_server import RedisServer

Change = Callable[[bytes], bytes]


def _flipped(record: bytes) -> bytes:
    middle = len(record) // 2
    return record[:middle] + bytes([record[middle] ^ 0x80]) + record[middle + 1 :]


_DAMAGES: dict[str, Change] = {
    "flipped": _flipped,
    "truncated": lambda record: record[: len(record) // 2],
    "empty": lambda record: b"",
    "other kind": lambda record: b'{"v":1,"at":1}',
}


@pytest.fixture(params=["sqlite_backend", "redis_backend", "postgres"])
def store(request: pytest.FixtureRequest) -> Backend:
    found: Backend = request.getfixturevalue(request.param)
    return found


def test_a_session_that_cannot_be_read_admits_no_user(make_web: Callable[..., Web], store: Backend) -> None:
    """Other users stay signed in, its own user can sign in again, and a sign-out is not confirmed. [T68]"""
    web = make_web(store)
    bob = web.browser()
    bob.sign_in(username="bob")
    for name, damage in _DAMAGES.items():
        alice = web.browser()
        alice.sign_in()
        cookie = alice.cookie()
        _change(web, "user-alice", damage)
        assert alice.user is None, name
        assert alice.get("/members").status_code == 401
        assert alice.post("/auth/logout").status_code == 503
        assert alice.cookie() == cookie
        assert (bob.user, bob.get("/auth/ready").status_code) == ("user-bob", 200)
        alice.sign_in()
        assert alice.user == "user-alice", name
        web.sessions.delete_user_sessions("user-alice")


def test_a_session_of_a_later_minor_version_is_read(make_web: Callable[..., Web], store: Backend) -> None:
    """Unknown members do not matter, so that two versions can run side by side. [T68]"""
    web = make_web(store)
    alice = web.browser()
    alice.sign_in()

    def extend(record: bytes) -> bytes:
        members = unpack_strictly(record, lambda members: members._values)
        return pack({**members, "of_a_later_version": {"a": [1]}})

    _change(web, "user-alice", extend)
    assert alice.user == "user-alice"
    assert alice.post("/auth/refresh").status_code == 200
    assert alice.post("/auth/logout").status_code == 200
    assert alice.user is None


def test_a_key_of_another_type_is_an_outage_for_its_user_only(
    make_web: Callable[..., Web], redis_server: RedisServer
) -> None:
    """Another program has written to the server. [T68]"""
    backend = RedisBackend(redis_server.url, prefix="wrong-type")
    web = make_web(backend)
    alice, bob = web.browser(), web.browser()
    alice.sign_in()
    bob.sign_in(username="bob")
    (session,) = web.sessions.list_user_sessions("user-alice")
    key = f"wrong-type:session:{session.session_id}"
    redis_server.client.delete(key)
    redis_server.client.rpush(key, "made by another program")
    response = alice.get("/members")
    assert response.status_code in (401, 503)
    assert alice.post("/auth/logout").status_code == 503
    assert (bob.user, bob.get("/auth/ready").status_code) == ("user-bob", 200)
    fresh = web.browser()
    fresh.sign_in()
    assert fresh.user == "user-alice"
    backend.close()


def _change(web: Web, user: str, change: Change) -> None:
    """Change the stored session of a user."""
    (session,) = web.sessions.list_user_sessions(user)
    key = f"session:{session.session_id}"
    record: Any = web.backend.get(key)
    assert record
    assert web.backend.put(key, change(record), Terms(ttl=600, group=f"session:{user}"))
