"""How a client authenticates to the provider (RFC 6749 §2.3, RFC 7523 §2.2, OIDC Core §9)."""

from __future__ import annotations

import logging
import secrets
import time
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote_plus

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, JWKRegistry, Key, OKPKey, RSAKey

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError, printable
from pywry_auth.private_files import change_fault, read_fault, read_regular
from pywry_auth.protocol.assertion_file import AssertionFile
from pywry_auth.protocol.jws import ALGORITHMS, AlgorithmRegistry
from pywry_auth.strict_json import read_json

_logger = logging.getLogger("pywry_auth.protocol")

_TYPE = "client-authentication+jwt"  # draft-ietf-oauth-rfc7523bis
_JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_KEY, _BASIC, _POST, _NONE = "private_key_jwt", "client_secret_basic", "client_secret_post", "none"
_LIFETIME = 60  # seconds
_SMALLEST_RSA_BITS = 2048
_LARGEST = 1 << 20  # bytes in a key file
_LONGEST = 4096  # characters in an error text with paths
_USUAL = ("RS256", "ES256", "ES384", "ES512", "EdDSA")


@dataclass(frozen=True)
class ClientKey:
    """A client's private key and its signature algorithm.

    Args:
        key: The key.
        algorithm: The signature algorithm (RFC 7518 §3.1).
        kid: The key's name at the provider; empty for none.
    """

    key: Key = field(repr=False)
    algorithm: str
    kid: str

    def assertion(self, client_id: str, audience: str, now: float) -> str:
        """Return an assertion that expires after 60 s (RFC 7523 §3).

        Args:
            client_id: The issuer and the subject of the assertion.
            audience: The provider's issuer or its token endpoint.
            now: Unix time in seconds.
        """
        header = {"alg": self.algorithm, "typ": _TYPE} | ({"kid": self.kid} if self.kid else {})
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


