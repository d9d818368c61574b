"""Session stores: sessions, lifetimes and permissions on any backend."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pywry_auth.backends.base import Backend, Terms
from pywry_auth.backends.memory import MemoryBackend
from pywry_auth.backends.redis import RedisBackend
from pywry_auth.state import (
    MemorySessionStore,
    RedisSessionStore,
    SQLiteSessionStore,
    UserSession,
    get_session_store,
)
from pywry_auth.state.sessions import SessionStore, issue_session_token, session_id_of_bearer
from pywry_auth.testing.backend_contract import HOSTILE_KEYS
from tests.backends.fixtures import ENCRYPTION_KEY, Clock
from tests.backends.threads import together
from tests.peers.redis_server import RedisServer

ID = "5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8"
PROFILE = {
    "sub": "alice",
    "name": "Alice \u00e9\u2028",
    "email_verified": True,
    "n": 1.5,
    "none": None,
    "l": [{}],
}


@pytest.fixture
def store(backend: Backend, clock: Clock) -> SessionStore:
    return SessionStore(backend, clock=clock)


@pytest.fixture
def timed(clocked: Backend, clock: Clock) -> SessionStore:
    return SessionStore(clocked, clock=clock)


def test_a_fresh_store_has_no_session(store: SessionStore) -> None:
    """No guessed name opens a session. [T11]"""
    for session_id in ("local", "admin", "unknown", "default", "", "x" * 4096, "\0", "\ud800", "*", ID):
        assert store.get_session(session_id) is None
        assert not store.validate_session(session_id)
        assert not store.refresh_session(session_id)
        assert not store.delete_session(session_id)
        assert not store.check_permission(session_id, "", "", "read")
        assert store.list_user_sessions(session_id) == []
        assert store.delete_user_sessions(session_id) == 0


def test_a_session_is_returned_unchanged(store: SessionStore, clock: Clock) -> None:
    session = store.create_session(ID, "alice", ["viewer", "editor"], 60, {"user_info": PROFILE})
    assert session == UserSession(
        ID, "alice", ["viewer", "editor"], clock.now, clock.now + 60, {"user_info": PROFILE}
    )
    assert store.get_session(ID) == session
    assert store.validate_session(ID)
    assert store.list_user_sessions("alice") == [session]


def test_a_session_lasts_a_day_and_has_no_roles_by_default(store: SessionStore) -> None:
    session = store.create_session(ID, "alice")
    assert session.expires_at - session.created_at == 86400
    assert session.roles == []
    assert session.metadata == {}


@pytest.mark.parametrize("ttl", [0, -1, float("nan")])
def test_a_session_without_a_lifetime_is_refused(store: SessionStore, ttl: float) -> None:
    with pytest.raises(ValueError, match="lifetime"):
        store.create_session(ID, "alice", ttl=ttl)
    assert store.get_session(ID) is None


def test_metadata_that_json_cannot_represent_is_refused(store: SessionStore) -> None:
    with pytest.raises(TypeError):
        store.create_session(ID, "alice", metadata={"when": object()})
    assert store.get_session(ID) is None


def test_a_session_expires_on_time(timed: SessionStore, clock: Clock) -> None:
    timed.create_session(ID, "alice", ttl=60)
    clock.now += 59.9
    assert timed.get_session(ID) is not None
    clock.now += 0.1
    assert timed.get_session(ID) is None
    assert timed.list_user_sessions("alice") == []
    assert not timed.refresh_session(ID)


def test_the_record_itself_contains_its_expiry(backend: Backend, clock: Clock) -> None:
    """A late backend or another clock does not extend it."""
    SessionStore(backend, clock=clock).create_session(ID, "alice", ttl=60)
    later = SessionStore(backend, clock=lambda: clock.now + 60)
    assert backend.get(f"session:{ID}") is not None
    assert later.get_session(ID) is None
    assert later.list_user_sessions("alice") == []


def test_a_refreshed_session_lasts_as_long_again(timed: SessionStore, clock: Clock) -> None:
    created = timed.create_session(ID, "alice", ttl=60)
    for _ in range(5):
        clock.now += 50
        assert timed.refresh_session(ID)
        session = timed.get_session(ID)
        assert session is not None
        assert session.expires_at == clock.now + 60
        assert session.created_at == created.created_at
    assert timed.refresh_session(ID, extend_ttl=600)
    assert timed.refresh_session(ID, extend_ttl=1)
    clock.now += 599
    assert timed.validate_session(ID)
    clock.now += 1
    assert not timed.validate_session(ID)


def test_an_idle_session_expires_sooner(clocked: Backend, clock: Clock) -> None:
    store = SessionStore(clocked, idle_ttl=100, clock=clock)
    store.create_session(ID, "alice", ttl=1000)
    store.create_session("busy", "alice", ttl=1000)
    store.create_session("never", "alice", ttl=1000, idle_ttl=0)
    for _ in range(11):
        clock.now += 89
        assert store.validate_session("busy")
    assert store.get_session(ID) is None
    assert store.get_session("never") is not None
    clock.now += 22
    assert store.get_session("busy") is None, "a use never extends the total lifetime"


def test_a_listing_does_not_count_as_a_use(clocked: Backend, clock: Clock) -> None:
    store = SessionStore(clocked, idle_ttl=100, clock=clock)
    store.create_session(ID, "alice")
    clock.now += 60
    assert len(store.list_user_sessions("alice")) == 1
    clock.now += 60
    assert store.get_session(ID) is None


def test_a_deleted_session_is_gone_for_good(store: SessionStore) -> None:
    """Neither a look-up nor a refresh restores it. [T42]"""
    store.create_session(ID, "alice")
    assert store.delete_session(ID)
    assert not store.delete_session(ID)
    assert store.get_session(ID) is None
    assert not store.refresh_session(ID)
    assert store.get_session(ID) is None
    assert store.list_user_sessions("alice") == []


def test_all_sessions_of_one_user_are_deleted_together(store: SessionStore, clock: Clock) -> None:
    """The sessions of another user stay valid. [T42]"""
    for number in range(5):
        store.create_session(f"a{number}", "alice")
        clock.now += 1
    store.create_session("b", "bob")
    assert [session.session_id for session in store.list_user_sessions("alice")] == [
        f"a{n}" for n in range(5)
    ]
    assert store.delete_user_sessions("alice") == 5
    assert store.list_user_sessions("alice") == []
    assert all(store.get_session(f"a{number}") is None for number in range(5))
    assert store.get_session("b") is not None


def test_any_user_id_has_sessions_of_its_own(store: SessionStore) -> None:
    for number, user_id in enumerate(HOSTILE_KEYS):
        store.create_session(f"{number}", user_id)
    for number, user_id in enumerate(HOSTILE_KEYS):
        (session,) = store.list_user_sessions(user_id)
        assert session.user_id == user_id
        assert session.session_id == f"{number}"
    assert [store.delete_user_sessions(user_id) for user_id in HOSTILE_KEYS] == [1] * len(HOSTILE_KEYS)


def test_a_concurrent_refresh_does_not_restore_a_deleted_session(store: SessionStore) -> None:
    """16 threads refresh a session while another one deletes it. [T42]"""
    for number in range(10):
        session_id = f"s{number}"
        store.create_session(session_id, "alice")

        def act(number: int, sid: str = session_id) -> bool:
            return store.delete_session(sid) if number == 0 else store.refresh_session(sid)

        together(17, act)
        assert store.get_session(session_id) is None
    assert store.list_user_sessions("alice") == []


def test_recording_a_use_never_overwrites_newer_data(
    backend: Backend, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session that is extended during a look-up stays extended. [T42]"""
    store = SessionStore(backend, idle_ttl=300, clock=clock)
    store.create_session(ID, "alice", ttl=600)
    clock.now += 100
    get = backend.get

    def overtaken(key: str) -> bytes | None:
        seen = get(key)
        monkeypatch.undo()
        assert store.refresh_session(ID, extend_ttl=5000)
        return seen

    monkeypatch.setattr(backend, "get", overtaken)
    assert store.validate_session(ID)
    session = store.get_session(ID)
    assert session is not None
    assert session.expires_at == clock.now + 5000


