"""Lets the user paste the response into the terminal or the notebook."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError
from pywry_auth.models import AuthorizationRequest
from pywry_auth.native.browser import print_to_stderr
from pywry_auth.native.callback_server import OAuthCallbackServer
from pywry_auth.native.pasted import LONGEST, PastedAddress
from pywry_auth.native.streams import can_type, in_notebook
from pywry_auth.native.terminal_input import TerminalInput
from pywry_auth.native.window import tell

_PROMPT = "Address (leave it empty if the browser says that the sign-in is complete): "


def from_user(request: AuthorizationRequest, server: OAuthCallbackServer) -> AbstractContextManager[object]:
    """Return a context in which the user may paste the response.

    In a terminal, the callback server receives responses at the same time. The kernel of a notebook waits
    for the user before the context begins; the server's response counts when the user leaves the text empty.

    Args:
        request: The request that the user signs in with.
        server: The callback server of the login.

    Raises:
        AuthenticationError: The process has neither a terminal nor a notebook.
    """
    pasted = PastedAddress(server, request.url, partial(tell, print_to_stderr))
    if in_notebook():
        return _in_notebook(pasted)
    if not can_type():
        raise AuthenticationError(
            'The mode "paste" needs a terminal as standard input, or a notebook, and this process has '
            'neither. Run the program in a terminal, or use the mode "device" or "browser".',
            error=ErrorCode.INVALID_CONFIGURATION,
        )
    return TerminalInput(
        sys.stdin.fileno(),
        pasted,
        on_end=pasted.ended,
        on_interrupt=server.cancel,
        on_wait=pasted.waits,
        limit=LONGEST,
    )


@contextmanager
def _in_notebook(pasted: PastedAddress) -> Iterator[None]:
    try:
        while _reads_on(pasted):
            pass
    except (OSError, EOFError, RuntimeError, LookupError):  # the front end has no input, as with nbconvert
        pasted.ended()
    yield


def _reads_on(pasted: PastedAddress) -> bool:
    # The kernel replaces getpass, which keeps the text out of the cell.
    text = getpass.getpass(_PROMPT)
    return bool(text.strip()) and pasted(text)
