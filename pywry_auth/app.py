"""PyWry: signs a user in from a program or script."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from pywry_auth.backends.options import StorageOptions
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError, AuthFlowCancelled
from pywry_auth.flow.events import LoginSucceeded, emit, login_failures_emitted
from pywry_auth.flow.token_lifecycle import not_signed_in
from pywry_auth.models import AuthFlowResult
from pywry_auth.native.login import Login, LoginOptions, LoginRequest
from pywry_auth.native.stored_users import StoredUsers
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
    """Signs one user in at a time, from any thread.

    The lock guards the signed-in user; it is never held over a network call. This object is the sender of
    the program's events (see ``pywry_auth.flow.events``).

    Args:
        settings: The result of ``get_settings()``. With None, the first login without a provider reads the
            environment, and a login with a provider uses the documented defaults.
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
        """Sign a user in, silently if possible.

        Stored tokens that are valid or can be refreshed need no browser. Otherwise the browser opens, and
        this call blocks until the user has signed in. A second thread that calls this in the meantime joins
        the running login.

        Args:
            provider: The provider to sign in at; None uses the provider of the settings.
            token_store: The store for the tokens; None uses the store of the settings (default: memory).
            force: Whether the user must sign in even with usable tokens in the store; ``prompt`` does the
                same.
            account: User ID to sign in; None means the user that was used last. In the browser another user
                may sign in: the result has the user ID.
            login_hint: Fills in the user name at the provider (OIDC Core §3.1.2.1). A stored user whose
                profile does not match the hint is not signed in silently.
            prompt: The provider's prompt, for example ``select_account`` (OIDC Core §3.1.2.1).
            scopes: Scopes to request instead of the provider's; the user is asked for those that are new.
            timeout: Seconds to wait for the user; None uses the settings' value (default: 120).
            show_window: Opens the application's own window at a URL instead of the browser, and returns a
                label.
            close_window: Closes that window.
            notify: Receives the URL and instructions; by default they go to standard error.

        Raises:
            AuthFlowTimeout: The user did not sign in in time.
            AuthFlowCancelled: ``cancel`` was called.
            TokenError: The stored tokens have expired, and the provider cannot be reached to refresh them.
                They are kept.
            AuthenticationError: The provider refused, or the configuration is wrong; the text says which.
        """

        def prepare() -> Login:
            settings = self._settings_for(provider)
            oauth2 = settings.oauth2 if settings else None
            at = _provider_of(oauth2) if provider is None else provider
            at = at if scopes is None else at.with_scopes(scopes)
            store = _store_of(settings, at.client_id) if token_store is None else token_store
            seconds = timeout if timeout is not None else oauth2.auth_timeout_seconds if oauth2 else 120.0
            users = StoredUsers(at, store, oauth2.refresh_buffer_seconds if oauth2 else 60.0, self)
            request = LoginRequest(force, account, login_hint, prompt, scopes is not None)
            options = LoginOptions(seconds, notify, show_window, close_window, _flow_options(oauth2))
            return Login(users, request, options)

        return self._flight.run(lambda: self._sign_in(prepare, provider.name if provider else ""))

    def cancel(self) -> None:
        """Cancel the running login, from any thread.

        Without a login this does nothing.
        """
        login = self._under_way
        if login is not None:
            login.cancel()

    def logout(self) -> bool:
        """Sign the user out, and revoke both tokens.

        Returns:
            Whether the provider confirmed the revocation; False if no user was signed in.
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
        """Stop refreshing in the background.

        The user stays signed in, and the store keeps the tokens.
        """
        if self.session_manager is not None:
            self.session_manager.close()

    @property
    def is_authenticated(self) -> bool:
        """Whether a user is signed in.

        Users stay signed in until they sign out or the provider refuses to refresh.
        """
        session = self.session_manager
        return session is not None and session.tokens is not None

    @property
    def user_info(self) -> dict[str, Any] | None:
        """The provider's profile of the signed-in user, or None."""
        signed_in = self._signed_in
        if signed_in is None or signed_in.session.tokens is None:
            return None
        return signed_in.result.user_info

    @property
    def session_manager(self) -> SessionManager | None:
        """The manager of the signed-in user's tokens, or None."""
        signed_in = self._signed_in
        return None if signed_in is None else signed_in.session

    def get_access_token(self) -> str:
        """Return a valid access token, refreshed if necessary.

        Raises:
            TokenExpiredError: No user is signed in, or the token has expired and cannot be refreshed.
            TokenRefreshError: The provider refused to refresh: sign in again.
            TokenError: The token has expired and the provider cannot be reached: try again later.
        """
        return self._session().get_access_token()

    def request_session(self, *origins: str) -> RequestSession:
        """Return a ``requests`` session for the provider's APIs.

        It sends a fresh access token to the origins only, and refreshes once when an API responds with 401.
        Make one session for each thread.

        Args:
            origins: For example ``https://api.example.com``.

        Raises:
            TokenExpiredError: No user is signed in.
            AuthenticationError: An origin is not valid, or none was given.
        """
        from pywry_auth.native.request_session import RequestSession

        session = self._session()
        return RequestSession(session.http_options, origins, session)

    def _session(self) -> SessionManager:
        session = self.session_manager
        if session is None:
            raise not_signed_in()
        return session

    def _sign_in(self, prepare: Callable[[], Login], provider: str) -> AuthFlowResult:
        with login_failures_emitted(self, "native", provider):
            login = self._under_way = prepare()
            try:
                signed_in = login.run()
            finally:
                self._under_way = None
        with self._lock:
            previous, self._signed_in = self._signed_in, signed_in
        if previous is not None:
            previous.session.close()
        result, seconds = signed_in.result, signed_in.seconds
        name = login.provider_name
        emit(self, LoginSucceeded(mode="native", user_id=result.user_id, provider=name, seconds=seconds))
        return result

    def _settings_for(self, provider: OAuthProvider | None) -> PyWrySettings | None:
        if self._settings is None and provider is None:
            from pywry_auth.config import get_settings

            self._settings = get_settings()
        return self._settings


def _provider_of(settings: OAuth2Settings | None) -> OAuthProvider:
    from pywry_auth.providers.factory import create_provider_from_settings

    if settings is None:
        raise AuthenticationError(
            "No provider is configured: set the PYWRY_OAUTH2__* variables, first PYWRY_OAUTH2__CLIENT_ID, or "
            "call login(provider=...).",
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
    """Return the path of this client's own file.

    In one file, two clients of one user would overwrite each other's tokens.
    """
    import re

    from pywry_auth.backends.sqlite import default_path
    from pywry_auth.digests import digest_of

    # The readable part is for people. The digest is needed because some file systems ignore case.
    readable = re.sub("[^a-z0-9-]+", "_", client_id.lower())[:40]
    digest = digest_of(client_id)[:16]
    return default_path().with_name(f"tokens-{readable}-{digest}.sqlite3")


def _flow_options(settings: OAuth2Settings | None) -> dict[str, Any]:
    if settings is None:
        return {}
    return {
        "use_pkce": settings.use_pkce,
        "open_browser": settings.open_browser,
        "redirect_ports": settings.redirect_port,
        "redirect_host": settings.redirect_host,
        "redirect_path": settings.redirect_path,
    }
