"""``pywry-auth sessions``: the sessions of a site's users, for its operator."""

from __future__ import annotations

import argparse
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from pywry_auth.cli.output import add_env_file, add_json, complain, local_time, show, show_json
from pywry_auth.cli.session_ending import Ending, audit_shown
from pywry_auth.cli.session_selection import add_selection, selected
from pywry_auth.cli.site_stores import SiteStores
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError, StoreUnavailable, printable
from pywry_auth.native.streams import is_terminal
from pywry_auth.native.terminal import write
from pywry_auth.state.session_filter import SessionFilter

if TYPE_CHECKING:
    from pywry_auth.models import UserSession

_LIMIT = 100
_UNREADABLE = (
    "cannot be read with these settings: use the PYWRY_DEPLOY__ENCRYPTION_KEYS and REDIS_PREFIX of the site, "
    "and its version of this package"
)
_SWITCHED_OFF = (
    "PYWRY_DEPLOY__AUTH_ENABLED is not true in this shell: if the site does not pass its provider in code, "
    "these are not its settings"
)
_LATER = (
    "The workers of the site try the other revocations again for 24 hours, unless the provider has refused "
    "them."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments.

    Args:
        parser: The command's parser.
    """
    actions = parser.add_subparsers(required=True, metavar="list|end", dest="action")
    listing = actions.add_parser("list", help="list sessions", description="List sessions.")
    add_selection(listing, required=False)
    listing.add_argument(
        "--limit", metavar="N", type=_count, default=_LIMIT, help="the most to list; default: %(default)s"
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
    stores = SiteStores(options)
    if options.action == "list":
        _list(stores, options)
    else:
        _end(stores, options)


def _list(stores: SiteStores, options: argparse.Namespace) -> None:
    wanted, store = selected(options), stores.sessions
    found: list[UserSession] = []
    unreadable: list[str] = []
    seen = 0
    own = SessionFilter(user_id=wanted.user_id)
    for session in store.find_sessions(own, unreadable=unreadable.append):
        seen += 1
        if wanted.matches(session):
            found.append(session)
            if len(found) == options.limit:
                break
    ids = store.stored_ids() if wanted.user_id is None else store.session_ids(wanted.user_id)
    stored = sum(1 for _ in ids) if len(found) == options.limit else seen + len(unreadable)
    found.sort(key=lambda session: (session.user_id, session.created_at))
    if unreadable:
        complain(f"{_counted(len(unreadable))} {_UNREADABLE}.")
    if not stored and stores.is_switched_off:
        complain(f"{_SWITCHED_OFF}.")
    counts = {"seen": seen, "unreadable": len(unreadable), "stored": stored}
    if options.json:
        show_json({"store": stores.members(), "sessions": [_members(each) for each in found], **counts})
        return
    show("\n".join([f"Looked into: {stores.line()}", *map(_line, found), _shown(len(found), seen, stored)]))


def _shown(number: int, seen: int, stored: int) -> str:
    more = f" Looked at {seen} of them: raise --limit to see more." if stored > seen else ""
    return f"Listed: {number} of {_counted(stored)}.{more}"


def _end(stores: SiteStores, options: argparse.Namespace) -> None:
    _confirm(stores, options)
    ending, failure = Ending(stores.accounts()), None
    is_whole = options.user is not None and options.browser is None and options.older_than is None
    try:
        with audit_shown():
            ending.end(selected(options), whole_user=is_whole)
    except StoreUnavailable as error:
        failure = AuthenticationError(
            f"The store failed after {_counted(ending.ended)} had ended: {error} Repeat the command, which "
            "finishes the work.",
            error=error.error,
        )
    failure = failure or _incomplete(ending, stores)
    if options.json:
        told = {} if failure is None else {"error": failure.error, "error_description": str(failure)}
        show_json({"store": stores.members(), **_counts(ending), **told})
        options.json = False  # the object is printed already
    else:
        show("\n".join(_report(ending, stores)))
    if failure is not None:
        raise failure


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
        return AuthenticationError(
            f"{_counted(ending.unreadable)} did not end, because they {_UNREADABLE}.",
            error=ErrorCode.INVALID_CONFIGURATION,
        )
    if ending.ended or ending.removed:
        return None
    hint = f" {_SWITCHED_OFF}." if not ending.seen and stores.is_switched_off else ""
    return AuthenticationError(
        f"No such session was found among {_counted(ending.seen)} in {stores.line()}.{hint}",
        error=ErrorCode.NOT_SIGNED_IN,
    )


def _report(ending: Ending, stores: SiteStores) -> list[str]:
    lines = [
        f"Looked into: {stores.line()}",
        f"Ended: {ending.ended} of {_counted(ending.seen)}.",
    ]
    if ending.removed:
        accounts, revocations = _counted(ending.removed, "account"), _counted(ending.revoked, "revocation")
        lines.append(f"Tokens: removed those of {accounts}; the provider confirmed {revocations}.")
    if ending.removed > ending.revoked:
        lines.append(_LATER)
    return lines


def _counts(ending: Ending) -> dict[str, int]:
    return {
        "ended": ending.ended,
        "seen": ending.seen,
        "unreadable": ending.unreadable,
        "tokens_removed": ending.removed,
        "tokens_revoked": ending.revoked,
    }


def _counted(number: int, thing: str = "session") -> str:
    return f"{number} {thing if number == 1 else thing + 's'}"


def _line(session: UserSession) -> str:
    grant = session.grant
    where = "created by the application" if grant is None else f"signed in at {grant.provider or 'unknown'}"
    facts = [f"user ID {session.user_id}", where, session.browser, session.network]
    times = [f"since {local_time(session.created_at)}", f"until {local_time(session.expires_at)}"]
    return f"  {session.handle}  " + ", ".join([printable(each) for each in facts if each] + times)


def _members(session: UserSession) -> dict[str, object]:
    grant = session.grant
    return {
        "handle": session.handle,
        "user_id": session.user_id,
        "account": session.account,
        "provider": grant.provider if grant else "",
        "issuer": grant.issuer if grant else "",
        "roles": session.roles,
        "browser": session.browser,
        "network": session.network,
        "created_at": session.created_at,
        "expires_at": session.expires_at,
    }
