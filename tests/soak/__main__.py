"""The soak test: load, faults at random, and an oracle for every user.

Usage: ``python -m tests.soak --store redis --seconds 600 --seed 1 --figures FILE.json``. Then
``python -m tests.soak --page docs/operating/soak.md FILE.json...`` writes the figures of several runs into
a page.
The exit code is 1 if a figure that must be zero is not.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
from pathlib import Path

from tests.soak.figures import Figures, read_figures
from tests.soak.page import write_page
from tests.soak.run import Plan, Run
from tests.soak.table import STORES, details, table


def main() -> int:
    """Run the test on each store, print the table, and return the exit code."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # ends the servers, too
    figures = [read_figures(path) for path in options.files] or _run_all(options)
    print(table(figures))
    if options.page:
        write_page(options.page, figures)
    for each in figures:
        for name in each.failed():
            print(f"soak: {each.store}: {name} must be 0, and is {each.counts[name]}")
    return 1 if any(each.failed() for each in figures) else 0


def _run_all(options: argparse.Namespace) -> list[Figures]:
    seed = options.seed or random.randrange(1, 1_000_000)  # noqa: S311  # not a secret
    stores = list(STORES) if options.store == "all" else [options.store]
    found = []
    for store in stores:
        log = options.logs / f"soak-{store}-{seed}.log"
        log.unlink(missing_ok=True)
        print(f"soak: {store}, {options.seconds:g} s, seed {seed}, log {log}", flush=True)
        found.append(Run(Plan(store, options.seconds, seed, log, calm=options.calm)).run())
        print(details(found[-1:]), flush=True)
        if options.figures:
            found[-1].save(_of_store(options.figures, store, stores))
    return found


def _of_store(path: Path, store: str, stores: list[str]) -> Path:
    """Return the file for the figures of a store."""
    return path if len(stores) == 1 else path.with_name(f"{path.stem}-{store}{path.suffix}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "files", type=Path, nargs="*", help="figures of earlier runs, which are shown in place of a run"
    )
    parser.add_argument("--store", choices=(*STORES, "all"), default="all")
    parser.add_argument(
        "--seconds", type=float, default=600.0, help="the time with load and faults, per store"
    )
    parser.add_argument("--seed", type=int, default=0, help="0 selects one at random")
    parser.add_argument("--figures", type=Path, help="a JSON file for the figures; one per store with `all`")
    parser.add_argument("--page", type=Path, help="a page of the documentation that gets the table")
    parser.add_argument(
        "--logs", type=Path, default=Path(tempfile.gettempdir()), help="a folder for faults and violations"
    )
    parser.add_argument("--calm", action="store_true", help="inject no faults")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