def test_the_longest_of_many_extensions_counts(store: SessionStore, clock: Clock) -> None:
    store.create_session(ID, "alice", ttl=60)
    assert all(together(16, lambda number: store.refresh_session(ID, extend_ttl=100 + number)))
    session = store.get_session(ID)
    assert session is not None
    assert session.expires_at == clock.now + 115


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"garbage", b"\x78\x9c\x00", json.dumps({"v": 1, "user_id": 1}).encode()]
)
def test_an_unreadable_session_counts_as_missing(backend: Backend, store: SessionStore, data: bytes) -> None:
    """Unreadable bytes give no access, and can be deleted. [T28]"""
    backend.put(f"session:{ID}", data, Terms(group="session:alice"))
    assert store.get_session(ID) is None
    assert store.list_user_sessions("alice") == []
    assert store.delete_session(ID)


def test_permissions_are_the_union_of_the_roles(store: SessionStore) -> None:
    """A session has every permission of each of its roles. [S7]"""
    expected: dict[str, set[str]] = {
        "admin": {"read", "write", "admin", "delete", "manage_users"},
        "editor": {"read", "write"},
        "viewer": {"read"},
        "anonymous": set(),
        "stranger": set(),
    }
    for role, allowed in expected.items():
        store.create_session(role, "alice", ["anonymous", role])
        assert {
            p
            for p in ("read", "write", "admin", "delete", "manage_users", "", "rea")
            if store.check_permission(role, "doc", "1", p)
        } == allowed


