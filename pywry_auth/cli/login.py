"""``pywry-auth login``: sign in with the settings of the environment."""

from __future__ import annotations

import argparse
import math
from typing import get_args

from pywry_auth.cli.output import add_account, add_env_file, add_json, show, show_json
from pywry_auth.cli.stored import FORGETS, Program
from pywry_auth.cli.summary import describe, members, place_line
from pywry_auth.exceptions import LoginRequired
from pywry_auth.native.login import Mode


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command; the rest comes from the settings.

    Args:
        parser: The command's parser.
    """
    parser.set_defaults(mode="auto")
    way = parser.add_mutually_exclusive_group()
    for mode, text in {
        "device": "sign in on another device, with a code",
        "paste": "paste the address to which the provider redirects the browser of another machine",
    }.items():
        way.add_argument(f"--{mode}", dest="mode", action="store_const", const=mode, help=text)
    way.add_argument("--mode", choices=get_args(Mode), help="how the user is asked; default: auto")
    parser.add_argument("--force", action="store_true", help="sign in again, even with usable stored tokens")
    add_account(parser)
    parser.add_argument(
        "--scopes", type=_scopes, metavar='"A B"', help="the scopes to request, instead of the settings'"
    )
    parser.add_argument("--login-hint", metavar="NAME", help="fill in the user's name at the provider")
    parser.add_argument("--prompt", metavar="P", help="the provider's prompt, for example select_account")
    parser.add_argument(
        "--timeout",
        type=_seconds,
        metavar="SECONDS",
        help="the time that the user has; default: the settings' value (120, or for a code its lifetime)",
    )
    add_env_file(parser)
    add_json(parser)


def run(options: argparse.Namespace) -> None:
    """Sign in, and show the user and the place of the tokens.

    Args:
        options: The command line.

    Raises:
        LoginRequired: The user must sign in, and this process cannot ask.
        AuthenticationError: The login failed, or the settings are not valid.
    """
    program = Program(options)
    try:
        result = program.app.login(
            mode=options.mode,
            force=options.force,
            account=options.account,
            scopes=options.scopes,
            login_hint=options.login_hint,
            prompt=options.prompt,
            timeout=options.timeout,
        )
    except LoginRequired as error:
        # Its own advice is for programs.
        browser = ", or set BROWSER to a browser of this machine" if program.oauth2.open_browser else ""
        advice = (
            "Run pywry-auth login without --mode silent."
            if options.mode == "silent"
            else f"Run pywry-auth login in a terminal{browser}."
        )
        raise LoginRequired(f"{error.reason} {advice}", error=error.error, provider=error.provider) from error
    if options.json:
        show_json(members(result.user_id, result.user_info, result.tokens, program.place))
        return
    kept = place_line(program.place) if program.store.backend.shared else f"nowhere. {FORGETS}"
    show(f"{describe(result)}\nKept in:    {kept}")


def _scopes(text: str) -> list[str]:
    scopes = text.split()
    if not scopes:
        raise argparse.ArgumentTypeError("name at least one scope")
    return scopes


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError("give a number of seconds above 0")
    return seconds
