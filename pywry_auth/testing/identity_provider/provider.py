"""IdentityProvider: start it, use its issuer, stop it."""

from __future__ import annotations

import functools
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from flask import Flask, Response, jsonify, redirect
from werkzeug.exceptions import HTTPException

from pywry_auth.testing.identity_provider import pages
from pywry_auth.testing.identity_provider.authorization import AuthorizationEndpoint
from pywry_auth.testing.identity_provider.book import IssuedGrant
from pywry_auth.testing.identity_provider.browser import BrowserSessions
from pywry_auth.testing.identity_provider.device_page import DevicePage
from pywry_auth.testing.identity_provider.device_requests import DeviceRequests
from pywry_auth.testing.identity_provider.endpoints import PATHS
from pywry_auth.testing.identity_provider.error_answers import refuse_program, refuse_request
from pywry_auth.testing.identity_provider.keys import SigningKeys
from pywry_auth.testing.identity_provider.listener import LOOPBACK, Listener
from pywry_auth.testing.identity_provider.logout_delivery import LogoutDelivery, post_logout_token
from pywry_auth.testing.identity_provider.logout_tokens import LogoutKey
from pywry_auth.testing.identity_provider.metadata import metadata
from pywry_auth.testing.identity_provider.parties import DEFAULT_CLIENTS, DEFAULT_USERS, Client, User
from pywry_auth.testing.identity_provider.pictures import Pictures
from pywry_auth.testing.identity_provider.provider_sessions import ProviderSessions
from pywry_auth.testing.identity_provider.published_keys import published_keys
from pywry_auth.testing.identity_provider.quirks import Quirks
from pywry_auth.testing.identity_provider.refusals import OAuthError, PageError
from pywry_auth.testing.identity_provider.resources import DEFAULT_RESOURCES
from pywry_auth.testing.identity_provider.sign_out import EndSessionEndpoint
from pywry_auth.testing.identity_provider.tokens import TokenEndpoints
from pywry_auth.testing.identity_provider.transport import Transport
from pywry_auth.testing.identity_provider.userinfo import UserInfoEndpoint
from pywry_auth.testing.identity_provider.vault import Realm, Vault

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

MAX_BODY_BYTES = 64 * 1024
"""The longest request body, in bytes."""


