"""Refuses cross-site requests (OWASP: Fetch Metadata, then Origin)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError

if TYPE_CHECKING:
    from pywry_auth.deploy.current import CurrentSessions
    from pywry_auth.deploy.site import Site

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
"""Guards do not check requests with these methods, which must not change anything (RFC 9110 §9.2.1)."""


def require_own_request(site: Site, *, trust_others: bool = True) -> None:
    """Refuse a request that another site's page caused.

    Requests from this site's pages, from trusted origins, and from programs other than browsers are accepted.

    Args:
        site: The site for the request.
        trust_others: Whether to accept the origins of ``TRUSTED_ORIGINS``.

    Raises:
        AuthenticationError: Another site's page caused the request (``cross_site_request``), or a browser on
            another machine sent it over plain http.
    """
    origin = site.request.headers.get("Origin")
    if trust_others and origin in site.options.trusted_origins:
        return
    fetch_site = site.request.headers.get("Sec-Fetch-Site")
    if fetch_site is not None:
        own = fetch_site in ("same-origin", "none")
    else:
        own = origin is None or origin == site.origin
    if not own:
        raise AuthenticationError(
            "This request came from another site, so it changed nothing: use this site's own pages.",
            error=ErrorCode.CROSS_SITE_REQUEST,
        )


def require_own_use_of_cookie(site: Site, sessions: CurrentSessions) -> None:
    """Refuse a guarded request if another site's page used the visitor's cookie.

    A request without the cookie is left to the guard, and so is one with a bearer token, which no other site
    can send. The session is not looked up.

    Args:
        site: The site for the request.
        sessions: Finds the credentials of the request.

    Raises:
        AuthenticationError: See :func:`require_own_request`.
    """
    if sessions.relies_on_cookie(site.request):
        require_own_request(site)


def require_own_or_bearer(site: Site, sessions: CurrentSessions) -> None:
    """Refuse a request that another site's page caused, for a view without a guard.

    The view may rely on other cookies, so only the bearer token of a session exempts the request.

    Args:
        site: The site for the request.
        sessions: Finds the session of the request.

    Raises:
        AuthenticationError: See :func:`require_own_request`.
        StoreUnavailable: The store is down, so the bearer token could not be checked.
    """
    if not sessions.is_bearer(site.request):
        require_own_request(site)
