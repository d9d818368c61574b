"""Values: immutability, representation and the expiry of tokens."""

from __future__ import annotations

import base64
import hashlib
import pickle
import re
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest
import time_machine

from pywry_auth.config import DeploySettings
from pywry_auth.models import (
    AuthFlowResult,
    AuthFlowState,
    AuthorizationRequest,
    OAuthTokenSet,
    UserSession,
)
from pywry_auth.native.account import Account

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
def test_a_repr_names_the_type_and_no_secret(value: Any) -> None:
    """No token, state, verifier or address appears in a repr. [T31]"""
    assert repr(value).startswith(f"{type(value).__name__}(")
    assert "canary" not in repr(value) + str(value) + f"{value}"


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_a_value_cannot_be_changed(value: Any) -> None:
    name = next(iter(type(value).__dataclass_fields__))
    with pytest.raises(FrozenInstanceError):
        setattr(value, name, "other")
    assert replace(value) == value


def test_a_session_of_a_test_needs_no_times() -> None:
    """It lasts as long as a session of the default settings."""
    with time_machine.travel(NOW, tick=False):
        session = UserSession(session_id="id", user_id="alice", roles=["viewer"])
    lifetime = DeploySettings.model_fields["session_ttl"].default
    assert (session.created_at, session.expires_at) == (NOW, NOW + lifetime)
    assert (session.metadata, session.grant, session.browser) == ({}, None, "")


def test_a_session_has_a_public_handle() -> None:
    """The handle is stable, stands in an address as it is, and does not contain the session ID."""
    digest = hashlib.sha256(b"handle:" + b"0f" * 32).digest()[:16]
    session = UserSession("0f" * 32, "alice", [])
    assert base64.urlsafe_b64decode(f"{session.handle}==") == digest
    assert re.fullmatch(r"[A-Za-z0-9_-]{22}", session.handle)
    assert session.handle == replace(session, roles=["admin"]).handle != UserSession("0e", "alice", []).handle
    assert len(UserSession("\udcff", "alice", []).handle) == 22  # an ID of the application's own


def _session(**profile: Any) -> UserSession:
    return UserSession("id", "alice", ["viewer"], metadata={"user_info": profile})


def test_a_session_has_the_names_of_the_profile() -> None:
    session = _session(name=" Alice ", preferred_username="al", email="a@example.com")
    assert (session.name, session.email, session.picture) == ("Alice", "a@example.com", "")
    assert session.user_info is session.metadata["user_info"]
    assert pickle.loads(pickle.dumps(session)) == session  # noqa: S301 - its own value
    assert _session(name="", preferred_username="al").name == "al"
    github = _session(login="octo", name=None, email=None, avatar_url="https://avatars.example.com/u/1?v=4")
    assert (github.name, github.email) == ("octo", "")
    assert github.picture == "https://avatars.example.com/u/1?v=4"


@pytest.mark.parametrize(
    "metadata", [{}, {"user_info": None}, {"user_info": ["x"]}, {"user_info": {"name": 7, "email": ["x"]}}]
)
def test_a_session_without_a_profile_has_empty_names(metadata: dict[str, Any]) -> None:
    session = UserSession("id", "alice", [], metadata=metadata)
    assert (session.name, session.email, session.picture) == ("", "", "")
    assert isinstance(session.user_info, dict)


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://lh3.googleusercontent.com/a/photo=s96-c", True),
        ("https://cdn.example.com:8443/a%20b.png?size=1&x=[2]#top", True),
        ("http://127.0.0.1:9000/pictures/alice.png", True),
        ("http://[::1]/a.png", True),
        ("http://localhost:9000/a.png", True),
        ("http://cdn.example.com/a.png", False),
        ("http://127.0.0.1.example.com/a.png", False),
        ("http://127.0.0.1@example.com/a.png", False),
        ("https://user:secret@example.com/a.png", False),
        ("https://example.com\\@cdn.example.com/a.png", False),
        ("javascript:alert(1)", False),
        ("data:image/svg+xml,<svg/>", False),
        ("//example.com/a.png", False),
        ("/a.png", False),
        ('https://example.com/"onerror="alert(1)', False),
        ("https://example.com/a b", False),
        ("https://example.com/a\n", True),  # white space around it is removed
        ("https://example.com/a\nb", False),
        ("https:///a.png", False),
        ("https://[::1", False),
        (7, False),
    ],
)
def test_a_picture_is_an_address_that_is_safe_in_src(url: Any, kept: bool) -> None:
    assert _session(picture=url).picture == (url.strip() if kept else "")
    assert Account("user-alice", {"picture": url}).picture == (url.strip() if kept else "")


def test_a_token_set_needs_only_an_access_token() -> None:
    """All other members have defaults. [S6]"""
    with time_machine.travel(NOW, tick=False):
        tokens = OAuthTokenSet("at")
    assert (tokens.token_type, tokens.refresh_token, tokens.expires_in) == ("Bearer", None, None)
    assert (tokens.id_token, tokens.scope, tokens.raw, tokens.issued_at) == (None, "", {}, NOW)


@pytest.mark.parametrize(
    ("expires_in", "expires_at", "seconds", "due"),
    [
        (60, NOW + 60, 0, False),
        (60, NOW + 60, 59.9, False),
        (60, NOW + 60, 60, True),
        (60, NOW + 60, 3600, True),
        (0, NOW, 0, True),
        (None, None, 10**9, False),
    ],
)
def test_a_token_expires_after_the_providers_lifetime(
    expires_in: int | None, expires_at: float | None, seconds: float, due: bool
) -> None:
    """The lifetime is counted from before the token request. [S6]

    Without a lifetime, a token does not expire.
    """
    tokens = replace(TOKENS, expires_in=expires_in)
    assert tokens.expires_at == expires_at
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


def test_a_login_has_one_of_the_documented_states() -> None:
    """The values of the states are stable. [S5]"""
    assert [state.value for state in AuthFlowState] == [
        "idle",
        "awaiting_callback",
        "exchanging_code",
        "completed",
        "cancelled",
        "timed_out",
        "failed",
    ]
