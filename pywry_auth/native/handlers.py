"""Authorization handlers that receive the response at the loopback address."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from functools import partial

from pywry_auth.exceptions import AuthenticationError
from pywry_auth.models import AuthorizationRequest
from pywry_auth.native import browser
from pywry_auth.native.bounded_call import Bounds
from pywry_auth.native.callback_server import OAuthCallbackServer
from pywry_auth.native.handover import Handover
from pywry_auth.native.instructions import instructions
from pywry_auth.native.streams import in_notebook, in_terminal
from pywry_auth.native.surroundings import Surroundings, recognize
from pywry_auth.native.window import Window, tell
from pywry_auth.protocol.authorization_response import ResponseParameters

Present = Callable[[AuthorizationRequest], object]
"""Shows the user where to sign in, and returns without waiting."""

Reading = Callable[[AuthorizationRequest, OAuthCallbackServer], AbstractContextManager[object]]
"""Returns a context in which another source than a browser may give the response to the server."""


def browser_only(
    request: AuthorizationRequest, server: OAuthCallbackServer
) -> AbstractContextManager[object]:
    """Read the response from no other source than a browser.

    Args:
        request: The request.
        server: The callback server of the login.
    """
    return nullcontext()


@dataclass(frozen=True)
class LoopbackHandler:
    """Presents a request and receives its response (RFC 8252 §7.3).

    Args:
        server: The started server of the request's redirect URI.
        present: Shows the user where to sign in.
        bounds: The time limit of the login.
        reading: Another source of the response; the first valid response wins.
        until_end: Closes that source at the end of the login, because a terminal would show what the user
            pastes in the meantime, and pass it on to the shell.
    """

    server: OAuthCallbackServer
    present: Present
    bounds: Bounds
    reading: Reading
    until_end: ExitStack

    def __call__(self, request: AuthorizationRequest) -> ResponseParameters:
        """Return the response; see ``OAuthCallbackServer.wait`` for the errors."""
        self.server.expect(
            request.state, [secret for secret in (request.nonce, request.code_verifier) if secret]
        )
        source = self.reading(request, self.server)
        self.present(request)
        self.until_end.enter_context(source)
        return self.server.wait(self.bounds.left(), self.bounds.seconds)


def in_browser(
    notify: browser.Notify,
    handover: Handover,
    give_up: Callable[[AuthenticationError], object],
    *,
    open_browser: bool = True,
    pasting: bool = False,
) -> Present:
    """Return a function that opens requests in the browser.

    Without a browser, the function only notifies the user. If neither works, the login ends at once.

    Args:
        notify: Receives the URL and instructions for the user.
        handover: Gives the browser an address that other users cannot use; the caller closes it.
        give_up: Ends the wait with an error, from any thread.
        open_browser: Whether a browser may be opened.
        pasting: Whether the user pastes the address of the response; then no browser opens here.
    """

    def present(request: AuthorizationRequest) -> None:
        here = _surroundings()
        opening = open_browser and not pasting and here.browser
        address = handover.address_for(request.url) if opening else None
        message = instructions(
            request.url, request.redirect_uri, here, opening=address is not None, pasting=pasting
        )
        failure = tell(notify, message)
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
        tell(notify, instructions(request.url, request.redirect_uri, _surroundings(), opening=True))
        window.open(request.url)

    return present


def _surroundings() -> Surroundings:
    return recognize(os.environ, sys.platform, terminal=in_terminal(), notebook=in_notebook())


def _cannot_ask(failure: Exception) -> AuthenticationError:
    return AuthenticationError(
        "The user cannot be asked to sign in: no browser can be opened, and the address cannot be shown "
        f"({type(failure).__name__}). Run the program in a terminal or with a display, set BROWSER, or pass "
        "notify or show_window."
    )
