"""PyWry: signs a person in from a desktop program, a script or a command line."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pywry_auth.backends.options import StorageOptions
from pywry_auth.exceptions import AuthenticationError, AuthFlowCancelled, ErrorCode
from pywry_auth.flow.token_lifecycle import not_signed_in
from pywry_auth.models import AuthFlowResult
from pywry_auth.native.login import Login, LoginOptions, LoginRequest
from pywry_auth.single_flight import SingleFlight
from pywry_auth.state.token_stores import get_token_store, token_store_for
from pywry_auth.state.tokens import TokenStore

if TYPE_CHECKING:
    from pathlib import Path

    from pywry_auth.config import OAuth2Settings, PyWrySettings
    from pywry_auth.native.browser import Notify
    from pywry_auth.native.request_session import RequestSession
    from pywry_auth.native.session_manager import SessionManager
    from pywry_auth.native.stored_users import SignedIn
    from pywry_auth.native.window import CloseWindow, ShowWindow
    from pywry_auth.providers.base import OAuthProvider


class PyWry:
    """A program's sign-in: one user at a time, from any thread.

    The lock guards who is signed in; it is never held over a network call.

    Args:
        settings: What ``get_settings()`` returns. Without them the environment is read by the first login
            that is given no provider; one that is given a provider uses the documented defaults.
    """

    def __init__(self, settings: PyWrySettings | None = None) -> None:
        self._settings = settings
        self._flight = SingleFlight[AuthFlowResult](AuthFlowCancelled)
        self._under_way: Login | None = None
        self._lock = threading.Lock()
        self._signed_in: SignedIn | None = None

    def login(
        self,
        provider: OAuthProvider | None = None,
        *,
        token_store: TokenStore | None = None,
        force: bool = False,
        account: str | None = None,
        login_hint: str | None = None,
        prompt: str | None = None,
        scopes: Sequence[str] | None = None,
        timeout: float | None = None,
        show_window: ShowWindow | None = None,
        close_window: CloseWindow | None = None,
        notify: Notify | None = None,
    ) -> AuthFlowResult:
        """Return tokens and profile of who is signed in already, else of who signs in with the browser.

        Tokens in the store that are good or can be refreshed need no browser. Otherwise this blocks until a
        person has signed in. A second thread that calls this meanwhile joins the login under way.

        Args:
            provider: Where to sign in; None takes the one that the settings describe.
            token_store: Where to keep the tokens; None takes the settings' (memory by default).
            force: Whether to have the person sign in although there are good tokens; so does ``prompt``.
            account: User ID whose tokens are wanted; None means the one that was used last. It is the result
                that says who signed in: with the browser that may be somebody else.
            login_hint: Fills in the user name at the provider (OIDC Core §3.1.2.1). Who is called otherwise
                in the provider's profile is not signed in without being asked.
            prompt: What the provider shall ask, for example ``select_account`` (OIDC Core §3.1.2.1).
            scopes: Scopes to ask for instead of the provider's; the person is asked for those that are new.
            timeout: Seconds to wait for the person; None takes the settings' (120 by default).
            show_window: Opens the application's own window at a URL instead of the browser, returns a label.
            close_window: Closes that window.
            notify: Hears the URL and what to do; by default they go to standard error.

        Raises:
            AuthFlowTimeout: Nobody signed in in time.
            AuthFlowCancelled: ``cancel`` was called.
            TokenError: The stored tokens have ended, and the provider that could refresh them is not to be
                reached: they are kept.
            AuthenticationError: The provider refused, or the configuration is wrong; the text says which.
        """

        def sign_in() -> AuthFlowResult:
            settings = self._settings_for(provider)
            oauth2 = settings.oauth2 if settings else None
            at = _provider_of(oauth2) if provider is None else provider
            at = at if scopes is None else at.with_scopes(scopes)
            store = _store_of(settings, at.client_id) if token_store is None else token_store
            seconds = timeout if timeout is not None else oauth2.auth_timeout_seconds if oauth2 else 120.0
            wish = LoginRequest(force, account, login_hint, prompt, scopes is not None)
            ways = LoginOptions(seconds, notify, show_window, close_window, _flow_options(oauth2))
            self._under_way = Login(at, store, oauth2.refresh_buffer_seconds if oauth2 else 60.0, wish, ways)
            return self._keep(self._under_way.run())

        return self._flight.run(sign_in)

    def cancel(self) -> None:
        """End the login under way, from any thread, say when its window was closed; do nothing without."""
        login = self._under_way
        if login is not None:
            login.cancel()

    def logout(self) -> bool:
        """Sign out: revoke both tokens at the provider and forget them.

        Returns:
            Whether the provider confirmed; False too when nobody was signed in.
        """
        signed_in = self._signed_in
        if signed_in is None:
            return False
        confirmed = signed_in.sign_out()
        with self._lock:
            if self._signed_in is signed_in:
                self._signed_in = None
        return confirmed

    def close(self) -> None:
        """Stop refreshing in the background; the user stays signed in, and the store keeps the tokens."""
        if self.session_manager is not None:
            self.session_manager.close()

    @property
    def is_authenticated(self) -> bool:
        """Whether somebody is signed in: there are tokens, which the provider has not ended."""
        session = self.session_manager
        return session is not None and session.tokens is not None

    @property
    def user_info(self) -> dict[str, Any] | None:
        """The provider's profile of who is signed in, or None."""
        signed_in = self._signed_in
        if signed_in is None or signed_in.session.tokens is None:
            return None
        return signed_in.result.user_info

    @property
    def session_manager(self) -> SessionManager | None:
        """What keeps the tokens of who is signed in, or None."""
        signed_in = self._signed_in
        return None if signed_in is None else signed_in.session

    def get_access_token(self) -> str:
        """Return an access token that is good for use now, refreshed if it was about to end.

        Raises:
            TokenExpiredError: Nobody is signed in, or the token has ended and cannot be refreshed.
            TokenRefreshError: The provider refused to refresh: sign in again.
            TokenError: The token has ended and the provider cannot be reached: try again later.
        """
        return self._session().get_access_token()

    def request_session(self, *origins: str) -> RequestSession:
        """Return a ``requests`` session that carries a fresh access token to the origins, and nowhere else.

        It refreshes once when an API answers 401. Make one for each thread.

        Args:
            origins: For example ``https://api.example.com``.

        Raises:
            TokenExpiredError: Nobody is signed in.
            AuthenticationError: An origin cannot be used.
        """
        from pywry_auth.native.request_session import RequestSession

        session = self._session()
        return RequestSession(session.http_options, origins, session)

    def _session(self) -> SessionManager:
        session = self.session_manager
        if session is None:
            raise not_signed_in()
        return session

    def _keep(self, signed_in: SignedIn) -> AuthFlowResult:
        with self._lock:
            previous, self._signed_in = self._signed_in, signed_in
        if previous is not None:
            previous.session.close()
        return signed_in.result

    def _settings_for(self, provider: OAuthProvider | None) -> PyWrySettings | None:
        if self._settings is None and provider is None:
            from pywry_auth.config import get_settings

            self._settings = get_settings()
        return self._settings


