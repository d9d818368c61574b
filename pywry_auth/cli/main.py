"""The command ``pywry-auth``: sign in with the environment's settings, or try it all without an account."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from datetime import datetime

from pywry_auth.exceptions import AuthenticationError, printable
from pywry_auth.models import AuthFlowResult


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status: 0, 1 when it failed, 130 after Ctrl-C.

    Args:
        arguments: The command line without the program's name; None takes the process's own.
    """
    options = _parser().parse_args(arguments)
    command: Callable[[], AuthFlowResult] = options.command
    try:
        result = command()
    except AuthenticationError as exc:
        print(f"pywry-auth: {exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("pywry-auth: interrupted", file=sys.stderr)
        return 130
    print(describe(result))
    return 0


def describe(result: AuthFlowResult) -> str:
    """Return who signed in, the scopes and when the access token ends, for people."""
    ends = result.tokens.expires_at
    told = "not said by the provider" if ends is None else _local_time(ends)
    names = [result.user_info.get(name) for name in ("name", "email")]
    who = ", ".join([printable(str(name)) for name in names if name] or ["no name given"])
    return (
        f"Signed in: {who} (user ID {printable(result.user_id)})\n"
        f"Scopes:    {printable(result.tokens.scope) or 'none'}\n"
        f"Token ends: {told}"
    )


def _local_time(moment: float) -> str:
    return datetime.fromtimestamp(moment).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pywry-auth", description="OAuth 2 and OpenID Connect login for blocking Python."
    )
    commands = parser.add_subparsers(required=True, metavar="command")
    login = commands.add_parser("login", help="sign in with the provider of the PYWRY_OAUTH2__* variables")
    login.set_defaults(command=_login)
    demo = commands.add_parser("demo", help="try a login here, with a local identity provider")
    demo.add_argument("--native", action="store_true", required=True, help="as a desktop program does it")
    demo.set_defaults(command=_demo)
    return parser


def _login() -> AuthFlowResult:
    from pywry_auth.app import PyWry

    return PyWry().login()


def _demo() -> AuthFlowResult:
    from pywry_auth.cli.demo import native

    return native()
