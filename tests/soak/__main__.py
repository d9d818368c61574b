"""The soak test: load, faults at random, and an oracle for every user.

Usage: ``python -m tests.soak --store redis --seconds 600 --seed 1 --table FILE``. The exit code is 1 if a
figure that must be zero is not.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
from pathlib import Path

from tests.soak.journal import Journal
from tests.soak.run import Plan, Run
from tests.soak.table import table

_STORES = ("redis", "sqlite")


def main() -> int:
    """Run the test on each store, print the table, and return the exit code."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # ends the servers, too
    seed = options.seed or random.randrange(1, 1_000_000)  # noqa: S311  # not a secret
    journals: dict[str, Journal] = {}
    for store in _STORES if options.store == "both" else (options.store,):
        log = options.logs / f"soak-{store}-{seed}.log"
        log.unlink(missing_ok=True)
        print(f"soak: {store}, {options.seconds:g} s, seed {seed}, log {log}", flush=True)
        journals[store] = Run(Plan(store, options.seconds, seed, log, calm=options.calm)).run()
    text = table(journals, f"{options.seconds:g} s, seed {seed}")
    print(text)
    if options.table:
        options.table.write_text(text, encoding="utf-8")
    return 1 if any(journal.failed() for journal in journals.values()) else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--store", choices=(*_STORES, "both"), default="both")
    parser.add_argument(
        "--seconds", type=float, default=600.0, help="the time with load and faults, per store"
    )
    parser.add_argument("--seed", type=int, default=0, help="0 selects one at random")
    parser.add_argument("--table", type=Path, help="a file for the table")
    parser.add_argument(
        "--logs", type=Path, default=Path(tempfile.gettempdir()), help="a folder for faults and violations"
    )
    parser.add_argument("--calm", action="store_true", help="inject no faults")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
