"""Secrets that can be guessed are found, and random ones are not taken for them."""

from __future__ import annotations

import secrets
import string
import uuid

import pytest

from pywry_auth.secret_strength import is_repetitive, weakness

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
