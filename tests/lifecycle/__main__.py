"""Runs one schedule, or all of them, and prints their findings.

``python -m tests.lifecycle 1 login logout 3`` runs one schedule and prints its steps. Without arguments, all
cases run, and the findings are grouped by pair of operations.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from itertools import product

from tests.lifecycle.operations import ALL_CASES
from tests.lifecycle.schedules import Schedule, run, schedules
from tests.lifecycle.world import World

_LIMIT = 100  # schedules with two pre-emptions for each case


def main(arguments: list[str]) -> int:
    """Return 0 if every rule holds."""
    return _one(arguments) if arguments else _all()


def _one(arguments: list[str]) -> int:
    browsers, first, second, steps, *more = arguments
    second_steps = int(more[0]) if more else None
    with World() as world:
        course = run(world, Schedule(first, second, int(browsers), int(steps), second_steps))
    for name, taken in ((first, course.first), (second, course.second)):
        print(f"{name}:")
        for number, step in enumerate(taken):
            print(f"  {number:3} {step}")
    print("\n".join(course.findings) or "no finding")
    return 1 if course.findings else 0


def _all() -> int:
    found: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    number = 0
    for (browsers, first, second), pauses in product(ALL_CASES, (1, 2)):
        with World() as world:
            for schedule in schedules(world, first, second, browsers, pauses=pauses, limit=_LIMIT):
                number += 1
                for finding in run(world, schedule).findings:
                    found[f"{first} / {second}"][finding].append(str(schedule))
    for pair, reasons in found.items():
        print(pair)
        for reason, names in reasons.items():
            print(f"  {reason}: {len(names)} schedules: {'; '.join(names[:12])}")
    print(f"{number} schedules")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
