"""All schedules of two operations with one or two pre-emptions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product

from pywry_auth.backends.base import Backend
from tests.lifecycle.operations import OPERATIONS, Seat
from tests.lifecycle.oracle import findings
from tests.lifecycle.stepping import Actor, Deadlock, drive
from tests.lifecycle.world import World

_OWN = ("pending", "login_rate")
"""The kinds of records that belong to one login."""


@dataclass(frozen=True)
class Schedule:
    """Two operations that overlap.

    The first stops before a step; the second runs, perhaps up to a step; the first ends; the second ends.

    Args:
        first: The name of the first operation.
        second: The name of the second operation.
        browsers: The number of browsers in which the user begins signed in.
        steps: How many steps the first operation makes before the second begins.
        second_steps: How many steps the second makes before the first goes on; None for all.
    """

    first: str
    second: str
    browsers: int
    steps: int
    second_steps: int | None = None

    def __str__(self) -> str:
        pause = "" if self.second_steps is None else f" {self.second_steps}"
        return f"{self.browsers} {self.first} {self.second} {self.steps}{pause}"


@dataclass(frozen=True)
class Course:
    """What happened in a schedule.

    Args:
        schedule: The schedule.
        findings: One sentence for each rule that does not hold.
        first: The steps of the first operation.
        second: The steps of the second operation.
    """

    schedule: Schedule
    findings: list[str]
    first: list[str]
    second: list[str]


def run(world: World, schedule: Schedule, backend: Backend | None = None) -> Course:
    """Carry out a schedule in a restarted world."""
    world.restart(backend, schedule.browsers)
    names = (schedule.first, schedule.second)
    seats = [OPERATIONS[name](Seat(world, number)) for number, name in enumerate(names)]
    world.backend.calls.clear()
    first, second = (Actor(name, seat.act) for name, seat in zip(names, seats, strict=True))
    found = []
    try:
        drive(first, schedule.steps, second)
        drive(second, schedule.second_steps, first)
        drive(first, None, second)
        drive(second, None, first)
    except Deadlock as error:
        found.append(str(error))
    for actor in (first, second):
        actor.join()
        if actor.error is not None:
            found.append(f"an operation raised {type(actor.error).__name__}")
    outcomes = [
        (seat, actor.result, actor.grants) for seat, actor in zip(seats, (first, second), strict=True)
    ]
    try:
        found += findings(world, outcomes)
    except Exception as error:  # noqa: BLE001 - it must not hide the name of the schedule
        found.append(f"the oracle raised {error!r}")
    return Course(schedule, found, first.steps, second.steps)


def schedules(
    world: World, first: str, second: str, browsers: int, *, pauses: int, limit: int | None = None
) -> list[Schedule]:
    """Return the schedules of a pair of operations.

    With two pre-emptions, no operation stops before a step that only itself can notice.

    Args:
        world: The site, which is used to count the steps.
        first: The name of the first operation.
        second: The name of the second operation.
        browsers: The number of browsers in which the user begins signed in.
        pauses: The number of pre-emptions: 1 or 2.
        limit: The number of schedules at most, evenly spread over all; None for all.
    """
    steps = _steps_alone(world, first, browsers, 0)
    if pauses == 1:
        found = [Schedule(first, second, browsers, step) for step in range(len(steps))]
    else:
        others = _steps_alone(world, second, browsers, 1)
        found = [
            Schedule(first, second, browsers, step, other)
            for step, other in product(_shared(steps), _shared(others))
        ]
    return found if limit is None else found[:: max(1, math.ceil(len(found) / limit))]


def _steps_alone(world: World, name: str, browsers: int, seat: int) -> list[str]:
    """Return the steps of an operation that nothing interrupts."""
    world.restart(browsers=browsers)
    actor = Actor(name, OPERATIONS[name](Seat(world, seat)).act)
    assert actor.run()
    actor.join()
    return actor.steps


def _shared(steps: list[str]) -> list[int]:
    return [number for number, step in enumerate(steps) if number and not step.endswith(_OWN)]
