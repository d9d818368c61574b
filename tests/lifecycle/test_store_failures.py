"""A store failure at any call loses no grant, and the repeated request finishes the work. [T43, T66, T67]"""

from __future__ import annotations

import os
from collections import defaultdict

import pytest

from tests.lifecycle.failures import ATTEMPTS, failures, run
from tests.lifecycle.world import World

_SOAK = bool(os.environ.get("SOAK"))
_LONG = {"provider_logout", "changed_rule"}
"""The operations of which most failures are left to the long tests."""

_LINKED = list(ATTEMPTS) if _SOAK else ["logout"]
"""The operations that also fail where the site's hook gives the user another ID."""


@pytest.mark.parametrize("name", ATTEMPTS)
def test_a_repeated_request_finishes_the_work_of_a_failed_one(world: World, name: str) -> None:
    """Each call fails in turn, before or after it took effect, and up to all later calls fail too.

    The failed request gets 503, unless its work is done.
    """
    _assert_sound(world, name)


@pytest.mark.parametrize("name", _LINKED)
def test_it_does_so_where_the_user_has_an_id_of_the_site(linked_world: World, name: str) -> None:
    _assert_sound(linked_world, name)


def _assert_sound(world: World, name: str) -> None:
    found: dict[str, list[str]] = defaultdict(list)
    every = 1 if _SOAK or name not in _LONG else 12
    for failure in list(failures(world, name))[::every]:
        for finding in run(world, failure):
            found[finding].append(str(failure))
    assert not found, dict(found)
