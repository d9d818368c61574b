"""``pywry-auth sessions``: the sessions of a site's users, for its operator."""

from __future__ import annotations

import argparse
import sys
from contextlib import closing, suppress

from pywry_auth.cli.output import add_env_file, add_json, complain, show, show_json
from pywry_auth.cli.session_ending import Ending, audit_shown
from pywry_auth.cli.session_listing import Listing, line_of, members_of
from pywry_auth.cli.session_selection import add_selection, narrowed, selected
from pywry_auth.cli.site_stores import SiteStores
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError, StoreUnavailable
from pywry_auth.native.streams import is_terminal
from pywry_auth.native.terminal import write

_LIMIT = 100
_READ_THEM = (
    "use the PYWRY_DEPLOY__ENCRYPTION_KEYS and PYWRY_DEPLOY__REDIS_PREFIX of the site, and its version of "
    "this package"
)
_LATER = "in the queue, and the workers of the site try again for 24 hours."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments.

    Args:
        parser: The command's parser.
    """
    actions = parser.add_subparsers(required=True, metavar="list|end", dest="action")
    listing = actions.add_parser("list", help="list sessions", description="List sessions.")
    add_selection(listing, required=False)
    listing.add_argument(
        "--limit",
        metavar="N",
        type=_count,
        default=_LIMIT,
        help="list only the N newest; default: %(default)s",
    )
    ending = actions.add_parser(
        "end",
        help="end sessions, and revoke the tokens that no other session needs",
        description="End sessions, and revoke the tokens that no other session needs.",
    )
    add_selection(ending, required=True)
    ending.add_argument("--yes", action="store_true", help="with --all: do not ask")
    for each in (listing, ending):
        add_env_file(each)
        add_json(each)


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) <= 1_000_000:
        raise argparse.ArgumentTypeError("write a number from 1 to 1000000")
    return int(text)


def run(options: argparse.Namespace) -> None:
    """List or end sessions.

    Args:
        options: The command line.

    Raises:
        AuthenticationError: The settings are not those of a site, the store is down, or no session that was
            selected ended.
    """
    with closing(SiteStores(options)) as stores:
        if options.action == "list":
            _list(stores, options)
        else:
            _end(stores, options)


def _list(stores: SiteStores, options: argparse.Namespace) -> None:
    listing = Listing(options.limit)
    listing.load(stores.sessions, narrowed(selected(options), stores.sessions))
    if listing.unreadable:
        complain(f"{_counted(listing.unreadable)} cannot be read with these settings: {_READ_THEM}.")
    doubt = "" if listing.stored else stores.doubt()
    if doubt:
        complain(doubt)
    if options.json:
        sessions = [members_of(each) for each in listing.sessions()]
        hint = {"hint": doubt} if doubt else {}
        show_json({"store": stores.members(), "sessions": sessions, **listing.counts(), **hint})
        return
    show("\n".join([f"Looked into: {stores.line()}", *map(line_of, listing.sessions()), _shown(listing)]))


def _shown(listing: Listing) -> str:
    listed = min(listing.limit, listing.matching)
    text = f"Listed: {listed} of {_counted(listing.stored)}."
    if listed < listing.matching:
        text += f" They are the newest of {listing.matching} selected: raise --limit to see more."
    return text


def _end(stores: SiteStores, options: argparse.Namespace) -> None:
    _confirm(stores, options)
    ending, failure, interrupt = Ending(stores.accounts()), None, None
    is_whole = options.user is not None and options.browser is None and options.older_than is None
    try:
        with audit_shown():
            ending.end(narrowed(selected(options), stores.sessions), whole_user=is_whole)
    except StoreUnavailable as error:
        failure = _cut_off("The store failed", ending, error.error, f": {error}")
    except KeyboardInterrupt as error:
        failure, interrupt = _cut_off("The command was interrupted", ending, ErrorCode.CANCELLED), error
    failure = failure or _incomplete(ending, stores)
    if options.json:
        told = {} if failure is None else {"error": failure.error, "error_description": str(failure)}
        show_json({"store": stores.members(), **_counts(ending), **told})
        options.json = False  # the object is printed already
    else:
        show("\n".join(_report(ending, stores)))
    if interrupt is not None:
        complain(str(failure))
        raise interrupt  # so that the exit code is that of every interrupted command
    if failure is not None:
        raise failure


def _cut_off(condition: str, ending: Ending, code: str, cause: str = ".") -> AuthenticationError:
    """Return the failure of a command that did only a part of its work."""
    done = f"after {_counted(ending.ended)} had ended" if ending.ended else "before a session had ended"
    text = f"{condition} {done}{cause} Repeat the command, which finishes the work."
    return AuthenticationError(text, error=code)


def _confirm(stores: SiteStores, options: argparse.Namespace) -> None:
    """Ask before the sessions of all users end."""
    if not options.all or options.yes:
        return
    if not is_terminal(sys.stdin):
        options.refuse("--all ends sessions of all users: confirm it with --yes")
    with suppress(OSError, ValueError):
        write(sys.stderr, f"pywry-auth: end sessions of all users in {stores.line()}? [y/N] ")
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise AuthenticationError("No session was ended.", error=ErrorCode.CANCELLED)


def _incomplete(ending: Ending, stores: SiteStores) -> AuthenticationError | None:
    if ending.unreadable:
        they = "it" if ending.unreadable == 1 else "they"
        return AuthenticationError(
            f"{_counted(ending.unreadable)} did not end, because {they} cannot be read with these settings: "
            f"{_READ_THEM}.",
            error=ErrorCode.INVALID_CONFIGURATION,
        )
    if ending.ended or ending.removed:
        return None
    doubt = "" if ending.seen else stores.doubt()
    text = f"No such session was found among {_counted(ending.seen)} in {stores.line()}. {doubt}"
    return AuthenticationError(text.strip(), error=ErrorCode.NOT_SIGNED_IN)


def _report(ending: Ending, stores: SiteStores) -> list[str]:
    lines = [
        f"Looked into: {stores.line()}",
        f"Ended: {ending.ended} of {_counted(ending.seen + ending.unreadable)}.",
    ]
    if ending.removed or ending.revoked:
        accounts, revocations = _counted(ending.removed, "account"), _counted(ending.revoked, "revocation")
        lines.append(f"Tokens: removed those of {accounts}; the provider confirmed {revocations}.")
    if ending.queued:
        are = "is" if ending.queued == 1 else "are"
        lines.append(f"{_counted(ending.queued, 'revocation')} {are} left {_LATER}")
    return lines


def _counts(ending: Ending) -> dict[str, int]:
    return {
        "ended": ending.ended,
        "seen": ending.seen,
        "unreadable": ending.unreadable,
        "tokens_removed": ending.removed,
        "tokens_revoked": ending.revoked,
        "tokens_left": ending.queued,
    }


def _counted(number: int, thing: str = "session") -> str:
    return f"{number} {thing if number == 1 else thing + 's'}"
