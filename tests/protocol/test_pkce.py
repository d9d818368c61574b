"""PKCE: the example of RFC 7636, and the lengths and characters of verifiers."""

from __future__ import annotations

import hashlib
import re
from base64 import urlsafe_b64encode
from dataclasses import FrozenInstanceError

import pytest

from pywry_auth.protocol.pkce import PKCEChallenge


def test_the_example_of_rfc_7636() -> None:
    """The challenge of the example is computed (RFC 7636 appendix B)."""
    pkce = PKCEChallenge("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")
    assert pkce.challenge == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
    assert pkce.method == "S256"


@pytest.mark.parametrize("length", [43, 44, 64, 100, 128])
def test_a_verifier_has_the_requested_length_and_unreserved_characters(length: int) -> None:
    """A verifier has 43 to 128 unreserved characters (RFC 7636 §4.1, §4.2)."""
    pkce = PKCEChallenge.generate(length)
    assert re.fullmatch(rf"[A-Za-z0-9._~-]{{{length}}}", pkce.verifier)
    digest = hashlib.sha256(pkce.verifier.encode()).digest()
    assert pkce.challenge == urlsafe_b64encode(digest).decode().rstrip("=")


def test_a_verifier_has_64_characters_by_default() -> None:
    assert len(PKCEChallenge.generate().verifier) == 64


def test_no_verifier_repeats() -> None:
    """43 characters of base64url have at least 256 bits. [T6]"""
    assert len({PKCEChallenge.generate(43).verifier for _ in range(1000)}) == 1000


@pytest.mark.parametrize("length", [-1, 0, 42, 129, 10**9])
def test_another_length_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="43 to 128"):
        PKCEChallenge.generate(length)


@pytest.mark.parametrize(
    "verifier",
    [
        "",
        "x" * 42,
        "x" * 129,
        "x" * 42 + "=",
        "x" * 42 + "+",
        "x" * 42 + " ",
        "x" * 43 + "\n",
        "\u00e9" * 43,
        "\uff58" * 43,
    ],
)
def test_an_invalid_verifier_is_refused_and_not_quoted(verifier: str) -> None:
    """The error quotes nothing of the verifier (RFC 7636 §4.1). [T31]"""
    with pytest.raises(ValueError, match="43 to 128") as caught:
        PKCEChallenge(verifier)
    assert not verifier.strip() or verifier not in str(caught.value)


def test_a_challenge_is_immutable_and_hides_its_verifier() -> None:
    """The verifier is not in the representation. [T31]"""
    pkce = PKCEChallenge.generate()
    assert pkce.verifier not in repr(pkce)
    with pytest.raises(FrozenInstanceError):
        pkce.verifier = "x" * 43  # type: ignore[misc]
