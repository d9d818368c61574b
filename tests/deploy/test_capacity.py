"""The number of threads that may call a provider."""

from __future__ import annotations

import pytest

from pywry_auth.deploy.capacity import Capacity, this_process


@pytest.mark.parametrize(
    ("threads", "chosen", "calls"), [(8, 0, 4), (40, 0, 20), (1, 0, 2), (3, 0, 2), (8, 1, 1), (8, 30, 30)]
)
def test_half_of_the_threads_may_call_a_provider(threads: int, chosen: int, calls: int) -> None:
    """A number in the settings takes precedence. [T44]"""
    assert Capacity(threads).calls_at_once(chosen) == calls


def test_a_process_has_eight_threads_unless_its_server_says_otherwise() -> None:
    assert this_process.threads == 8
