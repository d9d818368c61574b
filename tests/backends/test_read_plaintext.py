"""Encryption that is switched on while clear records are stored."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pywry_auth.backends.base import Backend, Terms, UnreadableRecord, When
from pywry_auth.backends.encrypted import EncryptedBackend, Form
from pywry_auth.backends.factory import open_backend
from pywry_auth.backends.memory import MemoryBackend
from pywry_auth.backends.options import StorageOptions
from pywry_auth.backends.record_form import is_clear, may_be_encrypted
from pywry_auth.state.records import pack
from tests.backends.fixtures import Clock
from tests.peers.redis_server import RedisServer

KEY = base64.urlsafe_b64encode(bytes(range(32))).decode("ascii")
OTHER = base64.urlsafe_b64encode(bytes(range(32, 64))).decode("ascii")
CLEAR = pack({"user_id": "alice" * 8})
SHORT = [CLEAR, pack({"user_id": "alice" * 8}, compress=True), b"", b"1", b"0123456789abcdef invalid_grant"]

Uses = Callable[[Backend], object]


def _mode(inner: Backend) -> EncryptedBackend:
    return EncryptedBackend(inner, [KEY], read_plaintext=True)


@pytest.fixture(params=["memory", "sqlite", "redis", "postgres", "keyring"])
def inner(request: pytest.FixtureRequest) -> Backend:
    found: Backend = request.getfixturevalue(request.param)
    return found


READS: dict[str, Uses] = {
    "get": lambda backend: backend.get("k:1"),
    "read": lambda backend: backend.read("k:1"),
    "get_many": lambda backend: backend.get_many(["k:1", "k:2"])["k:1"],
}


@pytest.mark.parametrize("how", READS)
@pytest.mark.parametrize("value", SHORT)
def test_a_clear_record_is_read_and_encrypted(inner: Backend, how: str, value: bytes) -> None:
    """Its group stays, and so does another record of the group. [S3]"""
    for key in ("k:1", "k:2"):
        inner.put(key, value, Terms(ttl=600, group="k:"))
    backend = _mode(inner)
    assert READS[how](backend) == value
    stored = inner.get("k:1")
    assert stored != value
    assert EncryptedBackend(inner, [KEY]).get("k:1") == value
    assert sorted(backend.members("k:")) == ["k:1", "k:2"]
    assert READS[how](backend) == value
    assert inner.get("k:1") == stored, "it is encrypted once"


@pytest.mark.parametrize("kind", ["memory", "sqlite", "keyring"])
def test_a_clear_record_keeps_its_lifetime(request: pytest.FixtureRequest, clock: Clock, kind: str) -> None:
    inner: Backend = request.getfixturevalue(kind)
    inner.put("k:1", CLEAR, Terms(ttl=100))
    clock.advance(60)
    assert _mode(inner).get("k:1") == CLEAR
    clock.advance(39)
    assert _mode(inner).get("k:1") == CLEAR
    clock.advance(2)
    assert _mode(inner).get("k:1") is None


def test_a_clear_record_keeps_its_lifetime_in_redis(redis: Backend, redis_server: RedisServer) -> None:
    redis.put("k:1", CLEAR, Terms(ttl=100))
    assert _mode(redis).get("k:1") == CLEAR
    assert 95_000 < redis_server.client.pttl("pywry:k:1") <= 100_000


def test_every_condition_works_with_a_clear_record(inner: Backend) -> None:
    """Compare and put, pop, rewrite, absent and present. [S3]"""
    backend = _mode(inner)
    changes: dict[str, tuple[bool, bytes | None]] = {
        "expected": (backend_put(backend, inner, Terms(expected=CLEAR)), backend.get("k:1")),
        "unexpected": (backend_put(backend, inner, Terms(expected=b"other")), backend.get("k:1")),
        "absent": (backend_put(backend, inner, Terms(when=When.ABSENT)), backend.get("k:1")),
        "present": (backend_put(backend, inner, Terms(when=When.PRESENT)), backend.get("k:1")),
    }
    assert changes == {
        "expected": (True, b"new"),
        "unexpected": (False, CLEAR),
        "absent": (False, CLEAR),
        "present": (True, b"new"),
    }
    inner.put("k:1", CLEAR)
    assert backend.rewrite("k:1", CLEAR, b"rewritten")
    assert backend.get("k:1") == b"rewritten"
    inner.put("k:1", CLEAR)
    assert backend.pop("k:1", b"other") is None
    assert backend.pop("k:1", CLEAR) == CLEAR
    inner.put("k:1", CLEAR)
    assert backend.pop("k:1") == CLEAR
    assert inner.get("k:1") is None


def backend_put(backend: Backend, inner: Backend, terms: Terms) -> bool:
    """Store a clear record, and put another value in its place."""
    inner.put("k:1", CLEAR)
    return backend.put("k:1", b"new", terms)


def test_ciphertext_of_an_unknown_key_is_never_taken_for_clear_text() -> None:
    """Its random bytes have neither of the two forms of a record. [T13]"""
    inner = MemoryBackend()
    backend = _mode(inner)
    for number in range(2000):
        other = EncryptedBackend(inner, [base64.urlsafe_b64encode(os.urandom(32)).decode("ascii")])
        value = SHORT[number % len(SHORT)]
        other.put("k:1", value)
        stored = inner.get("k:1") or b""
        assert may_be_encrypted(stored) or len(value) < 8, "a worker without keys knows it as ciphertext"
        assert backend.get("k:1") is None
        with pytest.raises(UnreadableRecord):
            backend.read("k:1")
        assert inner.get("k:1") == stored


@pytest.mark.parametrize("begin", [b'{"v"', b"\x78\xbb", CLEAR[:4], b"\x78\x9c\x00\x00"])
def test_a_key_name_that_looks_like_a_record_is_no_clear_record(begin: bytes) -> None:
    """Only a whole record counts."""
    assert not any(is_clear(begin + os.urandom(60)) for _ in range(1000))


def test_a_damaged_record_is_refused(inner: Backend) -> None:
    """It is neither a whole record nor ciphertext of a known key."""
    for value in (CLEAR[:-1], SHORT[1][:-1], SHORT[1][:20] + bytes(40), b"\xff" * 40, b"\xff" * 31):
        inner.put("k:1", value)
        assert _mode(inner).get("k:1") is None
        assert inner.get("k:1") == value


def test_without_the_option_clear_records_are_refused(inner: Backend) -> None:
    """Write access to the store does not make a session. [T13]"""
    inner.put("k:1", CLEAR)
    assert EncryptedBackend(inner, [KEY]).get("k:1") is None
    assert inner.get("k:1") == CLEAR


def test_a_failure_to_encrypt_does_not_refuse_the_record() -> None:
    """A store that is read-only at present still serves sessions."""

    class ReadOnly(MemoryBackend):
        def rewrite(self, key: str, expected: bytes, value: bytes) -> bool:
            raise UnreadableRecord("read-only")

    inner = ReadOnly()
    inner.put("k:1", CLEAR)
    assert _mode(inner).get("k:1") == CLEAR


@pytest.mark.parametrize("kind", ["memory", "sqlite", "redis", "postgres"])
def test_the_records_of_each_form_are_counted(request: pytest.FixtureRequest, kind: str) -> None:
    """Notes, counters, locks and indexes are no records. [S10]"""
    inner: Backend = request.getfixturevalue(kind)
    backend = EncryptedBackend(inner, [KEY, OTHER], read_plaintext=True)
    for number in range(450):
        inner.put(f"k:{number}", SHORT[number % 2], Terms(ttl=60, group="k:"))
    inner.put("used:1", b"")
    backend.put("k:secret", CLEAR, Terms(group="k:"))
    EncryptedBackend(inner, [OTHER]).put("k:older", CLEAR)
    EncryptedBackend(inner, ["A" * 43]).put("k:unknown", CLEAR)
    backend.count("n:1", 60)
    with backend.lock("oauth:lock:alice", 1):
        found = backend.census().forms
    assert found == {Form.CLEAR: 450, Form.CURRENT: 1, Form.OLDER: 1, Form.UNREADABLE: 1}
    part = backend.census(seconds=0)
    assert (part.complete, 0 < part.forms.total() < 450) == (False, True)
    for number in range(449):
        backend.get(f"k:{number}")
    last = backend.census()
    assert last.forms == {Form.CLEAR: 1, Form.CURRENT: 450, Form.OLDER: 1, Form.UNREADABLE: 1}
    assert last.complete


def test_a_record_after_very_many_others_is_counted() -> None:
    """A count that stops early must not say that all records are encrypted. [S10]"""

    class Large(MemoryBackend):
        def keys(self, kind: str) -> Iterator[str]:
            yield from (f"used:{number}" for number in range(150_000))
            yield "k:1"

    inner = Large()
    inner.put("k:1", CLEAR)
    found = _mode(inner).census()
    assert (found.forms, found.complete) == ({Form.CLEAR: 1}, True)


def test_the_option_has_no_effect_without_keys() -> None:
    assert StorageOptions("memory", read_plaintext=True) == StorageOptions("memory")


def test_the_options_open_a_backend_that_reads_clear_records(tmp_path: Path) -> None:
    path, keys = tmp_path / "state.sqlite3", (KEY,)
    open_backend(StorageOptions("sqlite", path=path)).put("k:1", CLEAR)
    strict = StorageOptions("sqlite", path=path, encryption_keys=keys)
    lenient = StorageOptions("sqlite", path=path, encryption_keys=keys, read_plaintext=True)
    assert open_backend(strict).get("k:1") is None
    assert open_backend(lenient).get("k:1") == CLEAR
    assert open_backend(strict).get("k:1") == CLEAR
    open_backend(strict).close()
