"""``pywry-auth provider``: a local identity provider for development."""

from __future__ import annotations

import argparse
import logging
import sys
from contextlib import suppress

from pywry_auth.cli.output import show
from pywry_auth.native.streams import is_terminal
from pywry_auth.native.terminal import write_line
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
    if not options.list_quirks and is_terminal(sys.stderr):
        with suppress(OSError):
            write_line(sys.stderr, "")  # the prompt of the shell would follow on the line of ^C