def test_a_grant_applies_to_one_resource_only(store: SessionStore) -> None:
    store.create_session(ID, "alice", ["viewer"], metadata={"permissions": {"doc:1": ["write"]}})
    assert store.check_permission(ID, "doc", "1", "write")
    assert not store.check_permission(ID, "doc", "2", "write")
    assert not store.check_permission(ID, "doc", "1", "delete")
    assert store.check_permission(ID, "doc", "1", "read")


@pytest.mark.parametrize(
    "grants", [None, [], "doc:1", {"doc:1": "rewrite"}, {"doc:1": {"write": 1}}, {"doc:1": 5}]
)
def test_a_malformed_grant_grants_nothing(store: SessionStore, grants: Any) -> None:
    """Only a list of permissions grants anything. [T28]"""
    store.create_session(ID, "alice", metadata={"permissions": grants})
    assert not store.check_permission(ID, "doc", "1", "write")


def test_the_permissions_of_a_role_can_be_set_for_all_processes(
    backend: Backend, store: SessionStore
) -> None:
    elsewhere = SessionStore(backend)
    store.create_session(ID, "alice", ["auditor", "viewer"])
    assert not elsewhere.check_permission(ID, "doc", "1", "audit")
    store.set_role_permissions("auditor", {"audit"})
    elsewhere.set_role_permissions("viewer", [])
    assert elsewhere.check_permission(ID, "doc", "1", "audit")
    assert not store.check_permission(ID, "doc", "1", "read")


def test_many_threads_set_roles_without_loss(store: SessionStore) -> None:
    together(8, lambda number: store.set_role_permissions(f"role{number}", [f"p{number}"]))
    table = store.role_permissions()
    assert [list(table[f"role{number}"]) for number in range(8)] == [[f"p{number}"] for number in range(8)]


def test_a_bearer_token_opens_its_session_and_is_not_in_the_store(
    redis: RedisBackend, redis_server: RedisServer
) -> None:
    """The store contains only a digest of the token. [T13]"""
    store = SessionStore(redis)
    token = issue_session_token(store, "alice", ["editor"], 60)
    session_id = session_id_of_bearer(token)
    assert session_id is not None
    session = store.get_session(session_id)
    assert session is not None
    assert (session.user_id, session.roles) == ("alice", ["editor"])
    keys = redis_server.contents()
    assert len(keys) == 2
    assert all(token.encode() not in key + (redis_server.client.dump(key) or b"") for key in keys)


