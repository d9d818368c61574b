"""Receives the address that the user copies from the browser and pastes."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol
from urllib.parse import parse_qsl, urlsplit

from pywry_auth.native.stray_response import StrayResponse

LONGEST = 16 * 1024
"""Characters of a pasted text."""

_MOST_WRONG = 20
_MOST_PARAMETERS = 64
_QUOTES = ("''", '""', "``", "<>", "()", "[]", "“”", "\u2018\u2019")
_AGAIN = "Copy the whole address from the address bar of the last page, paste it, and press Enter."
_ONLY_LISTENING = "The program still waits for the browser. Ctrl-C cancels the sign-in."
_logger = logging.getLogger("pywry_auth.native")


class ReceivesResponse(Protocol):
    """The part of the callback server that a pasted address needs."""

    @property
    def redirect_uri(self) -> str:
        """The redirect URI of the login."""

    def receive(self, query: str) -> StrayResponse | None:
        """Accept a response, or return the reason against it."""


class PastedAddress:
    """Checks the texts that the user pastes, and gives the right one to the callback server.

    It passes the same checks as a request of the browser. No pasted text is shown, logged or kept.

    Args:
        server: The callback server of the login.
        url: URL of the authorization request.
        show: Shows the user a line.
    """

    def __init__(self, server: ReceivesResponse, url: str, show: Callable[[str], object]) -> None:
        self._server = server
        self._url = url
        self._show = show
        self._wrong = 0

    def __call__(self, text: str) -> bool:
        """Use a text, and return whether another text may follow.

        Args:
            text: The text as pasted; it may be quoted, and broken into lines.
        """
        address = _unwrapped(text)
        if not address:
            return True
        fault = self._fault(address)
        if not fault:
            self._show("The address was read.")
            return False
        self._wrong += 1
        _logger.info("a pasted text was not the response of this login")
        if self._wrong >= _MOST_WRONG:
            self._show(f"{fault} No further text is read. {_ONLY_LISTENING}")
            return False
        self._show(f"{fault} {_AGAIN}")
        return True

    def waits(self) -> None:
        """Tell the user that another login reads the terminal."""
        self._show(
            "Another sign-in of this program reads the terminal, so paste the address of this one when that "
            f"has ended. {_ONLY_LISTENING}"
        )

    def ended(self) -> None:
        """Tell the user that no further text is read."""
        self._show(f"No text is read any more. {_ONLY_LISTENING}")

    def _fault(self, address: str) -> str:
        """Give the address to the server, and return a sentence if it was not accepted."""
        if len(address) > LONGEST:
            return f"The text is too long: an address has at most {LONGEST} characters."
        # A browser never sends the part behind #.
        base, _, query = address.partition("#")[0].partition("?")
        expected = self._server.redirect_uri
        if base not in (expected, expected.replace(":80/", "/", 1)):
            return self._other_address(address, base)
        try:
            names = {name for name, _ in parse_qsl(query, True, max_num_fields=_MOST_PARAMETERS)}
        except ValueError:
            return "The address has too many parameters."
        if names and not names & {"code", "error"}:
            return "The address is not complete: its code is missing."
        stray = self._server.receive(query)
        if stray is None:
            return ""
        if "state" not in names and not stray.error:
            return f"The address is not complete: it comes {stray.condition}. {stray.advice}".strip()
        return " ".join(filter(None, [f"The address comes {stray.condition}.", stray.advice]))

    def _other_address(self, address: str, base: str) -> str:
        """Return a sentence about an address that is not the redirect URI."""
        expected = self._server.redirect_uri
        begins = f"The right address begins with {expected}?"
        if address == self._url or _origin(base) == _origin(self._url):
            return (
                "This is the address of the provider. Sign in there first; then the browser goes on to "
                f"another address. {begins}"
            )
        if base and expected.startswith(base):
            return f"The address is not complete. {begins}"
        if "://" not in address:
            return f"This is only a part of an address, or another text. {begins}"
        if _origin(base) == _origin(expected):
            return f"The address has another path. {begins}"
        if _host(base) == _host(expected):
            return f"The address belongs to another login. {begins}"
        return f"The address belongs to another site. {begins}"


def _unwrapped(text: str) -> str:
    """Return a text without its line breaks, blanks and quotes; an address has none."""
    address = "".join(text.split())
    while len(address) > 1 and address[0] + address[-1] in _QUOTES:
        address = address[1:-1]
    return address


def _origin(address: str) -> tuple[str, str]:
    try:
        parts = urlsplit(address)
    except ValueError:
        return "", ""
    return parts.scheme, parts.netloc


def _host(address: str) -> str:
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""
