"""Storage options: origin, equality and representation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pywry_auth.backends.options import StorageOptions
from pywry_auth.config import DeploySettings
from tests.backends.fixtures import ENCRYPTION_KEY

URL = "redis://:canary@redis.example.com:6379/0"


def test_an_empty_option_gets_the_backends_default() -> None:
    redis, keyring = StorageOptions("redis"), StorageOptions("keyring")
    assert (redis.url, redis.prefix) == ("redis://localhost:6379/0", "pywry")
    assert keyring.service_name == "pywry_auth"
    assert redis == StorageOptions("redis", "redis://localhost:6379/0", "pywry")


def test_an_option_that_the_backend_does_not_read_is_dropped() -> None:
    everything: dict[str, Any] = {"url": URL, "prefix": "p", "path": "file", "service_name": "s"}
    assert StorageOptions("memory", **everything) == StorageOptions()
    assert hash(StorageOptions("memory", **everything)) == hash(StorageOptions())
    assert StorageOptions("redis", **everything) == StorageOptions("redis", URL, "p")


def test_a_backend_of_another_package_gets_all_options() -> None:
    options = StorageOptions("etcd", "etcd://h", "p", "/file", "s")
    assert (options.url, options.prefix, options.path, options.service_name) == (
        "etcd://h",
        "p",
        Path("/file"),
        "s",
    )


def test_a_relative_file_is_fixed_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert StorageOptions("sqlite", path="state.db").path == tmp_path / "state.db"


def test_no_password_and_no_key_is_shown() -> None:
    """A repr shows neither a password nor an encryption key. [T31]"""
    options = StorageOptions("redis", URL, encryption_keys=(ENCRYPTION_KEY,))
    assert "canary" not in f"{options} {options!r}"
    assert ENCRYPTION_KEY not in f"{options} {options!r}"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, StorageOptions()),
        (
            {"state_backend": "redis", "redis_url": URL, "redis_prefix": "shop"},
            StorageOptions("redis", URL, "shop"),
        ),
        ({"state_backend": "sqlite", "sqlite_path": "/s.db"}, StorageOptions("sqlite", path="/s.db")),
        ({"encryption_keys": [ENCRYPTION_KEY]}, StorageOptions(encryption_keys=(ENCRYPTION_KEY,))),
    ],
)
def test_the_settings_describe_the_storage(settings: dict[str, Any], expected: StorageOptions) -> None:
    assert StorageOptions.from_settings(DeploySettings(**settings)) == expected


def test_each_client_has_a_keyring_service() -> None:
    keyring = StorageOptions.from_settings(DeploySettings(), "keyring", client_id="desk")
    assert keyring.service_name == "pywry_auth:desk"
