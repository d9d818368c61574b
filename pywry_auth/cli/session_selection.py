"""The options of the command line that select sessions."""

from __future__ import annotations

import argparse
import re
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from pywry_auth.state.session_filter import SessionFilter

if TYPE_CHECKING:
    from pywry_auth.state.sessions import SessionStore

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def add_selection(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """Add the options that select sessions.

    Args:
        parser: The parser of a command.
        required: Whether one of them must be given.
    """
    one = parser.add_mutually_exclusive_group(required=required)
    one.add_argument("--user", metavar="ID", help="the sessions of this user")
    one.add_argument("--provider", metavar="NAME", help="the sessions of sign-ins at this provider")
    one.add_argument("--session", metavar="HANDLE", help="the session with this handle")
    one.add_argument(
        "--all", action="store_true", help="all sessions" + ("" if required else "; this is the default")
    )
    parser.add_argument(
        "--browser", metavar="TEXT", help="only those of a browser or platform, for example firefox"
    )
    parser.add_argument(
        "--older-than",
        metavar="TIME",
        type=_seconds,
        help="only those that began before this time: 90s, 30m, 12h or 7d",
    )


def selected(options: argparse.Namespace) -> SessionFilter:
    """Return the filter that the command line describes.

    Args:
        options: The command line.
    """
    age: float | None = options.older_than
    return SessionFilter(
        user_id=options.user,
        provider=options.provider,
        handle=options.session,
        browser=options.browser,
        signed_in_before=None if age is None else time.time() - age,
    )


def narrowed(wanted: SessionFilter, store: SessionStore) -> SessionFilter:
    """Return a filter that reads only the sessions of one user, if it selects one session by its handle.

    Args:
        wanted: The filter.
        store: The store of the sessions.

    Returns:
        The filter, with the user of that session; unchanged if there is no readable one.

    Raises:
        StoreUnavailable: The store is down, or its backend cannot list all records.
    """
    found = None if wanted.handle is None else next(store.find_sessions(wanted), None)
    return wanted if found is None else replace(wanted, user_id=found.user_id)


def _seconds(text: str) -> float:
    found = re.fullmatch(r"([0-9]{1,9})([smhd])", text)
    if not found:
        raise argparse.ArgumentTypeError("write a number and a unit, for example 90s, 30m, 12h or 7d")
    return int(found[1]) * _UNITS[found[2]]
