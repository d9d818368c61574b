"""``pywry-auth logout``: sign users out, and revoke their tokens."""

from __future__ import annotations

import argparse

from pywry_auth.cli.output import add_env_file, add_json, show, show_json
from pywry_auth.cli.stored import Program
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError, printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments.

    Args:
        parser: The command's parser.
    """
    users = parser.add_mutually_exclusive_group()
    users.add_argument("--account", metavar="ID", help="the user's ID; default: the current account")
    users.add_argument("--all", action="store_true", help="sign all users of the program out")
    add_env_file(parser)
    add_json(parser)


def run(options: argparse.Namespace) -> None:
    """Sign one user out, or all of them.

    Args:
        options: The command line.

    Raises:
        AuthenticationError: The user is not signed in, the settings are not valid, or the store is down.
    """
    program = Program(options)
    users = _users(program, options)
    if not users:
        program.app.logout(options.account)  # tries the revocations of earlier sign-outs again
        text = program.signed_out(options.account)
        raise AuthenticationError(text, error=ErrorCode.NOT_SIGNED_IN)
    confirmed = [(user, program.app.logout(account=user)) for user in users]
    if options.json:
        show_json({"signed_out": [{"user_id": user, "revoked": revoked} for user, revoked in confirmed]})
    else:
        show("\n".join(_sentence(user, revoked) for user, revoked in confirmed))


def _users(program: Program, options: argparse.Namespace) -> list[str]:
    if options.all:
        return program.all_found()
    user = program.found(options.account)
    return [] if user is None else [user.user_id]


def _sentence(user_id: str, revoked: bool) -> str:
    signed_out = f"Signed out: {printable(user_id)}."
    if revoked:
        return f"{signed_out} The provider confirmed that the tokens are revoked."
    return (
        f"{signed_out} The provider did not confirm that the tokens are revoked. If it could not be reached, "
        "later commands try again for 24 hours."
    )
