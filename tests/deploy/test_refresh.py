"""The route ``POST /auth/refresh``."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
import requests
import time_machine

from pywry_auth.backends.base import Backend
from pywry_auth.backends.memory import MemoryBackend
from pywry_auth.flask import token_refreshed
from pywry_auth.state.sessions import issue_session_token
from pywry_auth.testing.identity_provider import IdentityProvider
from tests.backends.threads import together
from tests.deploy.web import Browser, WatchedBackend, Web, set_cookies
from tests.faults import Faults


def test_a_refresh_returns_only_the_new_expiry(web_on: Web) -> None:
    browser = web_on.browser()
    browser.sign_in()
    old = web_on.tokens.load("user-alice")
    response = browser.post("/auth/refresh")
    new = web_on.tokens.load("user-alice")
    assert response.status_code == 200
    assert old is not None
    assert new is not None
    assert new.access_token != old.access_token
    assert response.json == {"refreshed": True, "expires_at": new.expires_at}
    assert time.time() + 3500 < response.json["expires_at"] < time.time() + 3700
    assert response.headers["Cache-Control"] == "no-store"
    assert not set_cookies(response)
    assert web_on.calls()["token"] == 2


def test_without_a_session_no_token_is_refreshed(web: Web) -> None:
    response = web.browser().post("/auth/refresh")
    assert response.status_code == 401
    assert response.json["error"] == "not_signed_in"
    assert response.headers["WWW-Authenticate"].startswith("Bearer")
    assert not web.calls()


def test_without_a_refresh_token_the_session_stays(web: Web, alice: Browser) -> None:
    tokens = web.tokens.load("user-alice")
    assert tokens is not None
    web.tokens.save("user-alice", replace(tokens, refresh_token=None))
    response = alice.post("/auth/refresh")
    assert (response.status_code, response.json["error"]) == (400, "no_refresh_token")
    assert alice.user == "user-alice"
    assert web.calls()["token"] == 1


def test_a_revoked_grant_requires_a_new_sign_in(web_on: Web) -> None:
    browser = web_on.browser()
    browser.sign_in()
    tokens = web_on.tokens.load("user-alice")
    assert tokens is not None
    assert web_on.provider is not None
    assert web_on.provider.revoke_token(tokens.refresh_token or "")
    response = browser.post("/auth/refresh")
    assert (response.status_code, response.json["error"]) == (401, "reauth_required")
    assert response.headers["WWW-Authenticate"].startswith("Bearer")
    assert web_on.tokens.load("user-alice") is None, "revoked tokens are removed"
    again = browser.post("/auth/refresh")
    assert (again.status_code, again.json["error"]) == (401, "not_signed_in")
    browser.sign_in()
    assert browser.post("/auth/refresh").status_code == 200


def test_an_unreachable_provider_gets_502_and_keeps_the_tokens(
    web: Web, alice: Browser, faults: Faults
) -> None:
    """A network failure is never taken for a revoked grant. [P10]"""
    faults.down("/token")
    response = alice.post("/auth/refresh")
    assert (response.status_code, response.json["error"]) == (502, "provider_unreachable")
    assert alice.user == "user-alice"
    faults.answers.clear()
    assert alice.post("/auth/refresh").status_code == 200


@pytest.mark.parametrize(
    "answer",
    [
        (200, "application/json", b"[]"),
        (200, "text/html", b"<html>"),
        (200, "application/json", b'{"access_token": 7, "token_type": "Bearer"}'),
        (401, "application/json", b'{"error": "invalid_client"}'),
        (503, "text/plain", b""),
    ],
)
def test_an_unusable_provider_response_gets_502(
    web: Web,
    alice: Browser,
    faults: Faults,
    caplog: pytest.LogCaptureFixture,
    answer: tuple[int, str, bytes],
) -> None:
    """The operator finds the line of the response's reference at the default level. [S7]

    A wrong secret also stops all refreshes, which is an error of its own.
    """
    faults.answers["/token"] = answer
    caplog.clear()
    caplog.set_level(logging.INFO, "pywry_auth.deploy")
    response = alice.post("/auth/refresh")
    assert response.status_code == 502
    (line,) = [text for text in caplog.messages if f"reference={response.json['reference']!r}" in text]
    sentence = line.partition(": ")[2]
    assert sentence
    assert sentence not in response.text
    told = [record for record in caplog.records if sentence in record.getMessage()]
    (refused,) = [record for record in told if "refused reference=" in record.getMessage()]
    assert refused.levelno == logging.WARNING
    assert len(told) == (2 if b"invalid_client" in answer[2] else 1)
    faults.answers.clear()
    assert alice.post("/auth/refresh").status_code == 200


def test_an_id_token_of_another_subject_ends_the_grant(
    web: Web, alice: Browser, caplog: pytest.LogCaptureFixture
) -> None:
    """The provider's response to a refresh contains another user's ID token. The session stays. [T37]"""
    bob = web.browser()
    bob.sign_in(username="bob")
    theirs = web.tokens.load("user-bob")
    assert theirs is not None
    web.tokens.save("user-bob", replace(theirs, id_token_claims={}, id_token=None))
    tokens = web.tokens.load("user-alice")
    assert tokens is not None
    web.tokens.save("user-alice", replace(tokens, refresh_token=theirs.refresh_token))
    response = alice.post("/auth/refresh")
    assert (response.status_code, response.json["error"]) == (401, "reauth_required")
    assert web.tokens.load("user-alice") is None
    assert alice.user == "user-alice"
    assert "could not be refreshed: The refreshed ID token has a different sub" in caplog.text


def test_a_refreshed_id_token_that_cannot_be_verified_ends_no_session(
    web: Web, alice: Browser, idp: IdentityProvider, faults: Faults, caplog: pytest.LogCaptureFixture
) -> None:
    """Only a refusal by the provider ends sessions, not its key set of a moment ago. [S7]"""
    caplog.set_level("INFO", "pywry_auth.audit")
    faults.answers["/jwks"] = (
        200,
        "application/json",
        requests.get(f"{idp.issuer}/jwks", timeout=30).content,
    )
    idp.rotate_keys()
    response = alice.post("/auth/refresh")
    assert (response.status_code, response.json["error"]) == (401, "reauth_required")
    assert alice.user == "user-alice"
    assert "tokens could not be refreshed" in caplog.text
    assert "refresh_refused" not in caplog.text


def test_simultaneous_requests_share_one_refresh(web_on: Web) -> None:
    """Over real connections, with a thread for each. [P10]"""
    browser = web_on.browser()
    browser.sign_in()
    before = web_on.calls()["token"]
    with web_on.served() as address:

        def ask(number: int) -> requests.Response:
            cookie = {"Cookie": f"pywry_session={browser.cookie()}"}
            return requests.post(f"{address}/auth/refresh", headers=cookie, timeout=30)

        answers = together(32, ask)
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["expires_at"] for answer in answers}) == 1
    assert web_on.calls()["token"] == before + 1


def test_two_workers_share_one_refresh(make_web: Callable[..., Web], backend: Backend) -> None:
    """Two instances share one store; memory stands for one process. [P10]"""
    webs = [make_web(backend), make_web(backend)]
    browser = webs[0].browser()
    browser.sign_in()
    other = webs[1].browser()
    other.plant("pywry_session", browser.cookie() or "")
    before = webs[0].calls()["token"]
    both = (browser, other)
    answers = together(8, lambda number: both[number % 2].post("/auth/refresh"))
    assert [answer.status_code for answer in answers] == [200] * 8
    assert webs[0].calls()["token"] == before + 1


def test_a_slow_provider_gets_one_refresh(make_web: Callable[..., Web], faults: Faults) -> None:
    """The call takes longer than new tokens count as fresh, and others wait. [P10]"""
    backend = WatchedBackend(MemoryBackend())
    web = make_web(backend)
    browser = web.browser()
    browser.sign_in()
    everybody_waits, waiting = threading.Event(), set[int]()
    with time_machine.travel(time.time(), tick=True) as clock:

        def slowly(path: str) -> None:
            if path == "/token":
                assert everybody_waits.wait(20)
                clock.shift(7)  # less than a lease: its renewals follow the real time

        def count_waiters(number: int) -> bool:
            if backend.operations[number] == "get oauth":  # a thread has loaded the old tokens
                waiting.add(threading.get_ident())
            if len(waiting) >= 4:
                everybody_waits.set()
            return False

        faults.before, backend.fails = slowly, count_waiters
        backend.forget()
        answers = together(4, lambda number: browser.post("/auth/refresh"))
    assert [answer.status_code for answer in answers] == [200] * 4
    assert web.calls()["token"] == 2


def test_only_a_real_refresh_sends_a_signal(web: Web, alice: Browser) -> None:
    received: list[str] = []

    def receive(sender: object, user_id: str) -> None:
        received.append(user_id)

    with token_refreshed.connected_to(receive):
        answers = together(6, lambda number: alice.post("/auth/refresh"))
    assert [answer.status_code for answer in answers] == [200] * 6
    assert received == ["user-alice"]


def test_a_later_request_refreshes_again(web: Web, alice: Browser) -> None:
    with time_machine.travel(time.time(), tick=True) as clock:
        first = alice.post("/auth/refresh").json["expires_at"]
        clock.shift(30)
        second = alice.post("/auth/refresh").json["expires_at"]
    assert second >= first + 29
    assert web.calls()["token"] == 3


def test_an_api_client_can_refresh_for_its_user(web: Web, alice: Browser) -> None:
    token = issue_session_token(web.sessions, "user-alice", ["viewer"], 60)
    assert web.browser().post("/auth/refresh", Authorization=f"Bearer {token}").status_code == 200
    stranger = issue_session_token(web.sessions, "user-without-tokens")
    response = web.browser().post("/auth/refresh", Authorization=f"Bearer {stranger}")
    assert (response.status_code, response.json["error"]) == (401, "reauth_required")


def test_refresh_calls_of_a_session_are_limited(make_web: Callable[..., Web]) -> None:
    """Another session of the same user has its own limit. [T44]"""
    web = make_web(settings={"refresh_rate_limit": "2/minute"})
    browser, other = web.browser(), web.browser()
    browser.sign_in()
    other.sign_in()
    with time_machine.travel(time.time(), tick=False) as clock:
        for status in (200, 200, 429):
            clock.shift(6)  # otherwise the tokens count as just refreshed
            response = browser.post("/auth/refresh")
            assert response.status_code == status
        assert response.json["error"] == "rate_limited"
        assert int(response.headers["Retry-After"]) == 60
        assert other.post("/auth/refresh").status_code == 200
    assert browser.user == "user-alice"


def test_requests_that_share_a_refresh_are_not_counted(make_web: Callable[..., Web]) -> None:
    """One call to the provider counts once, however many requests wait for it. [T44]"""
    web = make_web(settings={"refresh_rate_limit": "1/minute"})
    browser = web.browser()
    browser.sign_in()
    answers = together(8, lambda number: browser.post("/auth/refresh"))
    assert {answer.status_code for answer in answers} == {200}
