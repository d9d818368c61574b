"""Who there is at the provider: its users, its clients, and everything that endpoints share."""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pywry_auth.cli.identity_provider.keys import SigningKeys
from pywry_auth.cli.identity_provider.vault import Vault

SCOPES = {
    "openid": "Confirm who you are",
    "profile": "See your name and picture",
    "email": "See your e-mail address",
    "groups": "See the groups you belong to",
    "offline_access": "Stay signed in while you are away",
}
"""The scopes there are, each in words for the person who is asked."""

CLAIMS_BY_SCOPE = {
    "profile": ("name", "given_name", "family_name", "preferred_username", "picture"),
    "email": ("email", "email_verified"),
    "groups": ("groups",),
}
"""Which claims a scope opens (OIDC Core §5.4)."""

_LOOPBACK_URI = re.compile(r"(http://(?:127\.0\.0\.1|\[::1\]))(?::[0-9]{1,5})?((?:/[^#]*)?)")


def same_secret(given: str, expected: str) -> bool:
    """Tell whether two secrets are equal, in a time that does not depend on where they differ."""
    return hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode("utf-8", "replace"))


@dataclass(frozen=True)
class User:
    """A person who can sign in.

    Args:
        username: What is typed at the login page; the ``email`` claim works there too.
        password: Plain, because this provider is for trying things out.
        claims: ``sub`` and whatever else the person's profile has, e.g. ``name``, ``email``, ``groups``.
    """

    username: str
    password: str = field(repr=False)
    claims: Mapping[str, Any]

    @property
    def display_name(self) -> str:
        """What the pages call this person."""
        return str(self.claims.get("name") or self.username)

    def claims_for(self, scope: str) -> dict[str, Any]:
        """Return ``sub`` and the claims that ``scope`` (space separated) opens (OIDC Core §5.4)."""
        opened = [name for word in scope.split() for name in CLAIMS_BY_SCOPE.get(word, ())]
        return {name: self.claims[name] for name in ["sub", *opened] if name in self.claims}


@dataclass(frozen=True)
class Client:
    """An application that may send people here.

    Args:
        client_id: Its name.
        client_secret: Empty for a public client: a program that cannot keep a secret (RFC 6749 §2.1).
        redirect_uris: Where people may be sent back to, compared as exact strings; but a public client that
            registers ``http://127.0.0.1/path``, without a port, may use it with any port (RFC 8252 §7.3).
        post_logout_redirect_uris: Where people may be sent after signing out, by the same rule.
    """

    client_id: str
    client_secret: str = field(default="", repr=False)
    redirect_uris: tuple[str, ...] = ()
    post_logout_redirect_uris: tuple[str, ...] = ()

    def may_redirect_to(self, uri: str) -> bool:
        """Tell whether an authorization response may go to ``uri``."""
        return self._registered(uri, self.redirect_uris)

    def may_return_to(self, uri: str) -> bool:
        """Tell whether somebody who signed out may be sent to ``uri``."""
        return self._registered(uri, self.post_logout_redirect_uris)

    def _registered(self, uri: str, registered: tuple[str, ...]) -> bool:
        if uri in registered:
            return True
        loopback = _LOOPBACK_URI.fullmatch(uri)
        return not self.client_secret and loopback is not None and loopback[1] + loopback[2] in registered


DEFAULT_USERS = (
    User(
        "alice",
        "wonderland",
        {
            "sub": "user-alice",
            "name": "Alice Example",
            "given_name": "Alice",
            "family_name": "Example",
            "preferred_username": "alice",
            "email": "alice@example.com",
            "email_verified": True,
            "groups": ["staff", "admins"],
        },
    ),
    User(
        "bob",
        "builder",
        {
            "sub": "user-bob",
            "name": "Bob Example",
            "given_name": "Bob",
            "family_name": "Example",
            "preferred_username": "bob",
            "email": "bob@example.com",
            "email_verified": False,
            "groups": ["staff"],
        },
    ),
)
"""Two people for trying things out; their passwords are shown on the login page."""

_WEB_ORIGINS = tuple(f"http://{host}:{port}" for host in ("127.0.0.1", "localhost") for port in (5000, 8000))

DEFAULT_CLIENTS = (
    Client(
        "pywry-demo",
        redirect_uris=("http://127.0.0.1/callback", "http://[::1]/callback"),
        post_logout_redirect_uris=("http://127.0.0.1/",),
    ),
    Client(
        "pywry-web",
        "pywry-web-secret",
        redirect_uris=tuple(f"{origin}/auth/callback" for origin in _WEB_ORIGINS),
        post_logout_redirect_uris=tuple(f"{origin}/" for origin in _WEB_ORIGINS),
    ),
)
"""A public native client on any loopback port, and a confidential web client on the usual local ports."""


@dataclass(frozen=True)
class Realm:
    """What all endpoints share: who there is, what was issued, keys, clock, and lifetimes in seconds."""

    issuer: str
    users: Mapping[str, User]
    clients: Mapping[str, Client]
    vault: Vault
    keys: SigningKeys
    clock: Callable[[], float]
    access_token_lifetime: float
    refresh_token_lifetime: float
    code_lifetime: float

    def user_named(self, name: str) -> User | None:
        """Return the user with this user name or e-mail address, if there is one."""
        wanted = name.strip().lower()
        by_email = (user for user in self.users.values() if user.claims.get("email") == wanted)
        return self.users.get(wanted) or next(by_email, None)
