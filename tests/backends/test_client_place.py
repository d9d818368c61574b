"""The place of a program's own client."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pywry_auth.backends.client_place import for_client, is_shared_default
from pywry_auth.backends.options import StorageOptions
from pywry_auth.backends.sqlite import default_path
from pywry_auth.exceptions import AuthenticationError
from tests.backends.fixtures import ENCRYPTION_KEY

_SHARED = [StorageOptions("sqlite"), StorageOptions("keyring")]
_NAMED = [
    StorageOptions("sqlite", path="/named.db"),
    StorageOptions("keyring", service_name="named"),
    StorageOptions("redis", prefix="named"),
    StorageOptions("redis"),
    StorageOptions("memory"),
]


@pytest.mark.parametrize("options", _SHARED)
def test_each_client_has_a_place_of_its_own(options: StorageOptions) -> None:
    assert is_shared_default(options)
    desk, other = for_client(options, "desk"), for_client(options, "Desk")
    assert len({options, desk, other}) == 3
    assert not is_shared_default(desk)
    assert for_client(desk, "desk") == desk
    assert for_client(options, "") == options


@pytest.mark.parametrize("options", _SHARED)
def test_a_client_id_that_is_not_plain_is_named(options: StorageOptions) -> None:
    with pytest.raises(AuthenticationError, match="The argument client_id contains a line break"):
        for_client(options, "x\ny")


@pytest.mark.parametrize("options", _NAMED)
def test_a_named_place_stays(options: StorageOptions) -> None:
    assert for_client(options, "desk") == options
    assert not is_shared_default(options)


def test_a_clients_file_is_beside_the_file_of_a_site() -> None:
    path = Path(for_client(StorageOptions("sqlite"), "../Desk").path)
    assert path.parent == default_path().parent
    assert path.name.startswith("tokens-_desk-")


@pytest.mark.parametrize(("prefix", "site"), [("", "pywry:desk"), ("shop", "shop:desk")])
def test_encrypted_records_in_a_clients_file_are_bound_to_the_client(prefix: str, site: str) -> None:
    """A named file is bound to the prefix only. [T58]"""
    options = StorageOptions("sqlite", prefix=prefix, encryption_keys=(ENCRYPTION_KEY,))
    assert for_client(options, "desk").site == site
    assert for_client(replace(options, path="/named.db"), "desk").site == (prefix or "pywry")
