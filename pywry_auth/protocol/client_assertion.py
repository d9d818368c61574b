"""A client's proof that it has its private key (RFC 7523 §2.2): ``private_key_jwt`` of OIDC Core §9."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, JWKRegistry, Key, OKPKey, RSAKey

from pywry_auth.exceptions import AuthenticationError, ErrorCode, printable
from pywry_auth.protocol.jws import ALGORITHMS, AlgorithmRegistry

_LIFETIME = 60
_SMALLEST_RSA_BITS = 2048
_USUAL = ("RS256", "ES256", "ES384", "ES512", "EdDSA")


@dataclass(frozen=True)
class ClientKey:
    """A client's private key, and how it signs.

    Args:
        key: The key.
        algorithm: The signature's (RFC 7518 §3.1).
        kid: The key's name at the provider; empty when it has none.
    """

    key: Key = field(repr=False)
    algorithm: str
    kid: str

    def assertion(self, client_id: str, audience: str, now: float) -> str:
        """Return an assertion for one request.

        Args:
            client_id: Who signs, and for whom.
            audience: The provider's issuer.
            now: Unix time in seconds.
        """
        header = {"alg": self.algorithm, "typ": "JWT"} | ({"kid": self.kid} if self.kid else {})
        claims = {
            "iss": client_id,
            "sub": client_id,
            "aud": audience,
            "jti": secrets.token_urlsafe(32),
            "iat": int(now),
            "exp": int(now) + _LIFETIME,
        }
        registry = AlgorithmRegistry(algorithms=[self.algorithm])
        return jwt.encode(header, claims, self.key, registry=registry)


def load_client_key(path: str) -> ClientKey:
    """Return the private key of a file.

    Args:
        path: A PEM file, or a JWK, whose ``alg`` and ``kid`` are kept to.

    Raises:
        AuthenticationError: The file cannot be read, or has no key that can sign; what is in it is not told.
    """
    key, members = _read(path)
    if not key.is_private:
        raise _unusable(path, "it has a public key alone")
    if isinstance(key, RSAKey) and key.raw_value.key_size < _SMALLEST_RSA_BITS:
        raise _unusable(path, f"an RSA key needs {_SMALLEST_RSA_BITS} bits or more")
    kind = (members["kty"], members.get("crv"))
    fitting = [name for name, (kty, crv) in ALGORITHMS.items() if kind in ((kty, crv), (kty, None))]
    usual = [members["alg"]] if members.get("alg") else _USUAL
    algorithm = next((name for name in usual if name in fitting), None)
    if algorithm is None:
        raise _unusable(path, "its kind of key or its alg cannot sign here")
    loaded = ClientKey(key, algorithm, str(members["kid"]) if "kid" in members else "")
    try:
        loaded.assertion("", "", 0)
    except JoseError:  # else each login would meet it
        raise _unusable(path, "the JWK's own use or key_ops is not signing") from None
    return loaded


def _read(path: str) -> tuple[Key, Mapping[str, object]]:
    try:
        key = _imported(Path(path).read_text(encoding="utf-8-sig"))
        return key, key.as_dict(private=False)
    except OSError as error:
        raise _unusable(path, f"it cannot be read ({type(error).__name__})") from None
    except Exception as error:  # noqa: BLE001  # a key can be wrong in many ways, and each text could show it
        why = f"it is no key in PEM or JWK, or has a passphrase ({type(error).__name__})"
        raise _unusable(path, why) from None


def _imported(text: str) -> Key:
    if text.lstrip().startswith("{"):
        return JWKRegistry.import_key(json.loads(text))
    for kind in (RSAKey, ECKey, OKPKey):
        try:
            key: Key = kind.import_key(text)
        except (JoseError, ValueError, TypeError):
            continue
        return key
    raise ValueError("no key")


def _unusable(path: str, why: str) -> AuthenticationError:
    return AuthenticationError(
        f"CLIENT_KEY_FILE {printable(path)}: {why}. Make one with: openssl genpkey -algorithm EC "
        "-pkeyopt ec_paramgen_curve:P-256 -out client.pem",
        error=ErrorCode.INVALID_CONFIGURATION,
    )
