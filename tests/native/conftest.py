"""A session without a network: a stub provider, and timers and clocks that tests control."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pywry_auth.state.token_stores import MemoryTokenStore
from tests.native.stub_provider import StubProvider
from tests.native.timers import Clock, HeldTimers, held_timers


@pytest.fixture
def timers(monkeypatch: pytest.MonkeyPatch) -> Iterator[HeldTimers]:
    with held_timers(monkeypatch) as timers:
        yield timers


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def provider(clock: Clock) -> StubProvider:
    return StubProvider(clock)


@pytest.fixture
def store() -> MemoryTokenStore:
    return MemoryTokenStore()
