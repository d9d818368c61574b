"""Searches for sessions, on any backend."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

import pytest

from pywry_auth.backends.base import Backend, Terms
from pywry_auth.backends.encrypted import EncryptedBackend
from pywry_auth.backends.memory import MemoryBackend
from pywry_auth.models import Grant
from pywry_auth.state.session_filter import SessionFilter
from pywry_auth.state.sessions import SessionStore, issue_session_token
from pywry_auth.testing.faulty_backend import FaultyBackend
from tests.backends.fixtures import ENCRYPTION_KEY, Clock
from tests.deploy.web import WatchedBackend


@pytest.fixture
def store(backend: Backend, clock: Clock) -> SessionStore:
    """A store with a sign-in of alice at two providers, and an API client of bob."""
    store = SessionStore(backend, session_ttl=10**9, clock=clock)
    corp = Grant("g1", clock(), "corp", "https://id.example.com", "site", subject="7", sid="s1")
    store.create_session(
        "a1", "alice", grant=corp, browser="Firefox on Linux", network="192.0.2.1", account="corp:7"
    )
    clock.advance(100)
    store.create_session("a2", "alice", grant=Grant("g2", clock(), provider="other"), browser="Chrome on iOS")
    store.create_session("b1", "bob")
    return store


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({}, "a1 a2 b1"),
        ({"user_id": "alice"}, "a1 a2"),
        ({"account": "corp:7"}, "a1"),
        ({"provider": "corp"}, "a1"),
        ({"issuer": "https://id.example.com"}, "a1"),
        ({"client_id": "site"}, "a1"),
        ({"subject": "7"}, "a1"),
        ({"sid": "s1"}, "a1"),
        ({"sid": ""}, ""),
        ({"browser": "firefox"}, "a1"),
        ({"network": "192.0.2.1"}, "a1"),
        ({"signed_in_before": 1_800_000_100.0}, "a1"),
        ({"signed_in_after": 1_800_000_100.0}, "a2 b1"),
        ({"bearer": True}, "b1"),
        ({"bearer": False, "user_id": "alice", "provider": "other"}, "a2"),
        ({"user_id": "unknown"}, ""),
    ],
)
def test_a_search_finds_what_its_filter_describes(
    store: SessionStore, wanted: dict[str, Any], expected: str
) -> None:
    found = store.find_sessions(SessionFilter(**wanted))
    assert sorted(session.session_id for session in found) == expected.split()


def test_a_handle_finds_its_session(store: SessionStore) -> None:
    for session in list(store.find_sessions()):
        assert list(store.find_sessions(SessionFilter(handle=session.handle))) == [session]


def test_expired_and_ended_sessions_are_not_found(backend: Backend, clock: Clock) -> None:
    store = SessionStore(backend, idle_ttl=50, clock=clock)
    store.create_session("gone", "alice")
    clock.advance(51)
    store.create_session("here", "alice")
    store.create_session("ended", "alice")
    store.delete_session("ended")
    assert [session.session_id for session in store.find_sessions()] == ["here"]


def test_a_search_is_no_use_of_a_session(memory: MemoryBackend, clock: Clock) -> None:
    store = SessionStore(memory, idle_ttl=300, clock=clock)
    store.create_session("a1", "alice")
    for _ in range(4):
        clock.advance(80)
        list(store.find_sessions())
    assert store.get_session("a1") is None


def test_unreadable_sessions_are_told_and_the_others_found(
    store: SessionStore, backend: Backend, log_lines: Callable[[], list[str]]
) -> None:
    backend.put("session:bad", b"garbage", Terms(ttl=60, group="session:alice"))
    for wanted in (SessionFilter(), SessionFilter(user_id="alice")):
        unreadable: list[str] = []
        found = [each.session_id for each in store.find_sessions(wanted, unreadable=unreadable.append)]
        assert unreadable == ["bad"]
        assert {"a1", "a2"} <= set(found)
    assert log_lines() == []


def test_sessions_with_another_key_are_told(sqlite: Backend, log_lines: Callable[[], list[str]]) -> None:
    SessionStore(EncryptedBackend(sqlite, [ENCRYPTION_KEY])).create_session("a1", "alice")
    unreadable: list[str] = []
    other = SessionStore(EncryptedBackend(sqlite, ["B" * 43]))
    assert list(other.find_sessions(unreadable=unreadable.append)) == []
    assert unreadable == ["a1"]
    assert log_lines() == []


def test_a_search_for_a_user_reads_only_the_sessions_of_the_user(memory: MemoryBackend) -> None:
    store = SessionStore(memory)
    for number in range(50):
        issue_session_token(store, f"user-{number}")
    watched = WatchedBackend(memory)
    (found,) = SessionStore(watched).find_sessions(SessionFilter(user_id="user-7"))
    assert found.user_id == "user-7"
    assert watched.operations == ["members session", "get session"]


class _Counting(MemoryBackend):
    """A backend that records how many values each round trip loads."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[int] = []

    def get_many(self, keys: Sequence[str]) -> dict[str, bytes | None]:
        self.loaded.append(len(keys))
        return super().get_many(keys)


def test_sessions_are_loaded_a_few_hundred_at_a_time() -> None:
    """Neither the round trips nor the memory of a search are those of all sessions."""
    backend = _Counting()
    store = SessionStore(backend)
    for number in range(450):
        issue_session_token(store, f"user-{number}")
    next(store.find_sessions())
    assert backend.loaded == [200]
    backend.loaded.clear()
    assert len(list(store.find_sessions())) == 450
    assert backend.loaded == [200, 200, 50]


def test_a_search_for_a_handle_loads_no_other_session_and_ends_at_its_match() -> None:
    backend = _Counting()
    store = SessionStore(backend)
    for number in range(20):
        issue_session_token(store, f"user-{number}")
    third = next(islice(store.find_sessions(), 2, 3))
    backend.loaded.clear()
    looked_at: list[str] = []
    faulty = FaultyBackend(backend)
    faulty.before = lambda operation, key: looked_at.append(f"{operation} {key}")
    (found,) = SessionStore(faulty).find_sessions(SessionFilter(handle=third.handle))
    assert found == third
    assert looked_at == ["keys session:", f"get session:{third.session_id}"]
    assert list(SessionStore(backend).find_sessions(SessionFilter(handle="unknown"))) == []
    assert backend.loaded == []


@pytest.fixture
def log_lines(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    return lambda: [record.getMessage() for record in caplog.records]
