"""Refuse state-changing requests that another site caused (OWASP: Fetch Metadata, then Origin)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError

if TYPE_CHECKING:
    from werkzeug.wrappers import Request


def require_own_request(request: Request, origin: str) -> None:
    """Accept a request from this site's own pages or from a program that is not a browser.

    Args:
        request: A request that changes something.
        origin: The site's own scheme, host and port.

    Raises:
        AuthenticationError: Another site sent it (``cross_site_request``).
    """
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        own = site in ("same-origin", "none")
    else:
        own = request.headers.get("Origin", origin) == origin
    if not own:
        raise AuthenticationError(
            "This request came from another site and changed nothing: use this site's own pages.",
            error=ErrorCode.CROSS_SITE_REQUEST,
        )
