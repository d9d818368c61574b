"""The local identity provider as a program.

Run it with ``python -m pywry_auth.testing.identity_provider``.
"""

from __future__ import annotations

import argparse
import logging
import sys
import threading
from collections.abc import Sequence

from pywry_auth.testing.identity_provider import DEFAULT_USERS, IdentityProvider
from pywry_auth.testing.identity_provider.keys import ALGORITHMS

_LONGEST_LIFETIME = 10 * 365 * 86400


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until Ctrl-C and return the exit status.

    The first line of the output is the issuer.

    Args:
        arguments: The command line without the program's name; None means that of the process.
    """
    parser = argparse.ArgumentParser(
        prog="python -m pywry_auth.testing.identity_provider",
        description="A local OpenID provider for demos and tests. It listens on 127.0.0.1 only.",
    )
    parser.add_argument("--port", type=int, default=0, help="port to listen on (default: any free one)")
    parser.add_argument("--access-token-lifetime", type=_lifetime, default=3600.0, metavar="SECONDS")
    parser.add_argument("--signing-algorithm", choices=ALGORITHMS, default=ALGORITHMS[0])
    parser.add_argument("--verbose", action="store_true", help="print each request, without its query")
    options = parser.parse_args(arguments)
    if options.verbose:
        logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        provider = IdentityProvider(
            port=options.port,
            access_token_lifetime=options.access_token_lifetime,
            signing_algorithm=options.signing_algorithm,
        )
    except (OSError, OverflowError) as problem:
        print(f"cannot listen on port {options.port}: {problem}", file=sys.stderr)
        return 1
    print(provider.issuer, flush=True)
    for user in DEFAULT_USERS:
        print(f"  sign in as {user.username} with the password {user.password}", flush=True)
    try:
        with provider:
            threading.Event().wait()
    except KeyboardInterrupt:
        pass
    return 0


def _lifetime(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds <= _LONGEST_LIFETIME:
        raise argparse.ArgumentTypeError(f"write a number of seconds from 0 to {_LONGEST_LIFETIME}")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
