"""What the OpenAPI schema says of the routes: what they take and what they answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Problem:
    """Why a request was refused."""

    error: str
    error_description: str


@dataclass(frozen=True)
class Status:
    """Whether somebody is signed in, and until when (Unix time in seconds)."""

    authenticated: bool
    user_id: str | None
    roles: list[str]
    expires_at: float | None


@dataclass(frozen=True)
class UserInfo:
    """Who is signed in, and the provider's profile as it came."""

    user_id: str
    roles: list[str]
    user_info: dict[str, Any]


@dataclass(frozen=True)
class Refreshed:
    """The new access token's end (Unix time in seconds), if the provider told one."""

    refreshed: bool
    expires_at: float | None


@dataclass(frozen=True)
class LoggedOut:
    """Where to sign out at the provider too, if it has such a place."""

    logged_out: bool
    logout_url: str | None


@dataclass(frozen=True)
class Operation:
    """One path operation.

    Args:
        path: Below ``/auth``.
        method: Of HTTP.
        summary: What it does.
        status: Of its usual answer.
        model: Of that answer's body; None for a redirect.
        others: Statuses of other answers, with the reason.
        query: Names of its parameters, with their meaning.
    """

    path: str
    method: str
    summary: str
    status: int
    model: type | None
    others: Mapping[int, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)

    @property
    def responses(self) -> dict[int | str, dict[str, Any]]:
        """The answers beside the usual one."""
        return {
            status: {"description": reason} | ({"model": Problem} if status >= 400 else {})
            for status, reason in self.others.items()
        }

    @property
    def parameters(self) -> list[dict[str, Any]]:
        """The query's parameters, none of which is needed."""
        optional = {"in": "query", "required": False, "schema": {"type": "string"}}
        return [{"name": name, "description": text, **optional} for name, text in self.query.items()]


_DOWN = {503: "The store is down, or signing in is switched off."}
_UNREACHABLE = {502: "The provider cannot be reached."}
_NOBODY = {401: "Nobody is signed in, or the provider ended the grant."}
_CROSS = {403: "Another site sent the request."}

OPERATIONS = {
    "login": Operation(
        "/login",
        "GET",
        "Sign in at the provider",
        302,
        None,
        {
            400: "There is no such provider.",
            429: "Too many sign-ins from this address.",
            **_UNREACHABLE,
            **_DOWN,
        },
        {"next": "Path of this site to come back to.", "provider": "Which of several providers."},
    ),
    "callback": Operation(
        "/callback",
        "GET",
        "Come back from the provider",
        303,
        None,
        {
            400: "No sign-in of this browser is under way, or it did not work.",
            403: "The user refused, or may not sign in here.",
            **_UNREACHABLE,
            **_DOWN,
        },
        {
            "state": "As the sign-in sent it.",
            "code": "The authorization code.",
            "iss": "The issuer (RFC 9207).",
            "error": "Why there is no code.",
            "error_description": "The same in a sentence.",
        },
    ),
    "refresh": Operation(
        "/refresh",
        "POST",
        "Refresh the user's access token",
        200,
        Refreshed,
        {
            400: "There is no refresh token.",
            **_NOBODY,
            **_CROSS,
            **_UNREACHABLE,
            **_DOWN,
        },
    ),
    "logout": Operation(
        "/logout",
        "POST",
        "Sign out",
        200,
        LoggedOut,
        {303: "A form is sent on: to the provider's sign-out, or home.", **_CROSS, **_DOWN},
        {"everywhere": "1 ends all of the user's sessions."},
    ),
    "userinfo": Operation(
        "/userinfo", "GET", "Tell who is signed in", 200, UserInfo, {401: "Nobody is signed in.", **_DOWN}
    ),
    "status": Operation("/status", "GET", "Tell whether somebody is signed in", 200, Status, _DOWN),
}
"""The six routes by the names of their views."""
