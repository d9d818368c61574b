"""Typed stores on clear and encrypted records, while a site switches encryption on."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass, fields
from inspect import signature
from pathlib import Path

import pytest

from pywry_auth import get_token_store
from pywry_auth.backends.base import Backend, UnreadableRecord
from pywry_auth.backends.encrypted import EncryptedBackend
from pywry_auth.backends.options import StorageOptions
from pywry_auth.exceptions import StoreUnavailable
from pywry_auth.models import AuthorizationRequest, Grant, OAuthTokenSet
from pywry_auth.state.browsers import BrowserSessions
from pywry_auth.state.client_tokens import ClientTokenRecord
from pywry_auth.state.linked_users import LinkedUsers
from pywry_auth.state.pending import PendingAuthorization, PendingStore
from pywry_auth.state.session_filter import SessionFilter
from pywry_auth.state.session_stores import get_session_store
from pywry_auth.state.sessions import SessionStore
from pywry_auth.state.sign_in_index import SignInIndex
from pywry_auth.state.tokens import TokenStore

KEY = base64.urlsafe_b64encode(bytes(range(32))).decode("ascii")
ISSUER = "https://id.example.com"
GRANT = Grant("g", 1_700_000_000.0, issuer=ISSUER, client_id="site", subject="alice", sid="sid-1")
TOKENS = OAuthTokenSet(
    "access",
    refresh_token="refresh",
    expires_in=60,
    issued_at=1.0,
    grant=GRANT,
    issuer=ISSUER,
    client_id="site",
)
FRESH = OAuthTokenSet(
    "fresh",
    refresh_token="refresh-2",
    expires_in=60,
    issued_at=2.0,
    grant=GRANT,
    issuer=ISSUER,
    client_id="site",
)
STATE, ID = "state", "a" * 64


@pytest.fixture(params=["memory", "sqlite", "redis", "postgres", "keyring"])
def clear(request: pytest.FixtureRequest) -> Backend:
    """The records of a site without encryption."""
    backend: Backend = request.getfixturevalue(request.param)
    sessions, tokens = SessionStore(backend), TokenStore(backend)
    tokens.save("alice", TOKENS, owner="local-1")
    sessions.create_session(ID, "local-1", ["viewer"], grant=GRANT, account="alice")
    sessions.set_role_permissions("viewer", ["read"])
    request_ = AuthorizationRequest("", STATE, "https://example.com/callback", "nonce", "verifier")
    PendingStore(backend).put(PendingAuthorization(request_, "oidc", "binding"), "192.0.2.1")
    tokens.revocations.leave(tokens.revocations.add("bob", TOKENS))
    BrowserSessions(backend, 600).add("browser", ID)
    ClientTokenRecord(backend, "job").save(TOKENS)
    return backend


_OF_USER = SessionFilter(user_id="local-1")


@dataclass(frozen=True)
class Use:
    """One use of a store, with its result.

    Args:
        does: Uses the store on a backend.
        expected: The result with clear records, and with encrypted ones.
        without_keys: The result of a worker that has no keys and meets encrypted records; an error of the
            store by default.
    """

    does: Callable[[Backend], object]
    expected: object
    without_keys: object = StoreUnavailable


def _roles_of(backend: Backend) -> object:
    sessions = SessionStore(backend)
    changed = sessions.set_roles("local-1", ["editor"])
    session = sessions.get_session(ID)
    return changed, session and session.roles


def _redeemed(backend: Backend) -> object:
    return PendingStore(backend).take(STATE, ["binding"], "oidc").request.nonce


def _user_of_session(backend: Backend) -> object:
    session = SessionStore(backend).get_session(ID)
    return session and (session.user_id, session.grant)


def _found(backend: Backend) -> object:
    unreadable: list[str] = []
    store = SessionStore(backend)
    found = [store.session_ids("local-1")]
    for each in store.find_sessions(wanted=_OF_USER, unreadable=unreadable.append):
        found.append([each.session_id])
    return found, unreadable


def _refreshed(backend: Backend) -> object:
    store = TokenStore(backend)
    return store.replace("alice", FRESH, TOKENS), store.load("alice") == FRESH, store.owner_of("alice")


def _superseded(backend: Backend) -> object:
    store = TokenStore(backend)
    return store.save("alice", FRESH), store.load("alice") == FRESH, store.accounts_of("local-1")


def _revocations(backend: Backend) -> object:
    queue = TokenStore(backend).revocations
    return [each.tokens == TOKENS for each in queue.due(at_once=True)], queue.count_of(["bob"])


def _extended(backend: Backend) -> object:
    return SessionStore(backend).refresh_session(ID, 90_000)


def _permissions(backend: Backend) -> object:
    store = SessionStore(backend)
    store.set_role_permissions("editor", ["write"])
    table = store.role_permissions()
    return table["viewer"], table["editor"]


USES = {
    "a session": Use(_user_of_session, ("local-1", GRANT)),
    "a session's extension": Use(_extended, True),
    "roles": Use(_roles_of, (1, ["editor"])),
    "a list of sessions": Use(_found, ([[ID], [ID]], []), ([[ID]], [ID])),
    "the table of roles": Use(_permissions, (["read"], ["write"])),
    "a pending login": Use(_redeemed, "nonce"),
    "a refresh": Use(_refreshed, (True, True, "local-1")),
    "a later sign-in": Use(_superseded, (True, True, ["alice"])),
    "a client's own token": Use(lambda backend: ClientTokenRecord(backend, "job").load(), TOKENS),
    "revocations": Use(_revocations, ([True], 1), ([], 1)),
    "a browser's sessions": Use(lambda backend: BrowserSessions(backend, 600).of("browser"), [ID]),
    "users of an account": Use(lambda backend: LinkedUsers(backend).of("alice"), ["local-1"], ["local-1"]),
    "users of a provider": Use(
        lambda backend: SignInIndex(backend).users(ISSUER, "alice", "sid-1"), ["local-1"]
    ),
}


@pytest.mark.parametrize("use", USES)
def test_each_store_works_with_clear_records_and_encrypts_them(clear: Backend, use: str) -> None:
    """A worker without the option then reads the result. [S3]"""
    mode = EncryptedBackend(clear, [KEY], read_plaintext=True)
    assert USES[use].does(mode) == USES[use].expected


@pytest.mark.parametrize("use", USES)
def test_a_worker_without_keys_neither_uses_nor_replaces_an_encrypted_record(
    clear: Backend, use: str
) -> None:
    """It cannot tell that a session ended, or that a user has no tokens. [T68, T45]"""
    mode = EncryptedBackend(clear, [KEY], read_plaintext=True)
    keys = [*_KEYS, *clear.members("oauth:revocations"), *clear.members("pending:192.0.2.1")]
    assert SignInIndex(mode).users(ISSUER, "alice", "sid-1") == ["local-1"]
    for key in keys:
        assert mode.get(key) is not None, key
    stored = clear.get_many(keys)
    if USES[use].without_keys is StoreUnavailable:
        with pytest.raises(StoreUnavailable, match=r"cannot be read|is encrypted"):
            USES[use].does(clear)
    else:
        assert USES[use].does(clear) == USES[use].without_keys
    assert clear.get_many(keys) == stored
    assert USES[use].does(EncryptedBackend(clear, [KEY])) == USES[use].expected


_KEYS = [f"session:{ID}", "session_roles:all", "oauth:tokens:alice", "oauth:client:job", "browser:browser"]


@pytest.mark.parametrize("others", [0, 1])
def test_a_worker_without_keys_does_not_claim_to_have_changed_the_roles_of_a_session(
    clear: Backend, others: int
) -> None:
    """A demoted user would keep a session with the earlier roles. [T45, T68]"""
    encrypted = SessionStore(EncryptedBackend(clear, [KEY]))
    encrypted.create_session("b" * 64, "carol", ["admin"])
    without_keys = SessionStore(clear)
    if others:
        without_keys.create_session("c" * 64, "carol", ["admin"])
    with pytest.raises(UnreadableRecord):
        without_keys.set_roles("carol", [])
    kept = encrypted.get_session("b" * 64)
    assert kept is not None
    assert kept.roles == ["admin"]
    if others:
        changed = without_keys.get_session("c" * 64)
        assert changed is not None
        assert changed.roles == []


def test_stores_that_are_opened_in_code_take_part_in_the_switch(tmp_path: Path) -> None:
    """A job that knows the keys finds the records from before. [S3]"""
    path = tmp_path / "state.sqlite3"
    get_token_store("sqlite", path=path).save("job", TOKENS)
    get_session_store("sqlite", path=path).create_session(ID, "alice")
    for reads in (False, True):
        tokens = get_token_store("sqlite", path=path, encryption_keys=[KEY], read_plaintext=reads)
        sessions = get_session_store("sqlite", path=path, encryption_keys=[KEY], read_plaintext=reads)
        assert (tokens.load("job") == TOKENS, sessions.get_session(ID) is not None) == (reads, reads)
    tokens.backend.close()


@pytest.mark.parametrize("function", [get_token_store, get_session_store])
def test_a_store_that_is_opened_in_code_can_have_each_option_of_the_settings(
    function: Callable[..., object],
) -> None:
    names = {each.name for each in fields(StorageOptions)} - {"url", "service_name"}
    assert names <= signature(function).parameters.keys()
