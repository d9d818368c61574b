"""``pywry-auth login``: sign in with the settings of the environment."""

from __future__ import annotations

import argparse

from pywry_auth.app import PyWry
from pywry_auth.cli.output import describe, show
from pywry_auth.exceptions import LoginRequired


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command; the rest comes from the settings."""
    parser.add_argument("--force", action="store_true", help="sign in again, even with usable stored tokens")


def run(options: argparse.Namespace) -> None:
    """Sign in, and show the user.

    Args:
        options: The command line.

    Raises:
        LoginRequired: The user must sign in, and this process cannot ask.
        AuthenticationError: The login failed, or the settings are not valid.
    """
    try:
        result = PyWry().login(force=options.force)
    except LoginRequired as error:
        # Its own advice is for programs.
        text = (
            f"{error.reason} Run pywry-auth login in a terminal, or set BROWSER to a browser of this machine."
        )
        raise LoginRequired(text, error=error.error, provider=error.provider) from error
    show(describe(result))
