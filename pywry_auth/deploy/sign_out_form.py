"""The CSP sources of a form that signs the user out."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pywry_auth.exceptions import AuthenticationError

if TYPE_CHECKING:
    from pywry_auth.providers.base import OAuthProvider

_SITE = "'self'"


def sign_out_sources(provider: OAuthProvider | None) -> str:
    """Return the sources of ``form-action`` for a form that posts to the route ``logout``.

    Browsers apply them to the redirects that follow: to the provider's sign-out, and to its sign-in if the
    page after a sign-out has a guard. No call is made to the provider, so that the page never waits for it.

    Args:
        provider: The provider of the session; None if the site has it no longer.
    """
    if provider is None:
        return _SITE
    metadata = provider.known_metadata
    if metadata is None:  # a sign-out that the browser blocks would be worse than a wider policy
        return _joined("https:", *map(_origin, provider.configured_urls))
    try:
        sign_out = provider.end_session_url()
    except AuthenticationError:  # such a provider has no sign-out for this site
        sign_out = None
    return _joined(_origin(sign_out or ""), _origin(metadata.authorization_endpoint))


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}" if parts.netloc else ""


def _joined(*sources: str) -> str:
    return " ".join(dict.fromkeys((_SITE, *filter(None, sources))))
