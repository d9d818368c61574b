"""The limit of browsers with which one user is signed in."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import pytest

from pywry_auth.backends.base import Backend
from pywry_auth.backends.memory import MemoryBackend
from pywry_auth.deploy.session_lifecycle import Begun, Client, SessionLifecycle
from pywry_auth.flask import user_logged_out
from pywry_auth.flow.events import Event, SignedOut, listen, unlisten
from pywry_auth.models import AuthFlowResult, Grant, OAuthTokenSet
from pywry_auth.state.sessions import issue_session_token, session_id_of_bearer
from tests.backends.threads import together
from tests.deploy.web import WatchedBackend, Web

_ALICE = "user-alice"
_THREADS = 50


def _lifecycle(web: Web) -> SessionLifecycle:
    lifecycle = web.app.extensions["pywry_auth"].routes._logins.lifecycle
    assert isinstance(lifecycle, SessionLifecycle)
    return lifecycle


def _begin(web: Web, number: int) -> Begun:
    """Begin a session, as a callback does after the provider's responses."""
    grant = Grant(f"grant {number}", time.time(), client_id="site")
    tokens = OAuthTokenSet(f"access {number}", refresh_token=f"refresh {number}", grant=grant)
    result = AuthFlowResult(True, tokens, {"sub": _ALICE}, _ALICE)
    return _lifecycle(web).begin("", result, Client(f"browser {number}"), time.time())


def test_a_further_sign_in_ends_the_oldest_session(
    make_web: Callable[..., Web], backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    """The end is reported like a sign-out, and no token is revoked. [T56]"""
    caplog.set_level(logging.INFO, "pywry_auth.audit")
    web = make_web(backend, settings={"sessions_per_user": 2})
    browsers = [web.browser() for _ in range(3)]
    browsers[0].sign_in()
    (oldest,) = web.sessions.list_user_sessions(_ALICE)
    browsers[1].sign_in()
    signals: list[dict[str, Any]] = []
    events: list[Event] = []

    def receive(_sender: object, **facts: Any) -> None:
        signals.append(facts)

    def hear(_sender: object, event: Event) -> None:
        events.append(event)

    listen(hear)
    try:
        with user_logged_out.connected_to(receive):
            browsers[2].sign_in()
    finally:
        unlisten(hear)
    assert [browser.user for browser in browsers] == [None, _ALICE, _ALICE]
    assert signals == [{"user_id": _ALICE, "sessions": 1}]
    assert [(event.session, event.reason) for event in events if isinstance(event, SignedOut)] == [
        (oldest, "sessions_per_user")
    ]
    line = f"logout user='{_ALICE}' session='{oldest.session_id}' reason='sessions_per_user' sessions=1"
    assert caplog.messages[-1] == f"{line} provider='oidc' mode='web'"
    assert web.calls()["revoke"] == 0
    assert web.tokens.revocations.next_due() is None
    assert browsers[1].post("/auth/refresh").status_code == 200, "the tokens still work"


def test_simultaneous_sign_ins_keep_the_newest_sessions(
    make_web: Callable[..., Web], backend: Backend
) -> None:
    """Of fifty threads that sign in the same user, the newest five stay signed in. [T56]"""
    web = make_web(backend, settings={"sessions_per_user": 5})
    token = issue_session_token(web.sessions, _ALICE)
    begun = together(_THREADS, lambda number: _begin(web, number))
    newest = sorted((each.session.created_at, each.session.session_id) for each in begun)[-5:]
    living = {session.session_id for session in web.sessions.list_user_sessions(_ALICE)}
    assert living == {session_id for _, session_id in newest} | {session_id_of_bearer(token)}
    ended = [session.session_id for each in begun for session in each.ended]
    assert len(ended) == len(set(ended)) == _THREADS - 5, "each end is reported once"
    kept = web.tokens.load(_ALICE)
    assert kept is not None
    assert web.tokens.revocations.next_due() is None


def test_session_tokens_of_api_clients_are_not_limited(make_web: Callable[..., Web]) -> None:
    """They neither end nor make a sign-in end. [T56]"""
    web = make_web(settings={"sessions_per_user": 1})
    tokens = [issue_session_token(web.sessions, _ALICE) for _ in range(3)]
    browser, other = web.browser(), web.browser("203.0.113.7")
    browser.sign_in()
    tokens += [issue_session_token(web.sessions, _ALICE) for _ in range(3)]
    assert browser.user == _ALICE
    other.sign_in()
    assert [browser.user, other.user] == [None, _ALICE]
    for token in tokens:
        status = web.client().get("/auth/status", headers={"Authorization": f"Bearer {token}"})
        assert status.json["user_id"] == _ALICE


def test_another_user_is_not_affected(make_web: Callable[..., Web]) -> None:
    web = make_web(settings={"sessions_per_user": 1})
    alice, bob = web.browser(), web.browser()
    alice.sign_in()
    bob.sign_in(username="bob")
    assert (alice.user, bob.user) == (_ALICE, "user-bob")


def test_below_the_limit_the_cost_of_a_sign_in_does_not_grow(make_web: Callable[..., Web]) -> None:
    """It reads the user's index, and none of the sessions in it."""
    watched = WatchedBackend(MemoryBackend())
    web, costs = make_web(watched), []
    for number in range(100):
        watched.forget()
        assert _begin(web, number).ended == ()
        costs.append(len(watched.operations))
    assert costs[1:] == [costs[1]] * 99
    watched.forget()
    assert len(_begin(web, 100).ended) == 1
    assert len(watched.operations) < costs[1] + 110, "at the limit it reads each session once"


def test_a_limit_that_was_lowered_applies_from_the_next_sign_in(make_web: Callable[..., Web]) -> None:
    web = make_web()
    for number in range(20):
        _begin(web, number)
    stricter = make_web(web.backend, settings={"sessions_per_user": 3})
    assert len(_begin(stricter, 20).ended) == 18
    assert len(web.sessions.list_user_sessions(_ALICE)) == 3
