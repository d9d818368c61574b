"""The circuit breaker: when calls pause, and when they resume."""

from __future__ import annotations

from pywry_auth.protocol.breaker import Breaker


def _paused(now: float = 100.0) -> Breaker:
    """Return a breaker after three time-outs in a row."""
    breaker = Breaker()
    for _ in range(3):
        breaker.begin()
        breaker.timed_out(now, probe=False)
    return breaker


def test_calls_pause_after_three_time_outs_in_a_row() -> None:
    breaker = Breaker()
    pauses = []
    for _ in range(3):
        assert breaker.pause(100.0) == 0
        assert not breaker.begin()
        pauses.append(breaker.timed_out(100.0, probe=False))
    assert pauses == [0, 0, 5]
    assert [breaker.pause(now) for now in (100.0, 104.0, 105.0, 106.0)] == [5, 1, 0, 0]


def test_an_answer_between_time_outs_prevents_a_pause() -> None:
    breaker = Breaker()
    for _ in range(4):
        breaker.timed_out(100.0, probe=False)
        breaker.timed_out(100.0, probe=False)
        assert not breaker.ended(answered=True, probe=False), "there was no pause"
    assert breaker.pause(100.0) == 0


def test_a_refused_connection_changes_nothing() -> None:
    """It is neither a time-out nor an answer."""
    breaker = Breaker()
    for _ in range(9):
        assert not breaker.ended(answered=False, probe=False)
    assert breaker.pause(100.0) == 0
    breaker = _paused()
    assert not breaker.ended(answered=False, probe=False)
    assert breaker.pause(100.0) == 5


def test_one_probe_is_made_at_a_time() -> None:
    breaker = _paused()
    assert breaker.begin()
    assert breaker.pause(106.0) == 5, "other calls wait for the probe"
    breaker.ended(answered=False, probe=True)
    assert breaker.pause(106.0) == 0, "the next call is the next probe"
    assert breaker.begin()


def test_each_probe_that_times_out_doubles_the_pause() -> None:
    breaker, now, pauses = _paused(), 100.0, []
    for _ in range(5):
        now += 40
        assert breaker.begin()
        pauses.append(breaker.timed_out(now, probe=True))
        assert breaker.pause(now) == pauses[-1]
    assert pauses == [10, 20, 30, 30, 30]


def test_an_earlier_call_that_times_out_does_not_prolong_a_pause() -> None:
    breaker = _paused()
    assert breaker.timed_out(104.0, probe=False) == 0
    assert breaker.pause(104.0) == 1


def test_an_answer_ends_the_pause_and_resets_its_length() -> None:
    breaker = _paused()
    breaker.begin()
    breaker.timed_out(110.0, probe=True)
    breaker.begin()
    assert breaker.ended(answered=True, probe=True)
    assert breaker.pause(110.0) == 0
    assert not breaker.begin()
    assert [breaker.timed_out(120.0, probe=False) for _ in range(3)] == [0, 0, 5]
