"""The local identity provider as a program.

Run it with ``python -m pywry_auth.testing.identity_provider``.
"""

from __future__ import annotations

import argparse
import logging
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urljoin

from pywry_auth.testing.identity_provider import (
    DEFAULT_CLIENTS,
    DEFAULT_USERS,
    PRESETS,
    Client,
    IdentityProvider,
)
from pywry_auth.testing.identity_provider.endpoints import PATHS
from pywry_auth.testing.identity_provider.keys import ALGORITHMS
from pywry_auth.testing.identity_provider.quirks import parse_quirks, quirk_lines

_LONGEST_LIFETIME = 10 * 365 * 86400


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until Ctrl-C and return the exit status.

    The first line of the output is the issuer.

    Args:
        arguments: The command line without the program's name; None means that of the process.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.list_quirks:
        _list_quirks()
        return 0
    if options.verbose:
        logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        quirks = parse_quirks(options.quirk, PRESETS[options.like] if options.like else None)
        clients = _clients(options.client, options.redirect_uri, _keys(options.client_key))
    except (OSError, ValueError) as problem:
        parser.error(str(problem))
    try:
        provider = IdentityProvider(
            clients=clients,
            port=options.port,
            access_token_lifetime=options.access_token_lifetime,
            signing_algorithm=options.signing_algorithm,
            quirks=quirks,
        )
    except (OSError, OverflowError) as problem:
        print(f"cannot listen on port {options.port}: {problem}", file=sys.stderr)
        return 1
    _introduce(provider)
    try:
        with provider:
            threading.Event().wait()
    except KeyboardInterrupt:
        pass
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pywry_auth.testing.identity_provider",
        description="A local OpenID provider for demos and tests. It listens on 127.0.0.1 only.",
    )
    parser.add_argument("--port", type=int, default=0, help="port to listen on (default: any free one)")
    parser.add_argument("--access-token-lifetime", type=_lifetime, default=3600.0, metavar="SECONDS")
    parser.add_argument("--signing-algorithm", choices=ALGORITHMS, default=ALGORITHMS[0])
    parser.add_argument(
        "--client",
        action="append",
        default=[],
        metavar="ID[:SECRET]",
        help="one more application, public without a secret; can be repeated",
    )
    parser.add_argument(
        "--client-key",
        action="append",
        default=[],
        metavar="ID=FILE",
        help="the public key, PEM or JWKS, of an application of --client (private_key_jwt)",
    )
    parser.add_argument(
        "--redirect-uri",
        action="append",
        default=[],
        metavar="URI",
        help="a redirect URI of the applications of --client; can be repeated (default: those of the two"
        " built-in applications)",
    )
    parser.add_argument(
        "--quirk", action="append", default=[], metavar="NAME[=VALUE]", help="deviate; can be repeated"
    )
    parser.add_argument("--like", choices=sorted(PRESETS), help="deviate like this provider")
    parser.add_argument("--list-quirks", action="store_true", help="print the quirks, and end")
    parser.add_argument("--verbose", action="store_true", help="print each request, without its query")
    return parser


def _list_quirks() -> None:
    for quirk in quirk_lines():
        print(f"{quirk.name}\n    {quirk.meaning}")


def _keys(named: Sequence[str]) -> dict[str, str]:
    """Return the public keys of the command line by the ID of their client.

    Raises:
        OSError: A file cannot be read.
        ValueError: An argument has another form, or a file is not text.
    """
    keys = {}
    for text in named:
        client_id, _, path = text.partition("=")
        if not client_id or not path:
            raise ValueError("--client-key: write ID=FILE")
        keys[client_id] = Path(path).read_text("utf-8")
    return keys


def _clients(
    named: Sequence[str], redirect_uris: Sequence[str], keys: Mapping[str, str]
) -> tuple[Client, ...]:
    """Return the built-in clients and those of the command line.

    Raises:
        ValueError: A client has no ID, or there are redirect URIs or keys without a client.
    """
    if redirect_uris and not named:
        raise ValueError("--redirect-uri belongs to --client ID[:SECRET]: add that")
    public, web = DEFAULT_CLIENTS
    added = []
    for text in named:
        client_id, _, secret = text.partition(":")
        if not client_id:
            raise ValueError("--client: write ID or ID:SECRET")
        usual = web if secret or client_id in keys else public
        uris = tuple(redirect_uris) or usual.redirect_uris
        homes = tuple(urljoin(uri, "/") for uri in redirect_uris) or usual.post_logout_redirect_uris
        key = keys.get(client_id, "")
        added.append(Client(client_id, secret, uris, homes, public_keys=key))
    if missing := keys.keys() - {client.client_id for client in added}:
        raise ValueError(f"--client-key {min(missing)}: add --client {min(missing)}")
    return (*DEFAULT_CLIENTS, *added)


def _introduce(provider: IdentityProvider) -> None:
    print(provider.issuer, flush=True)
    if provider.discovery_url != provider.issuer + PATHS["discovery"]:
        print(f"  the discovery document is at {provider.discovery_url}", flush=True)
    for user in DEFAULT_USERS:
        print(f"  sign in as {user.username} with the password {user.password}", flush=True)


def _lifetime(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds <= _LONGEST_LIFETIME:
        raise argparse.ArgumentTypeError(f"write a number of seconds from 0 to {_LONGEST_LIFETIME}")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
