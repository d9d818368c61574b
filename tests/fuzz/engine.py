"""Makes inputs for one door until the time is over or an input fails.

With atheris, the inputs follow the coverage of the code. Without it, hypothesis changes the committed inputs.
"""

from __future__ import annotations

import logging
import sys
import time
from hashlib import sha1
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.database import DirectoryBasedExampleDatabase

from tests.fuzz.doors import check_of, corpus_of, inputs_of

_LONGEST_INPUT = 8192  # bytes
_ROUND = 200  # inputs of hypothesis between two looks at the clock
_INSTRUMENTED = ["pywry_auth", "itsdangerous", "joserfc", "werkzeug"]


def main(door: str, folder: str, seconds: str) -> None:
    """Try inputs at a door.

    Args:
        door: The name of the door.
        folder: The folder with ``kept`` for new interesting inputs and ``failing`` for those that failed.
        seconds: The time in seconds.
    """
    logging.disable(logging.CRITICAL)
    if find_spec("atheris"):
        _with_atheris(door, Path(folder), int(seconds))
    else:
        _with_hypothesis(door, Path(folder), int(seconds))


def _with_atheris(door: str, folder: Path, seconds: int) -> None:
    atheris = import_module("atheris")
    with atheris.instrument_imports(include=_INSTRUMENTED):
        check = check_of(door)
    limits = [f"-max_total_time={seconds}", "-timeout=20", "-rss_limit_mb=1024", f"-max_len={_LONGEST_INPUT}"]
    folders = [f"-artifact_prefix={folder / 'failing'}/", str(folder / "kept"), str(corpus_of(door))]
    atheris.Setup([sys.argv[0], *limits, "-print_final_stats=1", *folders], check)
    atheris.Fuzz()


def _with_hypothesis(door: str, folder: Path, seconds: int) -> None:
    check, ends = check_of(door), time.monotonic() + seconds
    seeds = [path.read_bytes() for path in inputs_of(door)]
    database = DirectoryBasedExampleDatabase(folder / "kept")
    tried: list[bytes] = []

    @settings(max_examples=_ROUND, deadline=None, database=database, suppress_health_check=list(HealthCheck))
    @given(st.one_of(st.binary(max_size=_LONGEST_INPUT), _changed(seeds)))
    def one_round(data: bytes) -> None:
        tried[:] = [data]
        check(data)

    while time.monotonic() < ends:
        try:
            one_round()
        except Exception:  # the last input is the smallest that fails
            _keep(folder / "failing", tried[0])
            raise


@st.composite
def _changed(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """Return a committed input in which one part is replaced by bytes or by a part of another one."""
    seed, other = draw(st.sampled_from(seeds)), draw(st.sampled_from(seeds))
    first, last = sorted((draw(st.integers(0, len(seed))), draw(st.integers(0, len(seed)))))
    part = draw(st.one_of(st.binary(max_size=16), st.integers(0, len(other)).map(lambda end: other[:end])))
    return seed[:first] + part + seed[last:]


def _keep(folder: Path, data: bytes) -> None:
    name = sha1(data, usedforsecurity=False).hexdigest()  # as atheris names its files
    (folder / f"crash-{name}").write_bytes(data)


if __name__ == "__main__":
    main(*sys.argv[1:])
