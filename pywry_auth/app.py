"""PyWry: signs a person in from a desktop program, a script or a command line."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pywry_auth.exceptions import (
    INVALID_CONFIGURATION,
    AuthenticationError,
    AuthFlowCancelled,
)
from pywry_auth.flow.token_lifecycle import not_signed_in
from pywry_auth.models import AuthFlowResult, OAuthTokenSet
from pywry_auth.native.browser import Notify
from pywry_auth.native.flow_manager import AuthFlowManager, CloseWindow, ShowWindow
from pywry_auth.native.session_manager import SessionManager
from pywry_auth.native.single_flight import SingleFlight
from pywry_auth.state.accounts import Accounts
from pywry_auth.state.tokens import TokenStore, get_token_store

if TYPE_CHECKING:
    from pywry_auth.config import OAuth2Settings, PyWrySettings
    from pywry_auth.native.request_session import RequestSession
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
        self._login = SingleFlight[AuthFlowResult](AuthFlowCancelled)
        self._flow: AuthFlowManager | None = None
        self._lock = threading.Lock()
        self._session: SessionManager | None = None
        self._accounts: Accounts | None = None
        self._result: AuthFlowResult | None = None

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
            account: User ID whose tokens are wanted; None means the one that was used last.
            login_hint: Fills in the user name at the provider (OIDC Core §3.1.2.1).
            prompt: What the provider shall ask, for example ``select_account`` (OIDC Core §3.1.2.1).
            scopes: Scopes to ask for instead of the provider's.
            timeout: Seconds to wait for the person; None takes the settings' (120 by default).
            show_window: Opens the application's own window at a URL instead of the browser, returns a label.
            close_window: Closes that window.
            notify: Hears the URL and what to do; by default they go to standard error.

        Raises:
            AuthFlowTimeout: Nobody signed in in time.
            AuthFlowCancelled: ``cancel`` was called.
            AuthenticationError: The provider refused, or the configuration is wrong; the text says which.
        """

        def sign_in() -> AuthFlowResult:
            everything = self._settings_for(provider)
            settings = everything.oauth2 if everything else None
            at = _provider_of(settings) if provider is None else provider
            at = at if scopes is None else at.with_scopes(scopes)
            store = _store_of(everything) if token_store is None else token_store
            buffer = settings.refresh_buffer_seconds if settings else 60.0
            accounts = Accounts(store.backend, at.client_id)
            user = account or accounts.current
            if user is not None and not force and not prompt:
                session = SessionManager(at, store, user, buffer)
                tokens = session.initialize()
                if tokens is not None and set(scopes or ()) <= set(tokens.scope.split()):
                    return self._begin(session, accounts, _resumed(at, accounts, user, tokens))
                session.close()
            store.probe()  # nobody signs in only to learn that the tokens cannot be kept
            extra = {"login_hint": login_hint, "prompt": prompt}
            self._flow = AuthFlowManager(
                at,
                store,
                extra_params={name: value for name, value in extra.items() if value is not None},
                notify=notify,
                **_flow_options(settings, timeout),
            )
            result = self._flow.run_native(show_window=show_window, close_window=close_window)
            session = SessionManager(at, store, result.user_id, buffer)
            session.initialize()
            return self._begin(session, accounts, result)

        return self._login.run(sign_in)

    def cancel(self) -> None:
        """End the login under way, from any thread, say when its window was closed; do nothing without."""
        flow = self._flow
        if flow is not None:
            flow.cancel()

    def logout(self) -> bool:
        """Sign out: revoke both tokens at the provider and forget them.

        Returns:
            Whether the provider confirmed; False too when nobody was signed in.
        """
        with self._lock:
            session, accounts, result = self._session, self._accounts, self._result
            self._session = self._accounts = self._result = None
        if session is None or accounts is None or result is None:
            return False
        accounts.forget(result.user_id)
        return session.logout()

    def close(self) -> None:
        """Stop refreshing in the background; the user stays signed in, and the store keeps the tokens."""
        session = self._session
        if session is not None:
            session.close()

    @property
    def is_authenticated(self) -> bool:
        """Whether somebody is signed in: there are tokens, which the provider has not ended."""
        session = self._session
        return session is not None and session.tokens is not None

    @property
    def user_info(self) -> dict[str, Any] | None:
        """The provider's profile of who is signed in, or None."""
        result = self._result
        return result.user_info if result is not None and self.is_authenticated else None

    @property
    def session_manager(self) -> SessionManager | None:
        """What keeps the tokens of who is signed in, or None."""
        return self._session

    def get_access_token(self) -> str:
        """Return an access token that is good for use now, refreshed if it was about to end.

        Raises:
            TokenExpiredError: Nobody is signed in, or the token has ended and cannot be refreshed.
            TokenRefreshError: The provider refused to refresh: sign in again.
            TokenError: The token has ended and the provider cannot be reached: try again later.
        """
        session = self._session
        if session is None:
            raise not_signed_in()
        return session.get_access_token()

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

        session = self._session
        if session is None:
            raise not_signed_in()
        return RequestSession(session.http_options, origins, session)

    def _begin(self, session: SessionManager, accounts: Accounts, result: AuthFlowResult) -> AuthFlowResult:
        accounts.remember(result.user_id, result.user_info)
        with self._lock:
            previous = self._session
            self._session, self._accounts, self._result = session, accounts, result
        if previous is not None:
            previous.close()
        return result

    def _settings_for(self, provider: OAuthProvider | None) -> PyWrySettings | None:
        if self._settings is None and provider is None:
            from pywry_auth.config import get_settings

            self._settings = get_settings()
        return self._settings


