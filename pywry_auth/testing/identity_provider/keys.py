"""The provider's signing keys, with rotation."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeySet, RSAKey

ALGORITHMS = ("RS256", "ES256")
"""The supported signing algorithms."""


class SigningKeys:
    """The current signing key, and earlier keys that are still published.

    The keys are a tuple that is replaced as a whole, so readers need no lock. Call ``rotate`` from one thread
    only.

    Args:
        algorithm: ``RS256`` or ``ES256``.

    Raises:
        ValueError: The algorithm is not supported.
    """

    def __init__(self, algorithm: str) -> None:
        if algorithm not in ALGORITHMS:
            raise ValueError(f"signing_algorithm must be one of {', '.join(ALGORITHMS)}")
        self._algorithm = algorithm
        self._keys: tuple[RSAKey | ECKey, ...] = ()
        self.rotate()

    def rotate(self, drop_old: bool = False) -> None:
        """Sign with a new key from now on.

        Args:
            drop_old: Removes the old keys from the published set.
        """
        use = {"use": "sig", "alg": self._algorithm}
        new: RSAKey | ECKey
        if self._algorithm == "RS256":
            new = RSAKey.generate_key(2048, use, auto_kid=True)  # type: ignore[arg-type]
        else:
            new = ECKey.generate_key("P-256", use, auto_kid=True)  # type: ignore[arg-type]
        self._keys = (new,) if drop_old else (new, *self._keys)

    @property
    def algorithm(self) -> str:
        """The signing algorithm."""
        return self._algorithm

    @property
    def current(self) -> RSAKey | ECKey:
        """The key that signs."""
        return self._keys[0]

    def public_set(self) -> dict[str, Any]:
        """Return the key set as published (RFC 7517 §5)."""
        return {"keys": [key.as_dict(private=False) for key in self._keys]}

    def sign(self, claims: Mapping[str, Any]) -> str:
        """Return the claims as a signed JWT."""
        key = self.current
        return jwt.encode({"alg": self._algorithm, "kid": key.kid}, dict(claims), key)

    def verified_claims(self, token: str) -> dict[str, Any] | None:
        """Return the claims of a JWT from this provider, or None.

        An expired JWT is accepted.
        """
        try:
            return dict(jwt.decode(token, KeySet(list(self._keys)), algorithms=[self._algorithm]).claims)
        except (JoseError, ValueError):
            return None


def half_hash(value: str) -> str:
    """Return half of a token's SHA-256 for ``at_hash`` (OIDC Core §3.1.3.6)."""
    return base64.urlsafe_b64encode(hashlib.sha256(value.encode()).digest()[:16]).rstrip(b"=").decode()
