"""Logout tokens (OIDC Back-Channel Logout 1.0 §2.4)."""

from __future__ import annotations

import base64
import functools
import math
import secrets
from collections.abc import Mapping
from typing import Any, Literal

from joserfc.jwk import OctKey
from joserfc.jws import JWSRegistry

from pywry_auth.strict_json import write_json
from pywry_auth.testing.identity_provider.keys import SigningKeys
from pywry_auth.testing.identity_provider.vault import Realm

LOGOUT_EVENT = "http://schemas.openid.net/event/backchannel-logout"
"""The member of ``events`` that makes a JWT a logout token."""

LOGOUT_TOKEN_SECONDS = 120
"""Lifetime of a logout token."""

LogoutKey = Literal["own", "foreign", "none", "secret"]
"""The key of a logout token.

``own`` is the provider's published key, ``foreign`` a key that the provider does not publish, ``none`` no key
at all, and ``secret`` the client's secret with HS256.
"""


class LogoutTokens:
    """Issues logout tokens, and invalid ones for tests.

    Args:
        realm: The provider.
    """

    def __init__(self, realm: Realm) -> None:
        self._realm = realm

    def issue(
        self,
        client_id: str,
        *,
        sub: str | None,
        sid: str | None,
        header: Mapping[str, Any],
        key: LogoutKey,
        claims: Mapping[str, Any],
    ) -> str:
        """Return a logout token.

        Args:
            client_id: The client that the token is for.
            sub: The user; empty or None leaves the claim out.
            sid: The session; empty or None leaves the claim out.
            header: Changes of the header; None removes a member.
            key: The key of the signature.
            claims: Changes of the claims; None removes a claim.

        Raises:
            ValueError: The client is unknown, the token would have neither ``sub`` nor ``sid`` (both None
                permit that), or the key does not fit.
        """
        if client_id not in self._realm.clients:
            known = ", ".join(self._realm.clients)
            raise ValueError(f"the provider has no client {client_id!r}; it has: {known}")
        signed_by = self._signer(key, client_id)
        kind = {"": "logout+jwt", "absent": None}.get(self._realm.quirks.logout_typ, "JWT")
        usual = {"alg": signed_by.algorithm, "typ": kind, "kid": signed_by.key_id}
        own = self._claims(client_id, sub, sid)
        if not (own["sub"] or own["sid"] or (sub is None and sid is None)):
            raise ValueError("a logout token needs sub or sid: pass one that no quirk leaves out")
        parts = [usual | dict(header), own | dict(claims)]
        message = b".".join(_encoded(_without_none(part)) for part in parts)
        return f"{message.decode()}.{_base64url(signed_by.sign(message)).decode()}"

    def _claims(self, client_id: str, sub: str | None, sid: str | None) -> dict[str, Any]:
        quirks = self._realm.quirks
        now = int(self._realm.clock()) + math.trunc(quirks.clock_offset)
        return {
            "iss": self._realm.issuer,
            "aud": [client_id] if quirks.audience_list else client_id,
            "iat": now,
            "exp": None if quirks.no_logout_exp else now + LOGOUT_TOKEN_SECONDS,
            "jti": secrets.token_urlsafe(16),
            "events": {LOGOUT_EVENT: {}},
            "sub": None if quirks.no_logout_sub else sub or None,
            "sid": None if quirks.no_sid else sid or None,
        }

    def _signer(self, key: LogoutKey, client_id: str) -> _Signer:
        if key == "none":
            return _Signer("none", None, OctKey.generate_key(256))
        if key == "secret":
            client = self._realm.clients[client_id]
            if not client.client_secret:
                raise ValueError(f"the client {client_id!r} has no secret to sign with")
            return _Signer("HS256", None, OctKey.import_key(client.client_secret))
        if key not in ("own", "foreign"):
            raise ValueError("key must be own, foreign, none or secret")
        keys = self._realm.keys if key == "own" else self._foreign
        return _Signer(keys.algorithm, keys.current.kid, keys.current)

    @functools.cached_property
    def _foreign(self) -> SigningKeys:
        return SigningKeys(self._realm.keys.algorithm)


class _Signer:
    """One key and its algorithm.

    It signs any header, also one that a test made invalid.
    """

    def __init__(self, algorithm: str, key_id: str | None, key: Any) -> None:
        self.algorithm = algorithm
        self.key_id = key_id
        self._key = key

    def sign(self, message: bytes) -> bytes:
        """Return the signature; it is empty without a key."""
        return JWSRegistry.algorithms[self.algorithm].sign(message, self._key)


def _without_none(members: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}


def _encoded(members: Mapping[str, Any]) -> bytes:
    return _base64url(write_json(members).encode())


def _base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
