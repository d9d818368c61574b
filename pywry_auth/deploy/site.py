"""The site for one request: public URLs and own pages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from werkzeug.wrappers import Request

from pywry_auth.deploy.callback_path import usual_callback
from pywry_auth.deploy.proxies import is_host
from pywry_auth.deploy.return_to import LONGEST, host_of, requested_path
from pywry_auth.deploy.user_agent import browser_name
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError
from pywry_auth.pages.html import Page
from pywry_auth.protocol.authorization_response import ResponseParameters
from pywry_auth.protocol.urls import is_own_machine
from pywry_auth.request_parameters import visitor_parameters

if TYPE_CHECKING:
    from pywry_auth.deploy.options import DeployOptions

Renderer = Callable[[Page], str | None]
"""Returns the site's own HTML document for a page, or None for the built-in page."""

_MOST_PARAMETERS = 64
_IN_PATH = "/!$&'()*+,:;=@"  # RFC 3986 §3.3; WSGI hands the path over decoded
_IN_QUERY = "%?[]" + _IN_PATH  # §3.4; the query arrives as it was sent
_MOVED = "moved"
_NEXT_URI = "next_uri="
DEMAND = "demand"
"""The parameter of the login with the signed demand of a page."""

_PLAIN_HTTP = (
    "This site is reached over plain http. Set PYWRY_DEPLOY__PUBLIC_BASE_URL to its https address, or "
    "PYWRY_DEPLOY__TRUSTED_PROXY_HOPS to the number of proxies in front of it. For development, open it at "
    "127.0.0.1 or at a name below localhost."
)
_NOT_FORWARDED = (
    "This site is reached over plain http, as far as it can see: PYWRY_DEPLOY__TRUSTED_PROXY_HOPS is set, "
    "and X-Forwarded-Proto did not arrive as https. Let the outermost proxy send it, and let the inner "
    "proxies and the server pass it on (waitress: clear_untrusted_proxy_headers=False); or set "
    "PYWRY_DEPLOY__PUBLIC_BASE_URL."
)


class InsecureAddress(AuthenticationError):
    """A browser on another machine uses plain http."""


@dataclass(frozen=True)
class Mount:
    """Where an application mounts the routes.

    The adapter of a framework makes one value for each request.

    Args:
        application: The application, which is the sender of events.
        root: Decoded path of the application on its host, without a trailing slash (``SCRIPT_NAME``).
        prefix: Encoded path of the routes below the root, for example ``/auth``.
        path: Decoded path of the current request below the root.
        origin: Scheme, host and port of the routes, if they are on another host of the application than the
            current request; otherwise empty.
        sign_in_page: Encoded path of the application's own sign-in page below the root, or its URL on another
            host; empty if visitors are sent to the login.
        base: Encoded path below the root at which the paths of ``callback_path`` begin.
        protected: Whether the application guards every page, also the one at its root.
    """

    application: object
    root: str
    prefix: str
    path: str
    origin: str = ""
    sign_in_page: str = ""
    base: str = ""
    protected: bool = False