@dataclass(frozen=True)
class ClientAuthentication:
    """One client and its authentication at the provider.

    Each request to the token and revocation endpoints uses it.

    Args:
        client_id: The client's identifier.
        client_secret: The client's secret; empty for a public client.
        configured: ``auto``, or the method that the settings name.
        key: The client's private key, or None.
        assertion_file: The file with an assertion, which excludes the secret and the key; or None.
        clock: Unix time in seconds.
        audience_kind: ``issuer``, or ``token_endpoint`` for servers that require its URL. With an audience
            that other servers accept too, the receiver of an assertion could use it there
            (draft-ietf-oauth-rfc7523bis).
        offered: ``token_endpoint_auth_methods_supported``. If the provider does not list its methods, this is
            empty, which means Basic (OIDC Discovery §3).
        audience: The provider's issuer or its token endpoint, as ``audience_kind`` says; empty if unknown.
    """

    client_id: str
    client_secret: str = field(default="", repr=False)
    configured: str = "auto"
    key: ClientKey | None = None
    assertion_file: AssertionFile | None = None
    clock: Callable[[], float] = time.time
    audience_kind: str = "issuer"
    offered: Sequence[str] = ()
    audience: str = ""

    @property
    def is_confidential(self) -> bool:
        """Whether the client can prove its identity (RFC 6749 §2.1)."""
        proofs = (self.client_secret, self.key, self.assertion_file)
        return self.configured != _NONE and any(proofs)

    @property
    def follows_offer(self) -> bool:
        """Whether the methods that the provider offers decide the method in use."""
        return self.configured == "auto" and self.is_confidential

    @property
    def remedy(self) -> str:
        """The remedy if the provider refuses the client, with the settings of the method in use."""
        check = "Check PYWRY_OAUTH2__CLIENT_ID"
        if self.assertion_file is not None:
            return (
                f"{check}, and the issuer, the subject and the audience that the provider trusts for the "
                "assertion in PYWRY_OAUTH2__CLIENT_ASSERTION_FILE. The provider must accept an assertion "
                "more than once."
            )
        if self.method == _KEY:
            return (
                f"{check}, PYWRY_OAUTH2__CLIENT_ASSERTION_AUDIENCE, and whether the provider has the public "
                "key of PYWRY_OAUTH2__CLIENT_KEY_FILE."
            )
        if self.method == _NONE and self.client_secret:
            return "Set PYWRY_OAUTH2__TOKEN_ENDPOINT_AUTH_METHOD to auto."
        if self.method == _NONE:
            return f"{check}. If the provider has issued a secret, set PYWRY_OAUTH2__CLIENT_SECRET to it."
        return (
            f"{check} and PYWRY_OAUTH2__CLIENT_SECRET. If both are right, set "
            "PYWRY_OAUTH2__TOKEN_ENDPOINT_AUTH_METHOD to the method in the client's registration."
        )

    @property
    def method(self) -> str:
        """The authentication method in use.

        There is never a second attempt with another method.

        Raises:
            AuthenticationError: The secret or key that the method needs is missing, or no method is usable.
        """
        method = self._best_method() if self.configured == "auto" else self.configured
        if method not in (_KEY, _BASIC, _POST, _NONE):
            offered = printable(", ".join(self.offered)) or "nothing in particular"
            if self.configured == "auto":
                remedy = (
                    f"set it to {_KEY} if the provider accepts the assertion in "
                    "PYWRY_OAUTH2__CLIENT_ASSERTION_FILE nevertheless"
                    if self.assertion_file
                    else "set only the PYWRY_OAUTH2__CLIENT_SECRET or PYWRY_OAUTH2__CLIENT_KEY_FILE that "
                    "this needs, or name the method that the provider accepts"
                )
                raise _misconfigured(f"is auto, but the provider offers only {offered}: {remedy}")
            raise _misconfigured(
                f"is {method!r} and the provider offers {offered}: set it to auto, private_key_jwt, "
                "client_secret_basic, client_secret_post or none"
            )
        if method == _KEY and not (self.key or self.assertion_file):
            raise _misconfigured(
                f"{_KEY} needs PYWRY_OAUTH2__CLIENT_KEY_FILE or PYWRY_OAUTH2__CLIENT_ASSERTION_FILE: "
                "set one of them, or choose another method"
            )
        if method in (_BASIC, _POST) and not self.client_secret:
            raise _misconfigured(f"{method} needs PYWRY_OAUTH2__CLIENT_SECRET: set it, or use none")
        return method

    def apply(self, parameters: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
        """Return the headers and body parameters of an authenticated request.

        Args:
            parameters: The request without the client's authentication.

        Raises:
            TokenError: The assertion in ``assertion_file`` cannot be used at present; nothing was sent.
            AuthenticationError: The client cannot authenticate.
        """
        method = self.method
        if method == _BASIC:
            # RFC 6749 §2.3.1: encode both parts as in a form, so that a colon in the identifier is safe.
            pair = f"{quote_plus(self.client_id)}:{quote_plus(self.client_secret)}"
            return {"Authorization": "Basic " + b64encode(pair.encode("ascii")).decode("ascii")}, {
                **parameters
            }
        proof = {}
        if method == _POST:
            proof = {"client_secret": self.client_secret}
        elif method == _KEY and self.assertion_file:
            proof = _as_proof(self.assertion_file.read(self.clock()))
        elif method == _KEY and self.key:
            if not self.audience:
                raise AuthenticationError(
                    f"{_KEY} needs the provider's issuer, which is not known: set "
                    "PYWRY_OAUTH2__ISSUER, or set PYWRY_OAUTH2__CLIENT_ASSERTION_AUDIENCE to token_endpoint.",
                    error=ErrorCode.INVALID_CONFIGURATION,
                )
            proof = _as_proof(self.key.assertion(self.client_id, self.audience, self.clock()))
        return {}, {**parameters, "client_id": self.client_id, **proof}

    def _best_method(self) -> str:
        signs = bool(self.key or self.assertion_file)
        ours = ((_KEY,) if signs else ()) + ((_BASIC, _POST) if self.client_secret else ())
        if not ours:
            return _NONE  # for a public client; many providers accept it without listing it
        if not self.offered:
            return _BASIC if self.client_secret else _KEY
        return next((method for method in ours if method in self.offered), "")


def _as_proof(assertion: str) -> dict[str, str]:
    return {"client_assertion_type": _JWT_BEARER, "client_assertion": assertion}


def load_client_key(path: str) -> ClientKey:
    """Return the private key in a file.

    Args:
        path: A PEM file or a JWK. The ``alg`` and ``kid`` of a JWK are used.

    Raises:
        AuthenticationError: The file cannot be read, or contains no key that can sign. The error never quotes
            the file's content.
    """
    key, members = _read(path)
    if not key.is_private:
        raise _unusable(path, "it contains only a public key")
    if isinstance(key, RSAKey) and key.raw_value.key_size < _SMALLEST_RSA_BITS:
        raise _unusable(path, f"an RSA key needs {_SMALLEST_RSA_BITS} bits or more")
    kind = (members["kty"], members.get("crv"))
    fitting = [name for name, (kty, crv) in ALGORITHMS.items() if kind in ((kty, crv), (kty, None))]
    usual = [members["alg"]] if members.get("alg") else _USUAL
    algorithm = next((name for name in usual if name in fitting), None)
    if algorithm is None:
        raise _unusable(path, "its key type, curve or alg is not supported")
    loaded = ClientKey(key, algorithm, str(members["kid"]) if "kid" in members else "")
    if not _can_sign(loaded):  # find this out now, instead of at each login
        raise _unusable(path, "the use or key_ops of the JWK does not permit signing")
    return loaded


def _can_sign(key: ClientKey) -> bool:
    try:
        key.assertion("", "", 0)
    except JoseError:
        return False
    return True


def _read(path: str) -> tuple[Key, Mapping[str, object]]:
    data = _content(path)
    try:
        key = _imported(data.decode("utf-8-sig"))
        return key, key.as_dict(private=False)
    except Exception as error:  # noqa: BLE001  # parsers raise many kinds of errors
        why = f"it is neither a PEM nor a JWK key, or it has a passphrase ({type(error).__name__})"
    # Outside of the except clauses, because the texts of those errors could quote the key.
    raise _unusable(path, why)


def _content(path: str) -> bytes:
    try:
        data, found = read_regular(Path(path), _LARGEST)
    except (OSError, ValueError) as error:  # ValueError: the path contains a null character
        why = str(error) if type(error) is OSError and not error.errno else type(error).__name__
        raise AuthenticationError(
            f"CLIENT_KEY_FILE {printable(path)} cannot be read ({why}): correct the path, or give this "
            "process the right to read the file.",
            error=ErrorCode.INVALID_CONFIGURATION,
        ) from None
    if fault := change_fault(Path(path), found):
        raise AuthenticationError(
            f"CLIENT_KEY_FILE is not safe: {printable(fault, _LONGEST)}.",
            error=ErrorCode.INVALID_CONFIGURATION,
        )
    if fault := read_fault(Path(path), found):
        _logger.warning("CLIENT_KEY_FILE is not private: %s", printable(fault, _LONGEST))
    return data


def _imported(text: str) -> Key:
    if text.lstrip().startswith("{"):
        return JWKRegistry.import_key(read_json(text))
    for kind in (RSAKey, ECKey, OKPKey):
        try:
            key: Key = kind.import_key(text)
        except (JoseError, ValueError, TypeError):
            continue
        return key
    raise ValueError("no key")


def _unusable(path: str, why: str) -> AuthenticationError:
    return AuthenticationError(
        f"CLIENT_KEY_FILE {printable(path)}: {why}. Create a key with: openssl genpkey -algorithm EC "
        "-pkeyopt ec_paramgen_curve:P-256 -out client.pem",
        error=ErrorCode.INVALID_CONFIGURATION,
    )


def _misconfigured(condition: str) -> AuthenticationError:
    return AuthenticationError(
        f"PYWRY_OAUTH2__TOKEN_ENDPOINT_AUTH_METHOD {condition}.", error=ErrorCode.INVALID_CONFIGURATION
    )
