"""Makes inputs for one door until the time is over or an input fails.

With atheris, the inputs follow the coverage of the code. Without it, hypothesis changes the committed inputs.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from random import Random

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.database import DirectoryBasedExampleDatabase

from tests.fuzz.doors import LAST, Check, check_of, corpus_of, in_bounded_time, inputs_of

_LONGEST_INPUT = 8192  # bytes
_ROUND = 200  # inputs of hypothesis between two looks at the clock
_HOSTILE = [
    *(b"NaN", b"-Infinity", b"1e999", b"9" * 4400, b"-1", b"0", b"true", b"null", b"[]", b"{}", b"[" * 2000),
    *(
        b"\\ud800",
        b"\\u0000",
        b"\0",
        b"\r\n",
        b"\t",
        b"\x1b[31m",
        b"\xff",
        b"\xed\xa0\x80",
        "\u202e\uff0f".encode(),
    ),
    *(
        b"//",
        b"\\",
        b"..",
        b"@",
        b"#",
        b"?",
        b"%2f",
        b"%0d%0a",
        b"%00",
        b"%ff",
        b"%25",
        b"&",
        b";",
        b"=",
        b",",
        b" ",
    ),
    *(
        b"<img src=x onerror=alert(1)>",
        b'"',
        b"'",
        b"{{7*7}}",
        b"javascript:",
        b"https://",
        b"127.0.0.1",
        b"[::1]",
    ),
]
_INSTRUMENTED = ["pywry_auth", "itsdangerous", "joserfc", "werkzeug"]


def main(door: str, folder: str, seconds: str) -> None:
    """Try inputs at a door.

    Args:
        door: The name of the door.
        folder: The folder with ``kept`` for new interesting inputs and ``failing`` for failing ones.
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
    seeds = _seeds(door)

    def mutator(data: bytes, most: int, number: int) -> bytes:
        chance = Random(number)  # noqa: S311 - not a secret
        changed = atheris.Mutate(data, most) if chance.random() < 0.5 else _changed(data, seeds, chance)
        return bytes(changed[:most])

    limits = [f"-max_total_time={seconds}", "-timeout=20", "-rss_limit_mb=1024", f"-max_len={_LONGEST_INPUT}"]
    folders = [f"-artifact_prefix={folder / 'failing'}/", str(folder / "kept"), str(corpus_of(door))]
    arguments = [sys.argv[0], *limits, "-print_final_stats=1", *folders]
    atheris.Setup(arguments, _noting(check, folder), custom_mutator=mutator)
    atheris.Fuzz()


def _with_hypothesis(door: str, folder: Path, seconds: int) -> None:
    noting, seeds, ends = _noting(check_of(door), folder), _seeds(door), time.monotonic() + seconds
    changed = st.builds(_changed, st.sampled_from(seeds), st.just(seeds), st.randoms(use_true_random=True))

    @settings(
        max_examples=_ROUND,
        deadline=None,
        database=DirectoryBasedExampleDatabase(folder / "kept"),
        suppress_health_check=list(HealthCheck),
        phases=(Phase.reuse, Phase.generate),  # a smaller input would take minutes
    )
    @given(st.one_of(st.binary(max_size=_LONGEST_INPUT), changed))
    def one_round(data: bytes) -> None:
        noting(data)

    while time.monotonic() < ends:
        one_round()


def _noting(check: Check, folder: Path) -> Check:
    """Return a check that writes each input to a file first, in case the input fails or never returns."""

    def noting(data: bytes) -> None:
        (folder / LAST).write_bytes(data)
        in_bounded_time(check, data)

    return noting


def _seeds(door: str) -> list[bytes]:
    return [path.read_bytes() for path in inputs_of(door)]


def _changed(data: bytes, seeds: Sequence[bytes], chance: Random) -> bytes:
    """Return an input in which a part is replaced by a hostile text or by a part of a committed input."""
    seed = chance.choice(seeds)
    begin = chance.randint(0, len(seed))
    part = chance.choice([*_HOSTILE, seed[begin : begin + chance.randint(1, 40)]])
    data = data if chance.random() < 0.5 else chance.choice(seeds)
    first = chance.randint(0, len(data))
    last = first + chance.choice([0, 0, 1, 4, 16, len(data)])
    return data[:first] + part + data[last:]


if __name__ == "__main__":
    main(*sys.argv[1:])
