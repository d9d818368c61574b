"""The table of the routes, and the JSON bodies of their responses; times are Unix times in seconds.

The blueprint, the FastAPI router and the OpenAPI schema read it.
"""

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
    """Whether a user is signed in, and until when."""

    authenticated: bool
    user_id: str | None
    roles: list[str]
    expires_at: float | None


@dataclass(frozen=True)
class UserInfo:
    """The signed-in user, and the provider's profile as it was sent."""

    user_id: str
    roles: list[str]
    user_info: dict[str, Any]


@dataclass(frozen=True)
class Refreshed:
    """When the new access token expires, if the provider said so."""

    refreshed: bool
    expires_at: float | None


@dataclass(frozen=True)
class LoggedOut:
    """Where to sign out at the provider too, if it has such an address."""

    logged_out: bool
    logout_url: str | None


Body = Problem | Status | UserInfo | Refreshed | LoggedOut


@dataclass(frozen=True)
class Route:
    """One route.

    Args:
        name: Names its view.
        method: HTTP method.
        path: Path below the prefix.
        summary: What it does.
        status: Status of the usual response.
        body: JSON body of the usual response; None for a redirect.
        others: Statuses of the other responses, with the reason.
        query: Names of the optional query parameters, with their meaning.
        per_provider: Whether each of several providers has a path of its own.
    """

    name: str
    method: str
    path: str
    summary: str
    status: int = 200
    body: type[Body] | None = None
    others: Mapping[int, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    per_provider: bool = False


_OUTAGE = {503: "The store is down, or signing in is switched off."}
_OUTAGES = {502: "The provider cannot be reached.", **_OUTAGE}
_CROSS = {403: "Another site sent the request."}
_NO_SESSION = {401: "No user is signed in, or the provider ended the grant."}
_RESPONSE = {
    "state": "The state of the authorization request.",
    "code": "The authorization code.",
    "iss": "The issuer (RFC 9207).",
    "error": "The error code, instead of a code.",
    "error_description": "The error in a sentence.",
}

ROUTES = (
    Route(
        "login",
        "GET",
        "/login",
        "Sign in at the provider",
        302,
        others={400: "The provider is unknown.", 429: "Too many sign-ins from this address.", **_OUTAGES},
        query={"next": "Path of this site to return to.", "provider": "Which of several providers."},
    ),
    Route(
        "callback",
        "GET",
        "/callback",
        "Return from the provider",
        303,
        others={
            400: "No sign-in is pending in this browser, or it failed.",
            403: "The user refused, or may not sign in here.",
            **_OUTAGES,
        },
        query=_RESPONSE,
        per_provider=True,
    ),
    Route(
        "refresh",
        "POST",
        "/refresh",
        "Refresh the user's access token",
        200,
        Refreshed,
        others={400: "There is no refresh token.", **_NO_SESSION, **_CROSS, **_OUTAGES},
    ),
    Route(
        "logout",
        "POST",
        "/logout",
        "Sign out",
        200,
        LoggedOut,
        others={303: "A form is redirected: to the provider's sign-out, or home.", **_CROSS, **_OUTAGE},
        query={"everywhere": "1 ends all of the user's sessions."},
    ),
    Route(
        "userinfo",
        "GET",
        "/userinfo",
        "Return the signed-in user's profile",
        200,
        UserInfo,
        others={401: "No user is signed in.", **_OUTAGE},
    ),
    Route("status", "GET", "/status", "Return whether a user is signed in", 200, Status, _OUTAGE),
)
"""The six routes; each has a view of the same name."""
