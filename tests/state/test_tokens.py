"""Token stores: what is saved comes back, under any user ID, and nothing else does."""

from __future__ import annotations

import pytest

from pywry_auth.models import OAuthTokenSet
from pywry_auth.state.tokens import MemoryTokenStore, get_token_store


def test_a_saved_set_is_loaded_as_it_was() -> None:
    store = MemoryTokenStore()
    tokens = OAuthTokenSet("at", refresh_token="rt", expires_in=60, raw={"access_token": "at", "x": [1]})
    store.save("alice", tokens)
    assert store.load("alice") == tokens


def test_the_same_backend_gives_the_same_store() -> None:
    assert get_token_store() is get_token_store("memory")
    assert get_token_store(backend="memory") is get_token_store()


def test_an_unknown_backend_names_the_choices() -> None:
    with pytest.raises(ValueError, match=r"'floppy'.*memory"):
        get_token_store("floppy")
