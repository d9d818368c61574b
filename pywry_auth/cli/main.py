"""The program ``pywry-auth``: runs a command, and reports its errors."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from importlib import import_module

from pywry_auth.cli.output import complain, plain_warnings
from pywry_auth.exceptions import AuthenticationError, LoginRequired

COMMANDS = {
    "login": "sign in with the provider of the PYWRY_OAUTH2__* variables",
    "provider": "run a local identity provider for development, and print settings for it",
    "demo": "try a web application or program on this machine, with a local identity provider",
    "explain-roles": "show a user's roles, and the rules that give or refuse them",
}
"""Each command with its summary.

A command is the file of its name in this folder, with ``add_arguments(parser)`` and ``run(options)``. Only
the file of the given command is loaded.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command, and return the exit code.

    The code is 0, or 1 if the command failed, or 4 if the user must sign in and this process cannot ask, or
    130 after Ctrl-C.

    Args:
        arguments: The command line without the program's name; None takes the process's own.
    """
    try:
        with plain_warnings():
            options = _parse(sys.argv[1:] if arguments is None else arguments)
            run: Callable[[argparse.Namespace], None] = options.run
            run(options)
    except AuthenticationError as error:
        complain(str(error))
        return 4 if isinstance(error, LoginRequired) else 1
    except KeyboardInterrupt:
        complain("interrupted")
        return 130
    return 0


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="pywry-auth", description="OAuth 2 and OpenID Connect login for blocking Python."
    )
    commands = parser.add_subparsers(required=True, metavar="command")
    wanted = next((argument for argument in arguments if argument in COMMANDS), None)
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary)
        if name == wanted:
            module = import_module(f"pywry_auth.cli.{name.replace('-', '_')}")
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    return parser.parse_args(arguments)
