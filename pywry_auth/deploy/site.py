"""Where this site is, as browsers and the provider see it from outside."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from flask import request, url_for

from pywry_auth.exceptions import INVALID_CONFIGURATION, AuthenticationError
from pywry_auth.protocol.urls import is_loopback

if TYPE_CHECKING:
    from pywry_auth.deploy.options import DeployOptions


@dataclass(frozen=True)
class Site:
    """The site's own addresses, from ``PUBLIC_BASE_URL`` where it is set, else from the request.

    Args:
        options: The application's choices.
    """

    options: DeployOptions

    @property
    def base_url(self) -> str:
        """The application's root without a slash at the end.

        Raises:
            AuthenticationError: The request came over plain http from another machine, so that codes and
                cookies would travel in the clear.
        """
        if self.options.public_base_url:
            return self.options.public_base_url
        if not request.is_secure and not is_loopback(_hostname(request.host_url)):
            raise AuthenticationError(
                "This site is reached over plain http. Set PYWRY_DEPLOY__PUBLIC_BASE_URL to its https "
                "address, or PYWRY_DEPLOY__TRUSTED_PROXY_HOPS to the number of proxies in front of it.",
                error=INVALID_CONFIGURATION,
            )
        return request.root_url.rstrip("/")

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        parts = urlsplit(self.base_url)
        return f"{parts.scheme}://{parts.netloc}"

    @property
    def redirect_uri(self) -> str:
        """Where the provider sends browsers back to (RFC 6749 §3.1.2)."""
        return self.base_url + url_for("auth.callback").removeprefix(request.script_root)

    @property
    def secure_cookies(self) -> bool:
        """Whether cookies are for https alone."""
        if self.options.cookie_secure != "auto":
            return self.options.cookie_secure == "true"
        return urlsplit(self.base_url).scheme == "https"

    def absolute(self, path: str) -> str:
        """Return a path of this site as a URL, so that no browser can read it as another host's."""
        return self.origin + path


def _hostname(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None
