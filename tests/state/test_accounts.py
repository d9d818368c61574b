"""The accounts of a program's users, on any backend."""

from __future__ import annotations

import pytest

from pywry_auth.backends.base import Backend
from pywry_auth.backends.encrypted import EncryptedBackend
from pywry_auth.backends.memory import MemoryBackend
from pywry_auth.backends.sqlite import SQLiteBackend
from pywry_auth.state.accounts import Accounts, StoredProfile
from pywry_auth.state.tokens import TokenStore
from pywry_auth.testing.backend_contract import HOSTILE_KEYS
from pywry_auth.testing.faulty_backend import FaultyBackend
from tests.backends.fixtures import ENCRYPTION_KEY

PROFILE = {"sub": "alice", "name": "Alice Example", "groups": ["a", "b"], "nested": {"x": None}}
KEYS = ("current:desk", "profile:4:desk:alice")


@pytest.fixture(params=["memory", "sqlite", "redis", "encrypted", "keyring"])
def backend(request: pytest.FixtureRequest) -> Backend:
    backend: Backend = request.getfixturevalue(request.param)
    return backend


def test_a_fresh_store_has_no_account(backend: Backend) -> None:
    accounts = Accounts(backend, "desk")
    assert accounts.current is None
    assert accounts.get("alice") is None
    accounts.forget("alice")
    assert accounts.current is None


def test_the_last_sign_in_is_current_and_all_accounts_are_kept(backend: Backend) -> None:
    accounts = Accounts(backend, "desk")
    accounts.remember("alice", PROFILE, ["openid", "email"])
    accounts.remember("bob", {"sub": "bob"}, [])
    assert accounts.current == "bob"
    assert accounts.get("alice") == StoredProfile(PROFILE, frozenset({"openid", "email"}))
    assert accounts.get("bob") == StoredProfile({"sub": "bob"})
    accounts.select("alice")
    assert accounts.current == "alice"


def test_a_later_sign_in_replaces_the_earlier_one(backend: Backend) -> None:
    accounts = Accounts(backend, "desk")
    accounts.remember("alice", PROFILE, ["openid"])
    accounts.remember("alice", {"sub": "alice", "name": "New"}, ["openid", "groups"])
    assert accounts.get("alice") == StoredProfile(
        {"sub": "alice", "name": "New"}, frozenset({"openid", "groups"})
    )


def test_a_forgotten_account_is_not_current_and_others_are_kept(backend: Backend) -> None:
    accounts = Accounts(backend, "desk")
    for user in ("alice", "bob"):
        accounts.remember(user, {"sub": user}, [])
    accounts.forget("alice")
    assert (accounts.get("alice"), accounts.current) == (None, "bob")
    accounts.forget("bob")
    assert (accounts.get("bob"), accounts.current) == (None, None)


def test_a_user_who_is_selected_while_another_is_forgotten_stays_current(memory: MemoryBackend) -> None:
    """The selection is removed only if it is still that of the forgotten user. [T55]"""
    faulty = FaultyBackend(memory)
    accounts = Accounts(faulty, "desk")
    accounts.remember("alice", PROFILE, [])

    def select_bob(operation: str, key: str) -> None:
        if operation == "pop" and "current" in key:
            accounts.select("bob")

    faulty.before = select_bob
    accounts.forget("alice")
    assert accounts.current == "bob"


@pytest.mark.parametrize(("one", "other"), [("desk", "web"), ("a:b", "a"), ("a", "a:"), ("", ":")])
def test_two_programs_on_one_backend_do_not_see_each_others_users(
    backend: Backend, one: str, other: str
) -> None:
    mine, theirs = Accounts(backend, one), Accounts(backend, other)
    mine.remember("b:alice", PROFILE, [])
    mine.remember("alice", PROFILE, [])
    assert theirs.current is None
    assert [theirs.get(user) for user in ("alice", "b:alice", ":alice", "b")] == [None] * 4
    theirs.remember("alice", {}, [])
    theirs.forget("alice")
    assert mine.current == "alice"
    assert mine.get("alice") == StoredProfile(PROFILE)


def test_any_user_id_is_an_account_of_its_own(backend: Backend) -> None:
    accounts = Accounts(backend, "desk")
    for number, user in enumerate(HOSTILE_KEYS):
        accounts.remember(user, {"number": number}, [])
        assert accounts.current == (user or None)
    for number, user in enumerate(HOSTILE_KEYS):
        assert accounts.get(user) == StoredProfile({"number": number})


@pytest.mark.parametrize(
    "garbage", [b"", b"garbage", b"{}", b'{"v":0,"user_id":"x"}', b'{"v":1,"user_id":7}']
)
def test_an_unreadable_record_counts_as_missing(backend: Backend, garbage: bytes) -> None:
    accounts = Accounts(backend, "desk")
    for key in KEYS:
        backend.put(f"oauth:{key}", garbage)
    assert (accounts.current, accounts.get("alice")) == (None, None)
    accounts.remember("alice", PROFILE, [])
    assert (accounts.current, accounts.get("alice")) == ("alice", StoredProfile(PROFILE))


def test_accounts_do_not_appear_as_token_sets(backend: Backend) -> None:
    Accounts(backend, "desk").remember("alice", PROFILE, [])
    assert TokenStore(backend).list_keys() == []
    assert TokenStore(backend).load("alice") is None


def test_a_profile_is_encrypted_like_the_tokens(sqlite: SQLiteBackend) -> None:
    """A profile is unreadable, and invalid under another user's key. [T13]"""
    accounts = Accounts(EncryptedBackend(sqlite, [ENCRYPTION_KEY]), "desk")
    accounts.remember("alice", {"name": "canary"}, [])
    stored = sqlite.get("oauth:profile:4:desk:alice")
    assert stored is not None
    assert b"canary" not in stored
    sqlite.put("oauth:profile:4:desk:mallory", stored)
    assert accounts.get("mallory") is None
    assert accounts.get("alice") == StoredProfile({"name": "canary"})


def test_a_repr_shows_no_profile() -> None:
    assert "canary" not in repr(StoredProfile({"name": "canary"}))


def test_a_user_that_is_selected_while_a_sign_in_begins_stays_known(backend: Backend) -> None:
    """Another process selects bob between the read and the write."""
    accounts, others = Accounts(backend, "desk"), iter(["bob"])
    accounts.remember("alice", PROFILE, [])

    def has_tokens(user: str) -> bool:
        for other in others:
            accounts.select(other)
        return True

    accounts.expect("carol", has_tokens)
    assert accounts.candidates == ("carol", "bob")
