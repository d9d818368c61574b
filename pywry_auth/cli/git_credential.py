"""Answers git's requests for credentials (gitcredentials(7), git-credential(1))."""

from __future__ import annotations

import argparse
import sys

from pywry_auth.cli.origin import Origin, origin_of, require_origin
from pywry_auth.cli.output import show
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError
from pywry_auth.protocol.urls import is_host

_LARGEST = 1 << 16  # bytes


def run(options: argparse.Namespace) -> None:
    """Print the user name and the access token if git asks for the one origin.

    For another origin or operation nothing is printed, so that git asks its next helper. If there is no
    token, git is told to stop, because it would ask the user for a password that does not exist.

    Args:
        options: The command line.

    Raises:
        LoginRequired: The user is not signed in, or the provider has ended the grant.
        AuthenticationError: The origin or the user name is not valid, or there is no token for another
            reason.
    """
    origin = require_origin(options.origin)
    if not options.username.isprintable() or not options.username:
        raise AuthenticationError(
            "--username must be one line of printable characters.", error=ErrorCode.INVALID_CONFIGURATION
        )
    if options.operation != "get" or _requested() != origin:
        return
    from pywry_auth.cli.stored import Program, fresh_tokens  # git also asks for what needs no token

    try:
        tokens = fresh_tokens(Program(options).user(options.account))
    except AuthenticationError:
        show("quit=1")
        raise
    lines = [f"username={options.username}", f"password={tokens.access_token}"]
    if tokens.expires_at is not None:
        lines.append(f"password_expiry_utc={int(tokens.expires_at)}")
    show("\n".join(lines))


def _requested() -> Origin | None:
    """Return the origin that git asks for; None if the request does not name exactly one."""
    request = sys.stdin.buffer.read(_LARGEST + 1) if sys.stdin else b""
    found: dict[str, list[str]] = {"protocol": [], "host": []}
    # Only a line feed ends a line. A value may have other line breaks, because git decodes URLs.
    for line in request.decode("utf-8", "surrogateescape").split("\n"):
        name, _, value = line.partition("=")
        found.get(name, []).append(value)
    if len(request) > _LARGEST or any(len(values) != 1 for values in found.values()):
        return None
    (protocol,), (host,) = found.values()
    if protocol not in ("http", "https") or not is_host(host):
        return None
    return origin_of(f"{protocol}://{host}")
