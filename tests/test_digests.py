"""Digests of any text, and comparison of secrets in constant time."""

from __future__ import annotations

import hmac

import pytest

from pywry_auth.digests import digest_of, same_secret


def test_any_text_has_a_digest() -> None:
    assert digest_of("abc").startswith("ba7816bf")
    assert len({digest_of("\ud800"), digest_of("\ud801"), digest_of("?")}) == 3


def test_states_are_compared_whatever_characters_they_have() -> None:
    """T36: hmac.compare_digest takes no other text than ASCII."""
    assert same_secret("s\u00e9", "s\u00e9")
    assert not same_secret("s", "\ud800")
    assert not same_secret("", None)


def test_states_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """T36: no other comparison stands beside ``hmac.compare_digest``."""
    assert not same_secret("right", "wrong")
    monkeypatch.setattr(hmac, "compare_digest", lambda received, expected: True)
    assert same_secret("right", "wrong")
