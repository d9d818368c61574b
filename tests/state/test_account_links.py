"""Links between a site's users and their accounts at providers, on every backend."""

from __future__ import annotations

import time
from dataclasses import replace

from pywry_auth.backends.base import Backend
from pywry_auth.models import Grant, OAuthTokenSet
from pywry_auth.state.tokens import TokenStore


def test_accounts_are_linked_pruned_and_change_hands(backend: Backend) -> None:
    store = TokenStore(backend)
    for account in ("github:7", "corp:a"):
        store.save(account, OAuthTokenSet("t", expires_in=60))
        store.link("42", account)
        store.link("42", account)
    assert store.accounts_of("42") == ["corp:a", "github:7"]
    assert (store.owner_of("corp:a"), store.owner_of("other")) == ("42", "other")
    assert sorted(store.list_keys()) == ["corp:a", "github:7"]
    store.delete("github:7")
    assert store.accounts_of("42") == ["corp:a"]
    store.save("github:7", OAuthTokenSet("t", expires_in=60))
    assert store.accounts_of("42") == ["corp:a"]  # the owner went with the tokens
    store.link("8", "corp:a")
    assert (store.accounts_of("42"), store.accounts_of("8")) == ([], ["corp:a"])
    store.link("corp:a", "corp:a")
    assert (store.owner_of("corp:a"), store.accounts_of("8")) == ("corp:a", [])


def test_the_owner_changes_with_the_tokens_only(backend: Backend) -> None:
    """A sign-in stores both in one step, and an earlier one changes neither."""
    store = TokenStore(backend)
    now = time.time()

    def signed_in(at: float) -> OAuthTokenSet:
        return OAuthTokenSet("t", refresh_token="r", grant=Grant(f"grant {at}", now - 100 + at))

    earlier, later = signed_in(1), signed_in(2)
    assert store.save("corp:a", later, owner="8")
    assert not store.save("corp:a", earlier, owner="42")
    assert (store.owner_of("corp:a"), store.accounts_of("42")) == ("8", [])
    fresh = replace(later, access_token="fresh")
    assert store.replace("corp:a", fresh, later)
    store.settle("corp:a", fresh)
    store.keep_until("corp:a", time.time() + 1e6)
    assert (store.owner_of("corp:a"), store.accounts_of("8")) == ("8", ["corp:a"])
    assert store.save("corp:a", OAuthTokenSet("of a program"))  # it knows no user of the site
    assert store.owner_of("corp:a") == "8"
    assert store.save("corp:a", signed_in(3), owner="corp:a")
    assert (store.owner_of("corp:a"), store.accounts_of("8")) == ("corp:a", [])
