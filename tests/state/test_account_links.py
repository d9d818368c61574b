"""Links between a site's users and their accounts at providers, on every backend."""

from __future__ import annotations

from pywry_auth.backends.base import Backend
from pywry_auth.models import OAuthTokenSet
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
    assert store.accounts_of("42") == ["corp:a"]  # the link went with the tokens
    store.link("8", "corp:a")
    assert (store.accounts_of("42"), store.accounts_of("8")) == ([], ["corp:a"])
    store.link("corp:a", "corp:a")
    assert (store.owner_of("corp:a"), store.accounts_of("8")) == ("corp:a", [])


def test_a_link_made_while_it_is_pruned_stays(backend: Backend) -> None:
    """A sign-in of another process stores the tokens and the link just after the look-up."""
    store = TokenStore(backend)

    class Late(TokenStore):
        def exists(self, key: str) -> bool:
            found = super().exists(key)
            store.save(key, OAuthTokenSet("t", expires_in=60))
            store.link("42", key)
            return found

    store.link("42", "corp:a")
    assert Late(backend).accounts_of("42") == []
    assert store.accounts_of("42") == ["corp:a"]
