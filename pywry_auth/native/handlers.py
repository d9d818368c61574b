"""Authorization handlers that receive the response at the loopback address."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from pywry_auth.exceptions import AuthenticationError
from pywry_auth.models import AuthorizationRequest
from pywry_auth.native import browser
from pywry_auth.native.callback_server import OAuthCallbackServer
from pywry_auth.native.handover import Handover
from pywry_auth.native.window import Window, tell
from pywry_auth.protocol.authorization_response import ResponseParameters

Present = Callable[[AuthorizationRequest], object]
"""Shows the user where to sign in, and returns without waiting."""


@dataclass(frozen=True)
class LoopbackHandler:
    """Presents a request and receives its response (RFC 8252 §7.3).

    Args:
        server: The started server of the request's redirect URI.
        present: Shows the user where to sign in.
        timeout: Seconds to wait for the response.
    """

    server: OAuthCallbackServer
    present: Present
    timeout: float

    def __call__(self, request: AuthorizationRequest) -> ResponseParameters:
        """Return the response; see ``OAuthCallbackServer.wait`` for the errors."""
        self.server.expect(
            request.state, [secret for secret in (request.nonce, request.code_verifier) if secret]
        )
        self.present(request)
        return self.server.wait(self.timeout)


def in_browser(
    notify: browser.Notify,
    handover: Handover,
    give_up: Callable[[AuthenticationError], object],
    *,
    open_browser: bool = True,
) -> Present:
    """Return a function that opens requests in the browser.

    Without a browser, the function only notifies the user. If neither works, the login ends at once.

    Args:
        notify: Receives the URL and instructions for the user.
        handover: Gives the browser an address that other users cannot use; the caller closes it.
        give_up: Ends the wait with an error, from any thread.
        open_browser: Whether a browser may be opened.
    """

    def present(request: AuthorizationRequest) -> None:
        opening = open_browser and browser.has_browser(os.environ, sys.platform)
        address = handover.address_for(request.url) if opening else None
        failure = _notify(notify, request, opening=address is not None)
        if address is None and failure is not None:
            raise _cannot_ask(failure) from failure
        if address is not None:
            give_up_too = None if failure is None else partial(give_up, _cannot_ask(failure))
            browser.open_browser(address, give_up_too)

    return present


def in_window(notify: browser.Notify, window: Window) -> Present:
    """Return a function that opens requests in the window.

    Args:
        notify: Receives the URL and instructions for the user.
        window: The window; the caller closes it.
    """

    def present(request: AuthorizationRequest) -> None:
        _notify(notify, request, opening=True)
        window.open(request.url)

    return present


def _notify(notify: browser.Notify, request: AuthorizationRequest, opening: bool) -> Exception | None:
    remote = browser.is_remote(os.environ)
    message = browser.instructions(request.url, request.redirect_uri, opening=opening, remote=remote)
    return tell(notify, message)


def _cannot_ask(failure: Exception) -> AuthenticationError:
    return AuthenticationError(
        "The user cannot be asked to sign in: no browser can be opened, and the address cannot be shown "
        f"({type(failure).__name__}). Run the program in a terminal or with a display, set BROWSER, or pass "
        "notify or show_window."
    )
