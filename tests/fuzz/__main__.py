"""Searches for inputs that break a property of a door: ``python -m tests.fuzz --seconds 60 --door next``.

A failing input is written to a file. ``--replay FILE`` sends it through its door again.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from tests.fuzz.doors import DOORS, ROOT, check_of

_LOCAL = ROOT / ".fuzz"  # git ignores it
_START_SECONDS = 120  # for the start, and to make a failing input smaller


def main() -> int:
    """Run the command, and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--door", choices=["all", *DOORS], default="all", help="where the inputs enter")
    parser.add_argument("--seconds", type=int, default=60, help="the time for each door")
    parser.add_argument("--replay", type=Path, help="a file with one input; needs --door")
    wanted = parser.parse_args()
    if wanted.replay:
        check_of(wanted.door)(wanted.replay.read_bytes())
        return 0
    doors = DOORS if wanted.door == "all" else (wanted.door,)
    return max([_search(door, wanted.seconds) for door in doors])


def _search(door: str, seconds: int) -> int:
    """Try inputs at one door; return 1 if one fails, and print where it is."""
    folder = _LOCAL / door
    for name in ("kept", "failing"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    earlier = set((folder / "failing").iterdir())
    log = folder / "log.txt"
    command = [sys.executable, "-m", "tests.fuzz.engine", door, str(folder), str(seconds)]
    with log.open("wb") as out:
        code = subprocess.run(
            command, stdout=out, stderr=subprocess.STDOUT, cwd=ROOT, timeout=seconds + _START_SECONDS
        ).returncode
    failing = sorted(set((folder / "failing").iterdir()) - earlier)
    print(f"{door:14}{'fails' if code else 'ok':7}{_figures(log)}", flush=True)
    if code and not failing:
        print(f"  the search itself failed: see {log.relative_to(ROOT)}")
    for path in failing:
        file = path.relative_to(ROOT)
        print(f"  {file}\n  replay: {sys.executable} -m tests.fuzz --door {door} --replay {file}")
    return 1 if code else 0


def _figures(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()
    told = [line.removeprefix("stat::") for line in lines if line.startswith("stat::number_of_executed")]
    return " ".join(told[-1].split()) if told else ""


if __name__ == "__main__":
    sys.exit(main())
