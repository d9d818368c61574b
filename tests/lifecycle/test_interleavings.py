"""Whatever overlaps, each grant has an owner or is revoked, and what ended stays ended. [T43]

A failing test names its schedules. ``python -m tests.lifecycle`` followed by such a name runs one of them and
prints its steps.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable

import pytest

from pywry_auth.backends.base import Backend
from tests.lifecycle.operations import ALL_CASES, CASES, PAIRS
from tests.lifecycle.schedules import Course, run, schedules
from tests.lifecycle.world import World

_SOAK = bool(os.environ.get("SOAK"))
_CASES = ALL_CASES if _SOAK else CASES
_TWICE = 1000 if _SOAK else 3
"""The number of schedules with two pre-emptions for each case, at most."""

_SAMPLE = [
    ("login", "logout"),
    ("logout", "login"),
    ("logout", "logout"),
    ("refresh", "refresh"),
    ("refresh", "everywhere"),
    ("everywhere", "refresh"),
    ("renewed_login", "renewed_login"),
]
"""The pairs that also run on shared stores."""

_LINKED = PAIRS if _SOAK else [("login", "everywhere"), ("logout", "login")]
"""The pairs that also run where the site's hook gives the user another ID."""


@pytest.mark.parametrize(("browsers", "first", "second"), _CASES)
def test_an_operation_may_run_between_two_steps_of_another(
    world: World, browsers: int, first: str, second: str
) -> None:
    """The first operation stops before each of its steps in turn, and the second runs as a whole."""
    planned = schedules(world, first, second, browsers, pauses=1)
    _assert_sound(run(world, schedule) for schedule in planned)


@pytest.mark.parametrize(("browsers", "first", "second"), _CASES)
def test_two_operations_may_interrupt_each_other(
    world: World, browsers: int, first: str, second: str
) -> None:
    """Both operations stop once, and the first ends before the second goes on."""
    planned = schedules(world, first, second, browsers, pauses=2, limit=_TWICE)
    _assert_sound(run(world, schedule) for schedule in planned)


@pytest.mark.parametrize(("first", "second"), _SAMPLE)
def test_operations_may_overlap_on_a_shared_store(
    world: World, new_store: Callable[[], Backend], first: str, second: str
) -> None:
    """Sessions and tokens are in a file or a server, as they are with several processes."""
    planned = schedules(world, first, second, 1, pauses=1)
    _assert_sound(run(world, schedule, new_store()) for schedule in planned)


@pytest.mark.parametrize(("first", "second"), _LINKED)
def test_operations_may_overlap_where_the_user_has_an_id_of_the_site(
    linked_world: World, first: str, second: str
) -> None:
    """Sessions go by the user, tokens by the account."""
    planned = schedules(linked_world, first, second, 1, pauses=1)
    _assert_sound(run(linked_world, schedule) for schedule in planned)


def _assert_sound(courses: Iterable[Course]) -> None:
    found: dict[str, list[str]] = defaultdict(list)
    for course in courses:
        for finding in course.findings:
            found[finding].append(str(course.schedule))
    assert not found, dict(found)
