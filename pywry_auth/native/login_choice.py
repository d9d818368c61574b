"""Chooses how one login asks its user."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from pywry_auth.native.streams import can_type, in_notebook, in_terminal
from pywry_auth.native.surroundings import Choice, Way, choose, recognize

if TYPE_CHECKING:
    from pywry_auth.native.login import LoginOptions, LoginRequest

# With these codes, a provider refuses device codes for this client, or for its scopes.
_NO_DEVICE = frozenset(
    {
        *("unauthorized_client", "invalid_client", "unsupported_grant_type", "unsupported_response_type"),
        *("device_flow_disabled", "invalid_scope", "invalid_request"),
    }
)


def way_to_ask(
    options: LoginOptions, request: LoginRequest, offers_device: Callable[[], bool], *, refusal: str = ""
) -> Choice:
    """Return the way to ask the user.

    Args:
        options: How the program wants to ask.
        request: What the program requests.
        offers_device: Returns whether the provider has the endpoint for device codes; may call it.
        refusal: The code with which the provider has refused a device code; empty if it has not.

    Raises:
        AuthenticationError: The endpoints cannot be discovered.
    """
    if options.mode in ("device", "paste"):
        return Choice(Way(options.mode))
    if options.mode == "browser" or options.show_window is not None or options.timeout <= 0:
        return Choice(Way.BROWSER)

    notebook = in_notebook()
    here = recognize(os.environ, sys.platform, terminal=in_terminal(), notebook=notebook)
    # In another thread than the main one, it would take characters that the program itself reads.
    types = can_type() and threading.current_thread() is threading.main_thread()
    choice = choose(
        here,
        open_browser=options.opens_browser,
        can_paste=types or notebook,
        # A device code carries neither prompt nor login_hint.
        offers_device=lambda: not refusal and not request.parameters and offers_device(),
    )
    if not refusal:
        return choice
    return replace(choice, reason=f"The provider refused a device code ({refusal}). {choice.reason}".strip())


def refusal_of_device(error_code: str | None) -> str:
    """Return the code if it means that this program may not use device codes, or an empty text.

    Args:
        error_code: The code of the error that ended the attempt.
    """
    return error_code if error_code in _NO_DEVICE and error_code else ""
