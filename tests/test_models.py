"""The values that pass between floors: frozen, silent about secrets, and clear about when a token ends."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest
import time_machine

from pywry_auth.models import (
    AuthFlowResult,
    AuthFlowState,
    AuthorizationRequest,
    OAuthTokenSet,
    UserSession,
)

NOW = 1_800_000_000.0
TOKENS = OAuthTokenSet(
    "canary-access",
    refresh_token="canary-refresh",
    expires_in=60,
    id_token="canary.id.token",
    scope="openid",
    raw={"access_token": "canary-access"},
    issued_at=NOW,
    id_token_claims={"sub": "alice", "nonce": "canary-nonce"},
)
VALUES = [
    TOKENS,
    AuthorizationRequest(
        "https://id.example.com/?state=canary", "canary", "http://127.0.0.1/callback", "canary", "canary"
    ),
    AuthFlowResult(True, TOKENS, {"sub": "alice", "email": "canary@example.com"}, "alice"),
    UserSession("id", "alice", ["viewer"], NOW, NOW + 1, {"user_info": {"email": "canary@example.com"}}),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_a_value_says_what_it_is_and_nothing_secret(value: Any) -> None:
    """T31."""
    assert repr(value).startswith(f"{type(value).__name__}(")
    assert "canary" not in repr(value) + str(value) + f"{value}"


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_a_value_stays_as_it_is(value: Any) -> None:
    name = next(iter(type(value).__dataclass_fields__))
    with pytest.raises(FrozenInstanceError):
        setattr(value, name, "other")
    assert replace(value) == value


def test_a_token_set_needs_an_access_token_alone() -> None:
    """S6."""
    with time_machine.travel(NOW, tick=False):
        tokens = OAuthTokenSet("at")
    assert (tokens.token_type, tokens.refresh_token, tokens.expires_in) == ("Bearer", None, None)
    assert (tokens.id_token, tokens.scope, tokens.raw, tokens.issued_at) == (None, "", {}, NOW)


@pytest.mark.parametrize(
    ("expires_in", "ends", "seconds", "due"),
    [
        (60, NOW + 60, 0, False),
        (60, NOW + 60, 59.9, False),
        (60, NOW + 60, 60, True),
        (60, NOW + 60, 3600, True),
        (0, NOW, 0, True),
        (None, None, 10**9, False),
    ],
)
def test_a_token_ends_when_the_provider_said(
    expires_in: int | None, ends: float | None, seconds: float, due: bool
) -> None:
    """S6: seconds are counted from before it was asked for; no word means no end."""
    tokens = replace(TOKENS, expires_in=expires_in)
    assert tokens.expires_at == ends
    assert tokens.expires_within(seconds, now=NOW) is due
    with time_machine.travel(NOW, tick=False):
        assert tokens.expires_within(seconds) is due


@pytest.mark.parametrize(
    ("passed", "expired"), [(0, False), (59, False), (60, True), (10**6, True), (-100, False)]
)
def test_a_token_is_expired_by_this_machines_clock(passed: float, expired: bool) -> None:
    with time_machine.travel(NOW + passed, tick=False):
        assert TOKENS.is_expired is expired
        assert not replace(TOKENS, expires_in=None).is_expired


def test_a_login_stands_somewhere() -> None:
    """S5."""
    assert [state.value for state in AuthFlowState] == [
        "idle",
        "awaiting_callback",
        "exchanging_code",
        "completed",
        "cancelled",
        "timed_out",
        "failed",
    ]
