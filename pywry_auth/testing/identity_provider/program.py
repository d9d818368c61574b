"""The local identity provider as a program.

``pywry-auth provider`` and ``python -m pywry_auth.testing.identity_provider`` share it.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError
from pywry_auth.testing.identity_provider.introduction import Introduction
from pywry_auth.testing.identity_provider.keys import ALGORITHMS
from pywry_auth.testing.identity_provider.parties import DEFAULT_CLIENTS, Client, User
from pywry_auth.testing.identity_provider.presets import PRESETS
from pywry_auth.testing.identity_provider.program_parties import (
    built_in_clients,
    named_clients,
    named_files,
    named_users,
)
from pywry_auth.testing.identity_provider.provider import IdentityProvider
from pywry_auth.testing.identity_provider.quirk_words import parse_quirks, quirk_lines
from pywry_auth.testing.identity_provider.quirks import Quirks
from pywry_auth.testing.identity_provider.workload import Workload

_LONGEST_LIFETIME = 10 * 365 * 86400
_RENEWED = 60.0  # seconds between two assertions in a file


def add_arguments(parser: argparse.ArgumentParser, port: int) -> None:
    """Add the options of the program.

    Args:
        parser: The parser, which also reports options that do not fit together.
        port: The port if none is given; 0 means any free one.
    """
    told = "any free one" if port == 0 else str(port)
    parser.set_defaults(refuse=parser.error)
    parser.add_argument("--port", type=int, default=port, help=f"port to listen on (default: {told})")
    parser.add_argument(
        "--access-token-lifetime",
        type=_lifetime,
        default=3600.0,
        metavar="SECONDS",
        help="lifetime of access tokens (default: 3600)",
    )
    parser.add_argument(
        "--signing-algorithm",
        choices=ALGORITHMS,
        default=ALGORITHMS[0],
        help=f"signature of tokens (default: {ALGORITHMS[0]})",
    )
    _add_parties(parser)
    _add_list(parser, "--quirk", "NAME[=VALUE]", "deviate; can be repeated")
    parser.add_argument("--like", choices=sorted(PRESETS), help="deviate like this provider")
    parser.add_argument("--list-quirks", action="store_true", help="print the quirks, and end")
    parser.add_argument("--json", action="store_true", help="print users and settings as one JSON object")
    parser.add_argument(
        "--verbose", action="store_true", help="print each request to standard error, without its query"
    )


def _add_parties(parser: argparse.ArgumentParser) -> None:
    _add_list(
        parser,
        "--user",
        "NAME[:PASSWORD]",
        "one more user, or another password for a built-in one; without a password, the name is the"
        " password; can be repeated",
    )
    _add_list(
        parser,
        "--client",
        "ID[:SECRET]",
        "one more application, public without a secret; can be repeated",
    )
    _add_list(
        parser,
        "--client-key",
        "ID=FILE",
        "the public key, PEM or JWKS, of an application of --client (private_key_jwt)",
    )
    _add_list(
        parser,
        "--assertion-file",
        "ID=FILE",
        "keep a fresh assertion for an application of --client in this file, as Kubernetes does;"
        " the application is accepted with that only",
    )
    _add_list(
        parser,
        "--redirect-uri",
        "URI",
        "a redirect URI of the applications of --client; can be repeated (default: those of the two"
        " built-in applications)",
    )
    parser.add_argument(
        "--backchannel-logout-uri",
        default="",
        metavar="URI",
        help="the address for the logout tokens of the applications of --client, or of pywry-web without one"
        " (default: /auth/backchannel-logout beside the redirect URI)",
    )


def _add_list(parser: argparse.ArgumentParser, name: str, metavar: str, meaning: str) -> None:
    parser.add_argument(name, action="append", default=[], metavar=metavar, help=meaning)


def serve(options: argparse.Namespace, show: Callable[[str], None]) -> None:
    """Print the introduction, and serve until Ctrl-C.

    The caller shows the log if the user asked for it (``options.verbose``).

    Args:
        options: The command line.
        show: Prints a text to standard output at once.

    Raises:
        AuthenticationError: The port is taken, or does not exist.
        SystemExit: The options do not fit together. The reason is on standard error.
    """
    if options.list_quirks:
        show("\n".join(f"{quirk.name}\n    {quirk.meaning}" for quirk in quirk_lines()))
        return
    try:
        quirks = parse_quirks(options.quirk, PRESETS[options.like] if options.like else None)
        users = named_users(options.user)
        files = named_files("--assertion-file", options.assertion_file)
        workloads = {client_id: Workload() for client_id in files}
        named = named_files("--client-key", options.client_key)
        keys = {client_id: path.read_text("utf-8") for client_id, path in named.items()}
        uri = options.backchannel_logout_uri
        clients = named_clients(options.client, options.redirect_uri, uri, keys, workloads)
        built_in = built_in_clients("" if clients else uri)
        _renew(workloads, files)
    except (OSError, ValueError) as problem:
        options.refuse(str(problem))
    with (
        suppress(KeyboardInterrupt),  # how the user ends the program
        _listening(options, users, (*built_in, *clients), quirks) as provider,
    ):
        program, site = _shown(clients)
        facts = Introduction(provider, users, program, site, not quirks.no_device)
        show(facts.json() if options.json else facts.text())
        _keep(workloads, files)


def _listening(
    options: argparse.Namespace, users: tuple[User, ...], clients: tuple[Client, ...], quirks: Quirks
) -> IdentityProvider:
    try:
        return IdentityProvider(
            users=users,
            clients=clients,
            port=options.port,
            access_token_lifetime=options.access_token_lifetime,
            signing_algorithm=options.signing_algorithm,
            quirks=quirks,
        )
    except (OSError, OverflowError) as problem:
        number = getattr(problem, "errno", None)
        reason = os.strerror(number) if number else str(problem).rstrip(".")
        taken = number == errno.EADDRINUSE
        advice = "End the program that uses it, or choose" if taken else "Choose"
        raise AuthenticationError(
            f"The provider cannot listen on port {options.port}: {reason}. {advice} another port with --port;"
            " --port 0 takes any free one.",
            error=ErrorCode.INVALID_CONFIGURATION,
        ) from problem


def _shown(clients: tuple[Client, ...]) -> tuple[Client, Client]:
    """Return the clients for the settings of a program and of a site.

    The first fitting one of the command line comes before the built-in one.
    """
    ordered = (*clients, *DEFAULT_CLIENTS)
    program = next(client for client in ordered if not client.is_confidential)
    site = next(client for client in ordered if client.client_secret and not client.sends_assertions)
    return program, site


def _keep(workloads: Mapping[str, Workload], files: Mapping[str, Path]) -> None:
    """Renew the assertions until Ctrl-C."""
    while True:
        threading.Event().wait(_RENEWED)
        try:
            _renew(workloads, files)
        except OSError as problem:  # such as a full disk
            print(f"an assertion could not be renewed: {problem}", file=sys.stderr)


def _renew(workloads: Mapping[str, Workload], files: Mapping[str, Path]) -> None:
    for client_id, workload in workloads.items():
        workload.write(files[client_id])


def _lifetime(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds <= _LONGEST_LIFETIME:
        raise argparse.ArgumentTypeError(f"write a number of seconds from 0 to {_LONGEST_LIFETIME}")
    return seconds
