"""One login: silent with usable tokens, otherwise in the way that suits the surroundings."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import (
    AuthenticationError,
    AuthFlowCancelled,
    AuthFlowTimeout,
    LoginRequired,
    naming_provider,
)
from pywry_auth.native.bounded_call import Bounds
from pywry_auth.native.stored_users import login_required
from pywry_auth.native.streams import in_terminal, is_interactive

if TYPE_CHECKING:
    from pywry_auth.models import AuthFlowResult
    from pywry_auth.native.browser import Notify
    from pywry_auth.native.flow_manager import AuthFlowManager
    from pywry_auth.native.stored_users import SignedIn, StoredUsers
    from pywry_auth.native.surroundings import Choice
    from pywry_auth.native.window import CloseWindow, ShowWindow


Mode = Literal["auto", "browser", "device", "paste", "silent"]
"""Whether and how a login may ask the user (see ``PyWry.login``)."""

_MODES = get_args(Mode)
_DEVICE_SECONDS = 900.0  # as LONGEST_SECONDS of the grant, which is imported late


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
        timeout: Seconds that the login has.
        device_timeout: Seconds that it has if the user signs in on another device; the code's own lifetime
            limits them.
        mode: Whether the user may be asked.
        notify: Receives the address and instructions; None writes them to stderr.
        show_window: Opens the application's own window; None uses the browser.
        close_window: Closes that window.
        flow: Further arguments of ``AuthFlowManager``.
    """

    timeout: float
    mode: Mode = "auto"
    notify: Notify | None = None
    show_window: ShowWindow | None = None
    close_window: CloseWindow | None = None
    flow: Mapping[str, Any] = field(default_factory=dict)
    device_timeout: float = _DEVICE_SECONDS

    @property
    def seconds(self) -> float:
        """Seconds that the user has in this mode."""
        return self.device_timeout if self.mode == "device" else self.timeout

    def asks(self) -> bool:
        """Return whether the user is asked if stored tokens are not enough."""
        # A login without any time waits for no user, and its callers expect AuthFlowTimeout.
        if self.mode != "auto":
            return self.mode != "silent"
        return self.timeout <= 0 or self.reaches_user

    @property
    def reaches_user(self) -> bool:
        """Whether a user would notice that the program asks for a sign-in."""
        if self.show_window is not None or self.notify is not None or is_interactive():
            return True
        from pywry_auth.native.surroundings import has_browser

        return self.opens_browser and has_browser(os.environ, sys.platform, terminal=in_terminal())

    @property
    def opens_browser(self) -> bool:
        """Whether the settings allow to open a browser."""
        return bool(self.flow.get("open_browser", True))


