"""The text of a provider that quotes a secret, in any encoding."""

from __future__ import annotations

import html
import secrets
import time
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable
from urllib.parse import quote, urlencode

import pytest

from pywry_auth.error_codes import ErrorCode
from pywry_auth.protocol.redaction import (
    passwords_in,
    provider_code,
    provider_text,
    reveals,
    secrets_sent,
)

Encode = Callable[[str], str]


def _each(form: str, text: str) -> str:
    return "".join(form % byte for byte in text.encode())


ENCODINGS: dict[str, Encode] = {
    "in capitals": str.upper,
    "in small letters": str.lower,
    "percent": lambda s: quote("/" + s + "=", safe=""),
    "percent, every character": lambda s: _each("%%%02X", s),
    "percent, small hex digits": lambda s: _each("%%%02x", s),
    "percent twice": lambda s: quote(_each("%%%02X", s)),
    "percent with u": lambda s: _each("%%u%04x", s),
    "base64 at the first alignment": lambda s: b64encode(s.encode()).decode(),
    "base64 at the second": lambda s: b64encode(b"a" + s.encode()).decode(),
    "base64 at the third": lambda s: b64encode(b"ab" + s.encode()).decode(),
    "base64url": lambda s: urlsafe_b64encode(b"?>" + s.encode()).decode().rstrip("="),
    "base64 twice": lambda s: b64encode(b64encode(b"client:" + s.encode())).decode(),
    "base64 in small letters": lambda s: b64encode(s.encode()).decode().lower(),
    "base64 in lines": lambda s: "\r\n".join(b64encode(s.encode()).decode()),
    "base64 of percent": lambda s: b64encode(_each("%%%02X", s).encode()).decode(),
    "base64 of UTF-16": lambda s: b64encode(s.encode("utf-16-le")).decode(),
    "hex": lambda s: s.encode().hex(),
    "hex in capitals": lambda s: s.encode().hex().upper(),
    "hex after a digit": lambda s: "e" + s.encode().hex(),
    "hex with colons": lambda s: s.encode().hex(":"),
    "hex of C": lambda s: _each("0x%02x, ", s),
    "JSON": lambda s: _each("\\u%04x", s),
    "JSON twice": lambda s: _each("\\\\u%04X", s),
    "JSON's slash": lambda s: f"/{s}/".replace("/", "\\/"),
    "JavaScript": lambda s: _each("\\u{%x}", s),
    "Python": lambda s: _each("\\x%02x", s),
    "long escapes": lambda s: _each("\\U%08x", s),
    "octal": lambda s: "".join(f"\\{byte:03o}" for byte in s.encode("latin-1")),
    "quoted printable in lines": lambda s: f"{s[:5]}=\r\n{s[5:10]}=\r\n{s[10:]}",
    "quoted printable": lambda s: _each("=%02X", s),
    "HTML": html.escape,
    "HTML, decimal": lambda s: _each("&#%d;", s),
    "HTML, hexadecimal": lambda s: _each("&#x%x;", s),
    "line breaks": "\n".join,
    "escaped line breaks": "\\r\\n".join,
    "encoded line breaks": "%0D%0A".join,
    "blanks": " ".join,
    "no-break spaces": "\u00a0".join,
    "plus signs": "+".join,
    "zero-width spaces": "\u200b".join,
    "soft hyphens": "\u00ad".join,
    "elements": "<wbr>".join,
    "full-width letters": lambda s: "".join(
        chr(ord(letter) + 0xFEE0) if "!" <= letter <= "~" else letter for letter in s
    ),
    "its beginning": lambda s: s[:10] + "...",
    "its end": lambda s: "..." + s[-10:],
    "its middle": lambda s: s[6:18],
}

SECRETS = {
    "a random token": secrets.token_urlsafe(32),
    "hexadecimal": secrets.token_hex(16),
    "a code with a slash": f"4/0A{secrets.token_urlsafe(24)}",
    "other characters": "Tr0ub4dor & 3é% \\<>+\"=x'",
    "a JWT": f"eyJhbGciOiJFUzI1NiJ9.{secrets.token_urlsafe(200)}.{secrets.token_urlsafe(64)}",
}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("kind", SECRETS)
def test_a_secret_in_any_encoding_is_not_shown(kind: str, encoding: str) -> None:
    """Only the rest of the text, or nothing, remains of it, and a code becomes another one. [T50]"""
    secret = SECRETS[kind]
    encoded = ENCODINGS[encoding](secret)
    text = provider_text(f"The value {encoded} is unknown", ["another", secret])
    assert encoded not in text
    assert text in ("", f"The value {encoded} is unknown".replace(secret, "…"))
    assert not reveals(text, [secret])
    assert provider_code(f"bad_{encoded}", [secret]) == ErrorCode.INVALID_RESPONSE


def test_a_secret_as_it_is_becomes_a_mark() -> None:
    """The words around it often help. [T31]"""
    assert provider_text("unknown value abcdefgh and xy.", ["abcdefgh", "xy"]) == "unknown value … and …."


