"""Shared fetches: one fetch for all callers, and failures that are remembered."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError, ProviderBusy
from pywry_auth.protocol.gate import CallGate
from pywry_auth.protocol.shared_fetch import SharedFetch
from tests.waiting import count_waiters

_SECONDS = 20


@dataclass
class Fetched:
    """A value that a test fetches through a gate, and a clock that the test sets."""

    at_once: int = 0
    now: float = 0.0
    error: AuthenticationError | None = None
    fetches: int = 0
    before: Callable[[], None] = lambda: None
    gate: CallGate = field(init=False)

    def __post_init__(self) -> None:
        self.gate = CallGate(clock=lambda: self.now)
        if self.at_once:
            self.gate.limit(lambda: self.at_once, lambda: 3)
        self._value: str | None = None
        self._shared = SharedFetch[str](self.gate, lambda: self.now)

    def get(self) -> str:
        return self._shared.get(self._fetch, lambda: self._value)

    def forget(self) -> None:
        self._value = None

    def fails(self) -> AuthenticationError:
        with pytest.raises(AuthenticationError, match="the provider is away") as caught:
            self.get()
        assert caught.value.error == ErrorCode.PROVIDER_UNREACHABLE
        return caught.value

    def _fetch(self) -> str:
        self.fetches += 1
        self.before()
        if self.error:
            raise self.error
        self._value = "value"
        return self._value


def _away() -> AuthenticationError:
    return AuthenticationError("the provider is away", error=ErrorCode.PROVIDER_UNREACHABLE)


def test_a_failure_is_remembered_for_seconds() -> None:
    """The next visitors get the same error at once, each an error of its own. [T70]"""
    fetched = Fetched(at_once=1, error=_away())
    errors = [fetched.fails() for _ in range(3)]
    fetched.now = 2.9
    errors.append(fetched.fails())
    assert fetched.fetches == 1
    assert len({id(error) for error in errors}) == 4
    fetched.now, fetched.error = 3.0, None
    assert fetched.get() == "value"


def test_a_remembered_failure_needs_no_slot() -> None:
    fetched = Fetched(at_once=1, error=_away())
    fetched.fails()
    with fetched.gate.slot(), ThreadPoolExecutor(1) as pool:
        pool.submit(fetched.fails).result(_SECONDS)


def test_a_program_of_one_user_remembers_no_failure() -> None:
    """Its gate has no limits, so its user can try again at once."""
    fetched = Fetched(error=_away())
    fetched.fails()
    fetched.fails()
    fetched.error = None
    assert fetched.get() == "value"
    assert fetched.fetches == 3


def test_a_success_ends_the_memory_of_a_failure() -> None:
    fetched = Fetched(at_once=1, error=_away())
    fetched.fails()
    fetched.now, fetched.error = 3.0, None
    assert fetched.get() == "value"
    fetched.now = 1.0  # a value that expires within the time of the memory
    fetched.forget()
    assert fetched.get() == "value"


def test_a_value_at_hand_needs_no_slot() -> None:
    fetched = Fetched(at_once=1)
    assert fetched.get() == "value"
    with fetched.gate.slot(), ThreadPoolExecutor(1) as pool:
        assert pool.submit(fetched.get).result(_SECONDS) == "value"


def test_callers_that_wait_for_a_fetch_hold_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    """So the gate bounds their number. [T44]"""
    waiters = count_waiters(monkeypatch)
    started, may_end = threading.Event(), threading.Event()

    def hang() -> None:
        started.set()
        assert may_end.wait(_SECONDS)

    fetched = Fetched(at_once=2, before=hang)
    with ThreadPoolExecutor(2) as pool:
        leader = pool.submit(fetched.get)
        assert started.wait(_SECONDS)
        other = pool.submit(fetched.get)
        assert waiters.acquire(timeout=_SECONDS)
        fetched.now = 10.0
        with pytest.raises(ProviderBusy):
            fetched.get()
        may_end.set()
        assert (leader.result(_SECONDS), other.result(_SECONDS)) == ("value", "value")
    assert fetched.fetches == 1
