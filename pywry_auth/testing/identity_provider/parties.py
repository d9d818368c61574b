"""Who there is at the provider: people who sign in, applications that send them, and what these may see."""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

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
        claims: The person's profile: ``sub`` (the user name if left out), ``name``, ``email``, ``groups`` …
    """

    username: str
    password: str = field(repr=False)
    claims: Mapping[str, Any]

    @property
    def subject(self) -> str:
        """The person's ``sub``."""
        return str(self.claims.get("sub", self.username))

    @property
    def display_name(self) -> str:
        """What the pages call the person."""
        return str(self.claims.get("name", self.username))

    def is_called(self, name: str) -> bool:
        """Tell whether this is the person's user name or e-mail address, in whatever case it was typed."""
        return name.strip().lower() in (
            self.username.lower(),
            str(self.claims.get("email", self.username)).lower(),
        )

    def claims_for(self, scope: str) -> dict[str, Any]:
        """Return ``sub`` and the claims that ``scope`` (space separated) opens (OIDC Core §5.4)."""
        opened = [name for word in scope.split() for name in CLAIMS_BY_SCOPE.get(word, ())]
        return {"sub": self.subject} | {name: self.claims[name] for name in opened if name in self.claims}


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
        return self._is_among(self.redirect_uris, uri)

    def may_return_to(self, uri: str) -> bool:
        """Tell whether somebody who signed out may be sent to ``uri``."""
        return self._is_among(self.post_logout_redirect_uris, uri)

    def _is_among(self, registered: tuple[str, ...], uri: str) -> bool:
        loopback = None if self.client_secret else _LOOPBACK_URI.fullmatch(uri)
        return uri in registered or (loopback is not None and loopback[1] + loopback[2] in registered)


def _demo_user(username: str, password: str, *, verified: bool, groups: list[str]) -> User:
    first = username.title()
    claims = {
        "sub": f"user-{username}",
        "name": f"{first} Example",
        "given_name": first,
        "family_name": "Example",
        "preferred_username": username,
        "email": f"{username}@example.com",
        "email_verified": verified,
        "groups": groups,
    }
    return User(username, password, claims)


DEFAULT_USERS = (
    _demo_user("alice", "wonderland", verified=True, groups=["staff", "admins"]),
    _demo_user("bob", "builder", verified=False, groups=["staff"]),
)
"""Two people for trying things out; their passwords are shown on the login page."""

_WEB_ORIGINS = [f"http://{host}:{port}" for host in ("127.0.0.1", "localhost") for port in (5000, 8000)]

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
