"""A circuit breaker: after repeated time-outs, calls pause for seconds."""

from __future__ import annotations

_TIMEOUTS = 3
_FIRST_PAUSE = 5.0  # seconds
_LONGEST_PAUSE = 30.0


class Breaker:
    """Decides from recent time-outs whether a provider may be called.

    After three time-outs in a row, no call is made for 5 s, and then one at a time, as a probe. If the probe
    times out too, the next pause is twice as long, up to 30 s. An answer ends all of this. A refused
    connection changes nothing: it fails at once and occupies no thread.

    The owner holds a lock around each method.
    """

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._timeouts = 0
        self._seconds = _FIRST_PAUSE
        self._paused_until: float | None = None  # None while calls are unrestricted
        self._probing = False

    @property
    def paused(self) -> bool:
        """Whether calls are not made, or only one at a time."""
        return self._paused_until is not None

    def pause(self, now: float) -> float:
        """Return the seconds until the next attempt; 0 if a call may be made.

        Args:
            now: Monotonic time in seconds.
        """
        if self._paused_until is None:
            return 0.0
        return self._seconds if self._probing else max(self._paused_until - now, 0.0)

    def begin(self) -> bool:
        """Note that calls begin, and return whether they are a probe."""
        self._probing = self._paused_until is not None
        return self._probing

    def timed_out(self, now: float, probe: bool) -> float:
        """Note a time-out, and return the seconds of the pause that it causes.

        Args:
            now: Monotonic time in seconds.
            probe: Whether the call was a probe.

        Returns:
            0 if no pause begins.
        """
        self._timeouts += 1
        if probe:
            self._seconds = min(2 * self._seconds, _LONGEST_PAUSE)
            self._probing = False
        elif self._paused_until is not None or self._timeouts < _TIMEOUTS:
            return 0.0
        self._paused_until = now + self._seconds
        return self._seconds

    def ended(self, answered: bool, probe: bool) -> bool:
        """Note the end of calls without a time-out.

        Args:
            answered: Whether the provider answered. Otherwise there was no call, or no connection.
            probe: Whether the calls were a probe.

        Returns:
            Whether a pause is over.
        """
        paused = self._paused_until is not None
        if answered:
            self._reset()
        elif probe:
            self._probing = False
        return answered and paused
