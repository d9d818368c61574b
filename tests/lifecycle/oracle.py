"""What must hold after any schedule, as findings in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

from pywry_auth.testing.identity_provider.book import IssuedGrant
from tests.lifecycle.operations import DEMOTED, Operation
from tests.lifecycle.world import USER, Browser, World

Outcome = tuple[Operation, Any, Sequence[int]]
"""An operation, its result, and the numbers of the grants that it obtained."""

LATE = " after the user signed out everywhere"


def findings(world: World, outcomes: Sequence[Outcome], *, store_failed: bool = False) -> list[str]:
    """Return one sentence for each rule that does not hold.

    Args:
        world: The site after the operations.
        outcomes: The operations with their results.
        store_failed: Whether the store has failed. A session that no browser knows may then last until the
            user has signed out in the browser that began it, and a lock until it expires.
    """
    world.try_revocations_again()
    signed_in = [browser for browser in world.browsers if browser.is_signed_in(world.workers[0])]
    operations = [operation for operation, _, _ in outcomes]
    unwanted = {number for operation, _, grants in outcomes if operation.unwanted for number in grants}
    found = [
        *_of_answers(outcomes),
        *_of_browsers(world, operations, signed_in),
        *_of_grants(world, unwanted),
        *_of_stored_tokens(world, operations, signed_in),
    ]
    if len(world.sessions_of_user()) > len(signed_in) and not (store_failed or _is_in_two_tabs(operations)):
        found.append("there is a session that no browser knows")
    if world.backend.abandoned_locks and not store_failed:
        found.append("a lock was not released")
    world.sign_out(native=any(operation.native for operation in operations))
    world.try_revocations_again()
    return found + [finding + LATE for finding in _of_remains(world)]


def _of_answers(outcomes: Sequence[Outcome]) -> Iterator[str]:
    for operation, result, _ in outcomes:
        others = [other for other, _, _ in outcomes if other is not operation]
        # The session of a browser ends when the user signs out, and when the user signs in there again.
        used = operation.uses
        ended = used and any(other.ends_all or used in (other.ends, other.begins) for other in others)
        refused = [status for other in others for status in other.refuses]
        if result not in (*operation.results, *((401,) if ended else ()), *refused):
            yield f"an answer is {result!r}"


def _of_browsers(
    world: World, operations: Sequence[Operation], signed_in: Sequence[Browser]
) -> Iterator[str]:
    for browser in world.browsers:
        kind, allowed = browser.name.rstrip(" 0123456789"), _allowed(browser, operations)
        if True not in allowed and not browser.has_ended(world.workers[0]):
            yield f"a {kind} is still signed in"
        if False not in allowed and browser not in signed_in:
            yield f"a {kind} is signed out"
        session = world.first_session_of(browser)
        demoted = any(browser in operation.demotes for operation in operations)
        if demoted and session is not None and session.roles != DEMOTED:
            yield "a demotion was undone"


def _allowed(browser: Browser, operations: Sequence[Operation]) -> set[bool]:
    """Return whether a browser may be signed in after the operations: True, False or both."""
    begun = any(operation.begins is browser for operation in operations)
    ended = any(operation.ends_all or operation.ends is browser for operation in operations)
    return {True, False} if begun and ended else {not ended}


def _is_in_two_tabs(operations: Sequence[Operation]) -> bool:
    """Return whether one browser signed in twice at once.

    Nothing but the browser's next request tells which session it kept.
    """
    begun = [id(operation.begins) for operation in operations if operation.begins]
    return len(begun) > len(set(begun))


def _of_grants(world: World, unwanted: set[int]) -> Iterator[str]:
    if any(grant.live and grant.number in unwanted for grant in world.grants):
        yield "an unwanted grant was not revoked"
    if any(number in unwanted for number in world.history):
        yield "an unwanted grant was stored"
    if any(_may_not_live(world, grant) for grant in world.grants):
        yield "a live grant is neither stored nor superseded"
    for earlier, later in pairwise(world.history):
        if earlier is not None and later is not None and later < earlier:
            yield "an older grant replaced a newer one"


def _may_not_live(world: World, grant: IssuedGrant) -> bool:
    superseded = any(number is not None and number > grant.number for number in world.history)
    return grant.live and grant != world.stored and not superseded


def _of_stored_tokens(
    world: World, operations: Sequence[Operation], signed_in: Sequence[Browser]
) -> Iterator[str]:
    stored = world.stored is not None
    if stored and not world.stored_is_active:
        yield "the stored tokens are not active at the provider"
    if any(operation.native for operation in operations):
        if stored and any(operation.ends_all for operation in operations):
            yield "tokens are stored, but the user signed out"
        return
    sessions = world.sessions_of_user()
    if stored and not sessions:
        yield "tokens are stored, but no session is left"
    if sessions and not stored:
        yield "a session is left, but no tokens are stored"
    # All browsers share the user's tokens, so one of them is enough.
    worker = world.workers[1]
    if any(browser.send(worker, "POST", "/auth/refresh").status_code != 200 for browser in signed_in[:1]):
        yield "a browser is signed in, but cannot refresh"


def _of_remains(world: World) -> Iterator[str]:
    if world.sessions_of_user():
        yield "a session is left"
    if world.workers[0].tokens.exists(USER):
        yield "tokens are stored"
    if any(_may_not_live(world, grant) for grant in world.grants):
        yield "a grant is live"
