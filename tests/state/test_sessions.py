"""Session stores: sessions, lifetimes and permissions on any backend."""

from __future__ import annotations

import json
import os
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pywry_auth.backends.base import Backend, Terms, UnreadableRecord
from pywry_auth.backends.encrypted import EncryptedBackend
from pywry_auth.backends.memory import MemoryBackend
from pywry_auth.backends.redis import RedisBackend
from pywry_auth.backends.sqlite import SQLiteBackend
from pywry_auth.exceptions import StoreUnavailable
from pywry_auth.models import Grant
from pywry_auth.state import (
    MemorySessionStore,
    RedisSessionStore,
    SQLiteSessionStore,
    UserSession,
    get_session_store,
)
from pywry_auth.state.records import pack
from pywry_auth.state.sessions import SessionStore, issue_session_token, session_id_of_bearer
from pywry_auth.testing.backend_contract import HOSTILE_KEYS
from pywry_auth.testing.faulty_backend import FaultyBackend
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
def faulty(memory: MemoryBackend) -> FaultyBackend:
    return FaultyBackend(memory)


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


def test_the_newest_sign_ins_are_left_out(store: SessionStore, clock: Clock) -> None:
    """Only sessions with a grant count as sign-ins. [T56]"""
    for number in range(5):
        clock.advance(1)
        store.create_session(f"sign-in {number}", "alice", grant=Grant(f"grant {number}", clock.now))
        store.create_session(f"client {number}", "alice")
    store.create_session("other", "bob", grant=Grant("other", clock.now))

    def beyond(limit: int) -> list[str]:
        return [session.session_id for session in store.sign_ins_beyond("alice", limit)]

    assert beyond(2) == ["sign-in 0", "sign-in 1", "sign-in 2"]
    assert beyond(4) == ["sign-in 0"]
    assert beyond(5) == beyond(10) == []


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


@pytest.mark.parametrize(("idle_ttl", "seconds"), [(40, 10), (100, 25), (300, 60), (600, 60), (1800, 180)])
def test_uses_are_recorded_at_most_once_a_minute_or_tenth_of_the_idle_time(
    faulty: FaultyBackend, clock: Clock, idle_ttl: float, seconds: float
) -> None:
    """For a short idle time, it is a quarter of it. [T69]"""
    store = SessionStore(faulty, idle_ttl=idle_ttl, clock=clock)
    store.create_session(ID, "alice")
    writes: list[str] = []
    faulty.before = lambda operation, key: writes.append(key) if operation == "put" else None
    for _ in range(3):
        writes.clear()
        clock.now += seconds
        assert store.validate_session(ID)
        assert writes == []
        clock.now += 0.1
        for _ in range(3):
            assert store.validate_session(ID)
        assert len(writes) == 1


