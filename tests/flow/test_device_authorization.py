"""The wait for a user on another device: each answer, expiry, lost connections and cancellation."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError, AuthFlowCancelled, AuthFlowTimeout, TokenError
from pywry_auth.flow.device_authorization import DeviceSignIn
from pywry_auth.models import AuthFlowResult, OAuthTokenSet
from pywry_auth.protocol.device import DeviceAuthorization
from pywry_auth.state.token_stores import MemoryTokenStore
from tests.native.stub_provider import StubProvider

_SECONDS = 20
_CODES = DeviceAuthorization("canary-device", "WDJB-MJHT", "https://id.example.com/device", interval=10)

Poll = str | TokenError | Callable[[], OAuthTokenSet]


class Place:
    """A provider whose polls are scripted, and a clock that only waiting moves.

    Args:
        polls: The answer to each poll: a code, an error, or a function. The last one is repeated.
    """

    def __init__(self, *polls: Poll) -> None:
        self.now = 1000.0
        self.waited: list[float] = []
        self.ticks: list[float] = []
        self.asleep = 0.0
        self.provider = _Provider(lambda: self.now)
        self.provider.polls = list(polls)
        self.store = MemoryTokenStore()
        self.sign_in = DeviceSignIn(
            self.provider, self.store.revocations, wait=self.wait, clock=lambda: self.now
        )

    def wait(self, seconds: float) -> bool:
        self.waited.append(round(seconds, 3))
        self.now += seconds + self.asleep
        return False

    def run(self, seconds: float = 600, *, ticks: bool = False) -> AuthFlowResult:
        return self.sign_in.finish(_CODES, self.now + seconds, self.ticks.append if ticks else None)

    def fails(self, **more: Any) -> AuthenticationError:
        with pytest.raises(AuthenticationError) as caught:
            self.run(**more)
        assert "canary" not in str(caught.value)
        return caught.value


class _Provider(StubProvider):
    polls: list[Poll]

    def poll_device_authorization(self, authorization: DeviceAuthorization) -> OAuthTokenSet:
        assert authorization is _CODES
        answer = self.polls.pop(0) if len(self.polls) > 1 else self.polls[0]
        if isinstance(answer, str):
            raise refusal(answer)
        if isinstance(answer, TokenError):
            raise answer
        return answer()

    def get_userinfo(self, access_token: str) -> dict[str, Any]:
        return {"sub": "alice"}


def refusal(code: str, **more: Any) -> TokenError:
    error = TokenError(f"The token endpoint answered {code}.", error=code, **more)
    error.refused = True
    return error


def outage(**more: Any) -> TokenError:
    more.setdefault("error", ErrorCode.PROVIDER_UNREACHABLE)
    return TokenError("The provider could not be reached.", **more)


def tokens() -> OAuthTokenSet:
    return OAuthTokenSet("access", refresh_token="refresh", client_id="stub-client")


def ended(place: Place) -> None:
    """Wait until the call in flight has ended."""
    for thread in threading.enumerate():
        if thread.name == "pywry-auth-device":
            thread.join(_SECONDS)


def test_the_first_poll_waits_the_interval() -> None:
    """A small margin makes up for a slower clock of the provider; the tokens carry a new grant. [N15]"""
    place = Place("authorization_pending", "authorization_pending", tokens)
    result = place.run()
    assert place.waited == [11, 11, 11]
    assert result.user_id == "alice"
    assert result.tokens.grant is not None
    assert result.tokens.grant.subject == "alice"
    assert place.provider.revoked == []


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
    assert place.run().user_id == "alice"
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


def test_the_wait_ends_with_the_time_allowed() -> None:
    """The last wait is cut short, and polls nothing too early."""
    place = Place("authorization_pending")
    error = place.fails(seconds=25)
    assert isinstance(error, AuthFlowTimeout)
    assert place.waited == [11, 11, 3]
    assert "did not answer" not in str(error)


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


def test_a_nonce_that_was_not_sent_is_refused() -> None:
    """The tokens are revoked, and the advice names no setting that does not apply. [T43]"""
    claims = {"sub": "alice", "nonce": "another-login"}
    place = Place(lambda: OAuthTokenSet("access", id_token_claims=claims))
    error = place.fails()
    assert error.error == "invalid_id_token"
    assert "USE_NONCE" not in str(error)
    assert place.provider.revoked == ["access"]


def test_cancel_ends_the_wait() -> None:
    """The wait between two polls is on an event; a cancelled sign-in asks nothing."""
    place = Place(tokens)
    sign_in = DeviceSignIn(place.provider)
    timer = threading.Timer(0.05, sign_in.cancel)
    timer.start()
    with pytest.raises(AuthFlowCancelled):
        sign_in.finish(_CODES, 1e12, None)
    with pytest.raises(AuthFlowCancelled):
        sign_in.request()
    timer.join()


@pytest.mark.parametrize("answer", [tokens, "access_denied"])
def test_cancel_ends_a_poll_in_flight(answer: Poll) -> None:
    """It waits for no answer; tokens that arrive afterwards are revoked. [T43]"""
    go_on, asked = threading.Event(), threading.Event()

    def hang() -> OAuthTokenSet:
        asked.set()
        assert go_on.wait(_SECONDS)
        if isinstance(answer, str):
            raise refusal(answer)
        return tokens()

    place = Place(hang)

    def cancel() -> None:
        assert asked.wait(_SECONDS)
        place.sign_in.cancel()

    canceller = threading.Thread(target=cancel)
    canceller.start()
    with pytest.raises(AuthFlowCancelled):
        place.run()
    canceller.join(_SECONDS)
    assert place.provider.revoked == []
    go_on.set()
    ended(place)
    assert place.provider.revoked == (["refresh", "access"] if answer is tokens else [])


def test_cancel_while_the_profile_is_fetched_revokes_the_tokens() -> None:
    """A provider that is away keeps them in the queue. [T43]"""
    place = Place(tokens)
    sign_in = place.sign_in

    def userinfo(access_token: str) -> dict[str, Any]:
        sign_in.cancel()
        place.provider.request_revocation = _away  # type: ignore[method-assign]
        return {"sub": "alice"}

    place.provider.get_userinfo = userinfo  # type: ignore[method-assign]
    with pytest.raises(AuthFlowCancelled):
        place.run()
    ended(place)
    (queued,) = place.store.revocations.of_user("alice", lambda tokens: True)
    assert queued.tokens.refresh_token == "refresh"


def test_a_poll_that_hangs_ends_with_the_time_allowed() -> None:
    """Tokens that arrive too late are revoked. [T43]"""
    go_on = threading.Event()

    def hang() -> OAuthTokenSet:
        place.now = 9e9  # the time passes during the poll
        assert go_on.wait(_SECONDS)
        return tokens()

    place = Place(hang)
    assert isinstance(place.fails(), AuthFlowTimeout)
    go_on.set()
    ended(place)
    assert place.provider.revoked == ["refresh", "access"]


def test_an_interrupt_revokes_the_tokens_of_a_poll() -> None:
    """Ctrl-C arrives in the thread that waits. [T43, N11]"""
    go_on = threading.Event()

    def hang() -> OAuthTokenSet:
        assert go_on.wait(_SECONDS)
        return tokens()

    place = Place(hang)

    def tick(left: float) -> None:
        if place.waited and place.now > 1010:  # a poll is in flight
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        place.sign_in.finish(_CODES, 1e12, tick)
    go_on.set()
    ended(place)
    assert place.provider.revoked == ["refresh", "access"]


def _away(token: str) -> bool | None:
    raise outage()
