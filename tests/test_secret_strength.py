"""Secrets that can be guessed are found, and random ones are not taken for them."""

from __future__ import annotations

import secrets
import string
import uuid

import pytest

from pywry_auth.secret_strength import is_placeholder, is_repetitive, weakness

_PLACEHOLDERS = [
    *[
        "...",
        "…",
        "xxxxxxxx",
        "********",
        "secret",
        "Secret-Key",
        "changeme",
        "CHANGE_ME please, at least 32 characters",
    ],
    *[
        "<a long random value, for example of openssl>",
        "${TOKEN_SECRET_OF_THE_SITE_IN_PRODUCTION}",
        "$TOKEN_SECRET",
    ],
    *[
        "your-secret-key-goes-here-and-is-long-enough",
        "{{ vault_token_secret_of_this_site }}",
        "%TOKEN_SECRET%",
        "[ein zufälliger Wert mit 32 Zeichen…]",
        "{{ lookup('env', 'TOKEN_SECRET_OF_THE_SITE') }}",
        "{{.Values.tokenSecret.ofTheSite.inProduction}}",
        "${TOKEN_SECRET:-an_insufficient_default}",
        "`cat /run/secrets/the_token_secret_of_the_site`",
    ],
    'the output of python3 -c "import secrets; print(secrets.token_urlsafe(32))"',
    "$(cat /run/secrets/PYWRY_DEPLOY__TOKEN_SECRET)",
    "openssl rand -base64 32 | tr -d '\\n' > secret",
    "the value of PYWRY_DEPLOY__TOKEN_SECRET",
    "super secret key, super secret key, do not tell",
    "your-secret-key-that-must-be-at-least-32-characters-long",
    "CHANGE ME! (this must be a long random text of 32+ characters)",
    "please use secrets.token_urlsafe(32) here",
]
_REPETITIVE = [
    "s" * 40,
    "abc" * 20,
    "12345678901234567890123456789012",
    "0123456789abcdef" * 2 + "0",
    "ab" * 30,
]


@pytest.mark.parametrize("secret", _PLACEHOLDERS)
def test_a_placeholder_is_weak(secret: str) -> None:
    assert weakness(secret) == "is a placeholder"


@pytest.mark.parametrize("secret", _REPETITIVE)
def test_a_repetitive_secret_is_weak(secret: str) -> None:
    assert weakness(secret) == "is repetitive"


@pytest.mark.parametrize(
    "secret",
    [
        *["...", "…", "xxx", "XXXX-XXXX", "changeme", "Change-Me", "CHANGE_THIS", "TODO", "yourSecret"],
        *["your-client-secret", "YOUR_CLIENT_SECRET_HERE", "<client secret>", "<your-client-secret>"],
        *[
            "${SECRET}",
            "insert your client secret here",
            "openssl rand -hex 32",
            "the value of CLIENT_SECRET",
        ],
        *["{{ client_secret }}", "%CLIENT_SECRET%", "$(cat /run/secrets/client_secret)", "$CLIENT_SECRET"],
    ],
)
def test_the_whole_of_a_text_is_a_placeholder(secret: str) -> None:
    assert is_placeholder(secret)
    assert weakness(secret) == "is a placeholder"


@pytest.mark.parametrize(
    "secret",
    [
        *["my-secret-of-the-client-1234", "shop-client-password-2026", "secret-of-shop-8347598374598"],
        *["secret", "test", "client-secret", "my-secret", "password", "s3cret", "changeme-8Kq2", "xxx-yyy"],
        *["not-the-output of a command", "GOCSPX-changeme_x8fJ2kQ", "the client of openssl rand"],
    ],
)
def test_a_text_that_contains_the_word_of_a_placeholder_is_none(secret: str) -> None:
    """The provider may know such a secret, however weak it is. [S3]"""
    assert not is_placeholder(secret)


@pytest.mark.parametrize("word", ["my-secret-", "password:", "change_me_", "secret_key=", "token_hex "])
def test_a_word_of_a_placeholder_beside_a_random_part_is_strong(word: str) -> None:
    for _ in range(100):
        for part in (secrets.token_urlsafe(32), secrets.token_hex(16), str(uuid.uuid4())):
            assert weakness(word + part) == weakness(part + word) == "", word + part
    assert weakness("key-0918273645564738291001928374") == ""
    letters = "".join(secrets.choice(string.ascii_lowercase) for _ in range(40))
    assert weakness(word + letters) == ""


def test_a_short_secret_is_weak() -> None:
    assert weakness("b7Kq9-Zt_2mXw4Rv8Ly1Nc6Hd3Jf5Gs") == "has fewer than 32 characters"
    assert weakness("b7Kq9-Zt_2mXw4Rv8Ly1Nc6Hd3Jf5Gs0") == ""


@pytest.mark.parametrize("signs", ["", "-_", "!@#$%^&*(-_=+)", string.punctuation])
@pytest.mark.parametrize("around", ["<>", "[]", "{}", "%%", "``", "()", ("${", "}"), ("$(", ")")])
def test_a_random_secret_between_brackets_is_strong(signs: str, around: tuple[str, str]) -> None:
    """The generators of passwords use all signs, and brackets stand at both ends by chance."""
    begin, end = around
    alphabet = string.ascii_letters + string.digits + signs
    for _ in range(50):
        secret = "".join(secrets.choice(alphabet) for _ in range(30))
        assert weakness(begin + secret + end) == "", secret


def test_random_secrets_are_strong() -> None:
    """So are the outputs of other generators, and long sentences."""
    for _ in range(300):
        makers = (
            secrets.token_urlsafe(24),
            secrets.token_urlsafe(32),
            secrets.token_hex(16),
            str(uuid.uuid4()),
        )
        assert [weakness(secret) for secret in makers] == [""] * 4
        assert not is_repetitive(secrets.token_bytes(32))
    assert weakness("$w%{7}(k<9>[q]`r`-correct horse battery") == ""
    assert weakness("a long secret that all workers share") == ""
