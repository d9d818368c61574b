"""The local identity provider as ``python -m pywry_auth.testing.identity_provider``.

It is ``pywry-auth provider``, except that its usual port is any free one.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from pywry_auth.exceptions import AuthenticationError
from pywry_auth.testing.identity_provider.program import add_arguments, serve


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
    add_arguments(parser, port=0)
    options = parser.parse_args(arguments)
    if options.verbose:
        logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        serve(options, _show)
    except AuthenticationError as problem:
        print(problem, file=sys.stderr)
        return 1
    return 0


def _show(text: str) -> None:
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)


if __name__ == "__main__":
    sys.exit(main())
