"""The token store ``auto``: the keyring where it works, otherwise a file."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import keyring
import pytest

from pywry_auth.app import PyWry
from pywry_auth.config import OAuth2Settings, PyWrySettings, get_settings
from pywry_auth.exceptions import AuthenticationError, StoreUnavailable
from pywry_auth.models import OAuthTokenSet
from pywry_auth.state import auto_place
from pywry_auth.state.token_stores import (
    KeyringTokenStore,
    MemoryTokenStore,
    SQLiteTokenStore,
    get_token_store,
    token_store_of_settings,
)
from pywry_auth.state.tokens import TokenStore
from tests.backends.fixtures import ENCRYPTION_KEY
from tests.backends.keyrings import SwitchedOffKeyring, WindowsKeyring

_TOKENS = OAuthTokenSet("an access token", refresh_token="a refresh token")


class _Working(WindowsKeyring):
    priority = 5


class _Locked(_Working):
    """A keyring that fails like a locked one."""

    def get_password(self, service: str, username: str) -> str | None:
        raise keyring.errors.KeyringLocked("no")

    set_password = get_password  # type: ignore[assignment]


class _Prompting(_Working):
    """A keyring that waits for a user."""

    def __init__(self) -> None:
        super().__init__()
        self.answered = threading.Event()

    def get_password(self, service: str, username: str) -> str | None:
        self.answered.wait(20)
        return None


@pytest.fixture(autouse=True)
def _machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    get_token_store.cache_clear()
    yield
    get_token_store.cache_clear()


def _start(monkeypatch: pytest.MonkeyPatch, vault: object, client: str = "desk", **more: Any) -> TokenStore:
    """Return the store of a program that has just started, on a machine with a keyring."""
    from pywry_auth.backends.factory import open_backend

    monkeypatch.setattr(keyring, "get_keyring", lambda: vault)
    open_backend.cache_clear()
    get_token_store.cache_clear()
    return get_token_store("auto", client_id=client, **more)


def test_a_working_keyring_is_used_and_the_choice_is_logged_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.INFO, "pywry_auth.native")
    vault = _Working()
    client = uuid4().hex  # new to this process
    store = _start(monkeypatch, vault, client)
    assert isinstance(store, KeyringTokenStore)
    assert not store.at_shared_default
    assert store is get_token_store("auto", client_id=client) is get_token_store("keyring", client_id=client)
    store.save("alice", _TOKENS)
    assert _start(monkeypatch, vault, client).load("alice") == _TOKENS
    assert caplog.text.count("the system's keyring") == 1
    assert not list((tmp_path / "pywry-auth").glob("*.sqlite3"))


@pytest.mark.parametrize("vault", [SwitchedOffKeyring(), _Locked(), None], ids=["off", "locked", "missing"])
def test_without_a_keyring_the_tokens_are_in_the_clients_own_file(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, vault: object
) -> None:
    """The keyring that cannot be used is named once, and nothing is advised. [N5]"""
    caplog.set_level(logging.INFO, "pywry_auth.native")
    vault = vault or keyring.backends.fail.Keyring()
    store = _start(monkeypatch, vault)
    assert isinstance(store, SQLiteTokenStore)
    assert not store.at_shared_default
    store.save("alice", _TOKENS)
    again = _start(monkeypatch, vault)
    assert again.load("alice") == get_token_store("sqlite", client_id="desk").load("alice") == _TOKENS
    (first, second) = [record.getMessage() for record in caplog.records if "auto:" in record.getMessage()]
    assert "tokens are kept in the file" in first
    assert "keyring cannot be used" in first
    assert "without the keyring" in second
    assert "PYWRY_" not in caplog.text


def test_without_the_package_the_tokens_are_in_the_file(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pywry_auth.native")
    monkeypatch.setitem(sys.modules, "pywry_auth.backends.keyring", None)
    assert isinstance(_start(monkeypatch, None), SQLiteTokenStore)
    assert "package keyring is not installed" in caplog.text


def test_a_keyring_that_waits_for_the_user_does_not_hang_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """[N5]"""
    vault = _Prompting()
    monkeypatch.setattr(auto_place, "PATIENCE", 0.05)
    began = time.monotonic()
    store = _start(monkeypatch, vault)
    vault.answered.set()
    assert isinstance(store, SQLiteTokenStore)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("keys", [(), (ENCRYPTION_KEY,)], ids=["clear", "encrypted"])
def test_a_sign_in_without_the_keyring_moves_the_program_to_the_file(
    monkeypatch: pytest.MonkeyPatch, keys: tuple[str, ...]
) -> None:
    """The tokens in the keyring are older. They must not reappear, even after a sign-out. [N5]"""
    vault, more = _Working(), dict[str, Any](encryption_keys=keys)
    _start(monkeypatch, vault, **more).save("alice", _TOKENS)
    over_ssh = _start(monkeypatch, keyring.backends.fail.Keyring(), **more)
    assert over_ssh.load("alice") is None
    assert _start(monkeypatch, vault, **more).load("alice") == _TOKENS, "a look changes nothing"
    over_ssh.save("alice", OAuthTokenSet("a newer one"))
    found = _start(monkeypatch, vault, **more).load("alice")
    assert found is not None
    assert found.access_token == "a newer one"
    over_ssh.delete("alice")
    assert _start(monkeypatch, vault, **more).load("alice") is None


def test_a_file_that_was_in_use_before_stays_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyring, "get_keyring", _Working)
    get_token_store("sqlite", client_id="desk").save("alice", _TOKENS)
    assert _start(monkeypatch, _Working()).load("alice") == _TOKENS


def test_a_file_in_use_that_other_users_can_read_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The program does not move to another place without a word."""
    store = _start(monkeypatch, keyring.backends.fail.Keyring())
    store.save("alice", _TOKENS)
    store.close()
    (place,) = Path(os.environ["XDG_STATE_HOME"]).glob("*/*.sqlite3")
    place.chmod(0o644)
    with pytest.raises(StoreUnavailable, match="chmod"):
        _start(monkeypatch, _Working())


