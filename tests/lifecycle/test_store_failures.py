"""A store failure at any call loses no grant, and the repeated request finishes the work. [T43, T66, T67]"""

from __future__ import annotations

from collections import defaultdict

import pytest

from tests.lifecycle.failures import ATTEMPTS, failures, run
from tests.lifecycle.world import World


@pytest.mark.parametrize("name", ATTEMPTS)
def test_a_repeated_request_finishes_the_work_of_a_failed_one(world: World, name: str) -> None:
    """Each call fails in turn, before or after it took effect, and up to all later calls fail too.

    The failed request gets 503, unless its work is done.
    """
    found: dict[str, list[str]] = defaultdict(list)
    for failure in list(failures(world, name)):
        for finding in run(world, failure):
            found[finding].append(str(failure))
    assert not found, dict(found)
