"""Damaged records: sizes, counts and times in them have no effect beyond the record."""

from __future__ import annotations

import json
import time
import zlib
from dataclasses import replace
from typing import Any

import pytest

from pywry_auth.backends.base import Terms, UnreadableRecord
from pywry_auth.backends.memory import MemoryBackend
from pywry_auth.backends.record_form import LARGEST_RECORD
from pywry_auth.cli.summary import describe
from pywry_auth.models import AuthFlowResult, Grant, OAuthTokenSet
from pywry_auth.state.browsers import BrowserSessions
from pywry_auth.state.records import pack, unpack
from pywry_auth.state.revocations import KEPT_SECONDS, RevocationQueue
from pywry_auth.state.sessions import SessionStore
from pywry_auth.state.token_record import pack_tokens, unpack_stored

_ID = "a" * 64
_TOKENS = OAuthTokenSet("access", refresh_token="refresh", expires_in=3600)


@pytest.fixture
def backend() -> MemoryBackend:
    return MemoryBackend()


def _is_read(data: bytes) -> bool:
    return unpack(data, lambda members: True, "record") is True


def test_a_small_record_that_expands_to_much_is_missing() -> None:
    """It is expanded only up to the size that can be written. [T51]"""
    bomb = zlib.compress(b'{"v":1,"a":"' + b"x" * (100 << 20) + b'"}')
    assert len(bomb) < 200_000
    assert not _is_read(bomb)


def test_the_limits_of_reading_and_of_writing_are_the_same() -> None:
    """A record that could not be read again is refused. [T51]"""
    frame = len(pack({"a": ""}))
    for compress in (False, True):
        largest = pack({"a": "x" * (LARGEST_RECORD - frame)}, compress=compress)
        assert _is_read(largest)
        with pytest.raises(ValueError, match="too large"):
            pack({"a": "x" * (LARGEST_RECORD - frame + 1)}, compress=compress)
    assert not _is_read(pack({"a": ""})[:-2] + b"x" * (LARGEST_RECORD - frame + 1) + b'"}')


def _changed(backend: MemoryBackend, key: str, **changes: Any) -> None:
    """Change members of a stored record, or of the object ``grant`` in it."""
    data = backend.get(key)
    assert data is not None
    content = json.loads(data if data.startswith(b"{") else _inflated(data))
    backend.put(key, json.dumps(content | changes).encode(), Terms(group=_group(key)))


def _inflated(data: bytes) -> bytes:
    found: list[bytes] = []

    def keep(members: Any) -> None:
        found.append(json.dumps({"v": 1, **members._values}).encode())

    unpack(data, keep, "record")
    return found[0]


def _group(key: str) -> str:
    return "oauth:revocations" if key.startswith("oauth:revocation:") else "session:alice"


@pytest.mark.parametrize(
    "changes",
    [
        {"expires_at": 1e300},
        {"expires_at": 253_402_300_800},
        {"expires_at": -1e300},
        {"created_at": 1e300},
        {"ttl": 1e300},
        {"ttl": -1e300},
        {"idle_ttl": 1e300},
        {"idle_ttl": 60, "used_at": 1e300},
        {"grant": {"id": "g", "at": 1e300}},
        {"grant": {"id": "g", "at": 1, "auth_time": 10**300}},
    ],
)
def test_a_session_with_an_impossible_time_is_missing(
    backend: MemoryBackend, changes: dict[str, Any]
) -> None:
    """A page that shows the time would fail. [T51]"""
    store = SessionStore(backend)
    store.create_session(_ID, "alice", grant=Grant("g", 1.0))
    _changed(backend, f"session:{_ID}")
    assert store.get_session(_ID) is not None
    _changed(backend, f"session:{_ID}", **changes)
    assert store.get_session(_ID) is None
    assert store.list_user_sessions("alice") == []
    assert store.create_session(_ID, "alice")


@pytest.mark.parametrize(
    "changes",
    [
        *({"tries": tries} for tries in (10**9, 1e300, -1, 1.5, 10_001)),
        *({"due_at": due_at} for due_at in (1e300, 1e12, 4e9)),
        {"added_at": 1e300, "due_at": 1e300},
    ],
)
def test_a_revocation_with_an_impossible_number_is_left_out(
    backend: MemoryBackend, changes: dict[str, Any]
) -> None:
    """It neither computes a huge power nor delays the others. [T51]"""
    queue = RevocationQueue(backend, clock=lambda: time.time() + 60)
    damaged, other = queue.add("alice", _TOKENS), queue.add("alice", _TOKENS)
    _changed(backend, damaged.key, **changes)
    assert [each.key for each in queue.of_user("alice")] == [other.key]
    due = queue.next_due()
    assert due is not None
    assert due < time.time() + KEPT_SECONDS


def test_the_tries_of_a_revocation_stay_readable(backend: MemoryBackend) -> None:
    """The largest number that is read is the largest that is written. [T51]"""
    queue = RevocationQueue(backend)
    entry = queue.add("alice", _TOKENS)
    _changed(backend, entry.key, tries=10_000)
    for _ in range(3):
        assert [each.key for each in queue.of_user("alice")] == [entry.key]


def test_a_hold_far_in_the_future_has_no_effect() -> None:
    """It would keep the tokens from every later sign-out. [T51]"""
    now = time.time()
    for held_until, kept in ((now + 60, True), (now + 1e6, False), (1e11, False)):
        stored = unpack_stored(pack_tokens(_TOKENS, held_until))
        assert stored is not None
        assert (stored.held_until > now) is kept


def test_a_browser_with_a_long_list_of_sessions_costs_few_operations(backend: MemoryBackend) -> None:
    """No more sessions are read than can be written. [T51]"""
    backend.put("browser:b", pack({"sessions": [f"{number:064}" for number in range(10_000)]}))
    browsers = BrowserSessions(backend, 60)
    assert len(browsers.of("b")) == 8
    assert len(browsers.add("b", _ID)) == 8


@pytest.mark.parametrize("permissions", [5, "read", None, {"read": True}, ["read", 5]])
def test_a_table_of_roles_with_a_wrong_type_is_an_outage(backend: MemoryBackend, permissions: object) -> None:
    """The default permissions could be more than it allows. [T51]"""
    backend.put("session_roles:all", pack({"roles": {"viewer": permissions}}))
    with pytest.raises(UnreadableRecord):
        SessionStore(backend).role_permissions()


@pytest.mark.parametrize("expires_in", [10**300, -(10**300)])
def test_tokens_with_an_impossible_lifetime_are_described(expires_in: int) -> None:
    """The command-line program shows them without an error. [T51]"""
    stored = unpack_stored(pack_tokens(replace(_TOKENS, expires_in=expires_in)))
    assert stored is not None
    assert "Expires:    unknown" in describe(AuthFlowResult(True, stored.tokens, {"sub": "alice"}, "alice"))
