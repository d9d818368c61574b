"""Built-in backends, and those from other packages' entry points."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from pywry_auth.backends.base import Backend
from pywry_auth.backends.encrypted import EncryptedBackend
from pywry_auth.backends.factory import open_backend
from pywry_auth.backends.memory import MemoryBackend
from pywry_auth.backends.options import StorageOptions
from pywry_auth.backends.sqlite import SQLiteBackend
from pywry_auth.config import get_settings
from pywry_auth.exceptions import AuthenticationError
from pywry_auth.state import SessionStore, get_session_store
from pywry_auth.state.token_stores import get_token_store
from pywry_auth.state.tokens import TokenStore
from tests.backends.fixtures import ENCRYPTION_KEY

_MODULE = """
from pywry_auth.backends.memory import MemoryBackend

class ShelfBackend(MemoryBackend):
    def __init__(self, options):
        super().__init__()
        self.options = options

def imposter(options):
    raise AssertionError("a built-in name was taken")
"""


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a backend in another installed package."""
    name = f"shelf{abs(hash(str(tmp_path)))}"
    (tmp_path / f"{name}.py").write_text(_MODULE)
    info = tmp_path / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    points = f"{name} = {name}:ShelfBackend\nmemory = {name}:imposter\n"
    (info / "entry_points.txt").write_text(f"[pywry_auth.backends]\n{points}")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    return name


def test_equal_options_open_one_backend(tmp_path: Path) -> None:
    options = StorageOptions("sqlite", path=tmp_path / "a.db")
    backend = open_backend(options)
    assert isinstance(backend, SQLiteBackend)
    assert open_backend(StorageOptions("sqlite", path=str(tmp_path / "a.db"), prefix="ignored")) is backend
    assert open_backend(StorageOptions("sqlite", path=tmp_path / "b.db")) is not backend
    assert open_backend(StorageOptions()) is open_backend(StorageOptions("memory"))


def test_keys_wrap_the_backend_of_the_same_options(tmp_path: Path) -> None:
    options = StorageOptions("sqlite", path=tmp_path / "a.db")
    encrypted = open_backend(
        StorageOptions("sqlite", path=tmp_path / "a.db", encryption_keys=(ENCRYPTION_KEY,))
    )
    assert isinstance(encrypted, EncryptedBackend)
    encrypted.put("k:1", b"canary")
    assert encrypted.get("k:1") == b"canary"
    assert b"canary" not in (open_backend(options).get("k:1") or b"canary")
    encrypted.close()


def test_the_error_for_an_unknown_backend_lists_the_existing_names(shelf: str) -> None:
    with pytest.raises(
        ValueError, match=f"'floppy'; choose one of: memory, sqlite, redis, postgres, keyring.*{shelf}"
    ):
        open_backend(StorageOptions("floppy"))
    with pytest.raises(ValueError, match=f"'keyring'.*memory, sqlite, redis.*{shelf}") as caught:
        get_session_store("keyring")
    assert "postgres, keyring" not in str(caught.value)


def test_a_backend_of_another_package_is_opened_by_its_name(shelf: str) -> None:
    options = StorageOptions(shelf, "shelf://:canary@h", "p", "/s", "n")
    backend = open_backend(options)
    assert type(backend).__name__ == "ShelfBackend"
    assert vars(backend)["options"] == options
    assert open_backend(StorageOptions(shelf, "shelf://:canary@h", "p", "/s", "n")) is backend
    encrypted = open_backend(StorageOptions(shelf, encryption_keys=(ENCRYPTION_KEY,)))
    assert isinstance(encrypted, EncryptedBackend)


def test_stores_and_settings_take_a_backend_of_another_package(
    shelf: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYWRY_OAUTH2__CLIENT_ID", "client")
    monkeypatch.setenv("PYWRY_OAUTH2__TOKEN_STORE_BACKEND", shelf)
    monkeypatch.setenv("PYWRY_DEPLOY__STATE_BACKEND", shelf)
    settings = get_settings()
    assert settings.oauth2
    assert settings.oauth2.token_store_backend == settings.deploy.state_backend == shelf
    sessions, tokens = get_session_store(), get_token_store(shelf)
    assert type(sessions) is SessionStore
    assert type(tokens) is TokenStore
    assert {_kind(sessions.backend), _kind(tokens.backend)} == {"ShelfBackend"}
    assert get_session_store(shelf, prefix="pywry") is sessions
    assert get_token_store(shelf) is tokens


def test_the_error_for_a_wrong_setting_lists_the_existing_names(
    shelf: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYWRY_DEPLOY__STATE_BACKEND", "canary")
    with pytest.raises(AuthenticationError, match=f"STATE_BACKEND.*memory, sqlite, redis.*{shelf}") as caught:
        get_settings()
    assert "canary" not in str(caught.value)


@pytest.mark.usefixtures("shelf")
def test_no_package_replaces_a_built_in_backend() -> None:
    assert type(open_backend(StorageOptions("memory"))) is MemoryBackend


def _kind(backend: Backend) -> str:
    return type(backend).__name__
