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
    Workload,
)
from pywry_auth.testing.identity_provider.endpoints import PATHS
from pywry_auth.testing.identity_provider.keys import ALGORITHMS
from pywry_auth.testing.identity_provider.quirks import parse_quirks, quirk_lines

_LONGEST_LIFETIME = 10 * 365 * 86400
_RENEWED = 60.0  # seconds between two assertions in a file


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
        files = _files("--assertion-file", options.assertion_file)
        workloads = {client_id: Workload() for client_id in files}
        named = _files("--client-key", options.client_key)
        keys = {client_id: path.read_text("utf-8") for client_id, path in named.items()}
        clients = _clients(options.client, options.redirect_uri, keys, workloads)
        _renew(workloads, files)
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
            while True:
                threading.Event().wait(_RENEWED)
                try:
                    _renew(workloads, files)
                except OSError as problem:  # such as a full disk
                    print(f"an assertion could not be renewed: {problem}", file=sys.stderr)
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
    _add_clients(parser)
    parser.add_argument(
        "--quirk", action="append", default=[], metavar="NAME[=VALUE]", help="deviate; can be repeated"
    )
    parser.add_argument("--like", choices=sorted(PRESETS), help="deviate like this provider")
    parser.add_argument("--list-quirks", action="store_true", help="print the quirks, and end")
    parser.add_argument("--verbose", action="store_true", help="print each request, without its query")
    return parser


def _add_clients(parser: argparse.ArgumentParser) -> None:
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
        "--assertion-file",
        action="append",
        default=[],
        metavar="ID=FILE",
        help="keep a fresh assertion for an application of --client in this file, as Kubernetes does;"
        " the application is accepted with that only",
    )
    parser.add_argument(
        "--redirect-uri",
        action="append",
        default=[],
        metavar="URI",
        help="a redirect URI of the applications of --client; can be repeated (default: those of the two"
        " built-in applications)",
    )


def _list_quirks() -> None:
    for quirk in quirk_lines():
        print(f"{quirk.name}\n    {quirk.meaning}")


def _files(option: str, named: Sequence[str]) -> dict[str, Path]:
    """Return the files of the command line by the ID of their client.

    Raises:
        ValueError: An argument has another form.
    """
    files = {}
    for text in named:
        client_id, _, path = text.partition("=")
        if not client_id or not path:
            raise ValueError(f"{option}: write ID=FILE")
        files[client_id] = Path(path)
    return files


def _renew(workloads: Mapping[str, Workload], files: Mapping[str, Path]) -> None:
    for client_id, workload in workloads.items():
        workload.write(files[client_id])


def _clients(
    named: Sequence[str],
    redirect_uris: Sequence[str],
    keys: Mapping[str, str],
    workloads: Mapping[str, Workload],
) -> tuple[Client, ...]:
    """Return the built-in clients and those of the command line.

    Raises:
        ValueError: A client has no ID, or there are redirect URIs, keys or files without a client.
    """
    if redirect_uris and not named:
        raise ValueError("--redirect-uri belongs to --client ID[:SECRET]: add that")
    public, web = DEFAULT_CLIENTS
    added = []
    for text in named:
        client_id, _, secret = text.partition(":")
        if not client_id:
            raise ValueError("--client: write ID or ID:SECRET")
        usual = web if secret or client_id in keys or client_id in workloads else public
        uris = tuple(redirect_uris) or usual.redirect_uris
        homes = tuple(urljoin(uri, "/") for uri in redirect_uris) or usual.post_logout_redirect_uris
        key, workload = keys.get(client_id, ""), workloads.get(client_id)
        issuer = workload.registration if workload else None
        added.append(Client(client_id, secret, uris, homes, public_keys=key, assertion_issuer=issuer))
    for option, given in (("--client-key", keys), ("--assertion-file", workloads)):
        if missing := given.keys() - {client.client_id for client in added}:
            raise ValueError(f"{option} {min(missing)}: add --client {min(missing)}")
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
