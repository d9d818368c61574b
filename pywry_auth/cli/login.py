"""``pywry-auth login``: sign in with the settings of the environment."""

from __future__ import annotations

import argparse

from pywry_auth.app import PyWry
from pywry_auth.cli.output import describe, show


def add_arguments(_parser: argparse.ArgumentParser) -> None:
    """Add nothing: everything comes from the settings."""


def run(_options: argparse.Namespace) -> None:
    """Sign in, and show the user.

    Raises:
        AuthenticationError: The login failed, or the settings are not valid.
    """
    show(describe(PyWry().login()))
