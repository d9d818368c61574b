"""Client authentication: methods, requests, and key files."""

from __future__ import annotations

import json
import re
from base64 import b64decode, b64encode, urlsafe_b64decode
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote_plus

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448
from joserfc.jwk import ECKey

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError, TokenError
from pywry_auth.protocol.assertion_file import AssertionFile
from pywry_auth.protocol.client_authentication import ClientAuthentication, ClientKey, load_client_key
from pywry_auth.protocol.jws import verify_signature
from pywry_auth.protocol.key_set import KeySet
from pywry_auth.protocol.provider_errors import explain
from tests.protocol.forge import PrivateKey, make_key, public_jwk
from tests.protocol.issuer import NOW
from tests.protocol.refusal import everything_told


def pem(key: PrivateKey | ed448.Ed448PrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def jwk(**members: object) -> bytes:
    return json.dumps(ECKey.import_key(pem(make_key("P-256"))).as_dict(private=True) | members).encode()


TYPES = ("client-authentication+jwt",)


class OneKey(KeySet):
    """A key set of one key, without a server."""

    def __init__(self, key: PrivateKey) -> None:
        self._one = (public_jwk(key),)

    def keys(self) -> Any:
        return self._one


def header_of(token: str) -> dict[str, Any]:
    head = token.partition(".")[0]
    members: dict[str, Any] = json.loads(urlsafe_b64decode(head + "=="))
    return members


@pytest.mark.parametrize(
    ("kind", "algorithm"),
    [("RSA", "RS256"), ("P-256", "ES256"), ("P-384", "ES384"), ("P-521", "ES512"), ("Ed25519", "EdDSA")],
)
def test_an_assertion_is_valid_for_one_audience_and_a_short_time(
    tmp_path: Path, kind: str, algorithm: str
) -> None:
    """The key's type decides the algorithm, and audience and expiry limit the use (RFC 7523 §3). [T38]"""
    file = tmp_path / "client.pem"
    file.write_bytes(pem(make_key(kind)))
    key = load_client_key(str(file))
    tokens = [key.assertion("c", "https://id.example.com", NOW + 0.9) for _ in range(2)]
    assert header_of(tokens[0]) == {"alg": algorithm, "typ": "client-authentication+jwt"}
    claims = [
        dict(verify_signature(token, OneKey(make_key(kind)), [algorithm], TYPES).claims) for token in tokens
    ]
    assert claims[0].pop("jti") != claims[1].pop("jti")
    assert claims[0] == {
        "iss": "c",
        "sub": "c",
        "aud": "https://id.example.com",
        "iat": NOW,
        "exp": NOW + 60,
    }
    assert "PRIVATE" not in repr(key)


def test_the_kid_and_alg_of_a_jwk_are_used(tmp_path: Path) -> None:
    from joserfc.jwk import RSAKey

    file = tmp_path / "client.jwk"
    members = {**RSAKey.import_key(pem(make_key("RSA"))).as_dict(private=True), "kid": "k1", "alg": "PS256"}
    file.write_text(json.dumps(members))
    assertion = load_client_key(str(file)).assertion("c", "https://id.example.com", NOW)
    assert header_of(assertion) == {"alg": "PS256", "typ": "client-authentication+jwt", "kid": "k1"}
    file.write_text(json.dumps({**members, "alg": "HS256"}))
    with pytest.raises(AuthenticationError, match="alg"):
        load_client_key(str(file))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"canary",
        b"{",
        b'{"kty": "canary"}',
        b'{"kty": "oct", "k": "Y2FuYXJ5LWNhbmFyeS1jYW5hcnktY2FuYXJ5"}',
        b"\xff\xfe",
        b"-----BEGIN PRIVATE KEY-----\ncanary\n-----END PRIVATE KEY-----\n",
        pem(make_key("RSA-1024")),
        pem(ed448.Ed448PrivateKey.generate()),
        pem(ec.generate_private_key(ec.SECP256K1())),
        json.dumps(public_jwk(make_key("P-256"))).encode(),
        jwk(use="enc"),
        jwk(key_ops=["verify"]),
        jwk(kid=5),
        jwk(alg="none"),
        json.dumps({"keys": [json.loads(jwk())]}).encode(),
        make_key("P-256").private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"canary"),
        ),
    ],
)
def test_a_file_without_a_usable_key_is_refused_and_not_quoted(tmp_path: Path, content: bytes) -> None:
    """The error names the file and quotes nothing from it. [S11]"""
    file = tmp_path / "client.pem"
    file.write_bytes(content)
    with pytest.raises(AuthenticationError, match="CLIENT_KEY_FILE") as caught:
        load_client_key(str(file))
    assert caught.value.error == ErrorCode.INVALID_CONFIGURATION
    assert "canary" not in everything_told(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf" + pem(make_key("P-256")),
        "friendlyName: Schlüssel\n".encode() + pem(make_key("P-256")),
        pem(make_key("P-256")).replace(b"\n", b"\r\n"),
        make_key("P-256").private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        ),
        jwk(use="sig", key_ops=["sign"]),
    ],
)
def test_the_key_formats_of_common_tools_are_read(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "client.pem"
    file.write_bytes(content)
    assert load_client_key(str(file)).algorithm == "ES256"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(AuthenticationError, match=r"nothing\.pem") as caught:
        load_client_key(str(tmp_path / "nothing.pem"))
    assert caught.value.error == ErrorCode.INVALID_CONFIGURATION


# Methods and requests


@pytest.mark.parametrize(
    ("client_id", "secret"),
    [
        ("client", "secret"),
        ("a:b", "c:d"),
        ("a b+c%", "b%+\u00e9 &=/?"),
        ("\u00fc\u20ac", "\U0001f511"),
        ("c", "~-._*"),
    ],
)
def test_basic_has_both_parts_form_urlencoded(client_id: str, secret: str) -> None:
    """Otherwise ``a:b`` could not be distinguished from ``a`` with the secret ``b:…`` (RFC 6749 §2.3.1).

    [R]
    """
    client = ClientAuthentication(client_id, secret, "client_secret_basic")
    headers, body = client.apply({"token": "t"})
    scheme, _, encoded = headers["Authorization"].partition(" ")
    name, colon, password = b64decode(encoded).decode("ascii").partition(":")
    assert (scheme, unquote_plus(name), colon, unquote_plus(password)) == ("Basic", client_id, ":", secret)
    assert body == {"token": "t"}


def test_basic_encodes_like_a_form() -> None:
    """The expected value of ``a:b%+é`` was encoded by hand (RFC 6749 appendix B). [R]"""
    headers, _ = ClientAuthentication("a:b%+\u00e9", "x y", "client_secret_basic").apply({})
    assert headers["Authorization"] == "Basic " + b64encode(b"a%3Ab%25%2B%C3%A9:x+y").decode()


BASIC, POST, NONE = "client_secret_basic", "client_secret_post", "none"


@pytest.mark.parametrize(
    ("secret", "configured", "offered", "method"),
    [
        ("s", "auto", (), BASIC),
        ("s", "auto", (POST, BASIC), BASIC),
        ("s", "auto", (POST,), POST),
        ("s", "auto", ("private_key_jwt", POST), POST),
        ("s", "auto", (NONE, BASIC), BASIC),
        ("", "auto", (), NONE),
        ("", "auto", (NONE,), NONE),
        ("", "auto", (BASIC, POST), NONE),
        ("s", POST, (BASIC,), POST),
        ("s", BASIC, (POST,), BASIC),
        ("s", NONE, (BASIC,), NONE),
        ("", NONE, (), NONE),
    ],
)
def test_the_method_is_chosen_once(secret: str, configured: str, offered: Sequence[str], method: str) -> None:
    """A missing list means Basic, and the configured method has precedence (OIDC Discovery §3)."""
    assert ClientAuthentication("c", secret, configured, offered=offered).method == method


@pytest.mark.parametrize(
    ("secret", "configured", "offered"),
    [
        ("canary-s", "auto", ("private_key_jwt",)),
        ("canary-s", "auto", (NONE,)),
        ("canary-s", "private_key_jwt", ("private_key_jwt",)),
        ("canary-s", "Basic", ()),
        ("", BASIC, ()),
        ("", POST, (POST,)),
    ],
)
def test_an_unusable_method_is_named(secret: str, configured: str, offered: Sequence[str]) -> None:
    with pytest.raises(AuthenticationError, match="TOKEN_ENDPOINT_AUTH_METHOD") as caught:
        ClientAuthentication("c", secret, configured, offered=offered).apply({})
    assert caught.value.error == ErrorCode.INVALID_CONFIGURATION
    assert "canary" not in everything_told(caught.value)


@pytest.mark.parametrize(
    ("secret", "offered"), [("", (POST,)), ("s", (NONE,)), ("s", ("tls_client_auth", "private_key_jwt"))]
)
def test_an_offer_that_does_not_fit_the_client_says_what_to_set(secret: str, offered: Sequence[str]) -> None:
    key = None if secret else ClientKey(ECKey.import_key(pem(make_key("P-256"))), "ES256", "")
    with pytest.raises(AuthenticationError) as caught:
        ClientAuthentication("c", secret, key=key, offered=offered).apply({})
    offers = f"is auto, but the provider offers only {', '.join(offered)}: "
    assert (
        offers + "set only the PYWRY_OAUTH2__CLIENT_SECRET or PYWRY_OAUTH2__CLIENT_KEY_FILE that this needs"
        in str(caught.value)
    )
    assert "set it to auto" not in str(caught.value)


def test_a_public_client_adds_only_its_identifier() -> None:
    assert ClientAuthentication("c").apply({"token": "t"}) == ({}, {"token": "t", "client_id": "c"})


def test_each_request_gets_a_new_assertion(tmp_path: Path) -> None:
    """No assertion is sent twice. [T38]"""
    file = tmp_path / "client.pem"
    file.write_bytes(pem(make_key("P-256")))
    client = ClientAuthentication("c", key=load_client_key(str(file)), audience="https://id.example.com")
    (_, first), (_, second) = client.apply({}), client.apply({})
    assert set(first) == {"client_id", "client_assertion_type", "client_assertion"}
    assert first["client_assertion"] != second["client_assertion"]


@pytest.mark.parametrize(
    ("proof", "named"),
    [
        ({"client_secret": "s"}, {"CLIENT_SECRET", "TOKEN_ENDPOINT_AUTH_METHOD"}),
        (
            {"key": ClientKey(ECKey.import_key(pem(make_key("P-256"))), "ES256", "")},
            {"CLIENT_KEY_FILE", "CLIENT_ASSERTION_AUDIENCE"},
        ),
        ({"assertion_file": AssertionFile("/assertion")}, {"CLIENT_ASSERTION_FILE"}),
        ({"configured": "none"}, {"CLIENT_SECRET"}),
    ],
)
def test_the_remedy_names_only_the_settings_of_the_method_in_use(
    proof: dict[str, Any], named: set[str]
) -> None:
    """With their whole names, so that an operator finds them."""
    remedy = ClientAuthentication("site", **proof).remedy
    assert set(re.findall(r"PYWRY_OAUTH2__(\w+)", remedy)) == named | {"CLIENT_ID"}
    refused = explain("It", "invalid_client", "", TokenError, check_client=remedy)
    assert str(refused) == f"It answered invalid_client. {remedy}"
