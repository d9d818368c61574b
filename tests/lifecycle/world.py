"""One user, several browsers, and the workers of a site on one store."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from flask import Flask
from werkzeug.test import EnvironBuilder, run_wsgi_app
from werkzeug.wrappers import Response

from pywry_auth import PyWry
from pywry_auth.backends.base import Backend
from pywry_auth.backends.memory import MemoryBackend
from pywry_auth.config import DeploySettings
from pywry_auth.deploy_routes import create_auth_blueprint
from pywry_auth.flow.revocation import retry_revocations
from pywry_auth.flow.sign_in_hook import SignInDecision
from pywry_auth.models import AuthorizationRequest, UserSession
from pywry_auth.protocol.authorization_response import AuthorizationCode, ResponseParameters
from pywry_auth.state.auth import AuthConfig
from pywry_auth.state.sessions import SessionStore
from pywry_auth.state.tokens import TokenStore
from pywry_auth.testing import Client, IdentityProvider
from pywry_auth.testing.identity_provider.book import IssuedGrant
from tests.lifecycle.in_process import InProcessAdapter, InProcessProvider, Subject
from tests.lifecycle.stepping import Actor, SteppedBackend

SITE = "http://127.0.0.1"
CALLBACK = f"{SITE}/auth/callback"
COOKIE = "pywry_session"
USER = "user-alice"
ROLES = ["viewer", "admin"]
_SECRET = "the secret of the site in the tests of life cycles"
_CLIENT = Client("site", "s3cret-of-the-client", (CALLBACK,), (f"{SITE}/",))
_IDLE = 600.0  # seconds; long enough that no session expires in a test
_RANDOM = re.compile("[0-9a-f]{24,}")
_PAUSE = 120.0  # seconds after which the next look-up of a session records its use


class HookedProvider(InProcessProvider):
    """A client that runs a function of the test when it has exchanged a code."""

    after_exchange: Callable[[], object] = staticmethod(lambda: None)

    def exchange_code(
        self,
        code: AuthorizationCode | str,
        redirect_uri: str,
        pkce_verifier: str | None = None,
        nonce: str | None = None,
    ) -> Any:
        tokens = super().exchange_code(code, redirect_uri, pkce_verifier, nonce)
        self.after_exchange()
        return tokens


class Worker:
    """One process of the site: an application with its own provider and stores.

    Args:
        world: The world of the site.
        settings: Further arguments of ``DeploySettings``.
    """

    def __init__(self, world: World, **settings: Any) -> None:
        given: dict[str, Any] = {"default_roles": ",".join(ROLES), **settings}
        deploy = DeploySettings(login_rate_limit="100000/minute", session_idle_ttl=_IDLE, **given)
        self.provider = HookedProvider(
            _CLIENT.client_id, _CLIENT.client_secret, world.idp.issuer, world.adapter
        )
        self.sessions = SessionStore(world.backend, clock=world.now)
        self.tokens = TokenStore(world.backend)
        self.app = Flask("site")
        self.app.register_blueprint(
            create_auth_blueprint(
                self.provider,
                self.sessions,
                self.tokens,
                deploy,
                AuthConfig(enabled=True, token_secret=_SECRET),
                on_sign_in=world.hook,
            )
        )


@dataclass
class Browser:
    """A browser, whose requests any worker may answer.

    Args:
        name: Its name in findings.
    """

    name: str
    cookies: dict[str, str] = field(default_factory=dict)
    session_cookies: list[str] = field(default_factory=list)
    session_id: str = ""

    def send(self, worker: Worker, method: str, target: str) -> Response:
        """Send a request, and keep the cookies of the response."""
        response = request(worker, method, target, self.cookies)
        for header in response.headers.getlist("Set-Cookie"):
            for cookie in SimpleCookie(header).values():
                if cookie["max-age"] == "0":
                    self.cookies.pop(cookie.key, None)
                    continue
                self.cookies[cookie.key] = cookie.value
                if cookie.key == COOKIE:
                    self.session_cookies.append(cookie.value)
        return response

    def is_signed_in(self, worker: Worker) -> bool:
        """Return whether this browser's present cookie opens a session."""
        return self._opens(worker, self.cookies.get(COOKIE))

    def has_ended(self, worker: Worker) -> bool:
        """Return whether none of the session cookies that this browser ever had opens a session."""
        return not any(self._opens(worker, value) for value in self.session_cookies)

    @staticmethod
    def _opens(worker: Worker, value: str | None) -> bool:
        if value is None:
            return False
        status = request(worker, "GET", "/auth/status", {COOKIE: value}).get_json()
        return bool(status["authenticated"])


def request(
    worker: Worker,
    method: str,
    target: str,
    cookies: dict[str, str],
    form: dict[str, str] | None = None,
) -> Response:
    """Send a request to a worker."""
    path, _, query = target.removeprefix(SITE).partition("?")
    header = "; ".join(f"{name}={value}" for name, value in cookies.items())
    builder = EnvironBuilder(
        path=path, query_string=query, method=method, base_url=SITE, headers=[("Cookie", header)], data=form
    )
    environ = builder.get_environ() | {"REMOTE_ADDR": "127.0.0.1"}
    body, status, headers = run_wsgi_app(worker.app, environ, buffered=True)
    return Response(b"".join(body), status, headers)


