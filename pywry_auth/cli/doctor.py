"""``pywry-auth doctor``: checks of the settings, the provider and the stores."""

from __future__ import annotations

import argparse
import math
import os
import shutil
import sys

from pywry_auth.cli.output import add_env_file, show
from pywry_auth.cli.start_words import collected
from pywry_auth.doctor.examination import examine
from pywry_auth.doctor.report import as_json, as_text, count
from pywry_auth.doctor.setup import COUNT_SECONDS, Setup
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError

_WIDEST = 100  # columns


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments.

    Args:
        parser: The command's parser.
    """
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument(
        "--site", dest="kind", action="store_const", const="site", help="look at the settings of a web site"
    )
    kind.add_argument(
        "--program",
        dest="kind",
        action="store_const",
        const="program",
        help="look at the settings of a program",
    )
    reach = parser.add_mutually_exclusive_group()
    reach.add_argument("--offline", action="store_true", help="leave out the provider")
    reach.add_argument(
        "--live",
        action="store_true",
        help="also begin a login at the running site; it expires without a sign-in",
    )
    parser.add_argument(
        "--prefix", default="/auth", type=_prefix, help="the prefix of the site's routes (default: /auth)"
    )
    parser.add_argument(
        "--count-all",
        action="store_true",
        help="count all stored records of a site, however long it takes "
        f"(default: at most {COUNT_SECONDS:g} s for each store)",
    )
    add_env_file(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def _prefix(text: str) -> str:
    if text and (not text.startswith("/") or not text.isascii() or not text.isprintable() or " " in text):
        raise argparse.ArgumentTypeError("write a path, for example /auth")
    return text.rstrip("/")


def run(options: argparse.Namespace) -> None:
    """Show the findings of all checks.

    Args:
        options: The command line.

    Raises:
        AuthenticationError: There are errors.
    """
    setup = Setup(
        os.environ,
        options.kind or "",
        options.offline,
        options.live,
        options.prefix,
        env_file=options.env_file,
        count_seconds=math.inf if options.count_all else COUNT_SECONDS,
    )
    findings = list(examine(setup, collected))
    width = min(shutil.get_terminal_size().columns - 1, _WIDEST)
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    show(as_json(findings) if options.json else as_text(findings, encoding, width))
    if errors := count(findings, "error"):
        options.json = False  # the object is printed already
        raise AuthenticationError(
            f"the doctor found {errors} {'error' if errors == 1 else 'errors'}, described above.",
            error=ErrorCode.INVALID_CONFIGURATION,
        )