def test_a_session_stays_valid_if_its_use_cannot_be_recorded(
    faulty: FaultyBackend, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """It is valid until its idle time ends, and one warning a minute tells of it. [T69]"""
    store = SessionStore(faulty, idle_ttl=400, clock=clock)
    store.create_session(ID, "alice")
    faulty.before = _refuse_writes
    for step, warnings in ((100, 1), (30, 1), (29, 1), (1, 2), (239, 3)):
        clock.now += step
        assert store.validate_session(ID)
        assert store.validate_session(ID)
        assert caplog.text.count("uses of sessions cannot be recorded") == warnings
    clock.now += 1
    assert not store.validate_session(ID)


def _refuse_writes(operation: str, key: str) -> None:
    if operation == "put":
        raise StoreUnavailable("The disk is full.")


def _make_read_only(folder: Path) -> None:
    for file in folder.iterdir():
        file.chmod(0o400)
    folder.chmod(0o500)


def _make_full(folder: Path) -> None:
    size = max(file.stat().st_size for file in folder.iterdir())
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@pytest.mark.parametrize("spoil", [_make_read_only, _make_full])
def test_sessions_stay_valid_on_a_file_that_cannot_be_written(spoil: Callable[[Path], None]) -> None:
    """SQLite reads from it as before. [T69]"""
    with tempfile.TemporaryDirectory() as top:
        folder = Path(top) / "state"
        folder.mkdir()
        if os.geteuid() == 0:  # the modes of files do not apply to root
            for path in (Path(top), folder):
                os.chown(path, _NO_ROOT, _NO_ROOT)
        child = os.fork()
        if child == 0:
            _exit_with(lambda: _stays_valid(folder, spoil))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        folder.chmod(0o700)


_NO_ROOT = 65534


def _exit_with(check: Callable[[], None]) -> None:
    """End a forked process with a status that says whether a check succeeded."""
    try:
        if os.geteuid() == 0:
            os.setgid(_NO_ROOT)
            os.setuid(_NO_ROOT)
        check()
        os._exit(0)
    finally:
        os._exit(1)


def _stays_valid(folder: Path, spoil: Callable[[Path], None]) -> None:
    backend = SQLiteBackend(folder / "state.sqlite3")
    created = SessionStore(backend, idle_ttl=100).create_session(ID, "alice")
    spoil(folder)
    # The first connection stays open, so that the write-ahead log exists.
    for place in (SQLiteBackend(folder / "state.sqlite3"), backend):
        later = SessionStore(place, idle_ttl=100, clock=lambda: time.time() + 50)
        assert later.get_session(ID) == created
    with pytest.raises(StoreUnavailable):
        SQLiteBackend(folder / "state.sqlite3").put("k:1", bytes(100_000))


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


def _of_a_newer_version(backend: Backend) -> bytes:
    SessionStore(backend).create_session(ID, "alice")
    data = backend.get(f"session:{ID}")
    assert data is not None
    return pack({"v": 2, "user_id": "alice"}, compress=True)


@pytest.mark.parametrize("write", [lambda backend: b"garbage", lambda backend: b""])
def test_an_unreadable_session_is_told_from_a_missing_one(
    backend: Backend, store: SessionStore, write: Callable[[Backend], bytes]
) -> None:
    """It is damaged, and it signs no user in. [T68]"""
    assert not store.is_unreadable(ID)
    backend.put(f"session:{ID}", write(backend), Terms(group="session:alice"))
    assert store.get_session(ID) is None
    assert store.is_unreadable(ID)
    store.delete_session(ID)
    assert not store.is_unreadable(ID)


def test_a_session_of_a_newer_version_is_an_outage_and_stays(backend: Backend, store: SessionStore) -> None:
    """Nothing is overwritten; the user's other sessions are listed, and it can be ended. [T68]"""
    newer = _of_a_newer_version(backend)
    store.create_session("other", "alice", grant=Grant("grant", 1.0))
    backend.put(f"session:{ID}", newer, Terms(ttl=60, group="session:alice"))
    for call in (
        lambda: store.get_session(ID),
        lambda: store.find_bearer(ID, store.sites),
        lambda: store.refresh_session(ID),
        lambda: store.set_given_roles(ID, {}),
        lambda: store.set_roles("alice", ["admin"]),
    ):
        with pytest.raises(UnreadableRecord):
            call()
    assert backend.get(f"session:{ID}") == newer
    assert store.is_unreadable(ID)
    assert [each.session_id for each in store.list_user_sessions("alice")] == ["other"]
    assert store.sign_ins_beyond("alice", 1) == []
    assert store.delete_session(ID)
    assert not store.is_unreadable(ID)


def test_a_session_that_another_key_encrypted_is_unreadable(
    memory: MemoryBackend, encrypted_memory: Backend, clock: Clock
) -> None:
    """A worker without the new key must not say that it ended the session. [T68]"""
    SessionStore(encrypted_memory, clock=clock).create_session(ID, "alice", ttl=60)
    assert SessionStore(EncryptedBackend(memory, ["A" * 43])).get_session(ID) is None
    with pytest.raises(StoreUnavailable, match="PYWRY_DEPLOY__ENCRYPTION_KEYS"):
        SessionStore(memory).get_session(ID)
    for other in (EncryptedBackend(memory, ["A" * 43]), memory):
        store = SessionStore(other, clock=clock)
        assert store.is_unreadable(ID)
        assert not store.is_unreadable("missing")
    clock.now += 60
    assert not store.is_unreadable(ID)


def test_a_readable_or_expired_session_is_not_unreadable(backend: Backend, clock: Clock) -> None:
    """The backend may keep the record longer than the session lasts. [T68]"""
    store = SessionStore(backend, clock=clock)
    store.create_session(ID, "alice", ttl=60)
    assert not store.is_unreadable(ID)
    later = SessionStore(backend, clock=lambda: clock.now + 60)
    assert later.get_session(ID) is None
    assert not later.is_unreadable(ID)


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


def test_a_role_is_set_although_a_dead_process_left_a_lock(store: SessionStore, backend: Backend) -> None:
    """No lock is needed, because the table is compared and replaced. [T55]"""
    backend.put("lock:session_roles:all", b"dead")
    store.set_role_permissions("auditor", ["audit"])
    assert list(store.role_permissions()["auditor"]) == ["audit"]


@pytest.mark.parametrize("data", [b"", b"garbage", b'{"v":2,"roles":{}}', b'{"v":1,"roles":[]}'])
def test_an_unreadable_table_of_roles_is_an_outage(
    store: SessionStore, backend: Backend, data: bytes
) -> None:
    """The default permissions are not used, and the table is not overwritten. [T45]"""
    backend.put("session_roles:all", data)
    store.create_session(ID, "alice", ["admin"])
    for use in (
        lambda: store.role_permissions(),
        lambda: store.check_permission(ID, "doc", "1", "read"),
        lambda: store.set_role_permissions("viewer", []),
    ):
        with pytest.raises(StoreUnavailable, match="table of roles"):
            use()
    assert backend.get("session_roles:all") == data


def test_a_table_of_roles_that_another_key_encrypted_is_an_outage(
    memory: MemoryBackend, encrypted_memory: Backend
) -> None:
    """A worker without the new key does not fall back to the default permissions. [T45]"""
    SessionStore(encrypted_memory).set_role_permissions("viewer", [])
    store = SessionStore(EncryptedBackend(memory, ["A" * 43]))
    with pytest.raises(StoreUnavailable):
        store.role_permissions()
    with pytest.raises(StoreUnavailable):
        store.set_role_permissions("viewer", ["read"])
    assert list(SessionStore(encrypted_memory).role_permissions()["viewer"]) == []


def test_the_roles_of_all_sessions_of_one_user_are_replaced(store: SessionStore) -> None:
    """Lifetimes, metadata and the sessions of other users stay. [T55]"""
    sessions = [
        store.create_session(f"a{number}", "alice", ["admin"], 60 + number, {"n": number})
        for number in range(3)
    ]
    other = store.create_session("b", "bob", ["admin"])
    assert store.set_roles("alice", ["viewer"]) == 3
    assert store.set_roles("alice", ("viewer",)) == 3
    for session in sessions:
        assert store.get_session(session.session_id) == replace(session, roles=["viewer"])
    assert store.get_session("b") == other
    assert store.set_roles("carol", ["admin"]) == 0


def test_a_demotion_survives_simultaneous_uses_and_extensions(faulty: FaultyBackend, clock: Clock) -> None:
    """Each write of a session is based on the roles that are stored at that moment. [T55]"""
    store = SessionStore(faulty, idle_ttl=40, clock=clock)
    for session_id in ("used", "extended"):
        store.create_session(session_id, "alice", ["admin"])
    clock.now += 20
    acts: list[Callable[[], bool]] = [
        lambda: store.validate_session("used"),
        lambda: store.refresh_session("extended"),
    ]
    for act in acts:
        _once_before(faulty, "put", lambda: store.set_roles("alice", ["viewer"]))
        assert act()
    assert [session.roles for session in store.list_user_sessions("alice")] == [["viewer"]] * 2


def test_a_demotion_survives_many_threads_that_extend_the_session(store: SessionStore) -> None:
    """No thread restores the roles that it read. [T55]"""
    for number in range(5):
        store.create_session(ID, "alice", ["admin"])

        def act(thread: int, number: int = number) -> object:
            if thread == 0:
                return store.set_roles("alice", [f"role{number}"])
            return store.refresh_session(ID)

        assert together(9, act) == [1] + [True] * 8
        session = store.get_session(ID)
        assert session is not None
        assert session.roles == [f"role{number}"]


def test_a_session_that_ends_while_roles_change_stays_ended(faulty: FaultyBackend) -> None:
    """It is not counted. [T42, T55]"""
    store = SessionStore(faulty)
    store.create_session(ID, "alice", ["admin"])
    _once_before(faulty, "put", lambda: store.delete_session(ID))
    assert store.set_roles("alice", ["viewer"]) == 0
    assert store.get_session(ID) is None
    assert store.list_user_sessions("alice") == []


def _once_before(faulty: FaultyBackend, operation: str, act: Callable[[], object]) -> None:
    """Call a function just before the next operation of a kind."""

    def before(name: str, key: str) -> None:
        if name == operation:
            faulty.before = lambda name, key: None
            act()

    faulty.before = before


def test_the_roles_of_an_unreadable_session_are_not_said_to_be_changed(
    store: SessionStore, backend: Backend
) -> None:
    """Another process may accept it with its old roles; the other sessions are changed. [T55, T68]"""
    backend.put(f"session:{ID}", b"garbage", Terms(group="session:alice"))
    store.create_session("a", "alice", ["admin"])
    with pytest.raises(StoreUnavailable, match="cannot be read"):
        store.set_roles("alice", ["viewer"])
    session = store.get_session("a")
    assert session is not None
    assert session.roles == ["viewer"]


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
    with pytest.raises(StoreUnavailable, match="PYWRY_DEPLOY__ENCRYPTION_KEYS"):
        without.validate_session(ID)
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
