"""Signals and the audit log: one entry for each event, without secrets."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest

from pywry_auth.exceptions import StoreUnavailable
from pywry_auth.flask import login_failed, token_refreshed, user_logged_in, user_logged_out
from tests.deploy.web import Browser, Web, parameter
from tests.faults import Faults
from tests.person import Person


class Received:
    """All signals during a ``with`` block, in order."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.senders: list[object] = []
        self._stack = ExitStack()

    def __enter__(self) -> Received:
        for signal in (user_logged_in, user_logged_out, login_failed, token_refreshed):
            self._stack.enter_context(signal.connected_to(self._receiver(signal.name)))
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def _receiver(self, name: str) -> Callable[..., None]:
        def receive(sender: object, **facts: Any) -> None:
            self.events.append((name, facts))
            self.senders.append(sender)

        return receive


def _audited(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "pywry_auth.audit"]


def test_each_event_is_reported_once(web: Web, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    browser = web.browser("203.0.113.7")
    with Received() as received:
        browser.sign_in()
        (session,) = web.sessions.list_user_sessions("user-alice")
        browser.get("/members")
        browser.get("/auth/status")
        browser.post("/auth/refresh")
        browser.post("/auth/logout")
        browser.get("/auth/callback?state=forged&error=x")
        browser.post("/auth/logout")
        browser.post("/auth/refresh")
    assert received.events == [
        ("user-logged-in", {"session": session, "user_id": "user-alice"}),
        ("token-refreshed", {"user_id": "user-alice"}),
        ("user-logged-out", {"user_id": "user-alice", "sessions": 1}),
        ("login-failed", {"error": "state_unknown"}),
    ]
    known, origin = f"user='user-alice' session='{session.session_id}'", "provider='oidc' mode='web'"
    login, *others = _audited(caplog)
    assert re.fullmatch(rf"login {known} client='203\.0\.113\.7' {origin} seconds=[0-9.]+", login)
    assert others[:-1] == [f"refresh {known} {origin}", f"logout {known} sessions=1 {origin}"]
    failed = (
        r"login_failed error='state_unknown' reference='[2-9A-Z]{4}-[2-9A-Z]{4}' client='203\.0\.113\.7' "
    )
    assert re.fullmatch(failed + re.escape(origin), others[-1])


def test_the_sender_is_the_application(web: Web) -> None:
    with Received() as received:
        web.browser().sign_in()
        web.browser().get("/auth/callback?state=forged&error=x")
    assert received.senders == [web.app, web.app]


def test_a_receiver_hears_only_the_application_that_it_chose(make_web: Callable[..., Web]) -> None:
    """Two applications can stand in one process, also on one store."""
    first, second = make_web(), make_web()
    heard: list[object] = []

    def receive(sender: object, **facts: Any) -> None:
        heard.append(sender)

    signals = (user_logged_in, user_logged_out, token_refreshed, login_failed)
    with ExitStack() as stack:
        for signal in signals:
            stack.enter_context(signal.connected_to(receive, sender=first.app))
        for web in (second, first):
            browser = web.browser()
            browser.sign_in()
            browser.post("/auth/refresh")
            browser.post("/auth/logout")
            browser.get("/auth/callback?state=forged&error=x")
    assert heard == [first.app] * 4
    assert len(repr(first.app)) < 200


def test_a_receiver_that_fails_changes_nothing_for_the_user(
    web: Web, caplog: pytest.LogCaptureFixture
) -> None:
    """The user has the session and the tokens, and the other receivers are called."""
    error: list[BaseException] = [ValueError("no such table"), StoreUnavailable("down")]

    def fail(sender: object, **facts: Any) -> None:
        raise error[0]

    async def never(sender: object, **facts: Any) -> None:
        raise AssertionError

    browser = web.browser()
    signals = (user_logged_in, user_logged_out, login_failed, token_refreshed)
    with ExitStack() as stack:
        for signal in signals:
            for receiver in (fail, never):
                stack.enter_context(signal.connected_to(receiver))
        received = stack.enter_context(Received())
        browser.sign_in()
        assert browser.user == "user-alice"
        tokens = web.tokens.load("user-alice")
        assert tokens
        error.reverse()
        assert browser.post("/auth/refresh").json["refreshed"] is True
        refreshed = web.tokens.load("user-alice")
        assert refreshed
        assert refreshed.access_token != tokens.access_token
        assert web.browser().get("/auth/callback?state=forged&error=x").status_code == 400
        assert browser.post("/auth/logout").json["logged_out"] is True
        assert web.sessions.list_user_sessions("user-alice") == []
        with user_logged_in.muted():
            web.browser().sign_in()
    names = [name for name, facts in received.events]
    assert names == ["user-logged-in", "token-refreshed", "login-failed", "user-logged-out"]
    failures = [record for record in caplog.records if record.name == "pywry_auth.flow"]
    assert len(failures) == 8
    assert all(record.exc_info for record in failures)
    assert "never is a coroutine function" in caplog.text


class _Asynchronous:
    """An object that is called like a coroutine function."""

    async def __call__(self, sender: object, **facts: Any) -> None:
        """Fail."""
        raise AssertionError


@pytest.mark.parametrize("receiver", [_Asynchronous(), partial(_Asynchronous(), note="canary")])
def test_every_kind_of_coroutine_function_is_reported(
    web: Web, caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder, receiver: Any
) -> None:
    with login_failed.connected_to(receiver), Received() as received:
        web.browser().get("/auth/callback?state=forged&error=x")
    assert received.senders == [web.app]
    name = type(receiver).__qualname__
    assert f"{name} is a coroutine function: connect a plain function or method" in caplog.text
    assert "canary" not in caplog.text
    assert not [warning for warning in recwarn if "never awaited" in str(warning.message)]


def test_a_logout_everywhere_reports_the_number_of_sessions(web: Web) -> None:
    browsers = [web.browser() for _ in range(3)]
    for browser in browsers:
        browser.sign_in()
    with Received() as received:
        browsers[1].post("/auth/logout?everywhere=1")
    assert received.events == [("user-logged-out", {"user_id": "user-alice", "sessions": 3})]


def test_a_failed_login_is_reported_with_its_error_code(make_web: Callable[..., Web], faults: Faults) -> None:
    web = make_web(settings={"allowed_users": "user-alice", "login_rate_limit": "9/minute"})
    browser = web.browser()
    with Received() as received:
        browser.get(browser.authorize(username="bob"))
        browser.get(Person(action="cancel").authorize(browser.begin()))
        callback = browser.authorize()
        faults.down("/token")
        browser.get(callback)
        web.browser().get(browser.authorize())
        for _ in range(6):
            browser.get("/auth/login")
    assert [(name, facts["error"]) for name, facts in received.events] == [
        ("login-failed", "access_denied"),
        ("login-failed", "access_denied"),
        ("login-failed", "provider_unreachable"),
        ("login-failed", "cookie_missing"),
        ("login-failed", "rate_limited"),
    ]


def test_external_values_stay_on_one_bounded_line(web: Web, caplog: pytest.LogCaptureFixture) -> None:
    """The provider's own error code can be any text. [T8]"""
    caplog.set_level(logging.INFO)
    browser: Browser = web.browser()
    state = parameter(browser.begin(), "state")
    browser.get(f"/auth/callback?state={state}&iss={web.idp.issuer}&error=a%0ab%00{'c' * 5000}")
    (line,) = _audited(caplog)
    assert line.isprintable()
    assert len(line) < 500
