"""One login of a program: without anybody where the store has what is needed, else with the browser."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pywry_auth.exceptions import AuthFlowCancelled, ErrorCode
from pywry_auth.native.stored_users import SignedIn, StoredUsers

if TYPE_CHECKING:
    from pywry_auth.native.browser import Notify
    from pywry_auth.native.flow_manager import AuthFlowManager
    from pywry_auth.native.window import CloseWindow, ShowWindow
    from pywry_auth.providers.base import OAuthProvider
    from pywry_auth.state.tokens import TokenStore


@dataclass(frozen=True)
class LoginRequest:
    """What a program wants of a login (see ``PyWry.login``).

    Args:
        force: Have the person sign in, whatever the store has.
        account: User ID.
        login_hint: Who is meant, in the provider's words.
        prompt: What the provider shall ask.
        scopes: Whether the provider's scopes were chosen for this login, so that the tokens must have them.
    """

    force: bool = False
    account: str | None = None
    login_hint: str | None = None
    prompt: str | None = None
    scopes: bool = False


@dataclass(frozen=True)
class LoginOptions:
    """How a person is asked to sign in.

    Args:
        timeout: Seconds that they have.
        notify: Hears where and how to sign in; None writes it to stderr.
        show_window: Opens the application's own window; None takes the browser.
        close_window: Closes that.
        options: Further arguments of ``AuthFlowManager``.
    """

    timeout: float
    notify: Notify | None = None
    show_window: ShowWindow | None = None
    close_window: CloseWindow | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


class Login:
    """One login; any thread may cancel it.

    Args:
        provider: Where to sign in.
        store: Where the tokens are kept.
        buffer: Seconds before their end at which tokens are refreshed.
        wish: What is wanted.
        ways: How the person is asked.
    """

    def __init__(
        self,
        provider: OAuthProvider,
        store: TokenStore,
        buffer: float,
        wish: LoginRequest,
        ways: LoginOptions,
    ) -> None:
        self._provider = provider
        self._store = store
        self._known = StoredUsers(provider, store, buffer)
        self._wish = wish
        self._ways = ways
        self._silent = not wish.force and not wish.prompt
        self._cancelled = threading.Event()
        self._flow: AuthFlowManager | None = None

    def run(self) -> SignedIn:
        """Return who is signed in; see ``PyWry.login`` for what it raises."""
        found = self._resume()
        if found is not None:
            return found
        self._store.probe()  # nobody signs in only to learn that the tokens cannot be kept
        with self._turn() as waited:
            return (self._resume() if waited else None) or self._ask(self._ways.timeout - waited)

    def cancel(self) -> None:
        """End it."""
        self._cancelled.set()
        if self._flow is not None:
            self._flow.cancel()

    def _tell(self, message: str) -> None:
        # Who cancels before this, while tokens are refreshed say, finds no flow; after it, one that listens.
        if self._cancelled.is_set():
            raise AuthFlowCancelled("The login was cancelled.", error=ErrorCode.CANCELLED)
        from pywry_auth.native.browser import print_to_stderr

        (self._ways.notify or print_to_stderr)(message)

    def _resume(self) -> SignedIn | None:
        if not self._silent:
            return None
        scopes = self._provider.scopes if self._wish.scopes else ()
        return self._known.resume(self._wish.account, self._wish.login_hint, scopes)

    def _turn(self) -> AbstractContextManager[float]:
        """Wait for other processes that want the same: one window is enough."""
        if not self._silent or not self._store.backend.shared:
            return nullcontext(0.0)
        from pywry_auth.native.login_turn import login_turn

        name = f"login {self._provider.client_id}"
        return login_turn(name, self._ways.timeout, self._tell, self._cancelled)

    def _ask(self, seconds: float) -> SignedIn:
        from pywry_auth.native.flow_manager import AuthFlowManager

        wishes = {"login_hint": self._wish.login_hint, "prompt": self._wish.prompt}
        self._flow = AuthFlowManager(
            self._provider,
            self._store,
            auth_timeout=seconds,
            notify=self._tell,
            extra_params={name: value for name, value in wishes.items() if value is not None},
            **self._ways.options,
        )
        result = self._flow.run_native(self._ways.show_window, self._ways.close_window)
        return self._known.begin(result)
