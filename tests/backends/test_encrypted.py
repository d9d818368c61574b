"""Encryption: a stolen store is unreadable, and changes are refused."""

from __future__ import annotations

import base64
import logging
import os
import sqlite3
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pywry_auth.backends.base import Backend, Terms, When
from pywry_auth.backends.encrypted import EncryptedBackend
from pywry_auth.backends.memory import MemoryBackend
from pywry_auth.backends.record_form import decompressed
from pywry_auth.backends.redis import RedisBackend
from pywry_auth.backends.sqlite import SQLiteBackend
from pywry_auth.models import AuthorizationRequest, OAuthTokenSet
from pywry_auth.state.pending import PendingAuthorization, PendingStore
from pywry_auth.state.sessions import SessionStore, issue_session_token
from pywry_auth.state.tokens import TokenStore
from tests.backends.fixtures import Clock
from tests.backends.threads import together
from tests.peers.redis_server import RedisServer

_SECRETS = ["canary-access", "canary-refresh", "canary-id-token", "canary-verifier", "canary-nonce"]
_PROFILE = ["Alice Canary", "alice.canary@example.com"]


def _key() -> str:
    return base64.urlsafe_b64encode(os.urandom(32)).decode("ascii")


KEY = base64.urlsafe_b64encode(bytes(range(32))).decode("ascii")  # constant, because it is part of test names
OTHER = _key()


def _fill(backend: Backend) -> str:
    """Store one record of each kind; return a bearer token."""
    access, refresh, id_token, verifier, nonce = _SECRETS
    raw = {"access_token": access, "id_token": id_token, "name": _PROFILE[0]}
    TokenStore(backend).save("alice", OAuthTokenSet(access, "Bearer", refresh, 3600, id_token, raw=raw))
    sessions = SessionStore(backend)
    profile = {"name": _PROFILE[0], "email": _PROFILE[1]}
    sessions.create_session("a" * 64, "alice", ["admin"], metadata={"user_info": profile})
    request = AuthorizationRequest("", "canary-state", "https://example.com/callback", nonce, verifier)
    PendingStore(backend).put(PendingAuthorization(request, "oidc", "binding"), "192.0.2.1")
    return issue_session_token(sessions, "alice", ["admin"])


Dump = Callable[[], list[bytes]]


@pytest.fixture(params=["sqlite", "redis"])
def stolen(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Backend, Dump]]:
    """A backend, and a function that reads its storage."""
    if request.param == "sqlite":
        backend: Backend = SQLiteBackend(tmp_path / "stolen.sqlite3")
        yield backend, lambda: _rows(tmp_path)
    else:
        server: RedisServer = request.getfixturevalue("redis_server")
        server.client.flushall()
        backend = RedisBackend(server.url)
        yield backend, lambda: _keys(server)
    backend.close()


def _rows(folder: Path) -> list[bytes]:
    with sqlite3.connect(folder / "stolen.sqlite3") as connection:
        rows = connection.execute("SELECT key, value, member_of FROM records").fetchall()
    connection.close()
    files = [path.read_bytes() for path in folder.iterdir()]
    return [*files, *(bytes(column) for row in rows for column in row if column is not None)]


def _keys(server: RedisServer) -> list[bytes]:
    return [part for key, parts in server.contents().items() for part in (key, *parts)]


def _found(dump: list[bytes], secrets: list[str]) -> set[str]:
    everything = b"\n".join([*dump, *map(_inflated, dump)])
    return {secret for secret in secrets if secret.encode() in everything}


def _inflated(data: bytes) -> bytes:
    try:
        return decompressed(data)
    except (ValueError, zlib.error):
        return b""


def test_a_stolen_store_reveals_no_token_and_no_profile(stolen: tuple[Backend, Dump]) -> None:
    """No secret is readable in a stolen store. [T13]"""
    backend, dump = stolen
    bearer = _fill(EncryptedBackend(backend, [KEY]))
    assert len(dump()) > 8
    assert _found(dump(), [*_SECRETS, *_PROFILE, bearer, "canary-state"]) == set()


def test_without_encryption_the_same_search_finds_them(stolen: tuple[Backend, Dump]) -> None:
    """The search of the test before works. [T13]

    Even without encryption, bearer tokens and state are not in the store.
    """
    backend, dump = stolen
    bearer = _fill(backend)
    everything = [*_SECRETS, *_PROFILE, bearer, "canary-state"]
    assert _found(dump(), everything) == {*_SECRETS, *_PROFILE}


