"""PyWry: signs a user in from a program or script."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Unpack

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError, AuthFlowCancelled, TokenExpiredError
from pywry_auth.flow.events import LoginSucceeded, emit, login_failures_emitted
from pywry_auth.flow.refresh import not_signed_in
from pywry_auth.models import AuthFlowResult, OAuthTokenSet
from pywry_auth.native.account import account_of, described
from pywry_auth.native.background_login import BackgroundLogin, Cancellation, LoginArguments
from pywry_auth.native.bounded_call import Bounds, timed_out
from pywry_auth.native.login import Login, LoginOptions, LoginRequest, Mode, check_mode
from pywry_auth.native.stored_users import StoredUsers
from pywry_auth.single_flight import SingleFlight
from pywry_auth.state.token_stores import get_token_store, program_token_store
from pywry_auth.state.tokens import TokenStore

if TYPE_CHECKING:
    from pywry_auth.config import OAuth2Settings, PyWrySettings
    from pywry_auth.flow.request_session import RequestSession
    from pywry_auth.native.account import Account
    from pywry_auth.native.background_login import Done
    from pywry_auth.native.browser import Notify
    from pywry_auth.native.session_manager import SessionManager
    from pywry_auth.native.stored_users import StoredUser
    from pywry_auth.native.window import CloseWindow, ShowWindow
    from pywry_auth.providers.base import OAuthProvider


class PyWry:
    """Signs one user in at a time, from any thread.

    All members see the stored tokens. Without a login in this process, ``logout``, ``is_authenticated``,
    ``user_info``, ``get_access_token``, ``request_session`` and ``session_manager`` are about the user that
    the program used last, in any process. They look in the store of the last ``login`` of this object, or in
    the one that the arguments below describe. The first user found is kept until ``login``,
    ``switch`` or ``logout``.

    The lock guards four values: the users to look among, the user of this object, whether that user signed
    out here, and the managers of other users' tokens. It is never held over a call to the provider or the
    store. Threads that ask for the user at the same time get the same ``SessionManager``. A ``logout`` during
    a ``login`` of another thread concerns the user before that login. This object is the sender of the
    program's events (see ``pywry_auth.flow.events``).

    Args:
        settings: The result of ``get_settings()``, or settings made in code. With None, an object without a
            provider reads the environment when it needs one, and an object with a provider uses the
            documented defaults.
        provider: The provider; None uses the provider of the settings.
        token_store: The store for the tokens; None uses the store of the settings (default: memory).
        completion_page: The design of the last page in the browser: an HTML document with ``$title`` and
            ``$message`` (see ``pywry_auth.pages.own_page``). None uses the built-in one.

    Raises:
        AuthenticationError: ``completion_page`` is not valid (``invalid_configuration``).
    """

    def __init__(
        self,
        settings: PyWrySettings | None = None,
        *,
        provider: OAuthProvider | None = None,
        token_store: TokenStore | None = None,
        completion_page: str | None = None,
    ) -> None:
        self._settings = settings
        self._environment: PyWrySettings | None = None
        self._provider = provider
        self._token_store = token_store
        self._completion_page = completion_page
        if completion_page is not None:
            from pywry_auth.pages.own_page import OwnPage

            OwnPage(completion_page)  # raises if it is not valid
        self._flight = SingleFlight[AuthFlowResult](AuthFlowCancelled, timed_out)
        self._under_way: list[Cancellation] = []  # one for each call of login
        self._lock = threading.Lock()
        self._users: StoredUsers | None = None
        self._user: StoredUser | None = None
        self._others: dict[str, SessionManager] = {}
        self._signed_out = False

    def login(
        self,
        provider: OAuthProvider | None = None,
        *,
        token_store: TokenStore | None = None,
        force: bool = False,
        account: str | None = None,
        mode: Mode = "auto",
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
        the running login of the same ``account``; a silent login joins only silent ones.

        Args:
            provider: The provider to sign in at; None uses the provider of this object.
            token_store: The store for the tokens; None uses the store of this object.
            force: Whether the user must sign in even with usable tokens in the store; ``prompt`` does the
                same.
            account: User ID to sign in; None means the user that was used last. In the browser another user
                may sign in: the result has the user ID.
            mode: ``browser`` asks the user if necessary, ``device`` with a code for another device, and
                ``paste`` with an address that the user brings back from any browser. ``silent`` may refresh
                stored tokens, but never asks, opens, prints or waits for a user. ``auto`` is ``silent`` if
                the process has no terminal, display, ``BROWSER``, ``show_window`` or ``notify``; otherwise
                it chooses the way that suits the surroundings.
            login_hint: Fills in the user name at the provider (OIDC Core §3.1.2.1). A stored user whose
                profile does not match the hint is not signed in silently.
            prompt: The provider's prompt, for example ``select_account`` (OIDC Core §3.1.2.1), but not
                ``none``, which is ``mode="silent"`` here.
            scopes: Scopes to request instead of the provider's; the user is asked for those that are new.
            timeout: Seconds that this call has, with all calls to the provider and the store. Reads of stored
                tokens from memory and SQLite have their own limits, and so has the wait of a notebook for a
                pasted address. None uses the settings' value (default: 120, and for ``device`` the lifetime
                of the code, at most 900), and for a joined login its time.
            show_window: Opens the application's own window at a URL instead of the browser, and returns a
                label.
            close_window: Closes that window.
            notify: Receives the URL and instructions; by default they go to standard error.

        Raises:
            LoginRequired: The login is silent, and the user must sign in; the text says why.
            AuthFlowTimeout: The login took longer than ``timeout``, for any reason.
            AuthFlowCancelled: ``cancel`` was called.
            TokenError: The stored tokens have expired, and the provider cannot be reached to refresh them.
                They are kept.
            AuthenticationError: The provider refused, or the configuration is wrong; the text says which.
        """
        arguments = LoginArguments(
            provider=provider,
            token_store=token_store,
            force=force,
            account=account,
            mode=mode,
            login_hint=login_hint,
            prompt=prompt,
            scopes=scopes,
            timeout=timeout,
            show_window=show_window,
            close_window=close_window,
            notify=notify,
        )
        _check_arguments(arguments)
        return self._login(arguments, self._begun())

    def login_in_background(self, done: Done, **login_arguments: Unpack[LoginArguments]) -> BackgroundLogin:
        """Sign a user in without blocking the caller, for programs with a window.

        ``login`` runs in a daemon thread, and that thread calls ``done``, ``notify`` and ``show_window``. A
        toolkit whose widgets belong to the main thread needs a queue between them. The exit of the
        interpreter does not wait for the user.

        Args:
            done: Called once with two arguments: the ``AuthFlowResult`` and None, or None and the error. The
                error is any that ``login`` raises, also one of the program's own functions. An exception in
                ``done`` is logged.
            login_arguments: The arguments of ``login``.

        Returns:
            The login, which can be cancelled and waited for.

        Raises:
            TypeError: ``done`` cannot be called, or ``login`` has no such argument.
            AuthenticationError: The arguments contradict each other; the text says which.
        """
        if not callable(done):
            raise TypeError("done must be a function of two arguments: the result and the error")
        unknown = set(login_arguments) - set(LoginArguments.__annotations__)
        if unknown:
            raise TypeError(f"login() has no argument {min(unknown)!r}")
        _check_arguments(login_arguments)
        cancellation = self._begun()
        try:
            return BackgroundLogin(
                lambda: self._login(login_arguments, cancellation), cancellation.cancel, done
            )
        except BaseException:  # no thread could start, or Ctrl-C
            cancellation.cancel()
            self._end(cancellation)
            raise

    def cancel(self) -> None:
        """Cancel the running logins of this object, from any thread or a signal handler, without waiting.

        They end at once, during a call to the provider or the store too. Tokens that come too late are
        removed and revoked in the background. A cancellation that comes after the tokens and the user were
        stored changes nothing: the login succeeds. Without a login this does nothing.
        """
        for cancellation in self._under_way.copy():
            cancellation.cancel()

    def accounts(self) -> list[Account]:
        """Return all signed-in users of this program, the current one first, then by name.

        They are the users with tokens of this client and issuer that are valid or can be refreshed. There is
        no call to the provider.

        Raises:
            StoreUnavailable: The store is down.
            AuthenticationError: No provider is configured.
        """
        users = self._required_users()
        user = self._found()
        return users.signed_in(None if user is None else user.user_id)

    def switch(self, user_id: str) -> Account:
        """Make a signed-in user the current one, in all processes that start later.

        There is no call to the provider. Other objects keep the user that they have found already.

        Args:
            user_id: The user's ID (see ``accounts``).

        Returns:
            The user.

        Raises:
            TokenExpiredError: No user with this ID is signed in (``not_signed_in``).
            StoreUnavailable: The store is down.
            AuthenticationError: No provider is configured.
        """
        user = self._user_of(user_id)
        if user.tokens() is not None:
            user.accounts.select(user_id)
        tokens = user.tokens()  # another process may have signed the user out in the meantime
        if tokens is None:
            raise _unknown_account(user_id)
        self._adopt(user)
        return account_of(user_id, user.user_info, tokens, current=True)

    def logout(self, account: str | None = None) -> bool:
        """Sign a user out, and revoke both tokens.

        The tokens are removed from the store, so that the user is signed out in all processes. If the
        provider cannot be reached, the revocation stays in the store, and later logins, refreshes and logouts
        on this store try it again for 24 hours. Other users stay signed in. If the user was the current one,
        there is no current user until the next ``login`` or ``switch``.

        Args:
            account: The ID of the user; None means the current user. If no user is signed in, None also tries
                all revocations at once that earlier sign-outs left; an ID first tries those of that user.

        Returns:
            Whether the provider confirmed the revocation. If the user was not signed in, whether revocations
            of earlier sign-outs were left, and the provider confirmed all of them.

        Raises:
            StoreUnavailable: The store is down: call this again later.
            AuthenticationError: It is unknown at which provider the user signed in.
        """
        with self._lock:
            user, signed_out = self._user, self._signed_out
        if account is not None and (user is None or user.user_id != account):
            return self._required_users().get(account).sign_out()
        if user is None:
            users = self._required_users()
            user = None if signed_out else users.current()
            if user is None:
                return users.finish_sign_outs()
        confirmed = user.sign_out()
        with self._lock:
            if self._user is None or self._user.session is user.session:
                self._user, self._signed_out = None, True
        return confirmed

    def close(self) -> None:
        """Stop refreshing in the background.

        The user stays signed in, and the store keeps the tokens. A login in progress goes on: ``cancel`` ends
        it.
        """
        with self._lock:
            user, others = self._user, list(self._others.values())
            self._others.clear()
        for session in [*others, *([] if user is None else [user.session])]:
            session.close()

    @property
    def is_authenticated(self) -> bool:
        """Whether a user is signed in, without a call to the provider.

        Users stay signed in until they sign out in any process, the provider refuses to refresh, or the
        tokens have expired and cannot be refreshed.
        """
        return self._signed_in() is not None

    @property
    def user_info(self) -> dict[str, Any] | None:
        """The provider's profile of the signed-in user, or None.

        It is the profile of the last sign-in, or the claims of the ID token if that profile is not stored.
        There is no call to the provider.
        """
        found = self._signed_in()
        if found is None:
            return None
        user, tokens = found
        return dict(user.user_info or tokens.id_token_claims)

    @property
    def session_manager(self) -> SessionManager | None:
        """The manager of the signed-in user's tokens, or None."""
        user = self._found()
        return None if user is None else user.session

    def __repr__(self) -> str:
        # What this object knows: the store may be down, and then it would take seconds.
        user = self._user
        if user is not None:
            return f"<PyWry: {described(user.user_id, user.user_info, user.session.known_until)}>"
        if self._under_way:
            return "<PyWry: signing in>"
        return "<PyWry: signed out>" if self._signed_out else "<PyWry: no user yet>"

    def get_access_token(self, account: str | None = None) -> str:
        """Return a valid access token, refreshed if necessary.

        Args:
            account: The ID of the user (see ``accounts``); None means the current user. Another user does not
                become the current one.

        Raises:
            TokenExpiredError: The user is not signed in, or the token has expired and cannot be refreshed.
            TokenRefreshError: The provider refused to refresh: sign in again.
            TokenError: The token has expired and the provider cannot be reached: try again later.
            StoreUnavailable: The store is down.
            AuthenticationError: An account is named, and no provider is configured.
        """
        return self._session(account).get_access_token()

    def request_session(self, *origins: str, account: str | None = None) -> RequestSession:
        """Return a ``requests`` session for the provider's APIs.

        It sends a fresh access token to the origins only, and refreshes once when an API responds with 401.
        Make one session for each thread.

        Args:
            origins: For example ``https://api.example.com``.
            account: The ID of the user (see ``accounts``); None means the current user.

        Raises:
            TokenExpiredError: The user is not signed in.
            StoreUnavailable: The store is down.
            AuthenticationError: An origin is not valid, or none was given. Or an account is named, and no
                provider is configured.
        """
        from pywry_auth.flow.request_session import RequestSession

        session = self._session(account)
        return RequestSession(session.http_options, origins, session)

    def _session(self, account: str | None) -> SessionManager:
        if account is None:
            session = self.session_manager
            if session is None:
                raise not_signed_in()
            return session
        user = self._user_of(account)
        if user.tokens() is None:
            raise _unknown_account(account)
        return user.session

    def _user_of(self, account: str) -> StoredUser:
        """Return a user by ID; threads that ask for the same user share the manager of the tokens."""
        users = self._required_users()
        with self._lock:
            if self._user is not None and self._user.user_id == account:
                return self._user
            known = self._others.get(account)
        user = users.get(account, known)
        if known is not None:
            return user
        with self._lock:
            session = self._others.setdefault(account, user.session)
        return replace(user, session=session)

    def _adopt(self, user: StoredUser) -> None:
        """Let the members be about a user from now on."""
        with self._lock:
            previous, self._user, self._signed_out = self._user, user, False
            self._others.pop(user.user_id, None)
        if previous is not None and previous.session is not user.session:
            previous.session.close()

    def _required_users(self) -> StoredUsers:
        users = self._known_users()
        if users is None:
            raise _no_provider("PyWry(provider=..., token_store=...)")
        return users

    def _signed_in(self) -> tuple[StoredUser, OAuthTokenSet] | None:
        user = self._found()
        tokens = None if user is None else user.tokens()
        return None if user is None or tokens is None else (user, tokens)

    def _found(self) -> StoredUser | None:
        """Return the user of this object; without one, the signed-in user that was used last."""
        with self._lock:
            if self._user is not None or self._signed_out:
                return self._user
        users = self._known_users()
        found = users.current() if users else None
        if found is None or found.tokens() is None:
            return None
        with self._lock:
            if self._user is None and not self._signed_out:
                self._user = found
            return self._user  # another thread may have been faster

    def _known_users(self) -> StoredUsers | None:
        """Return the users to look among, or None if no provider is configured."""
        with self._lock:
            if self._users is not None:
                return self._users
        if self._provider is None:
            settings = self._settings_for(None)
            if settings is None or settings.oauth2 is None:
                return None
        users = self._users_of()
        with self._lock:
            self._users = self._users or users
            return self._users

    def _users_of(
        self,
        provider: OAuthProvider | None = None,
        token_store: TokenStore | None = None,
        scopes: Sequence[str] | None = None,
    ) -> StoredUsers:
        provider = self._provider if provider is None else provider
        store = self._token_store if token_store is None else token_store
        settings = self._settings_for(provider)
        oauth2 = settings.oauth2 if settings else None
        at = _provider_of(oauth2) if provider is None else provider
        at = at if scopes is None else at.with_scopes(scopes)
        store = _store_of(settings, at.client_id) if store is None else store
        _require_own_place(store)
        return StoredUsers(at, store, oauth2.refresh_buffer_seconds if oauth2 else 60.0, self)

    def _look_among(self, users: StoredUsers) -> None:
        with self._lock:
            self._users = users
            self._others.clear()

    def _login(self, arguments: LoginArguments, cancellation: Cancellation) -> AuthFlowResult:
        given = arguments.get("provider")
        at = self._provider if given is None else given
        name, mode = at.name if at else "", arguments.get("mode", "auto")

        def sign_in() -> AuthFlowResult:
            return self._sign_in(arguments, name, cancellation)

        timeout = arguments.get("timeout")
        wait = None if timeout is None else max(timeout, 0.0)
        try:
            cancellation.check()
            key = (mode == "silent", arguments.get("account"))
            return self._flight.run(sign_in, key=key, wait=wait, owner=cancellation)
        finally:
            self._end(cancellation)

    def _begun(self) -> Cancellation:
        cancellation = Cancellation()
        self._under_way.append(cancellation)
        return cancellation

    def _end(self, cancellation: Cancellation) -> None:
        cancellation.end()
        with suppress(ValueError):
            self._under_way.remove(cancellation)

    def _prepared(self, given: LoginArguments, cancellation: Cancellation) -> Login:
        provider, scopes, timeout = given.get("provider"), given.get("scopes"), given.get("timeout")
        settings = self._settings_for(self._provider if provider is None else provider)
        oauth2 = settings.oauth2 if settings else None
        request = LoginRequest(
            given.get("force", False),
            given.get("account"),
            given.get("login_hint"),
            given.get("prompt"),
            scopes is not None,
        )
        options = LoginOptions(
            timeout if timeout is not None else oauth2.auth_timeout_seconds if oauth2 else 120.0,
            given.get("mode", "auto"),
            given.get("notify"),
            given.get("show_window"),
            given.get("close_window"),
            {**_flow_options(oauth2), "completion_page": self._completion_page},
            **_own_device_timeout(timeout, oauth2),
        )
        bounds = Bounds(options.seconds)
        cancellation.concern(bounds)
        if cancellation.follows:
            bounds.run(cancellation.wait_for_turn)
        token_store = given.get("token_store")
        store = self._token_store if token_store is None else token_store

        def open_store() -> StoredUsers:
            return self._users_of(provider, token_store, scopes)

        # Only auto calls the store now: it looks for a keyring, which may ask the user.
        waits = store is None and oauth2 is not None and oauth2.token_store_backend == "auto"
        users = bounds.run(open_store) if waits else open_store()
        self._look_among(users)
        return Login(users, request, options, bounds)

    def _sign_in(self, given: LoginArguments, provider: str, cancellation: Cancellation) -> AuthFlowResult:
        with login_failures_emitted(self, "native", provider):
            login = self._prepared(given, cancellation)
            cancellation.concern(login)
            signed_in = login.run()
        self._adopt(signed_in.user)
        result, seconds = signed_in.result, signed_in.seconds
        name = login.provider_name
        emit(self, LoginSucceeded(mode="native", user_id=result.user_id, provider=name, seconds=seconds))
        return result

    def _settings_for(self, provider: OAuthProvider | None) -> PyWrySettings | None:
        """Return the settings for a provider; those of the environment apply only without one."""
        if self._settings is not None or provider is not None:
            return self._settings
        if self._environment is None:
            from pywry_auth.config import get_settings

            settings = get_settings()
            if settings.oauth2 is None:
                return settings  # the program may set the variables later
            self._environment = settings
        return self._environment


