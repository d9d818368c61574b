"""``pywry-auth login``: sign in with the settings of the environment."""

from __future__ import annotations

import argparse

from pywry_auth.app import PyWry
from pywry_auth.cli.output import describe, show


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
    show(describe(PyWry().login(force=options.force)))
