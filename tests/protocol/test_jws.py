"""Signatures: valid tokens of each algorithm are read, and every forgery raises the same error."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed448
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from pywry_auth.exceptions import TokenError
from pywry_auth.protocol.http import ProviderSession
from pywry_auth.protocol.jws import verify_signature
from pywry_auth.protocol.key_set import KeySet
from pywry_auth.protocol.urls import HTTPOptions
from pywry_auth.providers.oidc import GenericOIDCProvider
from tests.protocol.forge import (
    ALGORITHMS,
    PrivateKey,
    b64,
    changed,
    kind_of,
    make_key,
    public_jwk,
    segment,
    sign,
    sign_with_secret,
    signature,
)
from tests.protocol.issuer import CLIENT_ID, NOW, SUBJECT, ScriptedIssuer, claims_of, metadata_of
from tests.protocol.refusal import assert_refused
from tests.protocol.servers import Answer, Received, ScriptedServer

HMAC_SECRET = b"canary-a-secret-of-thirty-two-bytes"
CANARY = "canary-in-a-header"


@dataclass(frozen=True)
class Case:
    """The material of a forger: an algorithm, two keys, a valid header and valid claims."""

    algorithm: str
    key: PrivateKey
    other: PrivateKey
    header: Mapping[str, Any]
    claims: Mapping[str, Any]
    canary: ScriptedServer

    def token(self, **header: object) -> str:
        """Return a token of the issuer with members of its header changed."""
        return sign(changed(self.header, **header), self.claims, self.key, self.algorithm)

    @property
    def parts(self) -> list[str]:
        return self.token().split(".")

    @property
    def foreign_algorithm(self) -> str:
        """An algorithm for another type of key."""
        return "ES256" if kind_of(self.algorithm) == "RSA" else "RS256"

    @property
    def sibling(self) -> str:
        """Another algorithm, for the same key if possible."""
        swaps = {"RS": "PS", "PS": "RS"}
        sibling = swaps.get(self.algorithm[:2], "") + self.algorithm[2:]
        others = {"ES256": "ES384", "ES384": "ES512", "ES512": "ES256", "EdDSA": "ES256", "Ed25519": "RS256"}
        return others.get(self.algorithm, sibling)


def key_set(algorithm: str) -> list[dict[str, Any]]:
    """Return two fitting keys, one of another type, an HMAC secret, and unusable keys."""
    kind = kind_of(algorithm)
    other_kind = "P-256" if kind == "RSA" else "RSA"
    return [
        {"kty": "FUTURE", "kid": "unknown-type", "q": "1"},
        {"kty": kind_of(algorithm), "kid": "empty"},
        {"kid": "typeless"},
        {"kty": 5, "kid": ["list"]},
        public_jwk(make_key(kind), kid="main", use="sig"),
        public_jwk(make_key(kind, "second"), kid="second"),
        public_jwk(make_key(kind, "encryption"), kid="encryption", use="enc"),
        public_jwk(make_key(kind, "bound"), kid="bound", alg="RS512" if algorithm == "RS256" else "RS256"),
        public_jwk(make_key(other_kind), kid="foreign"),
        public_jwk(make_key("RSA-1024", "weak"), kid="weak"),
        public_jwk(ed448.Ed448PrivateKey.generate(), kid="curve-448"),
        public_jwk(make_key("P-384" if kind == "P-256" else "P-256", "odd"), kid="other-curve"),
        {"kty": "oct", "kid": "hmac", "k": b64(HMAC_SECRET), "alg": "HS256"},
    ]


@dataclass
class Issuers:
    """Issuers by name.

    ``RS256`` advertises every algorithm, including unsafe ones; ``only-RS256`` advertises only that one.
    """

    server: ScriptedServer
    canary: ScriptedServer
    providers: dict[str, GenericOIDCProvider]

    def provider(self, name: str) -> GenericOIDCProvider:
        """Return the client of an issuer; its clock stands still."""
        if name not in self.providers:
            self.providers[name] = GenericOIDCProvider(
                CLIENT_ID, issuer_url=f"{self.server.url}/{name}", clock=lambda: NOW
            )
        return self.providers[name]

    def case(self, algorithm: str, name: str | None = None) -> Case:
        """Return the material of a forger against the client of an issuer."""
        kind = kind_of(algorithm)
        header = {"alg": algorithm, "kid": "main", "typ": "JWT"}
        claims = claims_of(f"{self.server.url}/{name or algorithm}", nonce="canary-nonce")
        return Case(algorithm, make_key(kind), make_key(kind, "forger"), header, claims, self.canary)


@pytest.fixture(scope="module")
def issuers() -> Iterator[Issuers]:
    def script(request: Received) -> Answer:
        name = request.path.split("/")[1]
        algorithm = name.rpartition("-")[2]
        if request.path.endswith("/jwks"):
            keys = key_set(algorithm)
            lone = [key for key in keys if key.get("kid") != "second"]
            return Answer({"keys": ["odd", None, *(lone if name.startswith("single-") else keys)]})
        advertised = [algorithm] if name.startswith("only-") else [*ALGORITHMS, "none", "HS256"]
        url = f"{server.url}/{name}"
        return Answer(metadata_of(url, id_token_signing_alg_values_supported=advertised))

    with ScriptedServer(script) as server, ScriptedServer(lambda request: Answer({})) as canary:
        yield Issuers(server, canary, {})


def flip(token: str, place: int) -> str:
    """Return the token with one bit of one byte of its signature flipped."""
    head, _, tail = token.rpartition(".")
    octets = bytearray(_octets(tail))
    octets[place] ^= 1
    return f"{head}.{b64(bytes(octets))}"


def _octets(text: str) -> bytes:
    from base64 import urlsafe_b64decode

    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def public_pem(key: PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _payload_changed(case: Case) -> str:
    head, _, tail = case.parts
    return ".".join((head, segment({**case.claims, "sub": "mallory"}), tail))


def _header_changed(case: Case) -> str:
    _, payload, tail = case.parts
    return ".".join((segment({**case.header, "kid": "main", "extra": 1}), payload, tail))


def _unsecured(name: str) -> Callable[[Case], str]:
    return lambda case: f"{segment({**case.header, 'alg': name})}.{segment(dict(case.claims))}."


def _with_none_and_signature(case: Case) -> str:
    return case.token(alg="none")


def _hmac(secret: Callable[[Case], bytes], **header: object) -> Callable[[Case], str]:
    return lambda case: sign_with_secret(
        changed(case.header, **{"alg": "HS256", **header}), case.claims, secret(case)
    )


def _other_key_set(case: Case, member: str) -> str:
    """Return a forger's token whose header names the forger's own keys."""
    jwk = public_jwk(case.other, kid="forger")
    value: object = {"jwk": jwk, "x5c": [b64(public_pem(case.other))]}.get(
        member, f"{case.canary.url}/{member}"
    )
    header = changed(case.header, kid="forger", **{member: value})
    return sign(header, case.claims, case.other, case.algorithm)


def _detached(case: Case) -> str:
    """Return a token whose payload is not encoded (RFC 7797)."""
    header = segment({**case.header, "b64": False, "crit": ["b64"]})
    payload = json.dumps(dict(case.claims))
    tail = b64(signature(case.algorithm, case.key, f"{header}.{payload}".encode()))
    return f"{header}.{payload}.{tail}"


def _raw(header: bytes | None = None, payload: bytes | None = None) -> Callable[[Case], str]:
    return lambda case: sign(
        json.dumps(case.header).encode()
        if header is None
        else header.replace(b"ALG", case.algorithm.encode()),
        json.dumps(case.claims).encode() if payload is None else payload,
        case.key,
        case.algorithm,
    )


DEEP = b"[" * 100_000

FORGERIES: dict[str, Callable[[Case], str]] = {
    # T17: signatures
    "first bit of the signature flipped": lambda c: flip(c.token(), 0),
    "last bit of the signature flipped": lambda c: flip(c.token(), -1),
    "signature empty": lambda c: ".".join([*c.parts[:2], ""]),
    "signature cut": lambda c: c.token()[:-8],
    "signature doubled": lambda c: ".".join([*c.parts[:2], c.parts[2] * 2]),
    "signature of zeros": lambda c: ".".join([*c.parts[:2], b64(bytes(len(_octets(c.parts[2]))))]),
    "signature of another key": lambda c: sign(c.header, c.claims, c.other, c.algorithm),
    "signature of the set's other key": lambda c: sign(
        c.header, c.claims, make_key(kind_of(c.algorithm), "second"), c.algorithm
    ),
    "signature by another algorithm of the family": lambda c: sign(
        c.header, c.claims, make_key(kind_of(c.sibling)), c.sibling
    ),
    "payload changed after signing": _payload_changed,
    "header changed after signing": _header_changed,
    # T17: algorithms
    "alg none": _unsecured("none"),
    "alg None": _unsecured("None"),
    "alg NONE": _unsecured("NONE"),
    "alg nOnE": _unsecured("nOnE"),
    "alg none with the signature": _with_none_and_signature,
    "alg empty": lambda c: c.token(alg=""),
    "alg missing": lambda c: c.token(alg=...),
    "alg null": lambda c: c.token(alg=None),
    "alg a list": lambda c: c.token(alg=[c.algorithm]),
    "alg an object": lambda c: c.token(alg={"alg": c.algorithm}),
    "alg a number": lambda c: c.token(alg=256),
    "alg in lower case": lambda c: c.token(alg=c.algorithm.lower().replace("eddsa", "eddsA")),
    "alg with a space": lambda c: c.token(alg=c.algorithm + " "),
    "alg unknown": lambda c: c.token(alg=CANARY),
    "alg ES256K": lambda c: c.token(alg="ES256K"),
    "alg Ed448": lambda c: c.token(alg="Ed448", kid="curve-448"),
    "alg of another key type": lambda c: c.token(alg=c.foreign_algorithm),
    "alg of a sibling": lambda c: c.token(alg=c.sibling),
    "HS256 with the public key's PEM": _hmac(lambda c: public_pem(c.key)),
    "HS256 with the public key's DER": _hmac(
        lambda c: c.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    ),
    "HS256 with the public key's JWK": _hmac(lambda c: json.dumps(public_jwk(c.key)).encode()),
    "HS256 with the client secret": _hmac(lambda c: b"canary-client-secret"),
    "HS256 with a secret out of the key set": _hmac(lambda c: HMAC_SECRET, kid="hmac"),
    "HS256's signature under our alg": _hmac(lambda c: public_pem(c.key), alg="RS256"),
    # T17: key identifiers
    "kid unknown": lambda c: c.token(kid=CANARY),
    "kid missing with several keys": lambda c: c.token(kid=...),
    "kid null with several keys": lambda c: c.token(kid=None),
    "kid empty": lambda c: c.token(kid=""),
    "kid of a key of another type": lambda c: c.token(kid="foreign"),
    "kid of a key on another curve": lambda c: c.token(kid="other-curve"),
    "kid of an encryption key": lambda c: sign(
        {**c.header, "kid": "encryption"}, c.claims, make_key(kind_of(c.algorithm), "encryption"), c.algorithm
    ),
    "kid of a key that is for another algorithm": lambda c: sign(
        {**c.header, "kid": "bound"}, c.claims, make_key(kind_of(c.algorithm), "bound"), c.algorithm
    ),
    "kid of a key of an unknown type": lambda c: c.token(kid="unknown-type"),
    "kid of a key without members": lambda c: c.token(kid="empty"),
    "kid of a key without a type": lambda c: c.token(kid="typeless"),
    "kid of a symmetric key": lambda c: c.token(kid="hmac"),
    "kid of a weak key": lambda c: sign(
        {**c.header, "alg": "RS256", "kid": "weak"}, c.claims, make_key("RSA-1024", "weak"), "RS256"
    ),
    "kid a number": lambda c: c.token(kid=1),
    "kid a list": lambda c: c.token(kid=["list"]),
    "kid an object": lambda c: c.token(kid={"kid": "main"}),
    "kid true": lambda c: c.token(kid=True),
    "kid a path": lambda c: c.token(kid="../../../dev/null"),
    "kid a statement": lambda c: c.token(kid="x' UNION SELECT 'canary"),
    "kid with a lone surrogate": lambda c: c.token(kid="\ud800"),
    # T18: critical extensions
    "crit unknown": lambda c: c.token(crit=[CANARY], **{CANARY: 1}),
    "crit empty": lambda c: c.token(crit=[]),
    "crit kid": lambda c: c.token(crit=["kid"]),
    "crit exp": lambda c: c.token(crit=["exp"], exp=NOW + 300),
    "crit null": lambda c: c.token(crit=None),
    "crit a string": lambda c: c.token(crit="exp"),
    "crit b64 with the payload as it is": _detached,
    "crit b64 true": lambda c: c.token(b64=True, crit=["b64"]),
    "crit b64 false": lambda c: c.token(b64=False, crit=["b64"]),
    # T10, RFC 8725 §3.11: other kinds of tokens
    "typ of an access token": lambda c: c.token(typ="at+jwt"),
    "typ of a logout token": lambda c: c.token(typ="logout+jwt"),
    "typ of a security event": lambda c: c.token(typ="secevent+jwt"),
    "typ of a proof of possession": lambda c: c.token(typ="dpop+jwt"),
    "typ unknown": lambda c: c.token(typ=CANARY),
    "typ null": lambda c: c.token(typ=None),
    "typ a list": lambda c: c.token(typ=["JWT"]),
    # T21: keys in the header
    "jwk header": lambda c: _other_key_set(c, "jwk"),
    "jku header": lambda c: _other_key_set(c, "jku"),
    "x5u header": lambda c: _other_key_set(c, "x5u"),
    "x5c header": lambda c: _other_key_set(c, "x5c"),
    # T29, T41: texts that are not tokens
    "empty": lambda c: "",
    "dots": lambda c: "..",
    "one segment": lambda c: c.parts[0],
    "two segments": lambda c: ".".join(c.parts[:2]),
    "four segments": lambda c: c.token() + ".AAAA",
    "five segments, like an encrypted one": lambda c: c.token() + ".AAAA.AAAA",
    "encrypted": lambda c: ".".join([segment({"alg": "RSA-OAEP", "enc": "A256GCM"}), "AA", "AA", "AA", "AA"]),
    "a dot twice": lambda c: c.token().replace(".", ".."),
    "a dot in front": lambda c: "." + c.token(),
    "a dot at the end": lambda c: c.token() + ".",
    "header padded": lambda c: ".".join([c.parts[0] + "=", *c.parts[1:]]),
    "signature padded": lambda c: c.token() + "=" * (-len(c.parts[2]) % 4 or 4),
    "base64 in the other alphabet": lambda c: ".".join([*c.parts[:2], "+/" + c.parts[2][2:]]),
    "a space in front": lambda c: " " + c.token(),
    "a newline at the end": lambda c: c.token() + "\n",
    "a newline in the signature": lambda c: c.token()[:-6] + "\n" + c.token()[-6:],
    "non-ASCII": lambda c: c.token()[:-1] + "é",
    "full-width dots": lambda c: c.token().replace(".", "\uff0e"),
    "NUL": lambda c: c.token() + "\0",
    "lone surrogate": lambda c: c.token() + "\ud800",
    "one mebibyte of letters": lambda c: "A" * (1 << 20),
    "one mebibyte of dots": lambda c: "." * (1 << 20),
    "one mebibyte of payload": _raw(payload=b'{"sub":"' + b"x" * (1 << 20) + b'"}'),
    "header of 64 KiB": lambda c: c.token(pad="x" * 65536),
    "header an empty object": _raw(header=b"{}"),
    "header a list": _raw(header=b'["alg"]'),
    "header a string": _raw(header=b'"alg"'),
    "header a number": _raw(header=b"5"),
    "header null": _raw(header=b"null"),
    "header nothing": _raw(header=b""),
    "header no JSON": _raw(header=b"{canary}"),
    "header invalid UTF-8": _raw(header=b'{"alg":"ALG","kid":"\xff"}'),
    "header deep": _raw(header=b'{"alg":"ALG","x":' + DEEP),
    "header with a huge number": _raw(header=b'{"alg":"ALG","kid":"main","x":' + b"9" * 5000 + b"}"),
    "header with NaN": _raw(header=b'{"alg":"ALG","kid":"main","x":NaN}'),
    "header with an infinite number": _raw(header=b'{"alg":"ALG","kid":"main","x":[1e999]}'),
    "header saying alg twice": _raw(header=b'{"alg":"ALG","kid":"main","alg":"none"}'),
    "payload a list": _raw(payload=b"[1]"),
    "payload a string": _raw(payload=b'"sub"'),
    "payload null": _raw(payload=b"null"),
    "payload nothing": _raw(payload=b""),
    "payload no JSON": _raw(payload=b"canary"),
    "payload invalid UTF-8": _raw(payload=b'{"sub":"\xff\xfe"}'),
    "payload deep": _raw(payload=b'{"sub":' + DEEP),
    "payload with a huge number": _raw(payload=b'{"exp":' + b"9" * 5000 + b"}"),
    "payload an empty object": _raw(payload=b"{}"),
}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_forged_token_is_refused(issuers: Issuers, algorithm: str) -> None:
    """The issuer advertises every algorithm, including ``none`` and HS256. [T10, T17, T18, T21, T29, T41]"""
    for forgery, forge in FORGERIES.items():
        print(forgery)  # the last one is that of a failure
        assert_refused(issuers.provider(algorithm), forge(issuers.case(algorithm)))
        assert issuers.canary.received == []


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_an_algorithm_that_is_not_advertised_is_refused(issuers: Issuers, algorithm: str) -> None:
    """The supported and advertised algorithms decide, never the header. [T17]"""
    twins = {"EdDSA": "Ed25519", "Ed25519": "EdDSA"}
    name = f"only-{twins.get(algorithm, issuers.case(algorithm).sibling)}"
    token = issuers.case(algorithm, name).token()
    assert "algorithm" in assert_refused(issuers.provider(name), token)


GOOD: dict[str, Callable[[Case], str]] = {
    "as it should be": lambda c: c.token(),
    "without typ": lambda c: c.token(typ=...),
    "typ empty": lambda c: c.token(typ=""),
    "typ in lower case": lambda c: c.token(typ="jwt"),
    "typ as a media type": lambda c: c.token(typ="application/jwt"),
    "unknown header members": lambda c: c.token(x5t="a", nonce="b", ver=2, deep={"a": [1]}),
    "kid of the set's other key": lambda c: sign(
        {**c.header, "kid": "second"}, c.claims, make_key(kind_of(c.algorithm), "second"), c.algorithm
    ),
    "long": lambda c: sign(c.header, {**c.claims, "groups": ["group"] * 4000}, c.key, c.algorithm),
    "certificates of the right key in the header": lambda c: c.token(x5c=["A" * 1500] * 3),
}


@pytest.mark.parametrize("good", GOOD)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_valid_token_is_read(issuers: Issuers, algorithm: str, good: str) -> None:
    """The valid half of the table shows that not every token is refused. [T17, T21]"""
    claims = issuers.provider(algorithm).validate_id_token(
        GOOD[good](issuers.case(algorithm)), "canary-nonce"
    )
    assert claims["sub"] == SUBJECT
    assert issuers.canary.received == []


@pytest.mark.parametrize("kid", ["main", ..., ""])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_single_usable_key_needs_no_identifier(issuers: Issuers, algorithm: str, kid: object) -> None:
    """Invalid, weak and foreign keys in the set are ignored."""
    name = f"single-{algorithm}"
    token = issuers.case(algorithm, name).token(kid=kid)
    assert issuers.provider(name).validate_id_token(token)["sub"] == SUBJECT


@pytest.mark.parametrize("advertised", [["HS256"], ["none"], ["HS256", "none"], ["ES256K"]])
def test_an_issuer_with_only_unsupported_algorithms_is_refused(
    issuer: ScriptedIssuer, advertised: list[str]
) -> None:
    """An empty intersection does not mean that all algorithms are allowed. [T17]"""
    issuer.metadata["id_token_signing_alg_values_supported"] = advertised
    secret = sign_with_secret({"alg": "HS256"}, claims_of(issuer.url), b"canary-client-secret")
    for token in (issuer.id_token(), secret):
        assert "algorithm" in assert_refused(issuer.provider(), token)


def test_a_key_rotated_under_the_same_identifier_is_found(issuer: ScriptedIssuer) -> None:
    """Some issuers keep the key ID; the failed signature causes a new fetch. [P22]"""
    provider = issuer.provider()
    assert provider.validate_id_token(issuer.id_token())["sub"] == SUBJECT
    issuer.key = make_key("P-256", "rotated")
    issuer.jwks = [public_jwk(issuer.key, kid="main")]
    assert provider.validate_id_token(issuer.id_token())["sub"] == SUBJECT


ONE = public_jwk(make_key("RSA"), kid="main", use="sig", alg="RS256")
BARE = changed(ONE, use=..., alg=...)
SECOND = public_jwk(make_key("RSA", "second"), kid="main")
OTHERS = [public_jwk(make_key("P-256", f"other-{number}"), kid="main") for number in range(4)]

SETS: dict[str, list[Any]] = {
    "the same key twice": [ONE, ONE],
    "the same key with and without alg and use": [BARE, ONE, changed(ONE, use=...)],
    "the same key with several chains of certificates": [{**ONE, "x5c": ["A"]}, {**ONE, "x5c": ["B"]}],
    "one ID for several algorithms": [{**ONE, "alg": name} for name in ("RS512", "RS256", "PS256")],
    "one ID for keys of several types": [*OTHERS, ONE],
    "one ID for signing and encrypting": [{**SECOND, "use": "enc"}, {**SECOND, "alg": "RSA-OAEP"}, ONE],
    "one ID for two keys": [SECOND, ONE],
    "null": [ONE | dict.fromkeys(("use", "alg", "x5c", "x5t", "x5u", "key_ops", "crv", "d"))],
    "empty": [ONE | {"use": "", "alg": "", "x5c": [""], "x5t": "", "key_ops": [], "crv": "", "exp": ""}],
    "certificates of no key": [{**ONE, "x5c": [5], "x5t": {"a": 1}, "x5t#S256": 5}],
    "an operation as a text": [{**ONE, "key_ops": "verify"}, {**SECOND, "key_ops": "encrypt"}],
    "operations": [{**ONE, "key_ops": ["verify"]}, {**SECOND, "key_ops": ["encrypt", "wrapKey"]}],
    "no keys": [None, 5, "text", [ONE], {}, {"kid": "main"}, {"kty": "RSA", "kid": "main", "n": 5}, ONE],
    "a private key beside": [{**SECOND, "d": "AQAB"}, ONE],
}


@pytest.mark.parametrize("kid", ["main", ...])
@pytest.mark.parametrize("keys", SETS.values(), ids=SETS)
def test_key_sets_as_issuers_send_them_are_read(issuer: ScriptedIssuer, keys: list[Any], kid: object) -> None:
    """A repeated key counts once, and null says no more than a missing member (RFC 7517 §4.5). [T17]"""
    issuer.jwks, issuer.metadata["id_token_signing_alg_values_supported"] = keys, ["RS256"]
    header, claims = changed({"alg": "RS256", "kid": "main"}, kid=kid), claims_of(issuer.url)
    token = sign(header, claims, make_key("RSA"), "RS256")
    if kid is ... and keys is SETS["one ID for two keys"]:  # OIDC Core §10.1 requires an ID
        assert_refused(issuer.provider(), token)
    else:
        assert issuer.provider().validate_id_token(token)["sub"] == SUBJECT
    forged = sign(header, claims, make_key("RSA", "forger"), "RS256")
    assert_refused(issuer.provider(), forged)


@pytest.mark.parametrize("ours", ["", None, ...])
@pytest.mark.parametrize("theirs", ["", ...])
def test_an_empty_key_identifier_counts_as_absent(
    issuer: ScriptedIssuer, ours: object, theirs: object
) -> None:
    """Some issuers write empty members, in the key set and in the header. [T17]"""
    issuer.jwks = [changed(public_jwk(issuer.key), kid=ours)]
    header = changed({"alg": "ES256"}, kid=theirs)
    token = sign(header, claims_of(issuer.url), issuer.key, "ES256")
    assert issuer.provider().validate_id_token(token)["sub"] == SUBJECT
    issuer.jwks.append(public_jwk(make_key("P-256", "second"), kid="second"))
    assert_refused(issuer.provider(), token)


REFUSED_SETS: dict[str, list[Any]] = {
    "the key encrypts only": [{**ONE, "use": "enc"}],
    "the key is for another use": [{**ONE, "use": "tls"}],
    "the key is for another algorithm": [{**ONE, "alg": "PS256"}],
    "the operations do not include verify": [{**ONE, "key_ops": ["encrypt"]}],
    "the operations are another text": [{**ONE, "key_ops": "verify-not"}],
    "the operations are an object": [{**ONE, "key_ops": {"verify": True}}],
    "the private part is public": [{**ONE, "d": "AQAB"}],
    "more keys with one ID than are tried": [
        *(public_jwk(make_key("RSA", f"other-{number}"), kid="main") for number in range(4)),
        ONE,
    ],
    "only the address of a certificate": [
        {"kty": "RSA", "kid": "main", "x5u": "https://127.0.0.1:9/canary", "x5c": ["canary"]}
    ],
    "a secret": [{"kty": "oct", "kid": "main", "k": b64(HMAC_SECRET)}],
}


@pytest.mark.parametrize("keys", REFUSED_SETS.values(), ids=REFUSED_SETS)
def test_keys_that_must_not_verify_are_left_out(issuer: ScriptedIssuer, keys: list[Any]) -> None:
    issuer.jwks, issuer.metadata["id_token_signing_alg_values_supported"] = keys, ["RS256", "HS256"]
    claims = claims_of(issuer.url)
    genuine = sign({"alg": "RS256", "kid": "main"}, claims, make_key("RSA"), "RS256")
    for token in (genuine, sign_with_secret({"alg": "HS256", "kid": "main"}, claims, HMAC_SECRET)):
        assert_refused(issuer.provider(), token)


def test_a_set_of_ten_thousand_keys_takes_no_longer(issuer: ScriptedIssuer) -> None:
    """The number of imported keys is limited, whatever the issuer sends. [T41]"""
    issuer.jwks = [{"kty": "EC", "crv": "P-256", "kid": "main", "x": str(number)} for number in range(10_000)]
    issuer.jwks.append(public_jwk(issuer.key, kid="main"))
    assert issuer.provider().validate_id_token(issuer.id_token())["sub"] == SUBJECT


def test_a_large_token_is_read_and_a_larger_one_is_refused_by_its_size(issuer: ScriptedIssuer) -> None:
    """Microsoft sends hundreds of groups. The limit is that of an answer: 1 MiB. [T41]"""
    provider = issuer.provider()
    large = issuer.id_token(groups=["6f1a2b3c-0d4e-4f5a-8b6c-7d8e9f0a1b2c"] * 19_000)
    assert 1_000_000 < len(large) < 1 << 20
    assert len(provider.validate_id_token(large)["groups"]) == 19_000
    larger = issuer.id_token(groups=["x" * (1 << 20)])
    assert f"too large: {len(larger)}" in assert_refused(provider, larger)


RFC_PAYLOAD = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
RFC_RS256 = (
    "eyJhbGciOiJSUzI1NiJ9."
    + RFC_PAYLOAD
    + ".cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7"
    "AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIAR"
    "NPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYE"
    "UipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw"
)
RFC_RS256_KEY = {
    "kty": "RSA",
    "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-y"
    "RT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo"
    "7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs"
    "91kzk2PAcDTW9gb54h4FRWyuXpoQ",
    "e": "AQAB",
}
RFC_ES256 = (
    "eyJhbGciOiJFUzI1NiJ9."
    + RFC_PAYLOAD
    + ".DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSA"
    "pmWQxfKTUJqPP3-Kg6NU1Q"
)
RFC_ES256_KEY = {
    "kty": "EC",
    "crv": "P-256",
    "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
    "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
}
RFC_ES512 = (
    "eyJhbGciOiJFUzUxMiJ9.UGF5bG9hZA.AdwMgeerwtHoh-l192l60hp9wAHZFVJbLfD_UxMi70cwnZOYaRI1bKPWROc-mZZqwqT2SI-KGDK"
    "B34XO0aw_7XdtAG8GaSwFKdCAPZgoXD2YBJZCPEX3xKpRwcdOO8KpEHwJjyqOgzDO7iKvU8vcnwNrmxYbSW9ERBXukOXolLzeO_Jn"
)
RFC_ES512_KEY = {
    "kty": "EC",
    "crv": "P-521",
    "x": "AekpBQ8ST8a8VcfVOTNl353vSrDCLLJXmPk06wTjxrrjcBpXp5EOnYG_NjFZ6OvLFV1jSfS9tsz4qUxcWceqwQGk",
    "y": "ADSmRA43Z1DSNx_RvcLI87cdL07l6jQyyBXMoxVg_l2Th-x3S1WDhjDly79ajL4Kkd0AZMaZmh9ubmf63e3kyMj2",
}


def key_set_of(issuer: ScriptedIssuer, *keys: dict[str, str]) -> KeySet:
    issuer.jwks = list(keys)
    return KeySet(lambda: f"{issuer.url}/jwks", lambda: ProviderSession(HTTPOptions()))


@pytest.mark.parametrize(
    ("token", "key", "algorithm"),
    [(RFC_RS256, RFC_RS256_KEY, "RS256"), (RFC_ES256, RFC_ES256_KEY, "ES256")],
)
def test_the_examples_of_rfc_7515_verify(
    issuer: ScriptedIssuer, token: str, key: dict[str, str], algorithm: str
) -> None:
    """They fail if a bit is flipped or another algorithm is advertised (RFC 7515 appendices A.2, A.3)."""
    keys = key_set_of(issuer, key)
    verified = verify_signature(token, keys, ())
    assert verified.algorithm == algorithm
    assert verified.claims == {"iss": "joe", "exp": 1300819380, "http://example.com/is_root": True}
    for forged, advertised in ((token, ["PS512"]), (flip(token, 0), [algorithm])):
        with pytest.raises(TokenError):
            verify_signature(forged, keys, advertised)


def test_the_es512_example_of_rfc_7515_has_no_claims(issuer: ScriptedIssuer) -> None:
    """Its signature is valid, but its payload "Payload" contains no claims (RFC 7515 appendix A.4)."""
    keys = key_set_of(issuer, RFC_ES512_KEY)
    with pytest.raises(TokenError, match="InvalidPayloadError"):
        verify_signature(RFC_ES512, keys, ())
    with pytest.raises(TokenError, match="signature"):
        verify_signature(flip(RFC_ES512, 0), keys, ())


def test_another_type_is_accepted_only_if_the_caller_names_it(issuer: ScriptedIssuer) -> None:
    """A logout token is not an ID token, and an ID token is not a logout token. [T10]"""
    client = issuer.provider().client
    header = {"alg": "ES256", "kid": "main", "typ": "logout+jwt"}
    logout_token = sign(header, claims_of(issuer.url), issuer.key, "ES256")
    with pytest.raises(TokenError, match="typ"):
        client.verify(logout_token, ["ES256"])
    token, expected = client.verify(logout_token, ["ES256"], ["logout+jwt"])
    assert (token.claims["iss"], expected.issuer, expected.client_id) == (issuer.url, issuer.url, CLIENT_ID)
    with pytest.raises(TokenError, match="typ"):
        client.verify(issuer.id_token(), ["ES256"], ["logout+jwt"])
