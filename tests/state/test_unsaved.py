"""Fresh tokens that wait for the store."""

from __future__ import annotations

import pytest

from pywry_auth.models import OAuthTokenSet
from pywry_auth.state.unsaved import Unsaved, UnsavedTokens
from tests.backends.threads import together

OLD, FRESH = OAuthTokenSet("old"), OAuthTokenSet("fresh")


def test_kept_tokens_are_taken_once() -> None:
    """Otherwise two threads could store them, or revoke them. [T64]"""
    unsaved = UnsavedTokens()
    unsaved.keep("alice", OLD, FRESH)

    def take(_: int) -> Unsaved | None:
        with unsaved.taken("alice") as found:
            return found

    assert sorted(map(str, together(8, take))) == sorted([str(Unsaved(OLD, FRESH)), *["None"] * 7])


def test_tokens_that_cannot_be_stored_yet_are_kept_again() -> None:
    unsaved = UnsavedTokens()
    unsaved.keep("alice", OLD, FRESH)
    with pytest.raises(OSError, match="down"), unsaved.taken("alice"):
        raise OSError("down")
    with unsaved.taken("alice") as found:
        assert found == Unsaved(OLD, FRESH)
