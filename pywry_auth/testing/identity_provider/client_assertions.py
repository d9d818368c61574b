"""Client assertions: a client proves its identity with a signature (RFC 7523 §3, OIDC Core §9)."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError, UnsupportedAlgorithmError
from joserfc.jwk import ECKey, Key, KeySet, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from pywry_auth.testing.identity_provider.endpoints import PATHS
from pywry_auth.testing.identity_provider.parties import AssertionIssuer, Client
from pywry_auth.testing.identity_provider.vault import Realm

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
"""The only supported value of ``client_assertion_type`` (RFC 7523 §2.2)."""

ASSERTION_ALGORITHMS = ("RS256", "PS256", "ES256", "ES384", "ES512", "EdDSA")
"""The algorithms of client assertions."""

_TYPES = ("jwt", "client-authentication+jwt")  # the second one: draft-ietf-oauth-rfc7523bis
_LONGEST = 3600  # seconds


class ClientAssertions:
    """Validates assertions and remembers them until they expire.

    The lock guards the remembered assertions.

    Args:
        realm: The provider.
    """

    def __init__(self, realm: Realm) -> None:
        self._realm = realm
        self._lock = threading.Lock()
        self._used: dict[tuple[str, str], float] = {}

    def problem(self, assertion: str, client: Client) -> str:
        """Return the reason to refuse an assertion, or an empty text.

        A valid assertion that the client signed itself counts as used afterwards.
        """
        trusted = client.assertion_issuer
        keys = trusted.public_keys if trusted else client.public_keys
        try:
            token = jwt.decode(assertion, _key_set(keys), registry=_Registry())
        except (JoseError, ValueError, TypeError, RecursionError):  # the last one: deeply nested JSON
            return "the assertion is not signed with a key of the client or of its assertion issuer"
        if str(token.header.get("typ", "JWT")).lower() not in _TYPES:
            return "the typ of the assertion must be JWT or client-authentication+jwt"
        if trusted:
            return self._federated_problem(token.claims, trusted)
        if not token.claims.get("iss") == token.claims.get("sub") == client.client_id:
            return "iss and sub of the assertion must be the client ID"
        if not self._is_audience(token.claims.get("aud")):
            return f"the audience of the assertion must be {' or '.join(self._audiences())}"
        return self._time_problem(token.claims) or self._use(client.client_id, token.claims)

    def _federated_problem(self, claims: Mapping[str, Any], trusted: AssertionIssuer) -> str:
        if (claims.get("iss"), claims.get("sub")) != (trusted.issuer, trusted.subject):
            return f"iss and sub of the assertion must be {trusted.issuer} and {trusted.subject}"
        audience, expires = claims.get("aud"), claims.get("exp")
        if trusted.audience not in (audience if isinstance(audience, list) else [audience]):
            return f"the audience of the assertion must be {trusted.audience}"
        if not isinstance(expires, int | float) or not self._realm.clock() < expires:
            return "the assertion has expired"
        return ""

    def _audiences(self) -> tuple[str, ...]:
        token_endpoint = self._realm.url + PATHS["token"]
        return {
            "issuer": (self._realm.issuer,),
            "token_endpoint": (token_endpoint,),
        }.get(self._realm.quirks.assertion_audience, (self._realm.issuer, token_endpoint))

    def _is_audience(self, audience: object) -> bool:
        named = audience if isinstance(audience, list) else [audience]
        return len(named) == 1 and named[0] in self._audiences()

    def _time_problem(self, claims: Mapping[str, Any]) -> str:
        now, expires = self._realm.clock(), claims.get("exp")
        if not isinstance(expires, int | float) or not now < expires <= now + _LONGEST:
            return f"exp of the assertion must be in the next {_LONGEST} seconds"
        return ""

    def _use(self, client_id: str, claims: Mapping[str, Any]) -> str:
        name, now = claims.get("jti"), self._realm.clock()
        if not isinstance(name, str) or not name:
            return "the assertion has no jti"
        with self._lock:
            self._used = {key: expires for key, expires in self._used.items() if now < expires}
            if (client_id, name) in self._used:
                return "the assertion was used before (jti)"
            self._used[client_id, name] = claims["exp"]
        return ""


class _Registry(JWSRegistry):
    """Accepts ``ASSERTION_ALGORITHMS``, without a warning about EdDSA."""

    def get_alg(self, name: str) -> Any:
        if name not in ASSERTION_ALGORITHMS:
            raise UnsupportedAlgorithmError
        return self.algorithms[name]


def _key_set(public_keys: str | Mapping[str, Any]) -> KeySet:
    """Return the keys of a client.

    Raises:
        ValueError: The keys are neither a JWK Set nor a PEM text.
    """
    if isinstance(public_keys, Mapping):
        return KeySet.import_key_set(dict(public_keys))  # type: ignore[arg-type]
    kinds: tuple[type[Key], ...] = (RSAKey, ECKey, OKPKey)
    for kind in kinds:
        try:
            return KeySet([kind.import_key(public_keys)])
        except (JoseError, ValueError, TypeError):
            continue
    raise ValueError("the client's public_keys are neither a JWK Set nor a PEM text")
