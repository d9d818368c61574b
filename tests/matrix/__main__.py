"""``python -m tests.matrix [TEXT]`` runs all trials, or those whose names contain a text."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from tests.matrix import table
from tests.matrix.combinations import COMBINATIONS
from tests.matrix.trial import run
from tests.peers.redis_server import RedisServer
from tests.peers.tls import make_tls_files


def main() -> int:
    """Run the trials, and return the exit status: 1 if one failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.matrix", description=__doc__)
    parser.add_argument("text", nargs="?", default="", help="a part of the names of the trials to run")
    parser.add_argument("--keep", action="store_true", help="keep the folders with the logs")
    options = parser.parse_args()
    top = Path(tempfile.mkdtemp(prefix="matrix"))
    top.chmod(0o755)  # Apache runs as another user
    results = []
    with RedisServer(top) as redis:
        tls = make_tls_files(top)
        for number, trial in enumerate(COMBINATIONS):
            if options.text not in str(trial):
                continue
            folder = top / f"trial{number}"
            folder.mkdir()
            result = run(trial, folder, tls, redis)
            results.append(result)
            print(f"{result.seconds:5.1f} s  {trial}: {result.fault or 'right'}", flush=True)
    failed = [result for result in results if result.fault]
    if not options.text:
        table.write(results)
    if failed or options.keep:
        print(f"logs: {top}")
    else:
        shutil.rmtree(top)
    return 1 if failed or not results else 0


if __name__ == "__main__":
    sys.exit(main())
