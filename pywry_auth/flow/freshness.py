"""Checks when and how strongly a user authenticated (OIDC Core §3.1.2.1)."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import TokenError
from pywry_auth.request_parameters import max_age_fault

if TYPE_CHECKING:
    from pywry_auth.models import Grant
    from pywry_auth.providers.base import OAuthProvider

_TELL = "If this happens again, tell the site's administrator."
_NO_TIME = (
    "The service where you sign in does not say when you signed in there, and this needs a recent sign-in: "
    "tell the site's administrator."
)
_TOO_OLD = (
    "The service where you sign in did not ask you to sign in again, and this needs a more recent sign-in: "
    f"try again. {_TELL}"
)
TOO_WEAK = (
    "You did not sign in with the method that this page needs, for example a second factor: try again, and "
    f"use it. {_TELL}"
)
"""The sentence for a visitor after a sign-in that is too weak."""


def requested_max_age(provider: OAuthProvider, url: str) -> int | None:
    """Return the ``max_age`` of an authorization request in seconds; None without one.

    Args:
        provider: The provider. One without OpenID Connect reports no time, so that none can be required.
        url: The URL of the request.

    Raises:
        AuthenticationError: The value is no whole number of seconds (``invalid_configuration``).
    """
    values = parse_qs(urlsplit(url).query, keep_blank_values=True).get("max_age", [])
    if not values or not provider.uses_openid:
        return None
    if fault := max_age_fault({"max_age": values[-1]}):
        raise provider.configuration_error(f"extra_params: {fault}")
    return int(values[-1])


def is_fresh(grant: Grant, max_age: int | None, now: float, skew: float) -> bool:
    """Return whether a user authenticated within a time span.

    Args:
        grant: The grant of the sign-in.
        max_age: The time span in seconds; None for any time.
        now: Unix time in seconds.
        skew: Seconds by which the provider's clock may differ.
    """
    if max_age is None:
        return True
    return grant.auth_time is not None and -skew <= now - grant.auth_time <= max_age + skew


def is_strong(grant: Grant, acr: Collection[str]) -> bool:
    """Return whether a sign-in has one of some authentication context classes.

    Args:
        grant: The grant of the sign-in.
        acr: The values of ``acr`` that suffice; empty for any.
    """
    return not acr or grant.acr in acr


def require_fresh(provider: OAuthProvider, grant: Grant, max_age: int | None) -> None:
    """Refuse an old authentication of the user (OIDC Core §3.1.3.7).

    Args:
        provider: The provider of the sign-in.
        grant: The grant of the sign-in.
        max_age: The ``max_age`` of the request in seconds; None if none was sent.

    Raises:
        TokenError: The ID token has no ``auth_time`` (``invalid_id_token``), or an old one or one in the
            future (``insufficient_user_authentication``).
    """
    options = provider.options
    if is_fresh(grant, max_age, options.clock(), options.clock_skew_seconds):
        return
    if grant.auth_time is None:
        raise TokenError(
            "The ID token is refused: it has no time of authentication (auth_time), although the request had "
            "max_age. Let the provider send auth_time for this client, or leave out max_age.",
            error=ErrorCode.INVALID_ID_TOKEN,
            visitor=_NO_TIME,
        )
    age = options.clock() - grant.auth_time
    when = f"{age:.0f} s ago" if age >= 0 else f"{-age:.0f} s in the future"
    raise TokenError(
        f"The ID token is refused: by this machine's clock, the user authenticated {when} (auth_time), but "
        f"max_age is {max_age} s. Sign in again; if this happens again, the provider ignores max_age, or a "
        "clock is wrong.",
        error=ErrorCode.INSUFFICIENT_USER_AUTHENTICATION,
        visitor=_TOO_OLD,
    )


def require_strong(grant: Grant, acr: Collection[str]) -> None:
    """Refuse a sign-in that has none of some authentication context classes.

    Args:
        grant: The grant of the sign-in.
        acr: The values of ``acr`` that suffice; empty for any.

    Raises:
        TokenError: The sign-in has another class, or none (``insufficient_user_authentication``).
    """
    if not is_strong(grant, acr):
        raise TokenError(
            f"The ID token is refused: its authentication context class (acr) is not one of {' '.join(acr)}. "
            "Sign in again with a stronger method; if this happens again, check that the provider offers one "
            "of these classes to this client.",
            error=ErrorCode.INSUFFICIENT_USER_AUTHENTICATION,
            visitor=TOO_WEAK,
        )