class Login:
    """One login; any thread may cancel it.

    Args:
        users: The program's users.
        request: The user and the grant that are requested.
        options: How the user is asked to sign in.
        bounds: The bounds of the login.
    """

    def __init__(
        self, users: StoredUsers, request: LoginRequest, options: LoginOptions, bounds: Bounds
    ) -> None:
        self._users = users
        self._request = request
        self._options = options
        self._bounds = bounds
        self._flow: AuthFlowManager | None = None

    @property
    def provider_name(self) -> str:
        """Name of the provider."""
        return self._users.provider.name

    def run(self) -> SignedIn:
        """Return the signed-in user; see ``PyWry.login`` for the errors."""
        with naming_provider(self.provider_name):
            try:
                return self._resume()
            except LoginRequired as required:
                self._raise_unless_asking(required)
            # Otherwise a sign-in could end with tokens that cannot be stored.
            self._bounds.run(self._users.store.probe)
            with self._turn() as waited:
                if waited:
                    with suppress(LoginRequired):
                        return self._resume()
                return self._ask()

    def cancel(self) -> None:
        """Cancel the login, without waiting for its calls."""
        self._bounds.cancel()
        if self._flow is not None:
            self._flow.cancel()

    def _raise_unless_asking(self, required: LoginRequired) -> None:
        options = self._options
        if options.asks():
            return
        if options.mode == "silent":
            remedy = 'This login does not ask, because it has mode="silent". Ask with login() in a terminal.'
        else:
            ways = "terminal, display, BROWSER, show_window or notify"
            if not options.opens_browser:
                ways = "terminal, show_window or notify, and OPEN_BROWSER is false"
            remedy = (
                f"This process does not ask, because it has no {ways}. Run it in a terminal that shows its "
                'standard error, or pass mode="browser" to ask in any case.'
            )
        raise login_required(required.reason, remedy) from required.__cause__

    def _resume(self) -> SignedIn:
        self._bounds.check()
        if not self._request.silent:
            raise login_required("The program requested a new sign-in with force or prompt.")
        scopes = self._users.provider.scopes if self._request.scopes else ()
        request, bounds, users = self._request, self._bounds, self._users

        def resume() -> SignedIn:
            return users.resume(
                request.account, request.login_hint, scopes, asks=self._options.asks, bounds=bounds
            )

        # A thread for each read would cost more than a read from memory or a file.
        signed_in = resume() if users.store.backend.local else bounds.run(resume, _close)
        if bounds.cancelled.is_set():
            _close(signed_in)
            bounds.check()
        return signed_in

    def _turn(self) -> AbstractContextManager[float]:
        """Wait while another process of the program signs in.

        One window is enough for all processes.
        """
        if not self._request.silent or not self._users.store.backend.shared:
            return nullcontext(0.0)
        from pywry_auth.native.login_turn import login_turn

        name = f"login {self._users.provider.client_id}"
        bounds = self._bounds
        return login_turn(name, bounds.left(), self._notify, bounds.cancelled, allowed=bounds.seconds)

    def _ask(self) -> SignedIn:
        from pywry_auth.native.login_choice import refusal_of_device, way_to_ask
        from pywry_auth.native.surroundings import Way

        choice = way_to_ask(self._options, self._request, self._offers_device)
        if choice.way is not Way.DEVICE:
            return self._ask_here(choice)
        try:
            return self._ask_on_device(choice.reason)
        except AuthenticationError as error:
            refusal = refusal_of_device(error.error) if self._options.mode == "auto" else ""
            if not refusal:
                raise
        self._bounds.extend(self._options.timeout)
        return self._ask_here(way_to_ask(self._options, self._request, self._offers_device, refusal=refusal))

    def _offers_device(self) -> bool:
        metadata = self._bounds.run(lambda: self._users.provider.metadata)
        return bool(metadata.device_authorization_endpoint)

    def _ask_on_device(self, reason: str) -> SignedIn:
        from pywry_auth.native.device_flow import DeviceFlow
        from pywry_auth.native.window import tell

        self._bounds.extend(self._options.device_timeout)
        notify = None if self._options.notify is None else self._explained(reason)
        if notify is None and reason:  # the flow writes to the terminal itself
            tell(self._notify, f"{reason}\n")
        flow = DeviceFlow(self._users.provider, self._users, notify=notify, bounds=self._bounds)
        return self._added(flow.sign_in(), flow.seconds)

    def _ask_here(self, choice: Choice) -> SignedIn:
        from pywry_auth.native.flow_manager import AuthFlowManager
        from pywry_auth.native.surroundings import Way

        users, request = self._users, self._request
        hinted = self._bounds.run(lambda: users.hinted(request.account, request.parameters))
        self._flow = flow = AuthFlowManager(
            users.provider,
            users,
            bounds=self._bounds,
            notify=self._explained(choice.reason),
            extra_params=hinted,
            paste=choice.way is Way.PASTE,
            **self._options.flow,
        )
        result = flow.sign_in(self._options.show_window, self._options.close_window)
        return self._added(result, flow.seconds)

    def _explained(self, reason: str) -> Notify:
        """Return a function that notifies the user, and says first why this way was chosen."""
        return lambda message: self._notify(f"{reason}\n\n{message}" if reason else message)

    def _added(self, result: AuthFlowResult, seconds: float | None) -> SignedIn:
        """Return the signed-in user, and try earlier revocations again."""
        signed_in = self._users.signed_in_now(result, seconds)
        # The login has succeeded, so its end ends only the wait for earlier revocations.
        with suppress(AuthFlowCancelled, AuthFlowTimeout):
            self._bounds.run(signed_in.user.session.retry_revocations)
        return signed_in

    def _notify(self, message: str) -> None:
        # A cancel() that arrives before this point (during a token refresh, say) has no flow to cancel, so it
        # is checked here; later calls reach the flow itself.
        self._bounds.check()
        from pywry_auth.native.browser import print_to_stderr

        (self._options.notify or print_to_stderr)(message)


def _close(late: SignedIn) -> None:
    late.user.session.close()


def check_mode(mode: str, *, force: bool, prompt: str | None, login_hint: str | None = None) -> None:
    """Refuse arguments of ``PyWry.login`` that contradict each other.

    Args:
        mode: The mode.
        force: Whether the user must sign in at the provider.
        prompt: The provider's prompt.
        login_hint: The user's name at the provider.

    Raises:
        AuthenticationError: There is no such mode, or the mode does not fit the other arguments.
    """
    fault = ""
    if mode not in _MODES:
        fault = f"mode={mode!r} does not exist: use {', '.join(_MODES)}."
    elif prompt is not None and "none" in prompt.split():
        fault = 'prompt="none" would wait for a user who is never asked: use mode="silent" instead.'
    elif mode == "silent" and (force or prompt):
        fault = 'mode="silent" never asks the user: leave out force and prompt, or use mode="browser".'
    elif mode == "device" and (prompt or login_hint is not None):
        fault = (
            'mode="device" cannot pass prompt or login_hint to the provider (RFC 8628): leave them out, or '
            'use mode="browser". force=True asks in any case.'
        )
    if fault:
        raise AuthenticationError(fault, error=ErrorCode.INVALID_CONFIGURATION)
