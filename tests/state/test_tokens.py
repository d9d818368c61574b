"""Token stores, with any user ID and on any backend."""

from __future__ import annotations

import hashlib
import sqlite3
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import keyring
import pytest

from pywry_auth.backends.base import Backend, Terms, UnreadableRecord
from pywry_auth.backends.redis import RedisBackend
from pywry_auth.exceptions import StoreUnavailable
from pywry_auth.models import OAuthTokenSet
from pywry_auth.state.records import pack
from pywry_auth.state.token_stores import (
    KeyringTokenStore,
    MemoryTokenStore,
    RedisTokenStore,
    SQLiteTokenStore,
    get_token_store,
)
from pywry_auth.state.tokens import TokenStore
from pywry_auth.testing.backend_contract import HOSTILE_KEYS
from tests.backends.fixtures import ENCRYPTION_KEY, Clock
from tests.backends.keyrings import WindowsKeyring
from tests.backends.threads import together
from tests.peers.redis_server import RedisServer
from tests.protocol.forge import segment

OTHER_KEY = ENCRYPTION_KEY[::-1].lstrip("=")

TOKENS = OAuthTokenSet("at", refresh_token="rt", expires_in=3600, raw={"access_token": "at", "x": [1]})


@pytest.fixture(params=["memory", "sqlite", "redis", "encrypted", "keyring"])
def backend(request: pytest.FixtureRequest) -> Backend:
    found: Backend = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def store(backend: Backend) -> TokenStore:
    return TokenStore(backend)


def test_a_fresh_store_has_no_token_set(store: TokenStore) -> None:
    """No guessed user ID has tokens. [T11]"""
    assert store.list_keys() == []
    for key in ("local", "admin", "unknown", "current", "", "x" * 4096, "\0"):
        assert store.load(key) is None
        assert not store.exists(key)
        assert not store.delete(key)


def test_a_saved_set_is_loaded_until_it_is_deleted(store: TokenStore) -> None:
    store.save("alice", TOKENS)
    assert store.load("alice") == TOKENS
    assert store.exists("alice")
    assert store.list_keys() == ["alice"]
    assert store.delete("alice")
    assert store.load("alice") is None
    assert not store.exists("alice")
    assert store.list_keys() == []
    assert not store.delete("alice")


def test_the_largest_id_token_of_an_answer_is_kept(store: TokenStore) -> None:
    """An answer has at most 1 MiB, and Microsoft sends hundreds of groups. [T41]"""
    groups = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(11_500)]
    claims = {"sub": "alice", "groups": groups}
    token = f"{segment({'alg': 'ES256'})}.{segment(claims)}.c2ln"
    assert 1_000_000 < len(token) < 1 << 20
    tokens = OAuthTokenSet("at", id_token=token, raw={"id_token": token}, id_token_claims=claims)
    store.save("alice", tokens)
    assert store.load("alice") == tokens


def test_a_later_set_replaces_the_earlier_one(store: TokenStore) -> None:
    store.save("alice", TOKENS)
    later = OAuthTokenSet("at2")
    store.save("alice", later)
    assert store.load("alice") == later
    assert store.list_keys() == ["alice"]


def test_any_user_id_is_a_key_of_its_own(store: TokenStore) -> None:
    for number, key in enumerate(HOSTILE_KEYS):
        store.save(key, OAuthTokenSet(f"at{number}", issued_at=1))
    assert sorted(store.list_keys()) == sorted(HOSTILE_KEYS)
    for number, key in enumerate(HOSTILE_KEYS):
        assert store.load(key) == OAuthTokenSet(f"at{number}", issued_at=1)
        assert store.delete(key)
    assert store.list_keys() == []


def test_a_replacement_does_not_restore_a_deleted_set(store: TokenStore) -> None:
    old = OAuthTokenSet("old")
    assert not store.replace("alice", TOKENS, old)
    assert store.list_keys() == []
    store.save("alice", old)
    assert store.replace("alice", TOKENS, old)
    assert store.load("alice") == TOKENS
    assert not store.replace("alice", old, old)
    assert store.load("alice") == TOKENS


