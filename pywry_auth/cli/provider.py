"""``pywry-auth provider``: a local identity provider for development."""

from __future__ import annotations

import argparse
import logging

from pywry_auth.cli.output import show
from pywry_auth.testing.identity_provider import program

_PORT = 9000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments.

    Args:
        parser: The command's parser.
    """
    program.add_arguments(parser, _PORT)


def run(options: argparse.Namespace) -> None:
    """Serve a local identity provider until Ctrl-C.

    Args:
        options: The command line.

    Raises:
        AuthenticationError: The port is taken.
    """
    if options.verbose:
        logging.basicConfig(level=logging.INFO, format="%(message)s")
    program.serve(options, show)
