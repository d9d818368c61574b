"""One login: silent with usable tokens, otherwise in the browser."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthFlowCancelled, naming_provider

if TYPE_CHECKING:
    from pywry_auth.native.browser import Notify
    from pywry_auth.native.flow_manager import AuthFlowManager
    from pywry_auth.native.stored_users import SignedIn, StoredUsers
    from pywry_auth.native.window import CloseWindow, ShowWindow


@dataclass(frozen=True)
class LoginRequest:
    """The user and grant that a program requests (see ``PyWry.login``).

    Args:
        force: Whether the user must sign in at the provider even with usable tokens in the store.
        account: User ID; None for the user that was used last.
        login_hint: The user's name at the provider.
        prompt: The provider's prompt, for example ``select_account``.
        scopes: Whether the program chose the scopes for this login, so that stored tokens must have them.
    """

    force: bool = False
    account: str | None = None
    login_hint: str | None = None
    prompt: str | None = None
    scopes: bool = False

    @property
    def silent(self) -> bool:
        """Whether stored tokens may answer the request."""
        return not self.force and not self.prompt

    @property
    def parameters(self) -> dict[str, str]:
        """The parameters of the authorization request."""
        given = {"login_hint": self.login_hint, "prompt": self.prompt}
        return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True)
class LoginOptions:
    """How the user is asked to sign in.

    Args:
        timeout: Seconds that the user has.
        notify: Receives the address and instructions; None writes them to stderr.
        show_window: Opens the application's own window; None uses the browser.
        close_window: Closes that window.
        flow: Further arguments of ``AuthFlowManager``.
    """

    timeout: float
    notify: Notify | None = None
    show_window: ShowWindow | None = None
    close_window: CloseWindow | None = None
    flow: Mapping[str, Any] = field(default_factory=dict)


class Login:
    """One login; any thread may cancel it.

    Args:
        users: The program's users.
        request: The user and the grant that are requested.
        options: How the user is asked to sign in.
    """

    def __init__(self, users: StoredUsers, request: LoginRequest, options: LoginOptions) -> None:
        self._users = users
        self._request = request
        self._options = options
        self._cancelled = threading.Event()
        self._flow: AuthFlowManager | None = None

    @property
    def provider_name(self) -> str:
        """Name of the provider."""
        return self._users.provider.name

    def run(self) -> SignedIn:
        """Return the signed-in user; see ``PyWry.login`` for the errors."""
        with naming_provider(self.provider_name):
            found = self._resume()
            if found is not None:
                return found
            self._users.store.probe()  # otherwise a sign-in could end with tokens that cannot be stored
            with self._turn() as waited:
                return (self._resume() if waited else None) or self._ask(self._options.timeout - waited)

    def cancel(self) -> None:
        """Cancel the login."""
        self._cancelled.set()
        if self._flow is not None:
            self._flow.cancel()

    def _resume(self) -> SignedIn | None:
        if not self._request.silent:
            return None
        scopes = self._users.provider.scopes if self._request.scopes else ()
        return self._users.resume(self._request.account, self._request.login_hint, scopes)

    def _turn(self) -> AbstractContextManager[float]:
        """Wait while another process of the program signs in.

        One window is enough for all processes.
        """
        if not self._request.silent or not self._users.store.backend.shared:
            return nullcontext(0.0)
        from pywry_auth.native.login_turn import login_turn

        name = f"login {self._users.provider.client_id}"
        return login_turn(name, self._options.timeout, self._notify, self._cancelled)

    def _ask(self, seconds: float) -> SignedIn:
        from pywry_auth.native.flow_manager import AuthFlowManager

        self._flow = AuthFlowManager(
            self._users.provider,
            self._users.store,
            auth_timeout=seconds,
            notify=self._notify,
            extra_params=self._request.parameters,
            **self._options.flow,
        )
        result = self._flow.sign_in(self._options.show_window, self._options.close_window)
        return self._users.add(result, self._flow.seconds)

    def _notify(self, message: str) -> None:
        # A cancel() that arrives before this point (during a token refresh, say) has no flow to cancel, so it
        # is checked here; later calls reach the flow itself.
        if self._cancelled.is_set():
            raise AuthFlowCancelled("The login was cancelled.", error=ErrorCode.CANCELLED)
        from pywry_auth.native.browser import print_to_stderr

        (self._options.notify or print_to_stderr)(message)
