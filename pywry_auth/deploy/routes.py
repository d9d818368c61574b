"""The table of routes, and their responses' JSON bodies.

The blueprint, the FastAPI router and the OpenAPI schema use it. Times are Unix times in seconds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Problem:
    """The reason for a refused request.

    ``reference`` finds the reason in the site's log; ``detail`` is the reason, in debug mode only. Both are
    left out if they are empty.
    """

    error: str
    error_description: str
    reference: str = field(default="", kw_only=True)
    detail: str = field(default="", kw_only=True)


@dataclass(frozen=True)
class MissingScopes(Problem):
    """The scopes that the user has not granted, and the address of a sign-in that asks for them."""

    missing_scopes: list[str]
    login_url: str


@dataclass(frozen=True)
class StrongerSignIn(Problem):
    """The demand for a recent or strong sign-in (RFC 9470).

    ``login_url`` is the address of such a sign-in.
    ``max_age`` is in seconds. It and ``acr_values`` are left out if any sign-in suffices.
    """

    max_age: int | None
    acr_values: str
    login_url: str


@dataclass(frozen=True)
class Status:
    """Which user is signed in, and until when. The name and the picture are for display."""

    authenticated: bool
    user_id: str | None
    roles: list[str]
    expires_at: float | None
    name: str | None
    picture: str | None


@dataclass(frozen=True)
class UserInfo:
    """The signed-in user, and the unchanged profile from the provider."""

    user_id: str
    roles: list[str]
    user_info: dict[str, Any]


@dataclass(frozen=True)
class Refreshed:
    """The new access token's expiry, if the provider sent one."""

    refreshed: bool
    expires_at: float | None


@dataclass(frozen=True)
class LoggedOut:
    """The URL for signing out at the provider, if any."""

    logged_out: bool
    logout_url: str | None


@dataclass(frozen=True)
class ListedSession:
    """One of the user's sessions.

    The handle opens nothing. ``kind`` is ``browser`` or ``api_token``; texts are empty if they are unknown.
    ``last_used_at`` is null unless the site records uses.
    """

    handle: str
    current: bool
    kind: str
    browser: str
    network: str
    provider: str
    signed_in_at: float
    expires_at: float
    last_used_at: float | None


@dataclass(frozen=True)
class Sessions:
    """The user's sessions, the newest first.

    The list is not complete if the site cannot read one of them.
    """

    sessions: list[ListedSession]
    complete: bool


@dataclass(frozen=True)
class SessionsEnded:
    """The number of ended sessions.

    ``logged_out`` says whether the session of the request is one of them. If it is, ``logout_url`` is the
    URL for signing out at the provider, if any.
    """

    ended: int
    logged_out: bool
    logout_url: str | None = None


@dataclass(frozen=True)
class LogoutResult:
    """The result of a sign-out here and at the provider.

    The sign-out at the provider counts if its redirect has confirmed it.
    ``signed_out`` is false if the browser has a session, for example by a later sign-in.
    """

    signed_out: bool
    provider_signed_out: bool
    login_url: str


@dataclass(frozen=True)
class Ready:
    """Whether this process can use the stores of the site."""

    ready: bool


Body = (
    Problem
    | MissingScopes
    | StrongerSignIn
    | Status
    | UserInfo
    | Refreshed
    | LoggedOut
    | LogoutResult
    | Sessions
    | SessionsEnded
    | Ready
)


@dataclass(frozen=True)
class Route:
    """One route.

    Args:
        name: Name of the route and of its view.
        method: HTTP method.
        path: Path below the prefix. A parameter stands in it as ``<name>``.
        summary: The route's purpose, for the OpenAPI schema.
        status: Status of the usual response.
        body: JSON body of the usual response; None for a redirect or an empty response.
        others: The reasons for the other responses, by status.
        query: The meanings of the optional query parameters, by name.
        form: The meanings of the parameters in the body, by name.
        headers: The meanings of the usual response's headers, by name.
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
    form: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    per_provider: bool = False


def in_braces(path: str) -> str:
    """Return a path with FastAPI's parameters, as in ``{name}``."""
    return path.replace("<", "{").replace(">", "}")


def parameters_of(path: str) -> list[str]:
    """Return the names of a path's parameters."""
    return re.findall(r"<(\w+)>", path)


