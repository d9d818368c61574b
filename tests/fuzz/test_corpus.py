"""Every kept input of every door keeps the door's properties. [T29, T41]"""

from __future__ import annotations

import pytest

from tests.fuzz.doors import DOORS, check_of, corpus_of, in_bounded_time, inputs_of

_LARGEST = 100_000  # bytes


@pytest.mark.parametrize("door", DOORS)
def test_the_kept_inputs_keep_the_properties_of_their_door(door: str) -> None:
    """``make fuzz`` starts from the same inputs. [T29, T41]"""
    for path in inputs_of(door):
        print(path.name)  # the last one is that of a failure
        in_bounded_time(check_of(door), path.read_bytes())


def test_each_door_has_inputs_and_no_other_folder_exists() -> None:
    """A misspelt folder would not be replayed."""
    assert {path.name for path in corpus_of(DOORS[0]).parent.iterdir()} == set(DOORS)
    assert min(len(inputs_of(door)) for door in DOORS) >= 20
    assert max(path.stat().st_size for door in DOORS for path in inputs_of(door)) <= _LARGEST