@pytest.mark.parametrize(
    "token", ["", "alice", ID, "eyJ.a.b", "pywry_" + "x" * 4096, "pywry_\u00e9", "\ud800"]
)
def test_other_text_is_no_bearer_token(token: str) -> None:
    """User IDs, session IDs and malformed texts are refused. [T10, T29]"""
    assert session_id_of_bearer(token) is None


def test_a_session_id_is_no_bearer_token() -> None:
    """A leaked session ID does not open its session. [T10]"""
    store = SessionStore(MemoryBackend())
    token = issue_session_token(store, "alice")
    session_id = session_id_of_bearer(token)
    assert session_id is not None
    assert session_id_of_bearer(session_id) is None
    assert store.get_session(session_id_of_bearer("pywry_" + session_id) or "") is None


def test_a_session_on_redis_has_the_documented_size_and_leaves_nothing(
    redis: RedisBackend, redis_server: RedisServer
) -> None:
    """A session takes at most 1,050 bytes. [S12]

    The figure includes the index and a profile of 600 bytes.
    """
    store = SessionStore(redis)
    store.create_session("warm", "warm")
    before = redis_server.client.info("memory")["used_memory"]
    profile = {"sub": "248289761001", "name": "Alice Example", "email": "alice@example.com", "filler": ""}
    profile["filler"] = "".join(map(str, range(1000)))[: 600 - len(json.dumps(profile))]
    for number in range(2000):
        store.create_session(
            f"{number:064x}", f"2482897610{number}", ["viewer"], metadata={"user_info": profile}
        )
    assert (redis_server.client.info("memory")["used_memory"] - before) / 2000 <= 1050
    for number in range(2000):
        assert store.delete_session(f"{number:064x}")
    store.delete_session("warm")
    assert redis_server.client.dbsize() == 0


def test_get_session_store_follows_the_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PYWRY_DEPLOY__STATE_BACKEND", "sqlite")
    monkeypatch.setenv("PYWRY_DEPLOY__SQLITE_PATH", str(tmp_path / "state.db"))
    monkeypatch.setenv("PYWRY_DEPLOY__SESSION_TTL", "60")
    store = get_session_store()
    assert isinstance(store, SQLiteSessionStore)
    assert store.shared
    session = store.create_session(ID, "alice")
    assert session.expires_at - session.created_at == 60
    assert (tmp_path / "state.db").exists()
    store.close()


def test_keys_from_the_settings_or_the_call_encrypt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A store without the keys cannot read the sessions. [T13]"""
    place = tmp_path / "state.db"
    monkeypatch.setenv("PYWRY_DEPLOY__STATE_BACKEND", "sqlite")
    monkeypatch.setenv("PYWRY_DEPLOY__SQLITE_PATH", str(place))
    monkeypatch.setenv("PYWRY_DEPLOY__ENCRYPTION_KEYS", ENCRYPTION_KEY)
    by_settings = get_session_store()
    by_settings.create_session(ID, "alice")
    by_call = get_session_store("sqlite", path=place, encryption_keys=[ENCRYPTION_KEY])
    without = get_session_store("sqlite", path=place)
    assert by_call.validate_session(ID)
    assert not without.validate_session(ID)
    assert ENCRYPTION_KEY not in f"{by_call!r} {vars(by_call)!r}"
    without.close()


def test_the_same_arguments_give_the_same_session_store(redis_server: RedisServer, tmp_path: Path) -> None:
    memory = get_session_store("memory")
    assert isinstance(memory, MemorySessionStore)
    assert not memory.shared
    assert get_session_store("memory", session_ttl=86400, path="ignored") is memory
    redis = get_session_store("redis", redis_url=redis_server.url)
    assert isinstance(redis, RedisSessionStore)
    assert redis.shared
    assert get_session_store("memory") is memory
    assert get_session_store("redis", redis_url=redis_server.url) is redis
    redis.close()


def test_the_error_for_an_unknown_backend_names_the_choices() -> None:
    with pytest.raises(ValueError, match=r"'floppy'.*memory, sqlite, redis"):
        get_session_store("floppy")