def test_settings_select_the_same_place_and_a_named_file_counts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(keyring, "get_keyring", keyring.backends.fail.Keyring)
    oauth2 = OAuth2Settings(
        client_id="desk",
        token_store_backend="auto",
        authorize_url="https://id.example.com/authorize",
        token_url="https://id.example.com/token",
    )
    assert PyWry(PyWrySettings(oauth2=oauth2)).is_authenticated is False
    get_token_store("auto", client_id="desk").save("alice", _TOKENS)
    (account,) = PyWry(PyWrySettings(oauth2=oauth2)).accounts()
    assert account.user_id == "alice"
    named = get_token_store("auto", client_id="desk", path=tmp_path / "named.sqlite3")
    named.save("bob", _TOKENS)
    assert (tmp_path / "named.sqlite3").exists()


def test_a_site_with_auto_follows_its_state_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    """A keyring belongs to one user, so the setting has no effect on a site. [S6]"""
    monkeypatch.setenv("PYWRY_OAUTH2__CLIENT_ID", "desk")
    monkeypatch.setenv("PYWRY_OAUTH2__AUTHORIZE_URL", "https://id.example.com/authorize")
    monkeypatch.setenv("PYWRY_OAUTH2__TOKEN_URL", "https://id.example.com/token")
    monkeypatch.setenv("PYWRY_OAUTH2__TOKEN_STORE_BACKEND", "auto")
    settings = get_settings()
    assert isinstance(token_store_of_settings(settings.oauth2, settings.deploy), MemoryTokenStore)
    monkeypatch.setenv("PYWRY_DEPLOY__STATE_BACKEND", "auto")
    with pytest.raises(AuthenticationError, match="choose one of: memory, sqlite, redis"):
        get_settings()
    monkeypatch.delenv("PYWRY_DEPLOY__STATE_BACKEND")
    monkeypatch.setenv("PYWRY_OAUTH2__TOKEN_STORE_BACKEND", "automatic")
    with pytest.raises(AuthenticationError, match="keyring, auto"):
        get_settings()


def test_without_a_client_id_a_program_is_refused_the_shared_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyring, "get_keyring", keyring.backends.fail.Keyring)
    assert get_token_store("auto").at_shared_default
