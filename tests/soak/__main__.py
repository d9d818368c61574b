"""The soak test: load, faults at random, and an oracle for every user.

Usage: ``python -m tests.soak --store redis --seconds 600 --seed 1 --table FILE``. The exit code is 1 if a
figure that must be zero is not.
"""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path

from tests.soak.run import Plan, Run
from tests.soak.table import table


def main() -> int:
    """Run the test, print its table, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__.partition("\n")[0])
    parser.add_argument("--store", choices=("redis", "sqlite"), default="redis")
    parser.add_argument("--seconds", type=float, default=600.0, help="the time with load and faults")
    parser.add_argument("--seed", type=int, default=0, help="0 selects one at random")
    parser.add_argument("--table", type=Path, help="a file for the table")
    parser.add_argument("--log", type=Path, help="a file for faults and violations")
    parser.add_argument("--calm", action="store_true", help="inject no faults")
    options = parser.parse_args()
    seed = options.seed or random.randrange(1, 1_000_000)  # noqa: S311  # not a secret
    log = options.log or Path(f"soak-{options.store}-{seed}.log")
    log.write_text("", encoding="utf-8")
    print(f"soak: {options.store}, {options.seconds:g} s, seed {seed}, log {log}", flush=True)
    journal = Run(Plan(options.store, options.seconds, seed, log, calm=options.calm)).run()
    text = table(journal, f"{options.store}, {options.seconds:g} s, seed {seed}")
    print(text)
    if options.table:
        options.table.write_text(text, encoding="utf-8")
    return 1 if journal.failed() or journal.counts["driver: errors"] else 0


if __name__ == "__main__":
    sys.exit(main())
