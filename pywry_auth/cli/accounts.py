"""``pywry-auth accounts``: the signed-in users, and the current one."""

from __future__ import annotations

import argparse

from pywry_auth.cli.output import add_env_file, add_json, complain, show, show_json
from pywry_auth.cli.stored import Program, asking_to_sign_in, sign_in_first
from pywry_auth.cli.summary import account_line, account_members


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments.

    Args:
        parser: The command's parser.
    """
    parser.add_argument("--switch", metavar="ID", help="make this user's account the current one")
    add_env_file(parser)
    add_json(parser)


def run(options: argparse.Namespace) -> None:
    """List the accounts, after a switch if one is requested.

    Args:
        options: The command line.

    Raises:
        LoginRequired: The user to switch to is not signed in.
        AuthenticationError: The settings are not valid, or the store is down.
    """
    program = Program(options)
    if options.switch is not None:
        program.user(options.switch)
        with asking_to_sign_in():  # another process may sign the user out at this moment
            program.app.switch(options.switch)
    accounts = program.app.accounts()
    if options.json:
        show_json({"accounts": [account_members(account) for account in accounts]})
    elif accounts:
        show("\n".join(account_line(account) for account in accounts))
    else:
        complain(str(sign_in_first(program.signed_out())))
