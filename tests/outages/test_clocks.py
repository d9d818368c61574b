"""Two machines on one store whose clocks differ by 30 seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import time_machine

from pywry_auth.backends.base import Backend
from pywry_auth.backends.lease import StillHeld
from pywry_auth.flask import fresh_login_required
from tests.deploy.web import Browser, Web
from tests.person import Person

_SKEW = 30.0
_TTL = 300.0
_LIFE_OF_LOGIN = 600.0


@dataclass
class Pair:
    """Two machines that serve one site in turn. The clock of the first one is right.

    Args:
        first: The application of the first machine.
        second: That of the second one.
        ahead: The seconds by which the clock of the second one is ahead.
    """

    first: Web
    second: Web
    ahead: float

    def __post_init__(self) -> None:
        """Let both answer at the same address."""
        self.now = time.time()
        self._machines = ((self.first.wsgi, 0.0), (self.second.wsgi, self.ahead))
        self.at = 0
        self.first.wsgi = self._serve

    def browser(self) -> Browser:
        """Return a browser of the site."""
        return self.first.browser()

    def authorize(self, url: str) -> str:
        """Sign in at the provider, whose clock is right, and return the URL of the callback."""
        with self.clock(0):
            return Person().authorize(url)

    def sign_in(self, browser: Browser, begins: int, ends: int) -> None:
        """Sign a browser in: begin at one machine, and end at the other or the same."""
        self.at = begins
        callback = self.authorize(browser.begin())
        self.at = ends
        response = browser.get(callback)
        assert response.status_code == 303, response.text

    @contextmanager
    def clock(self, machine: int) -> Iterator[None]:
        """Let the clock of this process show the time of a machine for the block."""
        with time_machine.travel(self.now + self._machines[machine][1], tick=True):
            yield

    def _serve(self, environ: Any, start_response: Any) -> Any:
        with self.clock(self.at):
            return list(self._machines[self.at][0](environ, start_response))


@pytest.fixture(params=[_SKEW, -_SKEW], ids=["ahead", "behind"])
def pair(request: pytest.FixtureRequest, make_web: Callable[..., Web], redis_backend: Backend) -> Pair:
    settings = {"session_ttl": _TTL}
    first, second = (make_web(redis_backend, settings=settings) for _ in range(2))
    for web in (first, second):
        web.app.add_url_rule("/fresh", "fresh", fresh_login_required(max_age=60)(lambda: "recent"))
    return Pair(first, second, request.param)


def test_a_login_begins_at_one_machine_and_ends_at_the_other(pair: Pair) -> None:
    """Its session is valid at both, and so is that of a login in the other direction. [S8]"""
    for begins in (0, 1):
        browser = pair.browser()
        pair.sign_in(browser, begins, 1 - begins)
        for pair.at in (0, 1):
            assert browser.user == "user-alice"


def test_a_login_expires_after_its_time_and_the_difference_at_most(pair: Pair) -> None:
    for seconds, finishes in ((_LIFE_OF_LOGIN - _SKEW - 5, True), (_LIFE_OF_LOGIN + _SKEW + 5, False)):
        browser = pair.browser()
        pair.at = 0
        url = browser.begin()
        pair.now += seconds
        callback = pair.authorize(url)
        pair.at = 1
        response = browser.get(callback)
        assert (response.status_code == 303) is finishes, response.text
        assert browser.user == ("user-alice" if finishes else None)


def test_a_session_ends_at_its_time_and_the_difference_at_most(pair: Pair) -> None:
    """No machine admits a user later, or refuses one earlier. [T28]"""
    for begins in (0, 1):
        browser = pair.browser()
        pair.sign_in(browser, begins, begins)
        begun = pair.now
        pair.now = begun + _TTL - _SKEW - 5
        for pair.at in (0, 1):
            assert browser.user == "user-alice"
        pair.now = begun + _TTL + _SKEW + 5
        for pair.at in (0, 1):
            assert browser.user is None


def test_a_sign_out_at_one_machine_counts_at_the_other(pair: Pair) -> None:
    browser = pair.browser()
    pair.sign_in(browser, 0, 0)
    pair.at = 1
    assert browser.post("/auth/logout").status_code == 200
    for pair.at in (0, 1):
        assert browser.user is None


def test_a_token_is_refreshed_when_it_is_due_and_not_before(pair: Pair) -> None:
    """Its other machine sees an age that is wrong by the difference. [T64]"""
    browser = pair.browser()
    pair.sign_in(browser, 0, 0)
    token = pair.first.tokens.load("user-alice")
    assert token is not None
    assert token.expires_in
    before = pair.first.calls()["token"]
    with pair.clock(1):
        tokens = pair.second.app.blueprints["auth"].auth_routes.user_tokens
        assert tokens.get_access_token("user-alice") == token.access_token
        assert pair.first.calls()["token"] == before
    pair.now += token.expires_in
    with pair.clock(1):
        fresh = tokens.get_access_token("user-alice")
    with pair.clock(0):
        tokens = pair.first.app.blueprints["auth"].auth_routes.user_tokens
        assert tokens.get_access_token("user-alice") == fresh != token.access_token
    assert pair.first.calls()["token"] == before + 1


def test_the_later_sign_in_keeps_its_tokens(pair: Pair) -> None:
    """It may look as if it were the earlier one. [T36]"""
    for begins in (0, 1):
        earlier, later = pair.browser(), pair.browser()
        pair.sign_in(earlier, begins, begins)
        pair.sign_in(later, 1 - begins, 1 - begins)
        for pair.at in (0, 1):
            assert later.user == "user-alice"
            assert later.post("/auth/refresh").status_code == 200
        later.post("/auth/logout?everywhere=1")


def test_a_sign_in_is_recent_at_the_other_machine(pair: Pair) -> None:
    """The provider's time of the sign-in is compared with a tolerance."""
    for begins in (0, 1):
        browser = pair.browser()
        pair.sign_in(browser, begins, begins)
        for pair.at in (0, 1):
            assert browser.get("/fresh").text == "recent"
        pair.now += 60 + 60 + _SKEW + 5
        for pair.at in (0, 1):
            assert browser.get("/fresh").status_code == 401
        pair.now += _TTL


def test_a_limit_counts_the_requests_at_both_machines(
    make_web: Callable[..., Web], redis_backend: Backend
) -> None:
    """The store's clock decides. [T24]"""
    first, second = (make_web(redis_backend, settings={"login_rate_limit": "4/minute"}) for _ in range(2))
    pair = Pair(first, second, _SKEW)
    browser, seen = pair.browser(), []
    for pair.at in (0, 1, 0, 1, 0, 1):
        seen.append(browser.get("/auth/login").status_code)
    assert seen == [302] * 4 + [429] * 2


def test_a_lock_of_one_machine_excludes_the_other(pair: Pair, redis_backend: Backend) -> None:
    """The store's clock ends it. [T65]"""
    with (
        pair.clock(0),
        redis_backend.lock("refresh:alice", wait=1),
        pair.clock(1),
        pytest.raises(StillHeld),
        redis_backend.lock("refresh:alice", wait=0),
    ):
        pytest.fail("both hold the lock")
