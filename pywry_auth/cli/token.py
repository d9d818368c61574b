"""``pywry-auth token``: a valid token for scripts, kubectl, git and curl."""

from __future__ import annotations

import argparse

from pywry_auth.cli import git_credential
from pywry_auth.cli.output import add_account, add_env_file, add_json, show, show_json

_FORMATS = ("plain", "header", "exec-credential", "git-credential")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments.

    Args:
        parser: The command's parser.
    """
    add_account(parser)
    add_env_file(parser)
    form = parser.add_mutually_exclusive_group()
    add_json(form)
    form.add_argument(
        "--format",
        choices=_FORMATS,
        help="plain (default): the access token; header: a header for curl; exec-credential: for kubectl; "
        "git-credential: for git",
    )
    parser.add_argument(
        "--id-token", action="store_true", help="exec-credential: the ID token instead of the access token"
    )
    parser.add_argument(
        "--origin",
        metavar="URL",
        help="git-credential: the only server that receives the token; exec-credential: the only API server, "
        "for a cluster with provideClusterInfo",
    )
    parser.add_argument(
        "--username", default="oauth2", metavar="NAME", help="git-credential: the user name; default: oauth2"
    )
    parser.add_argument(
        "operation", nargs="?", help="git-credential: get, which git adds; other operations do nothing"
    )


def run(options: argparse.Namespace) -> None:
    """Print a token in the requested format, refreshed if necessary.

    The user is never asked.

    Args:
        options: The command line.

    Raises:
        LoginRequired: The user is not signed in, or the provider has ended the grant.
        AuthenticationError: The provider cannot be reached or refused, the settings are not valid, or the
            store is down.
    """
    _require_fitting(options)
    if options.format == "git-credential":
        git_credential.run(options)
    elif options.format == "exec-credential":
        from pywry_auth.cli import exec_credential

        exec_credential.run(options)
    else:
        _print_token(options)


def _print_token(options: argparse.Namespace) -> None:
    from pywry_auth.cli.stored import Program, fresh_tokens

    user = Program(options).user(options.account)
    tokens = fresh_tokens(user)
    if options.json:
        show_json(
            {
                "access_token": tokens.access_token,
                "token_type": tokens.token_type,
                "expires_at": tokens.expires_at,
                "scopes": tokens.scope.split(),
                "user_id": user.user_id,
            }
        )
    elif options.format == "header":
        show(f"Authorization: Bearer {tokens.access_token}")
    else:
        show(tokens.access_token)


def _require_fitting(options: argparse.Namespace) -> None:
    """End with the usage if an option does not fit the format."""
    form = "json" if options.json else options.format
    fits = {
        "--id-token": not options.id_token or form == "exec-credential",
        "--origin": options.origin is None or form in ("exec-credential", "git-credential"),
        "operation": options.operation is None or form == "git-credential",
    }
    for name, fitting in fits.items():
        if not fitting:
            options.refuse(f"{name} does not fit this format")
    if form == "git-credential" and (options.origin is None or options.operation is None):
        options.refuse("git-credential needs --origin and an operation, for example get")