class World:
    """The site, its provider, its store, and the user's browsers.

    Use it as a context manager. ``restart`` empties the store, so that one world serves many schedules.

    Args:
        user: The user's ID on the site. If it is not the one at the provider, a hook gives it.
    """

    def __init__(self, user: str = USER) -> None:
        self.user = user
        self.hook = None if user == USER else lambda attempt: SignInDecision(user_id=user)
        self.idp = IdentityProvider(clients=[_CLIENT], signing_algorithm="ES256")
        self.adapter = InProcessAdapter(self.idp.app, _before, self._after)
        self.backend = SteppedBackend(self._watch, self._name)
        self.subject = Subject(self.idp)
        self.workers = [Worker(self), Worker(self)]
        self.strict_workers = [Worker(self, allowed_users="user-bob") for _ in self.workers]
        self.browsers: list[Browser] = []
        self.history: list[int | None] = []
        self._stored_token: str | None = None
        self._earlier = 0
        self._ahead = 0.0

    def __enter__(self) -> World:
        return self

    def __exit__(self, *_error: object) -> None:
        self.idp.stop()

    def now(self) -> float:
        """Return the Unix time in seconds by the clock of the session stores."""
        return time.time() + self._ahead

    def restart(self, backend: Backend | None = None, browsers: int = 1) -> None:
        """Begin again with an empty store, and sign the user in.

        Args:
            backend: The store; None for a new one in memory.
            browsers: The number of browsers in which the user signs in.
        """
        self.backend.inner = MemoryBackend() if backend is None else backend
        self.backend.abandoned_locks.clear()
        self._earlier = max((grant.number for grant in self.grants), default=self._earlier)
        self.browsers, self.history, self._stored_token = [], [], None
        self._ahead = 0.0
        for number in range(1, browsers + 1):
            browser = self.new_browser(f"browser {number}")
            self.sign_in(browser)
            browser.session_id = self.sessions_of_user()[-1].session_id
        self._ahead = _PAUSE

    def new_browser(self, name: str) -> Browser:
        """Return a new browser without cookies."""
        browser = Browser(name)
        self.browsers.append(browser)
        return browser

    def sign_in(self, browser: Browser) -> None:
        """Sign the user in."""
        callback = self.begin_login(browser, self.workers[0])
        assert browser.send(self.workers[0], "GET", callback).status_code == 303

    def begin_login(self, browser: Browser, worker: Worker) -> str:
        """Begin a login, sign in at the provider, and return the callback's URL."""
        return self.subject.authorize(browser.send(worker, "GET", "/auth/login").headers["Location"])

    def logout_token(self, *, by_sid: bool) -> str:
        """Return a logout token for the user, or for the user's only session at the provider."""
        if by_sid:
            return self.idp.logout_token(_CLIENT.client_id, sid=self.idp.sids("alice")[-1])
        return self.idp.logout_token(_CLIENT.client_id, sub=USER)

    def answer(self, authorization: AuthorizationRequest) -> ResponseParameters:
        """Answer a native program's authorization request."""
        return parse_qsl(urlsplit(self.subject.authorize(authorization.url)).query)

    def sign_out(self, *, native: bool = False) -> None:
        """Sign the user out in all browsers and, if asked, in a native program."""
        worker = self.workers[0]
        for browser in self.browsers:
            if COOKIE in browser.cookies:
                browser.send(worker, "POST", "/auth/logout")
        if native and worker.tokens.exists(USER):
            program = PyWry()
            program.login(worker.provider, token_store=worker.tokens, account=USER)
            program.logout()

    def try_revocations_again(self) -> None:
        """Give the revocations that failed another chance, due or not."""
        worker = self.workers[0]
        retry_revocations(worker.tokens, lambda tokens: worker.provider, USER)

    @property
    def grants(self) -> Sequence[IssuedGrant]:
        """The grants that the provider issued since the last restart, in their order of issue."""
        return self.idp.grants(after=self._earlier)

    @property
    def stored(self) -> IssuedGrant | None:
        """The grant whose tokens are stored for the user."""
        tokens = TokenStore(self.backend.inner).load(USER)
        return None if tokens is None else self._grant_of(tokens.refresh_token or tokens.access_token)

    @property
    def stored_is_active(self) -> bool:
        """Whether the stored refresh token is active at the provider."""
        tokens, grant = TokenStore(self.backend.inner).load(USER), self.stored
        return bool(tokens and grant and digest(tokens.refresh_token or "") in grant.refresh_tokens)

    def sessions_of_user(self) -> list[UserSession]:
        """Return the user's sessions."""
        return self.workers[0].sessions.list_user_sessions(self.user)

    def first_session_of(self, browser: Browser) -> UserSession | None:
        """Return the session with which a browser began, if it has not ended."""
        return next((kept for kept in self.sessions_of_user() if kept.session_id == browser.session_id), None)

    def _grant_of(self, token: str) -> IssuedGrant:
        return next(grant for grant in self.grants if digest(token) in grant.tokens)

    def _name(self, key: str) -> str:
        """Return a key's kind and, for sessions, the browser."""
        kind = ":".join(part for part in key.split(":")[:-1] if not _RANDOM.fullmatch(part))
        if key == f"session:{self.user}":
            return "session *"
        number = next(
            (n for n, b in enumerate(self.browsers, 1) if b.session_id and key.endswith(b.session_id)), 0
        )
        return f"session {number or 'new'}" if kind == "session" else kind or key

    def _watch(self) -> None:
        tokens = TokenStore(self.backend.inner).load(USER)
        token = (tokens.refresh_token or tokens.access_token) if tokens else None
        if token != self._stored_token:
            self._stored_token = token
            self.history.append(self._grant_of(token).number if token else None)

    def _after(self, kind: str) -> None:
        actor = Actor.current()
        if actor is not None and kind == "authorization_code":
            actor.grants.append(self.grants[-1].number)


def _before(kind: str) -> None:
    actor = Actor.current()
    if actor is not None and kind in ("refresh_token", "revoke"):
        actor.reach(f"provider {kind}")


def digest(token: str) -> str:
    """Return the SHA-256 digest of a token, as in the provider's book."""
    return hashlib.sha256(token.encode()).hexdigest()
