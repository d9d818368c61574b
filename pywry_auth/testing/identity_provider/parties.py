"""Users, clients, and the claims of each scope."""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urljoin

SCOPES = {
    "openid": "Confirm who you are",
    "profile": "See your name and picture",
    "email": "See your e-mail address",
    "groups": "See the groups you belong to",
    "offline_access": "Stay signed in while you are away",
}
"""The known scopes, each in words for the user."""

CLAIMS_BY_SCOPE = {
    "profile": ("name", "given_name", "family_name", "preferred_username", "picture"),
    "email": ("email", "email_verified"),
    "groups": ("groups",),
}
"""The claims of each scope (OIDC Core §5.4)."""

_CALLBACK = re.compile(r"/callback(?:/[^/?#]*)?(?:[?#].*)?$")
_LOOPBACK_URI = re.compile(r"(http://(?:127\.0\.0\.1|\[::1\]))(?::[0-9]{1,5})?((?:/[^#]*)?)")


def same_secret(given: str, expected: str) -> bool:
    """Return whether two secrets are equal, in constant time."""
    return hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode("utf-8", "replace"))


@dataclass(frozen=True)
class User:
    """A user of the provider.

    Args:
        username: The name for the login page; the ``email`` claim works there, too.
        password: The password in plain text, because this provider is for demos and tests.
        claims: The user's profile: ``sub`` (by default the user name), ``name``, ``email``, ``groups`` … A
            ``picture`` that is a path of the provider gets its address in front.
    """

    username: str
    password: str = field(repr=False)
    claims: Mapping[str, Any]

    @property
    def subject(self) -> str:
        """The user's ``sub``."""
        return str(self.claims.get("sub", self.username))

    @property
    def display_name(self) -> str:
        """The user's name on the pages."""
        return str(self.claims.get("name", self.username))

    def is_called(self, name: str) -> bool:
        """Return whether this is the user's name or e-mail address.

        The comparison ignores case.
        """
        return name.strip().lower() in (
            self.username.lower(),
            str(self.claims.get("email", self.username)).lower(),
        )

    def claims_for(self, scope: str) -> dict[str, Any]:
        """Return ``sub`` and the claims of ``scope``, space separated (OIDC Core §5.4)."""
        opened = [name for word in scope.split() for name in CLAIMS_BY_SCOPE.get(word, ())]
        return {"sub": self.subject} | {name: self.claims[name] for name in opened if name in self.claims}


@dataclass(frozen=True)
class AssertionIssuer:
    """A platform with assertions that identify a client, as a federated credential of Entra does.

    Unlike an assertion that the client signs itself, such an assertion may be used several times.

    Args:
        issuer: The ``iss`` of the assertions.
        subject: The ``sub`` of the assertions: the program's name on that platform.
        audience: The audience of the assertions.
        public_keys: The platform's keys, as a JWK Set or a PEM text.
    """

    issuer: str
    subject: str
    audience: str
    public_keys: str | Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True)
class Client:
    """An application that may send users here.

    Args:
        client_id: The client's ID.
        client_secret: The client's secret; empty for a public client (RFC 6749 §2.1) or with ``public_keys``.
        redirect_uris: The redirect URIs, compared as exact strings. A public client that registers
            ``http://127.0.0.1/path``, without a port, may use it with any port (RFC 8252 §7.3).
        post_logout_redirect_uris: The redirect URIs after a sign-out; the same rule applies.
        public_keys: The keys that verify the client's assertions (``private_key_jwt``, OIDC Core §9), as a
            JWK Set or a PEM text.
        assertion_issuer: The platform with the assertions that the client sends instead; None without one.
        device_grant: Whether the client may use the device grant (RFC 8628); None means only if it is public.
        backchannel_logout_uri: The address for logout tokens (OIDC Back-Channel Logout 1.0 §2.2); empty for
            none.
        further_secrets: Other secrets that are accepted too, while the client changes its secret.
    """

    client_id: str
    client_secret: str = field(default="", repr=False)
    redirect_uris: tuple[str, ...] = ()
    post_logout_redirect_uris: tuple[str, ...] = ()
    public_keys: str | Mapping[str, Any] = field(default="", repr=False)
    assertion_issuer: AssertionIssuer | None = None
    device_grant: bool | None = None
    backchannel_logout_uri: str = ""
    further_secrets: tuple[str, ...] = field(default=(), repr=False)

    def knows(self, secret: str) -> bool:
        """Return whether a secret is one of the client's."""
        return any(same_secret(secret, each) for each in (self.client_secret, *self.further_secrets))

    @property
    def sends_assertions(self) -> bool:
        """Whether the client authenticates with assertions only."""
        return bool(self.public_keys or self.assertion_issuer)

    @property
    def is_confidential(self) -> bool:
        """Whether the client authenticates."""
        return bool(self.client_secret or self.sends_assertions)

    @property
    def may_use_devices(self) -> bool:
        """Whether the client may use the device grant."""
        return not self.is_confidential if self.device_grant is None else self.device_grant

    def may_redirect_to(self, uri: str) -> bool:
        """Return whether an authorization response may go to ``uri``."""
        return self._is_among(self.redirect_uris, uri)

    def may_return_to(self, uri: str) -> bool:
        """Return whether a sign-out may redirect to ``uri``."""
        return self._is_among(self.post_logout_redirect_uris, uri)

    def _is_among(self, registered: tuple[str, ...], uri: str) -> bool:
        loopback = None if self.is_confidential else _LOOPBACK_URI.fullmatch(uri)
        return uri in registered or (loopback is not None and loopback[1] + loopback[2] in registered)


def address_beside(redirect_uri: str, name: str) -> str:
    """Return the address of another route of a site with the routes of this package.

    Args:
        redirect_uri: The site's redirect URI: ``…/callback``, or ``…/callback/NAME`` for one of several
            providers.
        name: The route's path below the prefix, for example ``signed-out``.
    """
    base = _CALLBACK.sub("/callback", redirect_uri)
    return urljoin(base, name)


def demo_user(username: str, password: str, *, verified: bool = True, groups: Sequence[str] = ()) -> User:
    """Return a user whose whole profile follows from the name.

    Args:
        username: The name for the login page; an e-mail address keeps its domain.
        password: The password.
        verified: Whether the e-mail address is verified.
        groups: The user's groups.
    """
    short, _, domain = username.partition("@")
    first = short.title()
    claims = {
        "sub": f"user-{username}",
        "name": f"{first} Example",
        "given_name": first,
        "family_name": "Example",
        "preferred_username": username,
        "picture": f"/pictures/{quote(username, safe='')}.png",
        "email": f"{short}@{domain or 'example.com'}",
        "email_verified": verified,
        "groups": list(groups),
    }
    return User(username, password, claims)


DEFAULT_USERS = (
    demo_user("alice", "wonderland", verified=True, groups=["staff", "admins"]),
    demo_user("bob", "builder", verified=False, groups=["staff"]),
)
"""Two users for demos and tests; the login page shows their passwords."""

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
        post_logout_redirect_uris=tuple(
            f"{origin}{path}" for origin in _WEB_ORIGINS for path in ("/", "/auth/signed-out")
        ),
        backchannel_logout_uri=f"{_WEB_ORIGINS[0]}/auth/backchannel-logout",
    ),
)
"""A public native client on any loopback port, and a confidential web client on the usual local ports."""
