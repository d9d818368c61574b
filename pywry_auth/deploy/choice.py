"""The page on which visitors choose where to sign in."""

from __future__ import annotations

from collections.abc import Iterable

from flask import Response

from pywry_auth.deploy.answers import page
from pywry_auth.deploy.current import login_path
from pywry_auth.deploy.providers import readable
from pywry_auth.pages.html import button_list, paragraph


def choice_page(names: Iterable[str], next_path: str) -> Response:
    """Return a page with a button for each provider.

    Args:
        names: The providers' names, in the order of the buttons.
        next_path: Where to go once signed in.
    """
    buttons = button_list({login_path(next_path, name): readable(name) for name in names})
    return page("Sign in", paragraph("Choose where you have your account.") + buttons)
