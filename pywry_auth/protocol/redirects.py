"""The error for a redirect of an endpoint, which is never followed."""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import urljoin, urlsplit, urlunsplit

from pywry_auth.exceptions import AuthenticationError
from pywry_auth.protocol.redaction import reveals
from pywry_auth.protocol.urls import require_endpoint

_LONGEST = 200  # characters


def no_redirect(url: str, location: str, secrets: Collection[str]) -> str:
    """Return the missing content of an answer that redirects, with the target if an error may show it.

    Args:
        url: The endpoint.
        location: The header ``Location`` (RFC 9110 §10.2.2); empty if it is missing.
        secrets: The values that the provider received, which it may repeat.
    """
    target = _shown(url, location, secrets)
    if not target:
        return "a direct answer (redirects are never followed)"
    return (
        f"a direct answer (it redirects to {target}, and redirects are never followed; if you trust that "
        "address, name it in PYWRY_OAUTH2__DISCOVERY_URL or in the setting of the endpoint)"
    )


def _shown(url: str, location: str, secrets: Collection[str]) -> str:
    """Return the target without its query, which may contain tokens.

    It is empty if the target is not safe to use or to show.
    """
    try:
        target = urljoin(url, location)
        shown = urlunsplit(urlsplit(require_endpoint(target.partition("#")[0], ""))._replace(query=""))
    except (AuthenticationError, ValueError):
        return ""
    return shown if location and len(shown) <= _LONGEST and not reveals(shown, secrets) else ""
