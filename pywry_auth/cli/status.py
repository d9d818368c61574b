"""``pywry-auth status``: the signed-in user, without a call to the provider."""

from __future__ import annotations

import argparse

from pywry_auth.cli.output import add_account, add_env_file, add_json, show, show_json
from pywry_auth.cli.stored import Program, sign_in_first
from pywry_auth.cli.summary import (
    account_line,
    account_members,
    expiry_line,
    members,
    place_line,
    scopes_line,
    user_line,
)
from pywry_auth.exceptions import printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments.

    Args:
        parser: The command's parser.
    """
    add_account(parser)
    add_env_file(parser)
    add_json(parser)


def run(options: argparse.Namespace) -> None:
    """Show a signed-in user, the place of the tokens, and the other accounts.

    Args:
        options: The command line.

    Raises:
        LoginRequired: The user is not signed in.
        AuthenticationError: The settings are not valid, or the store is down.
    """
    program = Program(options)
    user = program.user(options.account)
    tokens = user.session.tokens
    if tokens is None:
        raise sign_in_first("The user signed out at this moment.")
    user_info = user.user_info or tokens.id_token_claims
    accounts = program.app.accounts()
    if options.json:
        found = members(user.user_id, user_info, tokens, program.place)
        show_json({**found, "accounts": [account_members(account) for account in accounts]})
        return
    later = "then refreshed" if tokens.refresh_token else "then sign in again"
    expires = expiry_line(tokens) + ("" if tokens.expires_at is None else f" ({later})")
    lines = [
        f"Signed in:  {user_line(user.user_id, user_info)}",
        f"Provider:   {printable(program.oauth2.provider)}, {printable(tokens.issuer)}",
        f"Client:     {printable(tokens.client_id)}",
        f"Scopes:     {scopes_line(tokens)}",
        f"Expires:    {expires}",
        f"Kept in:    {place_line(program.place)}",
    ]
    if len(accounts) > 1:
        lines += ["Accounts:", *(f"  {account_line(account)}" for account in accounts)]
    show("\n".join(lines))
