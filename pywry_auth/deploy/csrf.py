"""Refuses cross-site requests (OWASP: Fetch Metadata, then Origin)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError

if TYPE_CHECKING:
    from werkzeug.wrappers import Request


def require_own_request(request: Request, origin: str) -> None:
    """Refuse a request that another site's page caused.

    Requests from this site's pages, and from programs other than browsers, are accepted.

    Args:
        request: A request that changes state.
        origin: The site's own scheme, host and port.

    Raises:
        AuthenticationError: Another site's page caused the request (``cross_site_request``).
    """
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        own = site in ("same-origin", "none")
    else:
        own = request.headers.get("Origin", origin) == origin
    if not own:
        raise AuthenticationError(
            "This request came from another site, so it changed nothing: use this site's own pages.",
            error=ErrorCode.CROSS_SITE_REQUEST,
        )
