"""Searches for inputs that break a property of a door: ``python -m tests.fuzz --seconds 60 --door next``.

A failing input is written to a file. ``--replay FILE`` sends it through its door again.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from tests.fuzz.doors import DOORS, LAST, ROOT, check_of

_LOCAL = ROOT / ".fuzz"  # git ignores it
_LOG = "log.txt"
_START_SECONDS = 120  # for the start and the last input


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
    (folder / LAST).write_bytes(b"")
    failed = not _succeeds(
        [sys.executable, "-m", "tests.fuzz.engine", door, str(folder), str(seconds)], folder
    )
    print(f"{door:14}{'fails' if failed else 'ok':7}{_figures(folder / _LOG)}", flush=True)
    if failed:
        data = (folder / LAST).read_bytes()
        file = folder / "failing" / sha256(data).hexdigest()[:16]
        file.write_bytes(data)
        shown = file.relative_to(ROOT)
        print(f"  input: {shown}\n  log: {(folder / _LOG).relative_to(ROOT)}")
        print(f"  replay: {sys.executable} -m tests.fuzz --door {door} --replay {shown}", flush=True)
    return int(failed)


def _succeeds(command: Sequence[str], folder: Path) -> bool:
    """Run the search in a process; False if an input fails or does not return in time."""
    limit = int(command[-1]) + _START_SECONDS
    with (folder / _LOG).open("wb") as out:
        try:
            run = subprocess.run(command, stdout=out, stderr=subprocess.STDOUT, cwd=ROOT, timeout=limit)
        except subprocess.TimeoutExpired:
            return False
    return run.returncode == 0


def _figures(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()
    told = [line.removeprefix("stat::") for line in lines if line.startswith("stat::number_of_executed")]
    return " ".join(told[-1].split()) if told else ""


if __name__ == "__main__":
    sys.exit(main())
