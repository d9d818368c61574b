"""The device authorization grant of Google, Microsoft and GitHub, imitated from their documentation."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from pywry_auth.exceptions import AuthenticationError, AuthFlowTimeout, TokenError
from pywry_auth.models import AuthFlowResult
from pywry_auth.native.device_flow import DeviceFlow
from pywry_auth.providers.base import OAuthProvider
from tests.providers.imitations.github import GitHub
from tests.providers.imitations.google import Google
from tests.providers.imitations.imitation import Imitation
from tests.providers.imitations.microsoft import Microsoft

_KINDS = {"google": Google, "microsoft": Microsoft, "github": GitHub}
# Each provider's own words, as its documentation shows them.
_PENDING: dict[str, list[Any]] = {
    "google": [(428, "authorization_pending", "Precondition Required"), (403, "slow_down", "Forbidden")],
    "microsoft": [("authorization_pending", 70016, "The user has not yet been authorized.")],
    "github": [
        {"error": "authorization_pending", "error_description": "The request is still pending."},
        {"error": "slow_down", "error_description": "Too many requests.", "interval": 10},
    ],
}
_DENIED: dict[str, Any] = {
    "google": (403, "access_denied", "Forbidden"),
    "microsoft": ("authorization_declined", 70018, "The user declined."),
    "github": {"error": "access_denied", "error_description": "The user cancelled."},
}
_EXPIRED: dict[str, Any] = {
    "google": (400, "invalid_grant", "Expired"),
    "microsoft": ("expired_token", 70020, "The code has expired."),
    "github": {"error": "expired_token", "error_description": "This code has expired."},
}
_USERS = {"google": "110169484474386276334", "github": "583231"}


@pytest.fixture(params=_KINDS)
def imitation(request: pytest.FixtureRequest) -> Iterator[Imitation]:
    with _KINDS[request.param]() as running:
        yield running


def kind_of(imitation: Imitation) -> str:
    return next(name for name, kind in _KINDS.items() if type(imitation) is kind)


def sign_in(provider: OAuthProvider, told: list[str]) -> tuple[AuthFlowResult, list[float]]:
    """Return the result, and the seconds that it would have waited."""
    waited: list[float] = []

    def wait(seconds: float) -> bool:
        waited.append(round(seconds, 3))
        return False

    # The clock adds up the waits, which take no time.
    flow = DeviceFlow(provider, notify=told.append, wait=wait, clock=lambda: time.monotonic() + sum(waited))
    return flow.sign_in(), [seconds for seconds in waited if seconds > 1]


def provider_of(imitation: Imitation, **options: Any) -> OAuthProvider:
    provider: OAuthProvider = imitation.provider(**options)  # type: ignore[attr-defined]
    return provider


def test_a_user_signs_in_on_another_device(imitation: Imitation) -> None:
    kind, told = kind_of(imitation), list[str]()
    imitation.device_errors = list(_PENDING[kind])
    result, waited = sign_in(provider_of(imitation), told)
    assert result.user_id == _USERS.get(kind, result.user_id)
    assert result.tokens.access_token
    assert "WDJB-MJHT" in told[0]
    assert "use a web browser" not in told[0]
    paces = {"google": [5.5, 5.5, 11], "microsoft": [5.5, 5.5], "github": [5.5, 5.5, 11]}
    assert waited == pytest.approx(paces[kind], abs=0.1)


def test_a_user_that_declines_ends_the_sign_in(imitation: Imitation) -> None:
    imitation.device_errors = [_DENIED[kind_of(imitation)]]
    with pytest.raises(AuthenticationError, match="refused at the provider") as caught:
        sign_in(provider_of(imitation), [])
    assert caught.value.error == "access_denied"


def test_an_expired_code_asks_to_start_again(imitation: Imitation) -> None:
    kind = kind_of(imitation)
    imitation.device_errors = [_EXPIRED[kind]]
    with pytest.raises(AuthenticationError, match=r"start (it|the sign-in) again") as caught:
        sign_in(provider_of(imitation), [])
    assert isinstance(caught.value, AuthFlowTimeout) is (kind != "google")


def test_github_says_where_the_device_flow_is_enabled() -> None:
    with GitHub() as github:
        github.refuses = True
        with pytest.raises(TokenError, match="Enable Device Flow") as caught:
            sign_in(github.provider(), [])
    assert caught.value.error == "device_flow_disabled"


def test_google_limits_the_number_of_codes() -> None:
    """Its answer has the code in ``error_code``."""
    with Google() as google:
        google.refuses = True
        with pytest.raises(TokenError, match="too many codes: try again later") as caught:
            sign_in(google.provider(), [])
    assert caught.value.error == "rate_limit_exceeded"


def test_a_code_that_microsoft_does_not_know_asks_to_start_again() -> None:
    with Microsoft() as microsoft:
        microsoft.device_errors = [("bad_verification_code", 70019, "The code was not recognized.")]
        with pytest.raises(TokenError, match="start the sign-in again"):
            sign_in(microsoft.provider(), [])
