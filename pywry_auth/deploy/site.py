"""Where this site is, as browsers and the provider see it from outside."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from flask import request, url_for
from werkzeug.middleware.proxy_fix import ProxyFix

from pywry_auth.exceptions import AuthenticationError, ErrorCode
from pywry_auth.protocol.urls import is_loopback

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

    from pywry_auth.deploy.options import DeployOptions

MOUNT = "pywry_auth.mount"
"""In the environ of another framework's request: what stands before the routes there."""

PATH = "pywry_auth.path"
"""In such an environ: the path of the request in that application."""

_IN_PATH = "/!$&'()*+,:;=@"  # RFC 3986 §3.3; WSGI hands the path over decoded
_IN_QUERY = "%?[]" + _IN_PATH  # §3.4; and the query as it came


@dataclass(frozen=True)
class Site:
    """The site's own addresses, from ``PUBLIC_BASE_URL`` where it is set, else from the request.

    Args:
        options: The application's choices.
    """

    options: DeployOptions

    @property
    def origin(self) -> str:
        """Scheme, host and port.

        Raises:
            AuthenticationError: The request came over plain http from another machine, so that codes and
                cookies would travel in the clear.
        """
        if self.options.public_origin:
            return self.options.public_origin
        if not request.is_secure and not is_loopback(_hostname(request.host_url)):
            raise AuthenticationError(
                "This site is reached over plain http. Set PYWRY_DEPLOY__PUBLIC_BASE_URL to its https "
                "address, or PYWRY_DEPLOY__TRUSTED_PROXY_HOPS to the number of proxies in front of it.",
                error=ErrorCode.INVALID_CONFIGURATION,
            )
        return request.host_url.rstrip("/")

    @property
    def root(self) -> str:
        """Path of the application's root as browsers see it, without a slash at the end."""
        public = self.options.public_base_url
        return urlsplit(public).path if public else request.script_root

    def public_path(self, path: str) -> str:
        """Return a path as browsers see it, for one that ``url_for`` made."""
        mount = str(request.environ.get(MOUNT, ""))
        return self.root + mount + path.removeprefix(request.script_root)

    @property
    def current_path(self) -> str:
        """Path and query of the current request as browsers see them."""
        query = quote(request.query_string, safe=_IN_QUERY)
        path = quote(request.environ.get(PATH, request.path), safe=_IN_PATH)
        return self.root + path + (f"?{query}" if query else "")

    def redirect_uri(self, name: str) -> str:
        """Return where a provider sends browsers back to (RFC 6749 §3.1.2), each of several to its own.

        Args:
            name: Its name on this site; empty for the only one.
        """
        return self.absolute(self.public_path(url_for(".callback", name=name or None)))

    @property
    def secure_cookies(self) -> bool:
        """Whether cookies are for https alone."""
        if self.options.cookie_secure != "auto":
            return self.options.cookie_secure == "true"
        return self.origin.startswith("https:")

    def absolute(self, path: str) -> str:
        """Return a public path as a URL, so that no browser can read it as another host's."""
        return self.origin + path


def behind_proxies(app: WSGIApplication, hops: int) -> ProxyFix:
    """Return an application that believes the forwarded headers of so many proxies in front of it.

    Args:
        app: The application.
        hops: How many; 0 believes nobody.
    """
    return ProxyFix(app, hops, hops, hops, x_prefix=hops)


def _hostname(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None
