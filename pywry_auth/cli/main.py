"""The program ``pywry-auth``: runs a command, and reports its errors."""

from __future__ import annotations

import argparse
import os
import sys
import threading
from collections.abc import Callable, Container, Sequence
from contextlib import suppress
from importlib import import_module

from pywry_auth.cli.output import plain_warnings, report
from pywry_auth.cli.parser import CommandParser
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError, LoginRequired
from pywry_auth.version import __version__

COMMANDS = {
    "login": "sign in with the provider of the PYWRY_OAUTH2__* variables",
    "status": "show the signed-in user, and where the tokens are kept",
    "token": "print a valid access token, for scripts and other programs",
    "accounts": "list the signed-in users, or choose one of them",
    "logout": "sign a user out, and revoke the tokens",
    "sessions": "list or end the sessions of a site's users, for its operator",
    "provider": "run a local identity provider for development, and print settings for it",
    "demo": "try a web application or program on this machine, with a local identity provider",
    "doctor": "check the settings, the provider and the stores, and name the remedy of each problem",
    "explain-roles": "show a user's roles, and the rules that give or refuse them",
    "completion": "print the script with which a shell completes these commands",
}
"""Each command with its summary.

A command is the file of its name in this folder, with ``add_arguments(parser)`` and ``run(options)``. Only
the file of the given command is loaded.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command, and return the exit code.

    The code is 0, or 1 if the command failed, or 4 if the user must sign in and this process cannot ask, or
    130 after Ctrl-C. A wrong command line ends the process with 2.

    Args:
        arguments: The command line without the program's name; None takes the process's own.
    """
    options = argparse.Namespace()
    try:
        with plain_warnings():
            options = _read(sys.argv[1:] if arguments is None else arguments)
            run: Callable[[argparse.Namespace], None] = options.run
            run(options)
    except AuthenticationError as error:
        report(error.error, str(error), options)
        return 4 if isinstance(error, LoginRequired) else 1
    except KeyboardInterrupt:
        return _interrupted(options)
    return 0


def _read(given: Sequence[str]) -> argparse.Namespace:
    """Return the command line; one without a command gets the list of commands, and ends with 2."""
    parser = parser_with(given)
    if not given:
        parser.print_help(sys.stderr)
        raise SystemExit(2)
    options, unknown = parser.parse_known_args(given)
    if unknown:
        options.refuse(f"unrecognized arguments: {' '.join(unknown)}")
    return options


def _interrupted(options: argparse.Namespace) -> int:
    """Report Ctrl-C, and wait for calls that obtain tokens.

    The interpreter would wait for these threads too, but a second Ctrl-C would then print a traceback.
    """
    calls = [each for each in threading.enumerate() if each.name.startswith("pywry-auth") and not each.daemon]
    finishing = ", finishing the call to the provider so that no token is lost (Ctrl-C again ends at once)"
    try:
        report(ErrorCode.CANCELLED, "interrupted" + (finishing if calls else ""), options)
        for call in calls:
            while call in threading.enumerate():
                with suppress(RuntimeError):  # it is only starting, and cannot be joined yet
                    call.join()
    except KeyboardInterrupt:
        os._exit(130)
    return 130


def parser_with(loaded: Container[str]) -> argparse.ArgumentParser:
    """Return the parser of the command line.

    Args:
        loaded: The commands whose own arguments are loaded. The others have only a name and a summary.
    """
    parser = CommandParser(
        prog="pywry-auth", description="OAuth 2 and OpenID Connect login for blocking Python."
    )
    parser.add_argument("--version", action="version", version=f"pywry-auth {__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
        if name in loaded:
            module = import_module(f"pywry_auth.cli.{name.replace('-', '_')}")
            module.add_arguments(command)
            command.set_defaults(run=module.run, refuse=command.error)
    return parser
