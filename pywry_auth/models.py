"""Ground: the values that pass between floors, frozen, and silent about secrets when printed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

Claims = Mapping[str, Any]
"""Members of a JSON object that a provider sent and that were judged: ID token claims or a profile."""


@dataclass(frozen=True)
class OAuthTokenSet:
    """What a token endpoint issued (RFC 6749 §5.1), with the time it was issued at.

    Args:
        access_token: The bearer token for the provider's API.
        token_type: Always ``Bearer`` (RFC 6750).
        refresh_token: Gets the next access token; None when the provider gave none.
        expires_in: Lifetime in seconds, counted from ``issued_at``; None when the provider did not say.
        id_token: The ID token as it came (OIDC Core §2), already validated.
        scope: Space-separated scopes that were granted.
        raw: The token endpoint's whole answer.
        issued_at: Unix time in seconds just before the tokens were asked for.
        issuer: Who issued them: a set made by another issuer is not used.
        client_id: Whom they were issued to: a set made for another client is not used.
        id_token_claims: The verified claims of ``id_token``; empty without one.
    """

    access_token: str = field(repr=False)
    token_type: str = "Bearer"
    refresh_token: str | None = field(default=None, repr=False)
    expires_in: int | None = None
    id_token: str | None = field(default=None, repr=False)
    scope: str = ""
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)
    issued_at: float = field(default_factory=time.time)
    issuer: str = ""
    client_id: str = ""
    id_token_claims: Claims = field(default_factory=dict, repr=False)

    @property
    def expires_at(self) -> float | None:
        """Unix time in seconds at which the access token ends, or None when the provider did not say."""
        return None if self.expires_in is None else self.issued_at + self.expires_in

    @property
    def is_expired(self) -> bool:
        """Whether the access token has ended by this machine's clock."""
        return self.expires_within(0)

    def expires_within(self, seconds: float, now: float | None = None) -> bool:
        """Tell whether the access token ends within ``seconds`` of ``now`` (Unix time; the present)."""
        moment = time.time() if now is None else now
        return self.expires_at is not None and moment + seconds >= self.expires_at


@dataclass(frozen=True)
class AuthorizationRequest:
    """One login under way: all that is needed to judge what comes back.

    Args:
        url: Where to send the browser (RFC 6749 §4.1.1).
        state: Ties the response to this request (RFC 6749 §10.12).
        redirect_uri: Where the provider sends the browser back to.
        nonce: Ties the ID token to this request (OIDC Core §3.1.2.1); None when none was asked for.
        code_verifier: Proves that whoever asked also exchanges (RFC 7636 §4.1); None without PKCE.
        created_at: Unix time in seconds.
    """

    url: str = field(repr=False)
    state: str = field(repr=False)
    redirect_uri: str
    nonce: str | None = field(default=None, repr=False)
    code_verifier: str | None = field(default=None, repr=False)
    created_at: float = field(default_factory=time.time)


@dataclass(frozen=True)
class AuthFlowResult:
    """A finished sign-in.

    Args:
        success: True: a sign-in that fails raises instead.
        tokens: What the provider issued.
        user_info: The provider's profile of the user, as it sent it.
        user_id: First non-empty of the profile's ``sub``, ``id``, ``login``, ``email``: the tokens' key.
    """

    success: bool
    tokens: OAuthTokenSet
    user_info: dict[str, Any] = field(repr=False)
    user_id: str


@dataclass(frozen=True)
class UserSession:
    """One user, signed in at a web application.

    Args:
        session_id: SHA-256 of the token in the user's cookie: safe to show and to log.
        user_id: Who it is.
        roles: What they are, as far as permissions go.
        created_at: Unix time in seconds.
        expires_at: Unix time in seconds at which it ends.
        metadata: JSON values; ``user_info`` is the provider's profile, ``permissions`` maps ``type:id`` to
            what is allowed on that one resource.
    """

    session_id: str
    user_id: str
    roles: list[str]
    created_at: float
    expires_at: float
    metadata: dict[str, Any] = field(default_factory=dict, repr=False)


class AuthFlowState(Enum):
    """Where a native login stands."""

    IDLE = "idle"
    AWAITING_CALLBACK = "awaiting_callback"
    EXCHANGING_CODE = "exchanging_code"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    FAILED = "failed"