def test_a_part_that_an_encoded_secret_left_is_not_shown() -> None:
    """The whole text is searched, also for a part before or after the whole secret. [T50]"""
    secret = SECRETS["a random token"]
    for text in (f"{secret} and {secret[:12]}", f"{secret}{secret[5:15]}", f"{secret} {secret.upper()}"):
        assert provider_text(text, [secret]) == ""


USEFUL = [
    "AADSTS70008: The provided authorization code or refresh token has expired due to inactivity. Send a new "
    "interactive authorization request for this user and resource. Trace ID: "
    "7b1a9f5e-0f4e-4b6f-a2f3-3f8d9f0a1b00 Correlation ID: 5d0c2c6b-3c1e-4a4b-9c61-1a2b3c4d5e6f Timestamp: "
    "2026-11-27 11:13:25Z",
    "AADSTS7000215: Invalid client secret provided. Ensure the secret being sent in the request is the "
    "client secret value, not the client secret ID, for a secret added to app "
    "'00001111-aaaa-2222-bbbb-3333cccc4444'.",
    "The refresh token is expired",
    "Token has been expired or revoked.",
    "The code passed is incorrect or expired.",
    "PKCE verification failed: code_verifier does not match (see https://id.example.com/errors?c=17&l=de)",
    "Das Token wurde verworfen: bitte erneut anmelden; Größe 100 %, <b>Fehler</b> &amp; mehr",
]


@pytest.mark.parametrize("text", USEFUL)
def test_a_text_without_a_secret_is_kept(text: str) -> None:
    """An error without its explanation would be hard to correct. [T50]"""
    sent = [*SECRETS.values(), "canary-refresh-token", "canary-client-secret", "canary-state", ""]
    assert provider_text(text, sent) == text
    for code in ("invalid_grant", "interaction_required", "https://id.example.com/errors#expired"):
        assert provider_code(code, sent) == code


def test_a_short_secret_hides_no_words() -> None:
    """A secret of three characters is part of many words, and its holder must choose a better one."""
    assert provider_code("invalid_grant", ["ant"]) == "invalid_grant"
    assert provider_text("The old one", ["old"]) == "The … one"


def test_a_text_that_takes_too_long_is_not_shown() -> None:
    """The search is bounded in time, whatever a provider sends. [T50, T41]"""
    begun = time.monotonic()
    nested = secrets.token_bytes(9000)
    for _ in range(2):
        nested = b64encode(nested)[:16000]
    for text in (nested.decode(), "%25" * 5000, "&amp;" * 3000, "x" * (1 << 20), "\\u0061" * 2700):
        provider_text(text, [SECRETS["a JWT"]])
    assert provider_text("x" * (1 << 20), [SECRETS["a JWT"]]) == ""
    assert time.monotonic() - begun < 20


def test_the_secrets_of_a_request_are_those_that_were_sent() -> None:
    """All values count, except those of parameters that are public. [T50]"""
    form = {"grant_type": "authorization_code", "code": "c+/=", "client_id": "desk", "own": "x"}
    assert set(secrets_sent("", urlencode(form))) == {"c+/=", "x"}
    basic = b64encode(b"desk:a%2Fb").decode()
    assert set(secrets_sent(f"Basic {basic}", "token=t")) == {basic, "a%2Fb", "a/b", "t"}
    assert set(secrets_sent("Bearer abc", '{"access_token": "t"}')) == {"abc", "t"}
    assert list(secrets_sent("", None)) == []


@pytest.mark.parametrize("length", [32, 64, 65, 256])
def test_the_signature_of_a_signed_token_is_a_secret_as_bytes_too(length: int) -> None:
    """The claims are no secret, and a provider that names them helps. [T50]"""
    signature = secrets.token_bytes(length)
    token = f"eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJzaXRlIn0.{urlsafe_b64encode(signature).decode().rstrip('=')}"
    for sent in (
        secrets_sent("", urlencode({"client_assertion": token})),
        secrets_sent(f"Bearer {token}", ""),
    ):
        known = list(sent)
        for shown in (signature.hex(), signature.hex(":").upper(), b64encode(signature).decode()):
            assert shown not in provider_text(f"bad signature {shown} of site", known)
        assert provider_text('{"sub":"site"}', known) == '{"sub":"site"}'


def test_the_password_of_a_proxy_is_a_secret() -> None:
    """It counts in both forms, as it stands in the URL and decoded. [T50]"""
    assert set(passwords_in(["http://user:p%40ss@proxy.example.com:3128"])) == {"p%40ss", "p@ss"}
    assert list(passwords_in(["http://proxy.example.com", "http://user@proxy.example.com"])) == []


@pytest.mark.parametrize("backslashes", [0, 1000, 4000])
def test_a_hostile_text_takes_no_longer_than_a_moment(backslashes: int) -> None:
    """Any visitor can send an error description to the callback. [T41, T50]"""
    nested = r"%2525252541+&amp;amp;amp;amp;\u005cu005cu005cu0041<b>=3D<<i>b>&lt;u&gt;4141414141414141"
    secrets = [f"{number}-canary-{'x' * 40}" for number in range(4)]
    begun = time.process_time()
    provider_text("\\" * backslashes + nested, secrets)
    assert time.process_time() - begun < 1