def _resumed(
    provider: OAuthProvider, accounts: Accounts, user_id: str, tokens: OAuthTokenSet
) -> AuthFlowResult:
    """Return the result of a sign-in that needed nobody; the profile is that of the last one."""
    profile = accounts.profile(user_id) or dict(tokens.id_token_claims)
    return AuthFlowResult(True, tokens, profile or provider.get_userinfo(tokens.access_token), user_id)


def _provider_of(settings: OAuth2Settings | None) -> OAuthProvider:
    from pywry_auth.providers.factory import create_provider_from_settings

    if settings is None:
        raise AuthenticationError(
            "No provider: set PYWRY_OAUTH2__CLIENT_ID and its companions, or call login(provider=...).",
            error=INVALID_CONFIGURATION,
        )
    return create_provider_from_settings(settings)


def _store_of(settings: PyWrySettings | None) -> TokenStore:
    if settings is None or settings.oauth2 is None:
        return get_token_store()
    try:
        return get_token_store(
            settings.oauth2.token_store_backend,
            service_name=f"pywry_auth:{settings.oauth2.client_id}",
            redis_url=settings.deploy.redis_url.get_secret_value(),
            prefix=settings.deploy.redis_prefix,
            path=settings.deploy.sqlite_path,
            refresh_token_ttl=settings.oauth2.refresh_token_ttl_seconds,
            encryption_keys=[key.get_secret_value() for key in settings.deploy.encryption_keys],
        )
    except (ValueError, ImportError) as exc:
        raise AuthenticationError(
            f"PYWRY_OAUTH2__TOKEN_STORE_BACKEND cannot be used: {exc}.", error=INVALID_CONFIGURATION
        ) from exc


def _flow_options(settings: OAuth2Settings | None, timeout: float | None) -> dict[str, Any]:
    options: dict[str, Any] = {} if timeout is None else {"auth_timeout": timeout}
    if settings is None:
        return options
    return {
        "use_pkce": settings.use_pkce,
        "auth_timeout": settings.auth_timeout_seconds,
        "open_browser": settings.open_browser,
        "redirect_ports": settings.redirect_port,
    } | options