@dataclass(frozen=True)
class Site:
    """The site for one request.

    ``PUBLIC_BASE_URL`` takes precedence over the URL of the request.

    Args:
        options: The application's options.
        request: The request.
        mount: Where the routes are mounted.
        render: Makes the site's own pages; None for the built-in pages.
    """

    options: DeployOptions
    request: Request
    mount: Mount
    render: Renderer | None = None

    @property
    def origin(self) -> str:
        """Scheme, host and port.

        Raises:
            AuthenticationError: The request came over plain http from another machine, so codes and cookies
                would travel unencrypted; or its host is not valid.
        """
        origin = self._address
        secure = self.request.is_secure or is_own_machine(_hostname(origin))
        if not self.options.public_origin and not secure:
            text = _NOT_FORWARDED if self.options.trusted_proxy_hops else _PLAIN_HTTP
            raise InsecureAddress(text, error=ErrorCode.INVALID_CONFIGURATION)
        return origin

    @property
    def _address(self) -> str:
        """Scheme, host and port, also where the connection is not secure."""
        if self.options.public_origin:
            return self.options.public_origin
        host = self.request.host.lower()
        if not is_host(host):
            raise AuthenticationError(
                "The request names no valid host: open this site at its usual address.",
                error=ErrorCode.INVALID_HOST,
            )
        return f"{self.request.scheme}://{host}"

    @property
    def client(self) -> str:
        """Address of the client, or ``unknown``."""
        return self.request.remote_addr or "unknown"

    @property
    def browser(self) -> str:
        """The browser and its platform, for people; empty if unknown."""
        return browser_name(self.request.headers.get("User-Agent", ""))

    @property
    def is_debug(self) -> bool:
        """Whether the application runs in debug mode, in which pages also have the developer's sentence."""
        return getattr(self.mount.application, "debug", False) is True

    @property
    def root(self) -> str:
        """Public path of the application's root, without a trailing slash."""
        public = self.options.public_base_url
        return urlsplit(public).path if public else quote(self.mount.root, safe=_IN_PATH)

    @property
    def home(self) -> str:
        """Public path that follows a login without ``next``."""
        return self.root + self.options.after_login_url

    @property
    def signed_out_path(self) -> str:
        """Public path of the page that confirms a sign-out."""
        return self.own_path("/signed-out")

    @property
    def after_logout_path(self) -> str:
        """Public path that follows a sign-out.

        Where every page is guarded, the usual path would lead to the next sign-in.
        """
        if self.mount.protected and not self.options.after_logout_chosen:
            return self.signed_out_path
        return self.root + self.options.after_logout_url

    @property
    def is_after_logout(self) -> bool:
        """Whether the request asks for the page after a sign-out.

        Only a page of the application itself counts.
        """
        path = urlsplit(self.after_logout_path).path
        return path != self.signed_out_path and unquote(path) == unquote(self.root) + self.mount.path

    @property
    def current_path(self) -> str:
        """Public path and query of the current request."""
        query = quote(self.request.query_string, safe=_IN_QUERY)
        return self.root + quote(self.mount.path, safe=_IN_PATH) + (f"?{query}" if query else "")

    @property
    def is_at_public_name(self) -> bool:
        """Whether the request came to ``PUBLIC_BASE_URL``, as far as its headers tell.

        Without that setting, the name of the request is the site's own.
        """
        public = self.options.public_origin
        return not public or public == f"{self.request.scheme}://{self.request.host.lower()}"

    @property
    def is_moved(self) -> bool:
        """Whether a redirect has already brought this login to ``PUBLIC_BASE_URL``.

        A proxy can hide the name that the browser asked. Without this mark, each redirect would then lead to
        another one.
        """
        return self.parameter(_MOVED) is not None

    def sign_in_url(self, demand: str = "") -> str:
        """Return the address where a visitor signs in, to return to the current request.

        It is that of the application's own sign-in page, if there is one, otherwise :meth:`login_url`.

        Args:
            demand: The signed demand of the page; empty for none.

        Raises:
            AuthenticationError: The request's host is not valid.
        """
        if not self.mount.sign_in_page:
            return self.login_url(demand)
        path = self.sign_in_path(self.current_path, demand)
        # A path in place of a URL leads to no other host than the one that the browser has asked.
        if not _is_path(path):
            return path
        return self.options.public_origin + path if self.options.public_origin else "/" + path.lstrip("/")

    def sign_in_path(self, next_path: str = "", demand: str = "") -> str:
        """Return the public path where a visitor signs in; a URL if it is on another host.

        It is that of the application's own sign-in page, if there is one, otherwise :meth:`login_path`.

        Args:
            next_path: Path that follows the login; empty for the default.
            demand: The signed demand of a page; empty for none.
        """
        page = self.mount.sign_in_page
        if not page:
            return self.login_path(next_path, demand=demand)
        query = [(DEMAND, demand)] if demand else []
        return _with_query(self.root + page, query, next_path) if _is_path(page) else _with_query(page, query)

    def login_url(self, demand: str = "") -> str:
        """Return the address of a login that returns to the current request.

        It is a URL with ``PUBLIC_BASE_URL``, and if the routes are on another host of the application.
        Otherwise it is a path, which leads to no other host than the one that the browser has asked.

        Args:
            demand: The signed demand of the page; empty for none.

        Raises:
            AuthenticationError: The request's host is not valid.
        """
        # Behind a proxy that hides the browser's address, the login would redirect again for nothing.
        query = [(DEMAND, demand)] if demand else []
        query += [] if self.is_at_public_name else [(_MOVED, "1")]
        address, path = self._address, self._login_path(query, self.current_path)
        if not self.options.public_origin:
            address = self.mount.origin
        return address + path if address else "/" + path.lstrip("/")

    def moved_login_url(self, next_path: str) -> str:
        """Return the address of the current login at ``PUBLIC_BASE_URL``, with a mark.

        The other parameters are kept.

        Args:
            next_path: Path that follows the login; empty for the default.
        """
        kept = [(name, value) for name, value in self._parameters() if name not in ("next", _MOVED)]
        return self.options.public_origin + self._login_path([*kept, (_MOVED, "1")], next_path)

    def login_path(
        self,
        next_path: str = "",
        provider: str = "",
        parameters: Mapping[str, str] = MappingProxyType({}),
        demand: str = "",
    ) -> str:
        """Return the public path of the login; a URL if the routes are on another host of the application.

        Args:
            next_path: Path that follows the login; empty for the default. A path that would make the result
                longer than 8,000 characters is left out, because servers would refuse such a request.
            provider: Name of one of several providers; empty to let the visitor choose.
            parameters: The parameters for the provider.
            demand: The signed demand of a page; empty for none.
        """
        own = {"provider": provider, DEMAND: demand}
        query = [(name, value) for name, value in own.items() if value]
        path = self._login_path([*query, *parameters.items()], next_path)
        return (self.options.public_origin or self.mount.origin) + path if self.mount.origin else path

    def other_account_path(self, next_path: str = "", demand: str = "") -> str:
        """Return the public path of a login with another account at the provider.

        The provider would otherwise return the same user at once.

        Args:
            next_path: See :meth:`login_path`.
            demand: See there.
        """
        prompt = self.options.other_account_prompt if "prompt" in self.options.login_params else ""
        return self.login_path(next_path, parameters={"prompt": prompt} if prompt else {}, demand=demand)

    def own_path(self, path: str) -> str:
        """Return the public path of a route.

        Args:
            path: The route's path below the prefix, encoded.
        """
        return f"{self.root}{self.mount.prefix}{path}"

    def _login_path(self, query: ResponseParameters, next_path: str) -> str:
        path = self.own_path("/login")
        # A path of this host is another page, or no page, on the host of the routes.
        return _with_query(path, query, "" if self.mount.origin else next_path)

    @property
    def next_path(self) -> str:
        """Public path that the parameter ``next`` names; empty if it is absent or refused."""
        try:
            return self.requested_path()
        except ValueError:
            return ""

    def requested_path(self) -> str:
        """Return the public path that the parameter ``next`` names; empty if it is absent.

        Raises:
            ValueError: The parameter is refused; the text is the condition.
        """
        wish = self.parameter("next")
        public = urlsplit(self.options.public_origin)
        hosts = {host_of(self.request.scheme, self.request.host), public.netloc}
        return requested_path(wish, hosts - {""}) if wish else ""

    def login_parameters(self) -> dict[str, str]:
        """Return the parameters of the login that ``LOGIN_PARAMS`` passes on to the provider.

        Raises:
            AuthenticationError: A parameter is sent twice, or its value cannot be passed on
                (``invalid_parameter``).
        """
        try:
            return visitor_parameters(self._parameters(), self.options.login_params)
        except ValueError as error:
            text = f"This sign-in link cannot be used, because {error}."
            raise AuthenticationError(text, error=ErrorCode.INVALID_PARAMETER, visitor=text) from None

    def redirect_uri(self, name: str) -> str:
        """Return the redirect URI of a provider (RFC 6749 §3.1.2).

        Args:
            name: The provider's name on this site; empty for the only one.
        """
        own = self.options.callback_paths.get(name)
        if own is not None:
            return self.absolute(self.root + self.mount.base + own)
        return self.absolute(self.root + self.mount.prefix + usual_callback(name))

    def absolute(self, path: str) -> str:
        """Return a public path as a URL.

        No browser can read such a redirect as the address of another host.
        """
        return self.origin + path

    @property
    def secure_cookies(self) -> bool:
        """Whether browsers send the cookies over https only."""
        if self.options.cookie_secure != "auto":
            return self.options.cookie_secure == "true"
        return self.origin.startswith("https:")

    @property
    def parameters(self) -> ResponseParameters:
        """The query's decoded parameters in order, with duplicates.

        A proxy that cannot escape the address of its request puts it behind ``next_uri=`` as it is. The whole
        rest of the query then is that address, so that it cannot bring further parameters.

        Raises:
            AuthenticationError: There are more than 64 parameters.
        """
        try:
            # Not request.args, which drops bytes that are not UTF-8.
            query = self.request.query_string.decode("utf-8", errors="replace")
            if query.startswith(_NEXT_URI):
                return [("next", query.removeprefix(_NEXT_URI))]
            return parse_qsl(query, keep_blank_values=True, max_num_fields=_MOST_PARAMETERS)
        except ValueError:
            text = "The address has too many parameters: start the sign-in again."
            raise AuthenticationError(text, error=ErrorCode.INVALID_RESPONSE, visitor=text) from None

    def parameter(self, name: str) -> str | None:
        """Return the first value of a query parameter, if any.

        A query with too many parameters counts as empty.
        """
        return next((value for key, value in self._parameters() if key == name), None)

    def values_of(self, name: str) -> list[str]:
        """Return all values of a query parameter.

        A query with too many parameters counts as empty.
        """
        return [value for key, value in self._parameters() if key == name]

    def _parameters(self) -> ResponseParameters:
        try:
            return self.parameters
        except AuthenticationError:
            return []


def _with_query(path: str, query: ResponseParameters, next_path: str = "") -> str:
    """Return a path with parameters, without those that would make it too long."""
    whole = [*query, ("next", next_path)] if next_path else query
    mark = "&" if "?" in path else "?"
    for parameters in (whole, query):
        if parameters and len(result := f"{path}{mark}{urlencode(parameters)}") <= LONGEST:
            return result
    return path


def _is_path(address: str) -> bool:
    return address.startswith("/")


def _hostname(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None