class IdentityProvider:
    """A local OpenID provider, which is also a context manager.

    The constructor binds the port, so ``url``, the base of the endpoints, and ``issuer`` are known before the
    provider serves. A quirk can make them differ.

    Args:
        users: The users of the provider.
        clients: The applications that may send users here.
        access_token_lifetime: Seconds.
        refresh_token_lifetime: Seconds; it starts again with each refresh.
        code_lifetime: Seconds between the redirect and the exchange.
        device_lifetime: Seconds for which a device code and its user code are valid (RFC 8628).
        device_interval: The shortest time between two polls for a device code, in seconds.
        port: The port; 0 means any free port.
        ssl_context: The context for https, with a certificate for 127.0.0.1; None means http.
        signing_algorithm: ``RS256`` or ``ES256``.
        clock: Returns Unix time in seconds.
        quirks: Deviations of the provider; None means none.
        resources: The APIs that access tokens can be for (RFC 8707).

    Raises:
        OSError: The port is taken.
        ValueError: The signing algorithm is not supported.
    """

    def __init__(
        self,
        *,
        users: Iterable[User] = DEFAULT_USERS,
        clients: Iterable[Client] = DEFAULT_CLIENTS,
        access_token_lifetime: float = 3600,
        refresh_token_lifetime: float = 30 * 86400,
        code_lifetime: float = 60,
        device_lifetime: float = 600,
        device_interval: float = 5,
        port: int = 0,
        ssl_context: ssl.SSLContext | None = None,
        signing_algorithm: str = "RS256",
        clock: Callable[[], float] = time.time,
        quirks: Quirks | None = None,
        resources: Iterable[str] = DEFAULT_RESOURCES,
    ) -> None:
        self._quirks = quirks or Quirks()
        self._keys = SigningKeys(signing_algorithm)
        self._listener = Listener(self._serve, port, ssl_context, self._quirks.forget_idle)
        self._netlocs = {f"{host}:{self._listener.port}" for host in (LOOPBACK, "localhost")}
        self._calls_lock = threading.Lock()  # guards _calls
        self._calls: Counter[str] = Counter()
        self._paths = {**PATHS, "discovery": self._quirks.discovery_path or PATHS["discovery"]}
        self.url = f"{'https' if ssl_context else 'http'}://{LOOPBACK}:{self._listener.port}"
        self.issuer = self.url + self._quirks.issuer_path
        self._realm = Realm(
            self.url,
            self.issuer,
            tuple(users),
            {client.client_id: client for client in clients},
            *(Vault(clock), ProviderSessions(clock)),
            self._keys,
            clock,
            *(access_token_lifetime, refresh_token_lifetime, code_lifetime),
            *(device_lifetime, device_interval),
            self._quirks,
            tuple(resources),
        )
        self._delivery = LogoutDelivery(self._realm, self._post_logout_token)
        self.app = self._build_app()
        self._wsgi: WSGIApplication = self.app

    def start(self) -> Self:
        """Serve in the background until ``stop()``; return this provider."""
        self._listener.start()
        return self

    def stop(self) -> None:
        """Stop serving for good, and close the port.

        Deliveries of logout tokens in progress end before, which takes a few seconds at most.
        """
        self._listener.stop()
        self._delivery.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def rotate_keys(self, *, drop_old: bool = False) -> None:
        """Sign with a new key from now on.

        Args:
            drop_old: Removes the old keys from the published key set.
        """
        self._keys.rotate(drop_old)

    def register(self, client: Client) -> None:
        """Register a client, or replace its registration, for example with another secret.

        Args:
            client: The client.
        """
        self._realm.clients[client.client_id] = client

    def wrap(self, middleware: Callable[[WSGIApplication], WSGIApplication]) -> None:
        """Wrap the application in a WSGI middleware, for example to inject faults.

        The last middleware is the outermost one.
        """
        self._wsgi = middleware(self._wsgi)

    @property
    def discovery_url(self) -> str:
        """The address of the discovery document."""
        return self.url + self._paths["discovery"]

    @property
    def calls(self) -> Counter[str]:
        """The number of requests to each endpoint so far.

        The keys are the names in ``endpoints.PATHS``.
        """
        with self._calls_lock:
            return Counter(self._calls)

    def grants(self, after: int = 0) -> tuple[IssuedGrant, ...]:
        """Return the grants for which tokens were issued so far, in their order of issue.

        Tests use them to find tokens that an application neither stored nor revoked.

        Args:
            after: Only grants with a higher number are returned.
        """
        return self._realm.vault.grants(after)

    def sids(self, username: str) -> list[str]:
        """Return the ``sid`` of each live session of a user.

        The oldest session comes first.

        Args:
            username: The user's name or e-mail address.

        Raises:
            ValueError: There is no such user.
        """
        self._require_user(username)
        return [session.sid for session in self._realm.sessions.live(username)]

    def end_sessions(self, username: str, sid: str | None = None) -> list[int]:
        """End a user's sessions here, as an administrator does.

        The clients get logout tokens.
        Refresh tokens of these sessions end too, except those with the scope ``offline_access`` (OIDC
        Back-Channel Logout 1.0 §2.7).

        Args:
            username: The user's name or e-mail address.
            sid: Ends only this session; None ends all.

        Returns:
            The HTTP status of each client's answer; 0 without an answer. Clients without a
            ``backchannel_logout_uri`` are left out.

        Raises:
            ValueError: There is no such user.
        """
        self._require_user(username)
        sessions = [each for each in self._realm.sessions.live(username) if sid in (None, each.sid)]
        return self._delivery.end(sessions)

    def logout_token(
        self,
        client_id: str,
        *,
        sub: str | None = "",
        sid: str | None = "",
        header: Mapping[str, Any] | None = None,
        key: LogoutKey = "own",
        **claims: Any,
    ) -> str:
        """Return a logout token without ending a session.

        It is valid unless an argument changes that. See OIDC Back-Channel Logout 1.0 §2.4.

        Args:
            client_id: The client that the token is for. The claim ``aud`` can name another one.
            sub: The user's ``sub``. A valid token has ``sub``, ``sid`` or both; for an invalid token with
                neither, pass None for both.
            sid: The session.
            header: Members of the header that replace the usual ones; None removes a member.
            key: ``own``; ``foreign``, which the provider does not publish; ``none`` for no signature; or
                ``secret`` for HS256 with the client's secret.
            **claims: Claims that replace the usual ones; None removes a claim.

        Raises:
            ValueError: The client is unknown, neither ``sub`` nor ``sid`` is given, the key has another name,
                or the client has no secret.
        """
        return self._delivery.tokens.issue(
            client_id, sub=sub, sid=sid, header=header or {}, key=key, claims=claims
        )

    def _require_user(self, username: str) -> None:
        if not any(user.is_called(username) for user in self._realm.users):
            known = ", ".join(user.username for user in self._realm.users)
            raise ValueError(f"the provider has no user of this name; it has: {known}")

    def _post_logout_token(self, client: Client, sid: str, token: str) -> int | None:
        return post_logout_token(client, sid, token)

    def _serve(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        name = next((name for name, path in self._paths.items() if path == environ["PATH_INFO"]), "other")
        with self._calls_lock:
            self._calls[name] += 1
        if environ.get("HTTP_HOST") not in self._netlocs:
            # With DNS rebinding, a page of another site can send requests here, under its own host name.
            start_response("421 Misdirected Request", [("Content-Length", "0")])
            return []
        return self._wsgi(environ, start_response)

    def _build_app(self) -> Flask:
        app = Flask(__name__, static_folder=None)
        app.config.update(MAX_CONTENT_LENGTH=MAX_BODY_BYTES)
        browser = BrowserSessions(self._realm, self._listener.port)
        devices = DeviceRequests(self._realm.clock, self._quirks.device_slow_down)
        tokens = TokenEndpoints(self._realm, devices)
        both = ["GET", "POST"]
        routes: list[tuple[str, Callable[[], Response], list[str]]] = [
            ("discovery", self._discovery, ["GET"]),
            ("jwks", self._key_set, ["GET"]),
            ("authorize", AuthorizationEndpoint(self._realm, browser).view, both),
            ("end_session", EndSessionEndpoint(self._realm, browser, self._delivery).view, both),
            ("token", tokens.token, ["POST"]),
            ("userinfo", UserInfoEndpoint(self._realm).view, both),
            ("revoke", tokens.revoke, ["POST"]),
            ("introspect", tokens.introspect, ["POST"]),
            ("device_authorization", tokens.authorize_device, ["POST"]),
            ("device", DevicePage(self._realm, browser, devices).view, both),
        ]
        absent = self._absent()
        for name, view, methods in routes:
            if name not in absent:
                app.add_url_rule(self._paths[name], name, view, methods=methods)
        app.add_url_rule("/pictures/<path:username>.png", "picture", Pictures(self._realm).view)
        if target := self._quirks.discovery_redirect:
            move = functools.partial(redirect, target)
            app.add_url_rule(PATHS["discovery"], "moved", move, methods=["GET"])
        app.register_error_handler(OAuthError, refuse_program)
        app.register_error_handler(PageError, lambda refusal: pages.error(str(refusal)))
        app.register_error_handler(HTTPException, refuse_request)
        app.after_request(pages.protect)
        Transport(self._quirks).install(app)
        return app

    def _absent(self) -> set[str]:
        """Return the short names of the endpoints that do not exist."""
        moved = self._quirks.discovery_redirect and not self._quirks.discovery_path
        absent = {
            "discovery": bool(self._quirks.no_discovery or moved),
            "revoke": self._quirks.no_revocation,
            "end_session": self._quirks.no_end_session,
            "userinfo": self._quirks.no_userinfo,
            "device_authorization": self._quirks.no_device,
            "device": self._quirks.no_device,
        }
        return {name for name, is_absent in absent.items() if is_absent}

    def _discovery(self) -> Response:
        return jsonify(metadata(self._realm))

    def _key_set(self) -> Response:
        return jsonify(published_keys(self._keys, self._quirks))
