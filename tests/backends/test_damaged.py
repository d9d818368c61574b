"""Damaged records: numbers and sizes in them start no loop and no large allocation."""

from __future__ import annotations

import base64
import hashlib
import math
import sqlite3
import struct
import zlib
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import pytest

from pywry_auth.backends.base import LARGEST_VALUE, Backend, Terms, UnreadableRecord, When
from pywry_auth.backends.keyring import KeyringBackend
from pywry_auth.backends.keyring_entries import Entries
from pywry_auth.backends.keyring_vault import ServiceVault
from pywry_auth.backends.redis import RedisBackend
from pywry_auth.backends.sqlite import SQLiteBackend
from pywry_auth.exceptions import StoreUnavailable
from tests.backends.fixtures import Clock
from tests.backends.keyrings import WindowsKeyring
from tests.peers.redis_server import RedisServer

_BUSY = 400  # calls of the keyring; enough for any record of the tests


class CountingKeyring(WindowsKeyring):
    """A keyring that counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def get_password(self, service: str, username: str) -> str | None:
        self.calls += 1
        return super().get_password(service, username)

    def delete_password(self, service: str, username: str) -> None:
        self.calls += 1
        super().delete_password(service, username)


@pytest.fixture
def vault() -> CountingKeyring:
    return CountingKeyring()


@pytest.fixture
def on_keyring(vault: CountingKeyring, clock: Clock, tmp_path: Path) -> KeyringBackend:
    return KeyringBackend("test", vault=vault, folder=tmp_path / "locks", clock=clock, patience=20)


def _head(key: str, slot: str = "a") -> tuple[str, str]:
    return "test", f"{hashlib.sha256(key.encode()).hexdigest()}.{slot}0"


@pytest.mark.parametrize("parts", ["0", "2", "65", "3999", "4000", "4001", "999999999"])
def test_a_head_with_a_false_number_of_parts_counts_as_missing(
    on_keyring: KeyringBackend, vault: CountingKeyring, parts: str
) -> None:
    """Its record can be replaced and removed with few calls. [T51]"""
    for act in (lambda: on_keyring.put("k:1", b"new"), lambda: on_keyring.pop("k:1")):
        on_keyring.put("k:1", bytes(range(256)) * 20)
        vault.entries[_head("k:1")] = f"1:{parts}:{'0' * 64}:AAAA"
        vault.calls = 0
        assert on_keyring.get("k:1") is None
        act()
        assert vault.calls < _BUSY
        on_keyring.pop("k:1")
    assert on_keyring.put("k:1", b"later", Terms(when=When.ABSENT))
    assert on_keyring.get("k:1") == b"later"
    on_keyring.pop("k:1")
    assert {name for _, name in vault.entries} <= {"index.a0", "index.b0"}


def test_the_last_serial_is_followed_by_the_first(on_keyring: KeyringBackend, vault: CountingKeyring) -> None:
    """A record with a serial of nine nines can still be replaced. [T51]"""
    on_keyring.put("k:1", b"old")
    serial, rest = vault.entries[_head("k:1")].split(":", 1)
    assert serial == "1"
    vault.entries[_head("k:1")] = f"999999999:{rest}"
    assert on_keyring.get("k:1") == b"old"
    for value in (b"new", b"newer", b"newest"):
        on_keyring.put("k:1", value)
        assert on_keyring.get("k:1") == value


def test_a_small_entry_that_expands_to_much_counts_as_missing(
    on_keyring: KeyringBackend, vault: CountingKeyring
) -> None:
    """It is expanded only up to the size that can be written. [T51]"""
    on_keyring.put("k:1", b"v")
    bomb = zlib.compress(zlib.compress(bytes(200 << 20), 9), 9)
    inner = zlib.decompressobj().decompress(bomb)
    text = base64.b64encode(inner).decode("ascii")
    name = hashlib.sha256(b"k:1").hexdigest()
    parts = [text[at : at + 1200] for at in range(1000, len(text), 1200)]
    for number, part in enumerate(parts, 1):
        vault.entries["test", f"{name}.a{number}"] = part
    digest = hashlib.sha256(text.encode()).hexdigest()
    vault.entries[_head("k:1")] = f"1:{len(parts) + 1}:{digest}:{text[:1000]}"
    assert on_keyring.get("k:1") is None
    assert on_keyring.put("k:1", b"new", Terms(when=When.ABSENT))


def test_a_value_that_could_not_be_read_again_is_not_written(on_keyring: KeyringBackend) -> None:
    """The limits of reading and of writing are the same. [T51]"""
    on_keyring.put("k:1", b"old")
    with pytest.raises(StoreUnavailable, match="too large"):
        on_keyring.put("k:1", bytes((4 << 20) + 1))
    assert on_keyring.get("k:1") == b"old"
    assert on_keyring.put("k:1", bytes((4 << 20) - 8))
    assert on_keyring.get("k:1") == bytes((4 << 20) - 8)


@pytest.mark.parametrize("end", [math.nan, -math.inf])
def test_a_keyring_record_with_an_impossible_end_counts_as_missing(
    on_keyring: KeyringBackend, vault: CountingKeyring, end: float
) -> None:
    """Otherwise it would live forever. [T51]"""
    Entries(ServiceVault("test", vault)).write(
        hashlib.sha256(b"k:1").hexdigest(), struct.pack(">d", end) + b"v"
    )
    assert on_keyring.get("k:1") is None


@pytest.mark.parametrize("end", ["NaN", "Infinity", "1e999", '"5"', "[]"])
def test_an_index_with_an_impossible_end_counts_as_missing(
    on_keyring: KeyringBackend, vault: CountingKeyring, end: str
) -> None:
    """Otherwise its record would never be removed. [T51]"""
    Entries(ServiceVault("test", vault)).write("index", f'[["k:1","k:all",{end}]]'.encode())
    assert on_keyring.members("k:all") == []


# Columns of an SQLite file


_VALUES = {
    "number": "1000000000000",
    "text": "'text'",
    "real": "1e300",
    "large": f"zeroblob({LARGEST_VALUE + 1})",
}


@pytest.fixture
def columns(sqlite: SQLiteBackend, tmp_path: Path) -> Callable[[str], None]:
    def change(assignment: str) -> None:
        with sqlite3.connect(tmp_path / "state.sqlite3") as connection:
            connection.execute(f"UPDATE records SET {assignment}")  # noqa: S608 - from the test itself
        connection.close()

    return change


@pytest.mark.parametrize(
    "assignment",
    [*(f"value = {value}" for value in _VALUES.values()), "expires = 'never'", "expires = x'00'"],
)
def test_a_row_with_a_wrong_type_or_size_counts_as_missing(
    sqlite: SQLiteBackend, columns: Callable[[str], None], assignment: str
) -> None:
    """A number is not taken for the length of a value. [T51]"""
    sqlite.put("k:1", b"v", Terms(group="k:all"))
    columns(assignment)
    assert sqlite.get("k:1") is None
    assert sqlite.members("k:all") == []
    with pytest.raises(UnreadableRecord):
        sqlite.read("k:1")
    sqlite.put("k:2", b"w")
    assert sqlite.get_many(["k:1", "k:2", "k:3"]) == {"k:1": None, "k:2": b"w"}
    sqlite.pop("k:2")
    assert sqlite.count("k:1", 60) == 1
    columns(assignment)
    assert sqlite.pop("k:1") is None
    assert sqlite.put("k:1", b"new", Terms(when=When.ABSENT))
    assert sqlite.read("k:1") == b"new"
    sqlite.pop("k:1")
    assert sqlite.read("k:1") is None


@pytest.mark.parametrize("key", ["x'ff'", "5", "'text'", "x'ed00'"])
def test_a_key_that_is_no_text_is_not_listed(
    sqlite: SQLiteBackend, columns: Callable[[str], None], key: str
) -> None:
    """A listing goes on with the other keys. [T51]"""
    sqlite.put("k:1", b"v", Terms(group="k:all"))
    columns(f"key = {key}")
    sqlite.put("k:2", b"v", Terms(group="k:all"))
    assert sqlite.members("k:all") == ["k:2"]


@pytest.mark.parametrize("number", ["x'6162'", "x'2d39'", "''", "zeroblob(100)", "x'" + "39" * 5000 + "'"])
def test_a_damaged_counter_starts_again(
    sqlite: SQLiteBackend, columns: Callable[[str], None], number: str
) -> None:
    """Its limit applies again. [T51]"""
    sqlite.count("n:1", 60)
    columns(f"value = CAST({number} AS BLOB)")
    assert [sqlite.count("n:1", 60), sqlite.count("n:1", 60)] == [1, 2]


def test_a_counter_ends_after_its_window_at_the_latest(
    sqlite: SQLiteBackend, columns: Callable[[str], None], clock: Clock
) -> None:
    """A changed end does not lock a client out forever. [T51]"""
    sqlite.count("n:1", 60)
    columns("expires = 9e999")
    assert sqlite.count("n:1", 60) == 2
    clock.advance(61)
    assert sqlite.count("n:1", 60) == 1


# Values on a Redis server


def _large(server: RedisServer, key: str) -> None:
    server.client.setrange(key, LARGEST_VALUE, b"x")


@pytest.fixture
def patient(redis: RedisBackend, redis_server: RedisServer) -> Iterator[RedisBackend]:
    """Redis with a long time limit, because a busy machine is slow with 16 MiB."""
    backend = RedisBackend(f"{redis_server.url}?socket_timeout=30")
    yield backend
    backend.close()


def test_a_value_larger_than_any_of_ours_is_never_loaded(
    patient: RedisBackend, redis_server: RedisServer
) -> None:
    """It counts as missing and can be replaced. [T51]"""
    _large(redis_server, "pywry:k:1")
    before = redis_server.client.info("stats")["total_net_output_bytes"]
    assert patient.get("k:1") is None
    with pytest.raises(UnreadableRecord):
        patient.read("k:1")
    patient.put("k:2", b"v")
    redis_server.client.zadd("pywry:k:3", {"another type": 1})
    assert patient.get_many(["k:1", "k:2", "k:3", "k:4"]) == {"k:1": None, "k:2": b"v", "k:3": None}
    assert not patient.put("k:1", b"v", Terms(when=When.PRESENT))
    assert not patient.put("k:1", b"v", Terms(expected=b"x"))
    assert patient.pop("k:1", b"x") is None
    assert not patient.rewrite("k:1", b"x", b"v")
    assert patient.put("k:1", b"new", Terms(when=When.ABSENT))
    assert patient.read("k:1") == b"new"
    _large(redis_server, "pywry:k:1")
    assert patient.pop("k:1") is None
    assert patient.read("k:1") is None
    assert redis_server.client.info("stats")["total_net_output_bytes"] - before < 1_000_000


def test_members_that_are_no_keys_are_not_listed(patient: RedisBackend, redis_server: RedisServer) -> None:
    """A listing goes on with the other keys. [T51]"""
    patient.put("k:1", b"v", Terms(group="k:all", ttl=60))
    redis_server.client.zadd("pywry:group:k:all", {b"\xff": 5, b"\0" + b"y" * (LARGEST_VALUE + 1): 7})
    redis_server.client.set(b"pywry:k:\xff", b"")
    assert patient.members("k:all") == ["k:1"]


@pytest.mark.parametrize("score", [1e300, -1e300, 1.5, math.inf, 9e15])
def test_a_group_with_an_impossible_time_takes_new_members(
    redis: RedisBackend, redis_server: RedisServer, score: float
) -> None:
    """A user with such a group can sign in. [T51]"""
    redis_server.client.zadd("pywry:group:k:all", {"other": score})
    assert redis.put("k:1", b"v", Terms(group="k:all", ttl=60))
    assert redis.members("k:all") == ["k:1"]


def test_a_group_of_another_type_is_an_error_before_the_write(
    redis: RedisBackend, redis_server: RedisServer
) -> None:
    """No record is stored that its group does not list. [T51]"""
    redis_server.client.set("pywry:group:k:all", "canary")
    with pytest.raises(StoreUnavailable) as caught:
        redis.put("k:1", b"v", Terms(group="k:all"))
    assert "canary" not in str(caught.value)
    assert redis.get("k:1") is None


@pytest.mark.parametrize("value", ["x", "", "-5", "9" * 18 + "9" * 10, "9223372036854775807", "1.5"])
def test_a_damaged_counter_on_redis_starts_again(
    redis: RedisBackend, redis_server: RedisServer, value: str
) -> None:
    """Its limit applies again, and it expires. [T51]"""
    redis_server.client.set("pywry:n:1", value)
    assert [redis.count("n:1", 60), redis.count("n:1", 60)] == [1, 2]
    assert 0 < redis_server.client.ttl("pywry:n:1") <= 60


@pytest.mark.parametrize("seconds", [0, 10**9])
def test_a_counter_on_redis_ends_after_its_window_at_the_latest(
    redis: RedisBackend, redis_server: RedisServer, seconds: int
) -> None:
    """A changed end does not lock a client out forever. [T51]"""
    redis_server.client.set("pywry:n:1", 5, ex=seconds or None)
    assert redis.count("n:1", 60) == 6
    assert 0 < redis_server.client.ttl("pywry:n:1") <= 60


# All backends


@pytest.mark.parametrize("name", ["sqlite", "redis"])
def test_a_value_is_not_larger_than_can_be_read_again(request: pytest.FixtureRequest, name: str) -> None:
    """The error comes before the write. [T51]"""
    backend: Backend = request.getfixturevalue(name)
    with pytest.raises(ValueError, match="too large"):
        backend.put("k:1", bytes(LARGEST_VALUE + 1))
    assert backend.get("k:1") is None


@pytest.mark.parametrize("name", ["memory", "sqlite", "redis", "keyring"])
def test_a_rewrite_keeps_the_lifetime_and_the_group(
    request: pytest.FixtureRequest, name: str, clock: Clock
) -> None:
    """Only the bytes change, and only if they are the expected ones."""
    backend: Backend = request.getfixturevalue(name)
    backend.put("k:1", b"old", Terms(ttl=100, group="k:all"))
    backend.put("k:2", b"old")
    for key, (expected, done) in product(("k:1", "k:2"), ((b"other", False), (b"old", True))):
        assert backend.rewrite(key, expected, b"new") is done
        assert backend.get(key) == (b"new" if done else b"old")
    assert not backend.rewrite("k:3", b"old", b"new")
    assert backend.get("k:3") is None
    assert backend.members("k:all") == ["k:1"]
    if name == "redis":
        server: RedisServer = request.getfixturevalue("redis_server")
        assert 90 < server.client.ttl("pywry:k:1") <= 100
        assert server.client.ttl("pywry:k:2") == -1
        return
    clock.advance(101)
    assert backend.get("k:1") is None
    assert not backend.rewrite("k:1", b"new", b"newer")
    assert backend.get("k:2") == b"new"
