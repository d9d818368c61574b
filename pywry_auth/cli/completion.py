"""``pywry-auth completion``: the script with which a shell completes the commands."""

from __future__ import annotations

import argparse

from pywry_auth.cli.main import COMMANDS, parser_with
from pywry_auth.cli.output import show
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError

_SHELLS = ("bash", "zsh", "fish", "tcsh")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments.

    Args:
        parser: The command's parser.
    """
    parser.add_argument("shell", choices=_SHELLS, help="the shell")


def run(options: argparse.Namespace) -> None:
    """Print the completion script of a shell.

    Args:
        options: The command line.

    Raises:
        AuthenticationError: A package is missing, or is too old for the shell.
    """
    try:
        import shtab
    except ImportError:
        raise _missing("Shell completion needs an additional package") from None
    if options.shell not in shtab.SUPPORTED_SHELLS:
        raise _missing(f"Completion for {options.shell} needs a later version of shtab")
    parser = parser_with(COMMANDS)
    _complete_files(parser, shtab.FILE)
    show(shtab.complete(parser, options.shell).rstrip("\n"))


def _complete_files(parser: argparse.ArgumentParser, files: object) -> None:
    """Let a shell complete the arguments that are files."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                _complete_files(command, files)
        elif "FILE" in (action.metavar, action.dest.upper()):
            vars(action)["complete"] = files


def _missing(reason: str) -> AuthenticationError:
    return AuthenticationError(
        f"{reason}: pip install --upgrade 'pywry-auth[cli]'", error=ErrorCode.INVALID_CONFIGURATION
    )
