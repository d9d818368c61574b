"""The pace of polls for a user with a browser on another device (RFC 8628 §3.4, §3.5)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError, AuthFlowCancelled, AuthFlowTimeout, TokenError
from pywry_auth.protocol.deadline import seconds_since_boot
from pywry_auth.protocol.provider_errors import CANCELLED_AT_PROVIDER, SLOW_DOWN, explain

_T = TypeVar("_T")

_logger = logging.getLogger("pywry_auth.flow")

_MARGIN = 1.1  # a provider's clock may be slower than ours
_FINAL = 2.0  # seconds before the end at which the final poll asks, so that no late approval is lost
_FINAL_PART = 0.1  # of a short time
_SLOWER = 5.0  # RFC 8628 §3.5
_LONGEST_PAUSE = 60.0  # seconds between two polls of a provider that does not answer
_TICK = 1.0
_PENDING = "authorization_pending"
_EXPIRED = "expired_token"
_MAY_PASS = (ErrorCode.PROVIDER_UNREACHABLE, ErrorCode.TEMPORARILY_UNAVAILABLE)

Tick = Callable[[float], object]
"""Receives the seconds that the user has left, at most once a second."""


def wait_for_user(
    poll: Callable[[], _T | TokenError],
    interval: float,
    ends: float,
    *,
    wait: Callable[[float], bool],
    clock: Callable[[], float] = seconds_since_boot,
    tick: Tick | None = None,
) -> _T:
    """Poll until the user has approved, and return the result (RFC 8628 §3.5).

    Args:
        poll: Polls once, and returns the result or the provider's answer.
        interval: Seconds before the first poll.
        ends: The time on the clock at which the wait ends.
        wait: Waits so many seconds, and returns whether the sign-in was cancelled.
        clock: Seconds that never go back, and that go on while a laptop sleeps.
        tick: Called each second between two polls; None for a wait without.

    Raises:
        AuthFlowTimeout: The user did not approve in time.
        AuthFlowCancelled: The sign-in was cancelled.
        AuthenticationError: The user or the provider refused, or ``poll`` failed.
    """
    final = ends - min(_FINAL, _FINAL_PART * (ends - clock()))
    interval = min(interval, (final - clock()) / _MARGIN)  # a longer one would leave no time for any poll
    pause, failures, last = interval, 0, None

    def wait_until(moment: float) -> None:
        while (left := moment - clock()) > 0:
            if tick is not None:
                tick(ends - clock())
            if wait(left if tick is None else min(left, _TICK)):
                raise AuthFlowCancelled("The login was cancelled.", error=ErrorCode.CANCELLED)

    while True:
        now = clock()
        until = now + pause * _MARGIN
        if until + interval * _MARGIN > final:
            # The final poll would come too soon after this one, and replaces it.
            until = final if final - now >= interval else min(until, ends)
        wait_until(until)
        if clock() >= ends:
            raise timed_out(last)
        answer = poll()
        if not isinstance(answer, TokenError):
            return answer
        if answer.error == SLOW_DOWN:
            interval = max(interval + _SLOWER, answer.retry_after or 0)
        elif answer.error != _PENDING and not _is_outage(answer):
            raise _end_of(answer) from answer.__cause__
        last, failures = (answer, failures + 1) if _is_outage(answer) else (None, 0)
        # RFC 8628 §3.5: exponential backoff after a connection timeout.
        pause = max(interval, min(interval * 2 ** min(failures, 8), _LONGEST_PAUSE))
        if last is not None:
            _logger.info("a poll failed and is repeated: %s", last.error)
            pause = max(pause, last.retry_after or 0)


def _is_outage(error: TokenError) -> bool:
    return not error.refused and error.error in _MAY_PASS


def _end_of(error: TokenError) -> AuthenticationError:
    """Return the error that ends the sign-in."""
    if error.error == _EXPIRED:
        return timed_out(None)
    if error.error in CANCELLED_AT_PROVIDER:
        # The same words as after Cancel in the browser.
        return explain("The provider", "access_denied", error.error_description, AuthenticationError)
    return error


def timed_out(last: TokenError | None) -> AuthFlowTimeout:
    """Return the error for a code that was not used in time.

    Args:
        last: The error of the last poll if the provider did not answer; otherwise None.
    """
    text = "No user approved this sign-in in time: start it again to get a new code."
    if last is not None:
        text += f" The provider did not answer at the end: {last}"
    return AuthFlowTimeout(text, error=ErrorCode.TIMEOUT)