@pytest.fixture
def inner() -> MemoryBackend:
    return MemoryBackend()


@pytest.fixture
def encrypted(inner: MemoryBackend) -> EncryptedBackend:
    return EncryptedBackend(inner, [KEY])


def test_any_changed_byte_is_refused_and_logged_once(
    inner: MemoryBackend, encrypted: EncryptedBackend, caplog: pytest.LogCaptureFixture
) -> None:
    """A record with any changed byte is refused. [T13]"""
    encrypted.put("k:1", b"canary value")
    data = inner.get("k:1")
    assert data is not None
    for place in range(len(data)):
        inner.put("k:1", data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        caplog.clear()
        assert encrypted.get("k:1") is None
        assert [record.levelno for record in caplog.records] == [logging.WARNING]
        assert "missing" in caplog.text
        assert "k:1" not in caplog.text
        assert "canary" not in caplog.text
    inner.put("k:1", data)
    assert encrypted.get("k:1") == b"canary value"


def test_any_other_length_is_refused(inner: MemoryBackend, encrypted: EncryptedBackend) -> None:
    encrypted.put("k:1", b"value")
    data = inner.get("k:1")
    assert data is not None
    for cut in range(len(data)):
        inner.put("k:1", data[:cut])
        assert encrypted.get("k:1") is None
    inner.put("k:1", data + b"\0")
    assert encrypted.get("k:1") is None
    assert encrypted.pop("k:1") is None


def test_swapped_records_are_refused(inner: MemoryBackend) -> None:
    """Alice's session never becomes Bob's when their bytes are swapped. [T13]"""
    sessions = SessionStore(EncryptedBackend(inner, [KEY]))
    for number, user in enumerate(["alice", "bob"]):
        sessions.create_session(str(number) * 64, user)
    keys = [f"session:{str(number) * 64}" for number in range(2)]
    values = [inner.get(key) or b"" for key in keys]
    for key, value in zip(keys, reversed(values), strict=True):
        inner.put(key, value)
    assert [sessions.get_session(str(number) * 64) for number in range(2)] == [None, None]
    for key, value in zip(keys, values, strict=True):
        inner.put(key, value)
    found = [sessions.get_session(str(number) * 64) for number in range(2)]
    assert [session and session.user_id for session in found] == ["alice", "bob"]


def test_a_record_without_encryption_is_refused(inner: MemoryBackend, encrypted: EncryptedBackend) -> None:
    """Otherwise an attacker with write access could create a session."""
    SessionStore(inner).create_session("a" * 64, "mallory", ["admin"])
    assert SessionStore(encrypted).get_session("a" * 64) is None


def test_each_encryption_gives_another_ciphertext(inner: MemoryBackend, encrypted: EncryptedBackend) -> None:
    seen = set()
    for _ in range(100):
        encrypted.put("k:1", b"value")
        seen.add(inner.get("k:1"))
    assert len(seen) == 100


def test_the_first_key_encrypts_and_all_decrypt(inner: MemoryBackend) -> None:
    EncryptedBackend(inner, [OTHER]).put("k:old", b"old")
    both = EncryptedBackend(inner, [KEY, OTHER])
    both.put("k:new", b"new")
    assert (both.get("k:old"), both.get("k:new")) == (b"old", b"new")
    assert EncryptedBackend(inner, [KEY]).get("k:new") == b"new"
    assert EncryptedBackend(inner, [KEY]).get("k:old") is None
    assert EncryptedBackend(inner, [OTHER]).get("k:new") is None
    assert both.pop("k:old", b"old") == b"old"


def test_keys_come_with_and_without_padding(inner: MemoryBackend) -> None:
    EncryptedBackend(inner, [KEY]).put("k:1", b"value")
    assert KEY.endswith("=")
    assert EncryptedBackend(inner, [KEY.rstrip("=")]).get("k:1") == b"value"


@pytest.mark.parametrize(
    "key",
    [
        "",
        "canary",
        KEY[:-2],
        KEY + "A",
        KEY + "==",
        " " + KEY,
        KEY + "\n",
        "+" + KEY[1:],
        "/" + KEY[1:],
        "é" * 43,
        base64.urlsafe_b64encode(b"canary" * 4).decode(),
        base64.b16encode(bytes(32)).decode(),
    ],
)
def test_a_malformed_key_is_refused_with_a_remedy_and_not_quoted(key: str) -> None:
    for keys in ([key], [KEY, key]):
        with pytest.raises(ValueError, match=r"PYWRY_DEPLOY__ENCRYPTION_KEYS.*python3 -c") as caught:
            EncryptedBackend(MemoryBackend(), keys)
        assert not key or key not in str(caught.value)


def test_encryption_without_a_key_is_refused() -> None:
    with pytest.raises(ValueError, match="PYWRY_DEPLOY__ENCRYPTION_KEYS"):
        EncryptedBackend(MemoryBackend(), [])


def test_no_key_is_in_a_repr(encrypted: EncryptedBackend) -> None:
    """A repr contains no encryption key. [T31]"""
    assert KEY not in f"{encrypted!r} {vars(encrypted)!r}"


def test_an_expected_value_is_taken_even_if_it_was_written_again(
    inner: MemoryBackend, encrypted: EncryptedBackend
) -> None:
    """The value may be written again before the pop. [T2]"""

    class Rewriting(MemoryBackend):
        def get(self, key: str) -> bytes | None:
            seen = super().get(key)
            if rewrites:
                rewrites.pop()
                again.put(key, b"mine")
            return seen

    rewrites = [1, 2, 3]
    memory = Rewriting()
    again = EncryptedBackend(memory, [KEY])
    again.put("k:1", b"mine")
    assert again.pop("k:1", b"mine") == b"mine"
    assert rewrites == []
    assert memory.get("k:1") is None


def test_an_expected_value_is_replaced_even_if_it_was_written_again() -> None:
    """The value may be written again before the put."""

    class Rewriting(MemoryBackend):
        def get(self, key: str) -> bytes | None:
            seen = super().get(key)
            if rewrites:
                again.put(key, rewrites.pop())
            return seen

    memory, rewrites = Rewriting(), [b"mine"] * 3
    again = EncryptedBackend(memory, [KEY])
    again.put("k:1", b"mine")
    assert again.put("k:1", b"next", Terms(expected=b"mine"))
    assert rewrites == []
    rewrites.append(b"other")
    assert not again.put("k:1", b"last", Terms(expected=b"next"))
    assert again.get("k:1") == b"other"


def test_a_shared_backend_stays_shared_and_a_private_one_private(tmp_path: Path) -> None:
    """``PendingStore`` and ``gunicorn.conf.py`` read the attribute ``shared``."""
    assert not EncryptedBackend(MemoryBackend(), [KEY]).shared
    assert EncryptedBackend(SQLiteBackend(tmp_path / "s.db"), [KEY]).shared


def test_the_inner_backend_determines_lifetimes(clock: Clock) -> None:
    encrypted = EncryptedBackend(MemoryBackend(clock=clock), [KEY])
    for number in range(5):
        encrypted.put(f"k:{number}", b"", Terms(ttl=10))
    clock.now += 9
    assert encrypted.get("k:1") == b""
    assert encrypted.prune("k:", 2) == 5


def test_users_never_get_each_others_tokens(encrypted: EncryptedBackend) -> None:
    """32 threads work for 250 users on one store. [T32]"""
    store = TokenStore(encrypted)

    def work(thread: int) -> int:
        for user in range(thread, thread + 250):
            name = f"user{user % 250}"
            store.save(name, OAuthTokenSet(f"token of {name}", refresh_token=f"by {thread}"))
            loaded = store.load(f"user{(user * 7) % 250}")
            assert loaded is None or loaded.access_token == f"token of user{(user * 7) % 250}"
        return thread

    assert together(32, work) == list(range(32))
    assert len(store.list_keys()) == 250


def test_an_undecryptable_record_counts_as_absent() -> None:
    """Otherwise a writer that requires an absent record could never store one. [T68]"""
    inner = MemoryBackend()
    EncryptedBackend(inner, ["A" * 43]).put("tokens:alice", b"old", Terms(ttl=60))
    backend = EncryptedBackend(inner, ["B" * 42 + "A"])
    assert backend.get("tokens:alice") is None
    assert backend.put("tokens:alice", b"new", Terms(ttl=60, when=When.ABSENT))
    assert backend.get("tokens:alice") == b"new"
    assert not backend.put("tokens:alice", b"newer", Terms(ttl=60, when=When.ABSENT))