def test_a_replacement_does_not_overwrite_a_concurrent_change(
    backend: Backend, store: TokenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sign-in or sign-out during a refresh takes precedence. [P10]"""
    newest, get = OAuthTokenSet("newest", issued_at=1), backend.get
    left: OAuthTokenSet | None

    def overtaken(key: str) -> bytes | None:
        seen = get(key)
        monkeypatch.undo()
        if left:
            store.save("alice", left)
        else:
            store.delete("alice")
        return seen

    for left in (newest, None):
        store.save("alice", TOKENS)
        monkeypatch.setattr(backend, "get", overtaken)
        assert not store.replace("alice", OAuthTokenSet("refreshed"), TOKENS)
        assert store.load("alice") == left


def test_one_of_many_refreshes_replaces_the_set(store: TokenStore) -> None:
    store.save("alice", TOKENS)
    fresh = [OAuthTokenSet(f"at{number}", issued_at=1) for number in range(32)]
    won = together(32, lambda number: store.replace("alice", fresh[number], TOKENS))
    assert won.count(True) == 1
    assert store.load("alice") == fresh[won.index(True)]


def test_cache_clear_drops_the_instances() -> None:
    store = get_token_store()
    store.save("forgotten", TOKENS)
    get_token_store.cache_clear()
    assert get_token_store() is not store
    assert not get_token_store().exists("forgotten")


def test_a_set_is_discarded_unless_another_replaced_it(
    backend: Backend, store: TokenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A newer set is never deleted. [N6]

    This includes one that is stored between the read and the removal.
    """
    assert not store.discard("alice", TOKENS)
    store.save("alice", OAuthTokenSet("newer"))
    assert not store.discard("alice", TOKENS)
    store.save("alice", TOKENS)
    get = backend.get

    def overtaken(key: str) -> bytes | None:
        seen = get(key)
        monkeypatch.undo()
        store.save("alice", OAuthTokenSet("newest", issued_at=1))
        return seen

    monkeypatch.setattr(backend, "get", overtaken)
    assert not store.discard("alice", TOKENS)
    assert store.load("alice") == OAuthTokenSet("newest", issued_at=1)
    store.save("alice", TOKENS)
    assert store.discard("alice", TOKENS)
    assert store.list_keys() == []


def test_an_unreadable_record_counts_as_missing_and_can_be_replaced(
    backend: Backend, store: TokenStore
) -> None:
    backend.put("oauth:tokens:alice", b"garbage", Terms(group="oauth:tokens"))
    assert store.load("alice") is None
    store.save("alice", TOKENS)
    assert store.load("alice") == TOKENS


def test_a_set_of_a_newer_version_is_an_outage_and_stays(backend: Backend, store: TokenStore) -> None:
    """No sign-in, refresh or sign-out of this process replaces or removes it. [T68, T66]"""
    newer = pack({"v": 2})
    backend.put("oauth:tokens:alice", newer, Terms(group="oauth:tokens"))
    for call in (
        lambda: store.load("alice"),
        lambda: store.find("alice"),
        lambda: store.save("alice", TOKENS, owner="alice"),
        lambda: store.settle("alice", TOKENS),
        lambda: store.replace("alice", TOKENS, TOKENS),
        lambda: store.discard("alice", TOKENS),
        lambda: store.discard_unreadable("alice"),
        lambda: store.keep_until("alice", 1e12),
    ):
        with pytest.raises(UnreadableRecord):
            call()
    assert backend.get("oauth:tokens:alice") == newer
    assert store.list_keys() == ["alice"]
    assert store.exists("alice")


def test_each_user_has_a_separate_lock(store: TokenStore) -> None:
    inside: list[str] = []

    def refresh(number: int) -> None:
        with store.lock("alice", 30):
            inside.append("alice")
            assert inside == ["alice"]
            inside.clear()

    with store.lock("bob", 30):
        together(8, refresh)


@pytest.mark.parametrize(
    ("tokens", "refresh_token_ttl", "lasts"),
    [
        (OAuthTokenSet("at", expires_in=3600), None, 3900),
        (OAuthTokenSet("at", expires_in=-5), None, 300),
        (OAuthTokenSet("at", expires_in=3600), 86400, 3900),
        (OAuthTokenSet("at", expires_in=3600, refresh_token="rt"), 0, 3900),
        (OAuthTokenSet("at", expires_in=3600, refresh_token="rt"), 60, 3900),
        (OAuthTokenSet("at", expires_in=3600, refresh_token="rt"), 86400, 86400),
        (OAuthTokenSet("at", expires_in=3600, refresh_token="rt"), None, None),
        (OAuthTokenSet("at", refresh_token="rt"), 60, None),
        (OAuthTokenSet("at"), None, None),
    ],
)
def test_a_set_is_kept_as_long_as_it_can_be_useful(
    clocked: Backend,
    clock: Clock,
    tokens: OAuthTokenSet,
    refresh_token_ttl: float | None,
    lasts: float | None,
) -> None:
    store = TokenStore(clocked, refresh_token_ttl=refresh_token_ttl)
    store.save("alice", tokens)
    clock.now += 10**9 if lasts is None else lasts - 1
    assert store.exists("alice")
    clock.now += 1
    assert store.exists("alice") is (lasts is None)


@pytest.mark.parametrize(
    ("tokens", "refresh_token_ttl", "lasts"),
    [
        (OAuthTokenSet("at", expires_in=3600, refresh_token="rt"), 0, 3900),
        (OAuthTokenSet("at", expires_in=3600), 0, 3900),
        (OAuthTokenSet("at"), 0, -1),
        (OAuthTokenSet("at", refresh_token="rt"), 0, -1),
        (OAuthTokenSet("at", issued_at=0, expires_in=0, refresh_token="rt"), 0, -1),
        (OAuthTokenSet("at", issued_at=1, expires_in=3600, refresh_token="rt"), 0, -1),
        (OAuthTokenSet("at", issued_at=0, expires_in=0, refresh_token="rt"), 86400, 86400),
        (OAuthTokenSet("at", issued_at=0, expires_in=0), 0, 300),
        (OAuthTokenSet("at", expires_in=3600, refresh_token="rt"), 86400, 86400),
    ],
)
def test_redis_keeps_sets_under_the_documented_key_and_lifetime(
    redis_server: RedisServer, tokens: OAuthTokenSet, refresh_token_ttl: float, lasts: int
) -> None:
    """The key is ``{prefix}:oauth:tokens:{key}``. [S6]

    The lifetime is ``expires_in + 300`` seconds; there is no limit without ``expires_in``, or if the access
    token has expired and only the refresh token is of use.
    """
    store = RedisTokenStore(redis_server.url, "shop", refresh_token_ttl=refresh_token_ttl)
    store.save("github:42\n", tokens)
    ttl = redis_server.client.ttl(b"shop:oauth:tokens:github:42\n")
    assert ttl == -1 if lasts == -1 else lasts - 5 <= ttl <= lasts
    store.delete("github:42\n")
    store.close()


def test_prefixes_keep_applications_apart(redis_server: RedisServer) -> None:
    one, other = RedisTokenStore(redis_server.url, "one"), RedisTokenStore(redis_server.url, "one:oauth")
    one.save("alice", TOKENS)
    assert other.load("alice") is None
    assert other.list_keys() == []
    one.delete("alice")
    one.close()
    other.close()


def test_sqlite_keeps_sets_for_the_next_process(tmp_path: Path) -> None:
    first = SQLiteTokenStore(tmp_path / "deep" / "tokens.db")
    first.save("alice", TOKENS)
    first.close()
    connection = sqlite3.connect(tmp_path / "deep" / "tokens.db")
    assert connection.execute("SELECT count(*) FROM records").fetchone() == (1,)
    connection.close()
    again = SQLiteTokenStore(tmp_path / "deep" / "tokens.db")
    assert again.load("alice") == TOKENS
    again.close()


def test_the_same_arguments_give_the_same_store(tmp_path: Path) -> None:
    store = get_token_store()
    other = get_token_store("sqlite", path=tmp_path / "a.db")
    assert get_token_store("redis", redis_url="redis://localhost:1/0") is not store
    assert get_token_store("memory") is store
    assert get_token_store(backend="memory", prefix="ignored") is store
    assert get_token_store("sqlite", path=tmp_path / "a.db") is other
    assert get_token_store("sqlite", path=tmp_path / "b.db") is not other
    assert get_token_store("redis") is get_token_store("redis", prefix="pywry")
    assert isinstance(store, MemoryTokenStore)
    assert isinstance(other, SQLiteTokenStore)


def test_the_error_for_an_unknown_backend_names_the_choices() -> None:
    with pytest.raises(ValueError, match=r"'floppy'.*memory, sqlite, redis"):
        get_token_store("floppy")


def test_the_error_for_a_missing_package_names_it_and_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may also be a package that redis needs."""
    monkeypatch.setitem(sys.modules, "redis", None)
    monkeypatch.delitem(sys.modules, "pywry_auth.backends.redis")
    with pytest.raises(ImportError, match=r"needs the package redis: pip install 'pywry-auth\[redis\]'"):
        get_token_store("redis", redis_url="redis://localhost:2/0")


@pytest.mark.parametrize(
    "url", ["http://u:canary@h", "redis://u:canary@h:p", "redis://u:can/ary@h", "nonsense"]
)
def test_a_wrong_redis_url_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ValueError, match="redis://user:password@host:6379/0") as caught:
        RedisTokenStore(url)
    assert "can" not in str(caught.value)


def test_redis_stores_share_one_backend(redis: RedisBackend, redis_server: RedisServer) -> None:
    RedisTokenStore(redis_server.url).save("alice", TOKENS)
    assert TokenStore(redis).load("alice") == TOKENS


def test_a_store_with_keys_keeps_only_ciphertext(tmp_path: Path) -> None:
    """The tokens are unreadable without the keys. [T13]"""
    place = tmp_path / "tokens.db"
    store = get_token_store("sqlite", path=place, encryption_keys=[ENCRYPTION_KEY])
    store.save("alice", OAuthTokenSet("canary", refresh_token="canary"))
    assert isinstance(store, SQLiteTokenStore)
    assert store.load("alice") is not None
    with pytest.raises(StoreUnavailable, match="PYWRY_DEPLOY__ENCRYPTION_KEYS"):
        SQLiteTokenStore(place).load("alice")
    assert all(b"canary" not in file.read_bytes() for file in tmp_path.iterdir())
    store.close()


def test_stores_with_different_keys_are_different_instances() -> None:
    keys = [ENCRYPTION_KEY, OTHER_KEY]
    store = get_token_store("memory", encryption_keys=keys)
    assert get_token_store("memory", encryption_keys=tuple(keys)) is store
    for other in ([], keys[:1], keys[::-1]):
        assert get_token_store("memory", encryption_keys=other) is not store
    assert ENCRYPTION_KEY not in f"{store!r} {vars(store)!r}"


@pytest.mark.parametrize("kind", [MemoryTokenStore, SQLiteTokenStore, RedisTokenStore, KeyringTokenStore])
def test_a_malformed_key_is_refused_by_every_store_and_not_quoted(kind: type[TokenStore]) -> None:
    with pytest.raises(ValueError, match="PYWRY_DEPLOY__ENCRYPTION_KEYS") as caught:
        kind(encryption_keys=["canary"])  # type: ignore[call-arg]
    assert "canary" not in str(caught.value)


def test_the_keyring_store_keeps_sets_under_its_service(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    vault = WindowsKeyring()
    vault.priority = 5  # type: ignore[attr-defined]
    monkeypatch.setattr(keyring, "get_keyring", lambda: vault)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    store = get_token_store("keyring", service_name="my-app")
    assert isinstance(store, KeyringTokenStore)
    assert get_token_store("keyring", service_name="my-app") is store
    assert get_token_store("keyring") is not store
    store.probe()
    store.save("alice", OAuthTokenSet("a" * 2000, refresh_token="rt", expires_in=3600))
    assert KeyringTokenStore("my-app").load("alice") == store.load("alice")
    assert KeyringTokenStore().load("alice") is None
    assert {service for service, _ in vault.entries} == {"my-app"}
    assert (tmp_path / "pywry-auth" / "locks").is_dir()


def test_a_probe_leaves_nothing_behind(store: TokenStore) -> None:
    store.save("alice", TOKENS)
    store.probe()
    assert store.list_keys() == ["alice"]


def test_a_probe_fails_on_an_unusable_store(tmp_path: Path) -> None:
    """A program can check before the sign-in. [N5]"""
    (tmp_path / "file").write_text("")
    for broken in (SQLiteTokenStore(tmp_path / "file" / "t.db"), RedisTokenStore("redis://127.0.0.1:1/0")):
        with pytest.raises(StoreUnavailable):
            broken.probe()
        broken.close()


@pytest.mark.parametrize(
    ("members", "seconds"),
    [
        ({"refresh_token": "r"}, 86400),
        ({"id_token": "a.b.c"}, 86400),
        ({}, 3600 + 300),
        ({"refresh_token": "r", "expires_in": 100_000}, 100_000 + 300),
    ],
)
def test_a_set_that_a_session_needs_is_kept_as_long_as_the_session(
    clocked: Backend, clock: Clock, members: dict[str, Any], seconds: float
) -> None:
    """A sign-out sends the ID token to the provider, and revokes the refresh token. [S6]"""
    store = TokenStore(clocked, refresh_token_ttl=0)
    store.keep_for(86400)
    store.keep_for(60)
    store.save("alice", OAuthTokenSet("a", **{"expires_in": 3600, **members}))
    clock.now += seconds - 1
    assert store.exists("alice")
    clock.now += 2
    assert not store.exists("alice")


def test_a_review_stays_due_until_it_is_noted(store: TokenStore) -> None:
    """Neither a session that lasts longer nor a refresh of a background job loses it."""
    fresh, later = replace(TOKENS, access_token="fresh"), replace(TOKENS, access_token="later")

    def due() -> str | None:
        stored = store.find("user")
        return stored.review if stored else None

    store.keep_for(3600)
    store.save("user", TOKENS, hold=60)
    assert store.replace("user", fresh, TOKENS, review="claims")
    store.keep_until("user", time.time() + 99_999)
    store.settle("user", TOKENS)
    assert due() == "claims"
    assert store.replace("user", later, fresh)
    store.note_reviewed("user", fresh)
    assert due() == "claims", "the other set was not reviewed"
    store.note_reviewed("user", later)
    assert due() == ""
    assert store.replace("user", fresh, later, review="claims")
    store.save("user", TOKENS)
    assert due() == "", "a sign-in evaluates the rules itself"
