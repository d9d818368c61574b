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

_OWN = "oauth:revocation"
"""The kind of the records that no two operations share."""

_CHANGES = {"put", "pop", "count"}
"""The calls that change a record."""


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
    world: World, first: str, second: str, browsers: int, *, pauses: int, limit: int = 1000
) -> list[Schedule]:
    """Return the schedules of a pair of operations.

    Args:
        world: The site, which is used to count the steps.
        first: The name of the first operation.
        second: The name of the second operation.
        browsers: The number of browsers in which the user begins signed in.
        pauses: The number of pre-emptions: 1 or 2.
        limit: The number of schedules with two pre-emptions at most, evenly spread over those that differ in
            an order that matters.
    """
    steps = _steps_alone(world, first, browsers, 0)
    if pauses == 1:
        return [Schedule(first, second, browsers, step) for step in range(len(steps) or 1)]
    others = _steps_alone(world, second, browsers, 1)
    found = [
        Schedule(first, second, browsers, step, other)
        for step, other in product(range(1, len(steps)), range(1, len(others)))
        if _matters(steps, step, others, other)
    ]
    return found[:: max(1, math.ceil(len(found) / limit))]


def _matters(first: list[str], step: int, second: list[str], other: int) -> bool:
    """Return whether each operation's last step before it stops cannot change places with the next part."""
    return any(_conflict(first[step - 1], later) for later in second[:other]) and any(
        _conflict(second[other - 1], later) for later in first[step:]
    )


def _conflict(one: str, another: str) -> bool:
    """Return whether the order of two steps matters: one of them changes what the other one uses."""
    calls, records = zip(one.split(maxsplit=1), another.split(maxsplit=1), strict=True)
    if "provider" in calls:
        return set(calls) == {"provider"}
    if _OWN in records:
        return False
    same = records[0] == records[1] or ("session *" in records and all("session" in name for name in records))
    return same and bool(_CHANGES.intersection(calls))


def _steps_alone(world: World, name: str, browsers: int, seat: int) -> list[str]:
    """Return the steps of an operation that nothing interrupts."""
    world.restart(browsers=browsers)
    actor = Actor(name, OPERATIONS[name](Seat(world, seat)).act)
    assert actor.run()
    actor.join()
    return actor.steps