_OUTAGE = {503: "The store is down, the provider is too busy, or sign-in is switched off."}
_OUTAGES = {502: "The provider cannot be reached.", **_OUTAGE}
_CROSS = {403: "Another site sent the request."}
_ENDING = {
    303: "A browser is redirected to the page with the sessions, or after a sign-out to the site.",
    401: "No user is signed in.",
    403: "Another site sent the request, or a bearer token authenticates it.",
    503: "The store is down, or a session cannot be read, so that not all sessions ended.",
}
_NO_SESSION = {401: "No user is signed in, or the grant is no longer valid at the provider."}
_RESPONSE = {
    "state": "The state of the authorization request.",
    "code": "The authorization code.",
    "iss": "The issuer (RFC 9207).",
    "error": "The error code, in place of an authorization code.",
    "error_description": "A description of the error.",
}

ROUTES = (
    Route(
        "login",
        "GET",
        "/login",
        "Sign in at the provider",
        302,
        others={
            400: "The provider or demand is unknown, or a frame, an image or a prefetch sent the request.",
            429: "Too many sign-ins from this address.",
            **_OUTAGES,
        },
        query={
            "next": "Path of this site that follows the login.",
            "next_uri": "The same, not escaped: the whole rest of the query, for proxies.",
            "provider": "Name of one of several providers.",
            "demand": "The scopes or the kind of sign-in that a page needs, signed by the site.",
        },
    ),
    Route(
        "callback",
        "GET",
        "/callback",
        "Return from the provider",
        303,
        others={
            400: "No sign-in is pending in this browser, or the sign-in failed.",
            401: "The sign-in is not recent or not strong enough for the page that demanded it.",
            403: "The user declined, or may not sign in here.",
            429: "Too many sign-ins from this address: reload the page later.",
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
        others={
            400: "There is no refresh token.",
            429: "Too many refreshes in this session.",
            **_NO_SESSION,
            **_CROSS,
            **_OUTAGES,
        },
    ),
    Route(
        "logout",
        "POST",
        "/logout",
        "Sign out",
        200,
        LoggedOut,
        others={
            303: "A browser is redirected to the provider's sign-out page, or to that of this site.",
            **_CROSS,
            **_OUTAGE,
        },
        query={"everywhere": "1 ends all of the user's sessions."},
    ),
    Route(
        "backchannel_logout",
        "POST",
        "/backchannel-logout",
        "Receive a logout from the provider",
        200,
        others={400: "The logout token is not valid, or the logout failed: the provider may send it again."},
        form={"logout_token": "The signed logout token (OIDC Back-Channel Logout §2.4)."},
    ),
    Route(
        "signed_out",
        "GET",
        "/signed-out",
        "Confirm a sign-out",
        200,
        LogoutResult,
        others=_OUTAGE,
        query={"state": "The state of the sign-out at the provider."},
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
    Route(
        "sessions",
        "GET",
        "/sessions",
        "List the user's sessions",
        200,
        Sessions,
        others={
            302: "A visitor without a session is redirected to the sign-in.",
            401: "No user is signed in.",
            403: "A bearer token authenticates the request.",
            **_OUTAGE,
        },
        query={"ended": "How many sessions a form has ended; the page confirms it."},
    ),
    Route(  # before the next one, whose path it matches too
        "end_other_sessions",
        "POST",
        "/sessions/others/end",
        "End all of the user's sessions except the present one",
        200,
        SessionsEnded,
        others=_ENDING,
    ),
    Route(
        "end_session",
        "POST",
        "/sessions/<handle>/end",
        "End one of the user's sessions",
        200,
        SessionsEnded,
        others={404: "The user has no session with this handle.", **_ENDING},
    ),
    Route(
        "verify",
        "GET",
        "/verify",
        "Tell a proxy the user of a request",
        204,
        others={
            400: "A parameter of the query is unknown, empty or sent twice.",
            401: "No user is signed in.",
            403: "The user lacks a role.",
            **_OUTAGE,
        },
        query={
            "roles": "Roles that the user must all have, with commas.",
            "any_role": "Roles of which the user must have one, with commas.",
        },
        headers={
            "X-Auth-User": "The user's ID, percent-encoded.",
            "X-Auth-Roles": "The user's roles with commas, each percent-encoded.",
            "X-Auth-Email": "The verified e-mail address, percent-encoded; absent without one.",
        },
    ),
    Route(
        "ready",
        "GET",
        "/ready",
        "Tell a load balancer whether the site can use its stores",
        200,
        Ready,
        others={503: "A store does not answer in time, or stores no records."},
    ),
    Route(
        "metrics",
        "GET",
        "/metrics",
        "Return the metrics of the site for Prometheus",
        200,
        others={
            401: "The bearer token is missing or not valid.",
            404: "The site offers no metrics.",
            503: "The metrics are not available; the text says why.",
        },
    ),
)
"""The routes; each has a view of the same name."""
