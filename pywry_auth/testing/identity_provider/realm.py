"""What all endpoints of the provider share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pywry_auth.testing.identity_provider.keys import SigningKeys
from pywry_auth.testing.identity_provider.parties import Client, User
from pywry_auth.testing.identity_provider.vault import Vault


@dataclass(frozen=True)
class Realm:
    """Who there is, what was issued, the keys, the clock, and the lifetimes in seconds."""

    issuer: str
    users: Sequence[User]
    clients: Mapping[str, Client]
    vault: Vault
    keys: SigningKeys
    clock: Callable[[], float]
    access_token_lifetime: float
    refresh_token_lifetime: float
    code_lifetime: float
