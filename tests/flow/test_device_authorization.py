"""The wait for a user on another device: each answer, expiry, lost connections and cancellation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError, AuthFlowCancelled, AuthFlowTimeout, TokenError
from pywry_auth.flow.device_authorization import wait_for_user
from pywry_auth.models import OAuthTokenSet

Poll = str | TokenError | Callable[[], OAuthTokenSet]


class Place:
    """Polls that are scripted, and a clock that only waiting moves.

    Args:
        polls: The answer to each poll: a code, an error, or a function. The last one is repeated.
        interval: Seconds before the first poll.
    """

    def __init__(self, *polls: Poll, interval: float = 10) -> None:
        self.now = 1000.0
        self.waited: list[float] = []
        self.ticks: list[float] = []
        self.asleep = 0.0
        self.polls = list(polls)
        self.interval = interval
        self.asked = 0

    def wait(self, seconds: float) -> bool:
        self.waited.append(round(seconds, 3))
        self.now += seconds + self.asleep
        return False

    def poll(self) -> OAuthTokenSet | TokenError:
        self.asked += 1
        answer = self.polls.pop(0) if len(self.polls) > 1 else self.polls[0]
        if isinstance(answer, str):
            return refusal(answer)
        return answer if isinstance(answer, TokenError) else answer()

    def run(self, seconds: float = 600, *, ticks: bool = False) -> OAuthTokenSet:
        tick = self.ticks.append if ticks else None
        ends = self.now + seconds
        return wait_for_user(
            self.poll, self.interval, ends, wait=self.wait, clock=lambda: self.now, tick=tick
        )

    def fails(self, **more: Any) -> AuthenticationError:
        with pytest.raises(AuthenticationError) as caught:
            self.run(**more)
        return caught.value


def refusal(code: str, **more: Any) -> TokenError:
    error = TokenError(f"The token endpoint answered {code}.", error=code, **more)
    error.refused = True
    return error


def outage(**more: Any) -> TokenError:
    more.setdefault("error", ErrorCode.PROVIDER_UNREACHABLE)
    return TokenError("The provider could not be reached.", **more)


def tokens() -> OAuthTokenSet:
    return OAuthTokenSet("access", refresh_token="refresh", client_id="stub-client")


def test_the_first_poll_waits_the_interval() -> None:
    """A small margin makes up for a slower clock of the provider. [N15]"""
    place = Place("authorization_pending", "authorization_pending", tokens)
    assert place.run().access_token == "access"
    assert place.waited == [11, 11, 11]


@pytest.mark.parametrize(
    ("polls", "waited"),
    [
        (["slow_down", "authorization_pending"], [11, 16.5, 16.5]),
        (["slow_down", "slow_down"], [11, 16.5, 22]),
        ([refusal("slow_down", retry_after=30.0), "authorization_pending"], [11, 33, 33]),
        ([refusal("slow_down", retry_after=3.0)], [11, 16.5]),
        ([refusal("slow_down", retry_after=-1e9)], [11, 16.5]),
        ([outage(), outage(), outage(), outage()], [11, 22, 44, 66, 66]),
        ([outage(), outage(), "authorization_pending", outage()], [11, 22, 44, 11, 22]),
        ([outage(retry_after=100.0, error=ErrorCode.TEMPORARILY_UNAVAILABLE)], [11, 110]),
        ([outage(timeout=10.0)], [11, 22]),
    ],
)
def test_the_provider_sets_the_pace(polls: list[Poll], waited: list[float]) -> None:
    """``slow_down`` counts for good, and an outage backs off until it is over. [RFC 8628 §3.5, N15]"""
    place = Place(*polls, tokens)
    assert place.run().access_token == "access"
    assert place.waited == waited


@pytest.mark.parametrize("code", ["access_denied", "authorization_declined"])
def test_a_refusal_at_the_provider_reads_as_in_the_browser(code: str) -> None:
    error = Place("authorization_pending", code).fails()
    assert error.error == "access_denied"
    assert "Sign-in was refused at the provider" in str(error)
    assert not isinstance(error, TokenError)


@pytest.mark.parametrize(
    "code", ["invalid_grant", "bad_verification_code", "invalid_client", "device_flow_disabled", "own_code"]
)
def test_any_other_refusal_ends_the_sign_in_at_once(code: str) -> None:
    place = Place(code)
    error = place.fails()
    assert (error.error, place.waited) == (code, [11])


def test_an_answer_that_cannot_be_used_ends_the_sign_in() -> None:
    assert Place(outage(error=ErrorCode.INVALID_RESPONSE)).fails().error == "invalid_response"


def test_an_expired_code_asks_to_start_again() -> None:
    error = Place("authorization_pending", "expired_token").fails()
    assert isinstance(error, AuthFlowTimeout)
    assert "start it again" in str(error)


def test_the_final_poll_asks_just_before_the_end() -> None:
    """So no late approval is lost; the wait before it is longer, so that it is not too early."""
    place = Place("authorization_pending")
    error = place.fails(seconds=25)
    assert isinstance(error, AuthFlowTimeout)
    assert place.waited == [11, 12, 2]
    assert place.asked == 2
    assert "did not answer" not in str(error)


def test_an_interval_beyond_the_end_still_leaves_a_poll() -> None:
    place = Place(tokens, interval=300)
    assert place.run(seconds=120).access_token == "access"
    assert place.waited == [118]


def test_a_provider_that_stays_away_is_named_at_the_end() -> None:
    error = Place(outage()).fails(seconds=100)
    assert isinstance(error, AuthFlowTimeout)
    assert "did not answer at the end: The provider could not be reached." in str(error)


def test_the_sleep_of_a_laptop_counts() -> None:
    """The clock goes on during it, so no poll follows an expired code. [N15]"""
    place = Place(tokens)
    place.asleep = 3600
    assert isinstance(place.fails(), AuthFlowTimeout)
    assert place.waited == [11]


def test_the_time_that_is_left_is_reported_each_second() -> None:
    place = Place("authorization_pending", tokens)
    place.run(seconds=100, ticks=True)
    assert place.ticks[:3] == [100, 99, 98]
    assert len(place.ticks) == 22


def test_cancel_ends_the_wait() -> None:
    with pytest.raises(AuthFlowCancelled):
        wait_for_user(Place(tokens).poll, 10, 1e12, wait=lambda seconds: True)
