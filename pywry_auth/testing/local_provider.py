"""The local identity provider for the tests of an application."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlencode, urljoin, urlsplit
from weakref import WeakValueDictionary

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError
from pywry_auth.testing.identity_provider import DEFAULT_USERS, Client, IdentityProvider, User
from pywry_auth.testing.identity_provider.levels import DEMO_CODE
from pywry_auth.testing.identity_provider.parties import address_beside

if TYPE_CHECKING:
    from pywry_auth.config import DeploySettings
    from pywry_auth.providers.base import OAuthProvider
    from pywry_auth.testing.clients import ClientBrowser

_CLIENT_ID = "tested-site"
_ORIGINS = [
    *(f"http://{host}{port}" for host in ("localhost", "127.0.0.1") for port in ("", ":5000", ":8000")),
    *("https://localhost", "https://testserver"),
]
REDIRECT_URIS = tuple(f"{origin}/auth/callback" for origin in _ORIGINS)
"""The redirect URIs of the site by default; the first is that of Flask's test client."""

_MOST_REDIRECTS = 5


class LocalProvider(IdentityProvider):
    """A local identity provider that knows one site, the application under test.

    It is also a context manager, and listens on a free port of the loopback address between ``start()`` and
    ``stop()``. ``end_sessions("alice")`` sends its logout tokens straight to the applications of the test
    clients that signed in here.

    Args:
        redirect_uris: The redirect URIs of the site in place of :data:`REDIRECT_URIS`, for example for
            another prefix.
        users: The users; by default ``alice`` and ``bob``.
    """

    def __init__(self, *redirect_uris: str, users: Iterable[User] = DEFAULT_USERS) -> None:
        self._users = tuple(users)
        uris = redirect_uris or REDIRECT_URIS
        pages = [address_beside(uri, "signed-out") for uri in uris]
        homes = tuple(dict.fromkeys((*(urljoin(uri, "/") for uri in uris), *pages)))
        secret = secrets.token_urlsafe(32)
        logout = address_beside(redirect_uris[0], "backchannel-logout") if redirect_uris else ""
        self._site = Client(_CLIENT_ID, secret, uris, homes, backchannel_logout_uri=logout)
        # The test clients by the sid of their sign-in. A client that its test no longer has is forgotten.
        self._signed_in: WeakValueDictionary[str, Any] = WeakValueDictionary()
        self._token_secret = secrets.token_urlsafe(32)
        super().__init__(users=self._users, clients=[self._site], signing_algorithm="ES256")

    @property
    def settings(self) -> dict[str, str]:
        """The settings of a site that signs users in here, by the names of the environment's variables.

        Sessions and tokens are in memory, and the limit of logins does not get in the way of a test suite.
        """
        return {
            "PYWRY_OAUTH2__PROVIDER": "oidc",
            "PYWRY_OAUTH2__CLIENT_ID": _CLIENT_ID,
            "PYWRY_OAUTH2__CLIENT_SECRET": self._site.client_secret,
            "PYWRY_OAUTH2__ISSUER_URL": self.issuer,
            "PYWRY_OAUTH2__TOKEN_STORE_BACKEND": "memory",
            "PYWRY_DEPLOY__AUTH_ENABLED": "true",
            "PYWRY_DEPLOY__STATE_BACKEND": "memory",
            "PYWRY_DEPLOY__TOKEN_SECRET": self._token_secret,
            "PYWRY_DEPLOY__LOGIN_RATE_LIMIT": "100000/minute",
        }

    @property
    def oauth_provider(self) -> OAuthProvider:
        """This provider for ``provider=`` of an application that is configured in code."""
        from pywry_auth.providers.oidc import GenericOIDCProvider

        return GenericOIDCProvider(_CLIENT_ID, self._site.client_secret, issuer_url=self.issuer)

    @property
    def deploy_settings(self) -> DeploySettings:
        """The ``PYWRY_DEPLOY__*`` values of :attr:`settings` for ``deploy_settings=``."""
        from pywry_auth.config import DeploySettings

        values = {name.partition("DEPLOY__")[2].lower(): value for name, value in self.settings.items()}
        return DeploySettings(**{name: value for name, value in values.items() if name})  # type: ignore[arg-type]

    def sign_in(self, client: object, username: str, next_path: str = "/") -> Any:
        """Sign in as a person with a browser does, and return the response to the callback.

        The client asks for ``/auth/login``, the form is filled in here, and the client goes to the callback.
        A finished sign-in is status 303. A refused one is status 403, for example; compare the status.

        Args:
            client: ``app.test_client()`` of Flask, or a ``TestClient`` of Starlette or FastAPI.
            username: The name of one of the provider's users.
            next_path: Path that follows the sign-in.

        Returns:
            The client's own response.

        Raises:
            AuthenticationError: The application did not send the client here, for example because it is set
                up for another provider; or its redirect URI is not registered here.
            TypeError: The client is of another kind.
            ValueError: There is no such user.
        """
        from pywry_auth.testing.clients import browser_of
        from pywry_auth.testing.sign_in import keep

        user = next((each for each in self._users if each.is_called(username)), None)
        if user is None:
            known = ", ".join(each.username for each in self._users)
            raise ValueError(f"the provider has no user of this name; it has: {known}")
        browser = browser_of(client)
        earlier = set(browser.cookies())
        callback = self._submitted(self._begun(browser, next_path), user)
        self._signed_in[self._sid_of(callback)] = client
        response = browser.get(callback, {})
        fresh = [value for value in browser.cookies() if value not in earlier]
        if fresh:  # for the client's usual host, if PUBLIC_BASE_URL names another one
            keep(browser, fresh[-1])
        return response

    def _post_logout_token(self, client: Client, sid: str, token: str) -> int | None:
        """Send a logout token to the application of the test client that signed in."""
        from pywry_auth.testing.clients import browser_of

        signed_in = self._signed_in.get(sid)
        if signed_in is None:
            return super()._post_logout_token(client, sid, token)
        browser = browser_of(signed_in)
        url = browser.path_of("login").removesuffix("login") + "backchannel-logout"
        return int(browser.post(url, {"logout_token": token}).status_code)

    def _sid_of(self, callback: str) -> str:
        """Return the session at this provider from the code of an authorization response."""
        code = parse_qs(urlsplit(callback).query).get("code", [""])[0]
        record = self._realm.vault.find("code", code)
        return record.grant.session.sid if record and record.grant.session else ""

    def _begun(self, browser: ClientBrowser, next_path: str) -> str:
        """Return the authorization request to which the application redirects."""
        from pywry_auth.protocol.urls import is_own_machine

        public = browser.routes.options.public_origin
        base = browser.base_url
        if not (public or base.startswith("https:") or is_own_machine(urlsplit(base).hostname)):
            raise _set_up(f"sign-in needs https or a loopback address: {browser.advice}")
        of_site = browser.routes.providers.by_name.items()
        name = next((name for name, each in of_site if each.is_recorded_issuer(self.issuer)), "")
        query = {"next": next_path} | ({"provider": name} if name else {})
        url = urljoin(base, browser.path_of("login") + "?" + urlencode(query))
        for _ in range(_MOST_REDIRECTS):
            response = browser.get(url, {"Accept": "application/json"})
            if not 300 <= response.status_code < 400:
                raise _set_up(
                    f"GET {urlsplit(url).path} has status {response.status_code}: {_reason(response)}"
                )
            url = urljoin(url, str(response.headers["Location"]))
            if url.startswith(f"{self.url}/"):
                return url
            if _origin(url) not in (base, public):
                raise _set_up(f"the application sends its users to {_origin(url)}, not to this provider")
        raise _set_up("the login redirects again and again: check PYWRY_DEPLOY__PUBLIC_BASE_URL")

    def _submitted(self, url: str, user: User) -> str:
        """Sign a user in at this provider, and return the address of the callback."""
        browser = self.app.test_client()
        asked = urlsplit(url)
        path = f"{asked.path}?{asked.query}"
        page = browser.get(path, base_url=self.url)
        password = {"username": user.username, "password": user.password, "action": "login"}
        for typed in (password, {"code": DEMO_CODE, "action": "code"}):
            if page.status_code == 200:
                form = _Form(page.text)
                filled = form.values | typed
                page = browser.post(urljoin(path, form.action), base_url=self.url, data=filled)
        location = page.headers.get("Location")
        if location:
            return location
        uri = parse_qs(asked.query).get("redirect_uri", [""])[0]
        if not self._site.may_redirect_to(uri):
            raise _set_up(f'the redirect URI is not registered here: use LocalProvider("{uri}")')
        raise _set_up(f"the provider refused the authorization request with status {page.status_code}")


class _Form(HTMLParser):
    """The only form of a page: its address, and the values of its fields."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.action = ""
        self.values: dict[str, str] = {}
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.action = found.get("action", "")
        elif tag == "input":
            self.values[found.get("name", "")] = found.get("value", "")


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _reason(response: Any) -> str:
    """Return the sentence of an error response, of either kind of client."""
    read = response.get_json(silent=True) if hasattr(response, "get_json") else _json(response)
    told = read.get("error_description") if isinstance(read, dict) else None
    other = "another view of the application answers there: choose another url_prefix or prefix for sign-in"
    return str(told).removesuffix(".") if told else other


def _json(response: Any) -> object:
    try:
        return response.json()
    except ValueError:
        return None


def _set_up(text: str) -> AuthenticationError:
    return AuthenticationError(f"{text[0].upper()}{text[1:]}.", error=ErrorCode.INVALID_CONFIGURATION)
