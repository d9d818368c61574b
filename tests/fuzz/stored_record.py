"""The door ``stored_record``: the bytes of a record in a store to which others may write.

Each input is read as a record of every kind.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from contextlib import suppress

from pywry_auth.backends.base import Terms, UnreadableRecord
from pywry_auth.backends.encrypted import EncryptedBackend
from pywry_auth.backends.keyring_entries import Entries
from pywry_auth.backends.memory import MemoryBackend
from pywry_auth.exceptions import AuthenticationError
from pywry_auth.models import AuthorizationRequest, OAuthTokenSet
from pywry_auth.state.accounts import Accounts
from pywry_auth.state.auth import permissions_of
from pywry_auth.state.browsers import BrowserSessions
from pywry_auth.state.pending import PendingAuthorization, PendingStore
from pywry_auth.state.revocations import RevocationQueue
from pywry_auth.state.session_record import pack_session, unpack_session
from pywry_auth.state.sessions import SessionStore
from pywry_auth.state.token_record import pack_tokens, unpack_tokens
from pywry_auth.state.tokens import TokenStore
from tests.fuzz.values import assert_storable

_MOST_MEMORY = 32 << 20  # bytes
_NAME, _STATE = "a-name", "a-state"
_TOKENS = OAuthTokenSet("access", refresh_token="refresh", issued_at=1.0)


class _Planted(MemoryBackend):
    """A store in which an attacker replaces each record that is written during the preparation.

    Args:
        data: The bytes of the attacker.
    """

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self.data: bytes | None = data

    def put(self, key: str, value: bytes, terms: Terms = Terms()) -> bool:
        return super().put(key, value if self.data is None else self.data, terms)


def check(data: bytes) -> None:
    """Assert that each reader finds nothing, or a value that it could have written."""
    if data.startswith(b"{"):
        _read_all(data)  # memory is measured only for compressed records, because this takes time
        return
    tracemalloc.start()
    try:
        _read_all(data)
        assert tracemalloc.get_traced_memory()[1] < _MOST_MEMORY
    finally:
        tracemalloc.stop()


def _read_all(data: bytes) -> None:
    for prepare, read in _KINDS:
        store = _Planted(data)
        prepare(store)
        store.data = None
        with suppress(AuthenticationError):  # the documented error, also of a store that is down
            assert_storable(read(store), shown=False)
    with suppress(UnreadableRecord):  # of a newer version
        _round_trips(data)
    _encrypted(data)
    _keyring(data)


def _round_trips(data: bytes) -> None:
    session = unpack_session(data, _NAME)
    if session is not None:
        assert unpack_session(pack_session(session), _NAME) == session
        assert_storable(session, shown=False)
    tokens = unpack_tokens(data)
    if tokens is not None:
        assert unpack_tokens(pack_tokens(tokens)) == tokens
        assert_storable(tokens, shown=False)


def _encrypted(data: bytes) -> None:
    """Read the bytes as ciphertext, of which no part was made with the key."""
    inner = MemoryBackend()
    inner.put(_NAME, data)
    store = EncryptedBackend(inner, ["A" * 43])
    assert store.get(_NAME) is None
    assert store.pop(_NAME) is None


def _keyring(data: bytes) -> None:
    """Read the bytes as the first entry of a record in a keyring, and replace the record."""
    vault = _Vault({f"{_NAME}.a0": data.decode("latin-1")})
    entries = Entries(vault)
    assert len(entries.read(_NAME) or b"") < _MOST_MEMORY
    entries.write(_NAME, b"new")
    assert entries.read(_NAME) == b"new"


class _Vault:
    """The entries of a keyring; no record needs many calls.

    Args:
        entries: The entries of an attacker.
    """

    def __init__(self, entries: dict[str, str]) -> None:
        self._entries = entries
        self._calls = 0

    def get(self, name: str) -> str | None:
        self._count()
        return self._entries.get(name)

    def set(self, name: str, text: str) -> None:
        self._count()
        self._entries[name] = text

    def delete(self, name: str) -> None:
        self._count()
        self._entries.pop(name, None)

    def _count(self) -> None:
        self._calls += 1
        assert self._calls < 1000


def _login(store: MemoryBackend) -> object:
    return PendingStore(store).take(_STATE, [_NAME], "")


def _begin_login(store: MemoryBackend) -> None:
    request = AuthorizationRequest(url="", state=_STATE, redirect_uri="")
    PendingStore(store).put(PendingAuthorization(request, "", _NAME), _NAME)


def _account(store: MemoryBackend) -> object:
    accounts = Accounts(store, _NAME)
    found = accounts.get(_NAME)
    return [accounts.current, None if found is None else found.user_info]


def _session(store: MemoryBackend) -> object:
    sessions = SessionStore(store)
    found = sessions.get_session(_NAME)
    sessions.set_roles(_NAME, ["viewer"])
    return found


def _permissions(store: MemoryBackend) -> object:
    return sorted(permissions_of(["viewer", "editor", "admin"], SessionStore(store).role_permissions()))


def _tokens(store: MemoryBackend) -> object:
    tokens = TokenStore(store)
    found = tokens.load(_NAME)
    assert tokens.save(_NAME, _TOKENS)
    return found


def _revocations(store: MemoryBackend) -> object:
    queue = RevocationQueue(store)
    return [queue.next_due(), *(each.user_id for each in queue.due()), queue.next_due()]


def _browser(store: MemoryBackend) -> object:
    sessions = BrowserSessions(store, 60)
    return [sessions.of(_NAME), sessions.add(_NAME, "new")]


_Step = Callable[[MemoryBackend], object]
_KINDS: tuple[tuple[_Step, _Step], ...] = (
    (_begin_login, _login),
    (lambda store: Accounts(store, _NAME).remember(_NAME, {}, ()), _account),
    (lambda store: SessionStore(store).create_session(_NAME, _NAME), _session),
    (lambda store: SessionStore(store).set_role_permissions("editor", ["read"]), _permissions),
    (lambda store: TokenStore(store).save(_NAME, _TOKENS), _tokens),
    (lambda store: RevocationQueue(store).add(_NAME, _TOKENS), _revocations),
    (lambda store: BrowserSessions(store, 60).add(_NAME, "old"), _browser),
)
"""For each kind of record a function that writes one, and a function that reads it."""
