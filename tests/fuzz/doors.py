"""The doors: every place where bytes from outside enter, and the inputs that are kept for each."""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

DOORS = (
    "cookie",
    "next",
    "callback",
    "id_token",
    "key_set",
    "discovery",
    "token_answer",
    "stored_record",
    "form",
    "setting",
)
"""The names of the doors: each is a module, a folder of the corpus, and a value of ``FUZZ_DOOR``."""

ROOT = Path(__file__).parents[2]
_CORPUS = Path(__file__).with_name("corpus")

LAST = "last"
"""The name of the file with the last input of a search, in case this input never returns."""

_LONGEST = 5.0  # seconds; each input takes milliseconds, and the first one of a door a second

Check = Callable[[bytes], None]
"""Sends one input through a door, and asserts the door's properties."""


def check_of(door: str) -> Check:
    """Return the check of a door; its module is imported now."""
    check: Check = import_module(f"tests.fuzz.{door}").check
    return check


def corpus_of(door: str) -> Path:
    """Return the folder with the committed inputs of a door."""
    return _CORPUS / door


def inputs_of(door: str) -> list[Path]:
    """Return the files with the committed inputs of a door."""
    return sorted(path for path in corpus_of(door).iterdir() if path.is_file())


def in_bounded_time(check: Check, data: bytes) -> None:
    """Send an input through a door, and assert that it costs little time of the processor.

    Args:
        check: The door's check.
        data: The input.
    """
    began = time.process_time()
    check(data)
    assert time.process_time() - began < _LONGEST