def _provider_of(settings: OAuth2Settings | None) -> OAuthProvider:
    from pywry_auth.providers.factory import create_provider_from_settings

    if settings is None:
        raise AuthenticationError(
            "No provider: set PYWRY_OAUTH2__CLIENT_ID and its companions, or call login(provider=...).",
            error=ErrorCode.INVALID_CONFIGURATION,
        )
    return create_provider_from_settings(settings)


def _store_of(settings: PyWrySettings | None, client_id: str) -> TokenStore:
    if settings is None or settings.oauth2 is None:
        return get_token_store()
    backend = settings.oauth2.token_store_backend
    try:
        own = _own_file(client_id) if backend == "sqlite" else ""
        options = StorageOptions.from_settings(settings.deploy, backend, client_id=client_id, path=own)
        return token_store_for(options, settings.oauth2.refresh_token_ttl_seconds)
    except (ValueError, ImportError) as error:
        raise AuthenticationError(
            f"PYWRY_OAUTH2__TOKEN_STORE_BACKEND cannot be used: {error}.",
            error=ErrorCode.INVALID_CONFIGURATION,
        ) from error


def _own_file(client_id: str) -> Path:
    """Return a file for one client only: two clients of one user would overwrite each other's tokens."""
    import hashlib
    import re

    from pywry_auth.backends.sqlite import default_path

    # What can be read of the name is for people; file systems that fold case make the digest needful.
    readable = re.sub("[^a-z0-9-]+", "_", client_id.lower())[:40]
    digest = hashlib.sha256(client_id.encode()).hexdigest()[:16]
    return default_path().with_name(f"tokens-{readable}-{digest}.sqlite3")


def _flow_options(settings: OAuth2Settings | None) -> dict[str, Any]:
    if settings is None:
        return {}
    return {
        "use_pkce": settings.use_pkce,
        "open_browser": settings.open_browser,
        "redirect_ports": settings.redirect_port,
    }