def _check_arguments(given: LoginArguments) -> None:
    check_mode(
        given.get("mode", "auto"),
        force=given.get("force", False),
        prompt=given.get("prompt"),
        login_hint=given.get("login_hint"),
    )


def _no_provider(call: str) -> AuthenticationError:
    return AuthenticationError(
        "No provider is configured: set the PYWRY_OAUTH2__* variables, first PYWRY_OAUTH2__CLIENT_ID, or "
        f"call {call}.",
        error=ErrorCode.INVALID_CONFIGURATION,
    )


def _unknown_account(user_id: str) -> TokenExpiredError:
    return TokenExpiredError(
        f"No user with the ID {user_id!r} is signed in: choose one of accounts(), or sign in with "
        "login(account=...).",
        error=ErrorCode.NOT_SIGNED_IN,
    )


def _provider_of(settings: OAuth2Settings | None) -> OAuthProvider:
    from pywry_auth.providers.factory import create_provider_from_settings

    if settings is None:
        raise _no_provider("login(provider=...)")
    return create_provider_from_settings(settings)


def _store_of(settings: PyWrySettings | None, client_id: str) -> TokenStore:
    if settings is None or settings.oauth2 is None:
        return get_token_store()
    return program_token_store(settings, client_id)


def _require_own_place(store: TokenStore) -> None:
    """Refuse a store at the place that sites and programs of other clients use by default.

    The store is not replaced, because the caller reads from it.
    """
    if store.at_shared_default:
        raise AuthenticationError(
            "This token store is at a place that all sites and programs share by default: create it with "
            "client_id=provider.client_id, or name a place of this program.",
            error=ErrorCode.INVALID_CONFIGURATION,
        )


def _own_device_timeout(timeout: float | None, settings: OAuth2Settings | None) -> dict[str, float]:
    """Return the time limit of a login on another device if the program or a setting names one.

    The usual limit for a browser is too short for another device.
    """
    if timeout is None and settings is not None and "auth_timeout_seconds" in settings.model_fields_set:
        timeout = settings.auth_timeout_seconds
    return {} if timeout is None else {"device_timeout": timeout}


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
