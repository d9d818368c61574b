"""The oracle of these tests notices each kind of damage."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pywry_auth.backends.base import Terms
from tests.lifecycle.operations import Operation, Seat, cancellation, demotion, login, logout, refresh
from tests.lifecycle.oracle import LATE, findings
from tests.lifecycle.world import USER, World

_NOTHING = Operation(lambda: None, (None,))


def _tokens_lost(world: World) -> None:
    world.workers[0].tokens.delete(USER)


def _sessions_lost(world: World) -> None:
    world.workers[0].sessions.delete_user_sessions(USER)


def _session_of_a_stranger(world: World) -> None:
    world.workers[0].sessions.create_session("unknown", USER)


def _grant_revoked(world: World) -> None:
    worker = world.workers[0]
    tokens = worker.tokens.load(USER)
    assert tokens is not None
    worker.provider.revoke_token(tokens.refresh_token or "")


def _older_grant_put_back(world: World) -> None:
    key = f"oauth:tokens:{USER}"
    older = world.backend.get(key)
    assert older is not None
    world.sign_in(world.new_browser("new browser"))
    world.backend.put(key, older, Terms(group="oauth:tokens"))


def _lock_left(world: World) -> None:
    world.backend.put("oauth:lock:" + USER, b"a holder that died")


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda world: None, set()),
        (_tokens_lost, {"a session is left, but no tokens are stored", "a grant is live"}),
        (_sessions_lost, {"a browser is signed out", "tokens are stored, but no session is left"}),
        (_session_of_a_stranger, {"there is a session that no browser knows", "a session is left"}),
        (_grant_revoked, {"the stored tokens are not active at the provider"}),
        (_older_grant_put_back, {"an older grant replaced a newer one"}),
        (_lock_left, {"a lock was not released"}),
    ],
)
def test_damage_between_two_requests_is_found(
    world: World, damage: Callable[[World], None], expected: set[str]
) -> None:
    world.restart()
    damage(world)
    found = {finding.removesuffix(LATE) for finding in _of(world, _NOTHING)}
    assert expected <= found
    assert bool(found) == bool(expected)


@pytest.mark.parametrize(
    ("prepare", "result", "expected"),
    [
        (logout, (200, True), "a browser is still signed in"),
        (login, 303, "a new browser is signed out"),
        (demotion, None, "a demotion was undone"),
        (refresh, 503, "an answer is 503"),
    ],
)
def test_an_operation_without_effect_is_found(
    world: World, prepare: Callable[[Seat], Operation], result: object, expected: str
) -> None:
    """Its answer claims a success, or is an error that nothing explains."""
    world.restart()
    assert _of(world, prepare(Seat(world, 0)), result) == [expected]


def test_a_kept_grant_of_a_cancelled_login_is_found(world: World) -> None:
    world.restart()
    operation = cancellation(Seat(world, 0))
    world.sign_in(world.new_browser("new browser"))
    kept = world.grants[-1].number
    found = findings(world, [(operation, "cancelled", [kept])])
    assert {"an unwanted grant was not revoked", "an unwanted grant was stored"} <= set(found)


def _of(world: World, operation: Operation, result: object = None) -> list[str]:
    return findings(world, [(operation, result, [])])
