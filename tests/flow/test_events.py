"""Listeners, the audit line, and the event of a login that fails."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError, AuthFlowTimeout
from pywry_auth.flow.events import (
    Event,
    LoginFailed,
    LoginSucceeded,
    SignedOut,
    TokensRefreshed,
    emit,
    listen,
    login_failures_emitted,
    unlisten,
)


class Recorder:
    """A listener that remembers the senders and events."""

    def __init__(self) -> None:
        self.all: list[tuple[object, Event]] = []

    def __call__(self, sender: object, event: Event) -> None:
        self.all.append((sender, event))


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    recorder = Recorder()
    listen(recorder)
    yield recorder
    unlisten(recorder)


def test_a_listener_receives_each_event_once_until_it_is_removed(recorder: Recorder) -> None:
    listen(recorder)
    event = TokensRefreshed(mode="native", user_id="alice")
    emit("sender", event)
    assert recorder.all == [("sender", event)]
    unlisten(recorder)
    unlisten(recorder)
    emit("sender", event)
    assert len(recorder.all) == 1


@pytest.mark.parametrize(
    ("error", "provider", "code"),
    [
        (AuthenticationError("x", error="invalid_grant"), "corp", "invalid_grant"),
        (AuthFlowTimeout("x", error=ErrorCode.TIMEOUT, provider="other"), "other", "timeout"),
        (AuthenticationError("x", error="new\nline" + "x" * 99), "corp", "new line" + "x" * 52 + "…"),
        (OSError("canary"), "corp", "authentication_failed"),
        (KeyboardInterrupt(), "corp", "cancelled"),
    ],
)
def test_a_login_that_fails_is_one_event(
    recorder: Recorder, error: BaseException, provider: str, code: str
) -> None:
    with pytest.raises(type(error)), login_failures_emitted(self := object(), "native", "corp"):
        raise error
    assert recorder.all == [(self, LoginFailed(mode="native", provider=provider, error=code))]


def test_a_login_that_succeeds_is_no_failure(recorder: Recorder) -> None:
    with login_failures_emitted("sender", "native", "corp"):
        pass
    assert recorder.all == []


def test_every_event_is_one_audit_line_with_its_known_facts(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "pywry_auth.audit"):
        emit(None, LoginSucceeded(mode="native", user_id="alice", provider="corp", seconds=1.5))
        emit(None, LoginFailed(mode="native", error="timeout"))
        emit(None, SignedOut(mode="web", user_id="alice", sessions=0, client="192.0.2.1"))
    assert caplog.messages == [
        "login user='alice' provider='corp' mode='native' seconds=1.5",
        "login_failed error='timeout' mode='native'",
        "logout user='alice' sessions=0 client='192.0.2.1' mode='web'",
    ]


def test_the_fields_of_the_audit_line_have_no_line_breaks(caplog: pytest.LogCaptureFixture) -> None:
    """A formatter that is no JSON would write a forged line. [T31]"""
    user = "a\r\nFORGED login\u2028user\x1b[2J" + "long" * 100
    with caplog.at_level(logging.INFO, "pywry_auth.audit"):
        emit(None, LoginSucceeded(user_id=user, mode="web", seconds=1.5))
    (record,) = caplog.records
    assert record.__dict__["auth_user"] == "a  FORGED login user [2J" + "long" * 100
    assert record.__dict__["auth_seconds"] == 1.5
