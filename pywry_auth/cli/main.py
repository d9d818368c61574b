"""The command ``pywry-auth``: sign in with the environment's settings, or try it all without an account."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

from pywry_auth.exceptions import AuthenticationError, printable
from pywry_auth.models import AuthFlowResult


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status: 0, 1 when it failed, 130 after Ctrl-C.

    Args:
        arguments: The command line without the program's name; None takes the process's own.
    """
    try:
        with _plain_warnings():
            options = _parser().parse_args(arguments)
            command: Callable[[argparse.Namespace], AuthFlowResult | None] = options.command
            result = command(options)
            if result is not None:
                _print_result(describe(result))
    except AuthenticationError as error:
        _complain(str(error))
        return 1
    except KeyboardInterrupt:
        _complain("interrupted")
        return 130
    return 0


def describe(result: AuthFlowResult) -> str:
    """Return who signed in, the scopes and when the access token ends, for people."""
    ends = result.tokens.expires_at
    told = "not said by the provider" if ends is None else _local_time(ends)
    names = [result.user_info.get(name) for name in ("name", "email")]
    who = ", ".join([printable(str(name)) for name in names if name] or ["no name given"])
    return (
        f"Signed in:  {who} (user ID {printable(result.user_id)})\n"
        f"Scopes:     {printable(result.tokens.scope) or 'none'}\n"
        f"Token ends: {told}"
    )


def _local_time(moment: float) -> str:
    return datetime.fromtimestamp(moment).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")


def _print_result(text: str) -> None:
    """Print in whatever characters standard output has; that nobody reads it (any more) is no failure."""
    if sys.stdout is None:
        return
    encoding = sys.stdout.encoding or "utf-8"
    try:
        print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)
    except OSError as error:
        # Else the interpreter would try once more when it ends, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            raise AuthenticationError(f"The result cannot be written: {error.strerror}.") from error


def _complain(text: str) -> None:
    if sys.stderr is not None:  # else print would take standard output for it
        print(f"pywry-auth: {text}", file=sys.stderr)


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Show warnings as sentences, without the place in the code that they come from."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_where, **_more: _complain(str(message))
        yield


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pywry-auth", description="OAuth 2 and OpenID Connect login for blocking Python."
    )
    commands = parser.add_subparsers(required=True, metavar="command")
    login = commands.add_parser("login", help="sign in with the provider of the PYWRY_OAUTH2__* variables")
    login.set_defaults(command=_login)
    demo = commands.add_parser("demo", help="try a web application here, with a local identity provider")
    demo.add_argument("--native", action="store_true", help="sign in once, as a desktop program does it")
    demo.set_defaults(command=_demo)
    roles = commands.add_parser("explain-roles", help="show which rule gives or refuses a user which role")
    roles.add_argument(
        "file",
        help="the user's profile as JSON, as the provider sends it: user_info of GET /auth/userinfo, with "
        "what the rules need of the ID token beside it; - for standard input",
    )
    roles.add_argument(
        "--verified-email",
        default="",
        metavar="ADDRESS",
        help="the address that the provider vouches for, where the profile does not say so (GitHub)",
    )
    roles.add_argument(
        "--provider-name",
        default="",
        metavar="NAME",
        help="the provider's name on a site that has several; PYWRY_OAUTH2__PROVIDER still says what it is",
    )
    roles.set_defaults(command=_explain_roles)
    return parser


def _login(_options: argparse.Namespace) -> AuthFlowResult:
    from pywry_auth.app import PyWry

    return PyWry().login()


def _explain_roles(options: argparse.Namespace) -> None:
    from pywry_auth.cli.explain_roles import explain_roles

    explain_roles(options.file, options.verified_email, options.provider_name, _print_result)


def _demo(options: argparse.Namespace) -> AuthFlowResult | None:
    from pywry_auth.cli import demo

    if options.native:
        return demo.native()
    demo.web()
    return None
