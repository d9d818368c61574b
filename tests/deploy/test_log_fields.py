"""The fields of log records, for formatters that write JSON."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from pywry_auth.flow.events import LoginFailed, emit
from tests.deploy.web import Browser, Web, parameter
from tests.faults import Faults

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
REFUSED = (401, "application/json", b'{"error": "invalid_client", "error_description": "canary words"}')


@pytest.fixture(autouse=True)
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG, "pywry_auth")
    return caplog


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """Return the fields of a record without the beginning of their names."""
    return {
        name.removeprefix("auth_"): value for name, value in vars(record).items() if name.startswith("auth_")
    }


def with_event(log: pytest.LogCaptureFixture, event: str) -> dict[str, Any]:
    """Return the fields of the only record of an event."""
    (fields,) = [fields for record in log.records if (fields := fields_of(record)).get("event") == event]
    return fields


def sign_in(browser: Browser) -> str:
    """Sign in with Firefox, and return the callback."""
    callback = browser.authorize()
    browser.get(callback, html=True, User_Agent=FIREFOX)
    return callback


def test_the_line_of_each_event_has_the_same_facts_as_fields(web: Web, log: pytest.LogCaptureFixture) -> None:
    """The browser is a field only. [S8]"""
    browser = web.browser("192.0.2.1")
    sign_in(browser)
    (session,) = web.sessions.list_user_sessions("user-alice")
    login = with_event(log, "login")
    assert 0 < login.pop("seconds") < 60
    common = {"user": "user-alice", "session": session.session_id, "provider": "oidc", "mode": "web"}
    common |= {"browser": "Firefox on Linux"}
    assert login == {"event": "login", "client": "192.0.2.1", **common}
    assert browser.post("/auth/refresh").status_code == 200
    assert with_event(log, "refresh").items() >= {"event": "refresh", **common}.items()
    assert browser.post("/auth/logout").status_code == 200
    assert with_event(log, "logout").items() >= {"event": "logout", "sessions": 1, **common}.items()
    texts = [record.getMessage() for record in log.records if record.name == "pywry_auth.audit"]
    assert len(texts) == 3
    assert not any("Firefox" in text for text in texts)


def test_a_refusal_and_its_failed_login_have_one_reference(
    web: Web, faults: Faults, log: pytest.LogCaptureFixture
) -> None:
    """A search for the reference of a visitor finds both lines. [S8]"""
    faults.answers["/token"] = REFUSED
    browser = web.browser("192.0.2.1")
    response = browser.get(browser.authorize(), html=True, User_Agent=FIREFOX)
    failed, refused = with_event(log, "login_failed"), with_event(log, "refused")
    assert failed["reference"] == refused["reference"]
    known = {"error": "invalid_client", "client": "192.0.2.1", "provider": "oidc"}
    known |= {"browser": "Firefox on Linux", "reference": failed["reference"]}
    assert failed == {"event": "login_failed", "mode": "web", **known}
    assert refused == {"event": "refused", "status": response.status_code, **known}


def test_no_field_contains_a_secret(web: Web, faults: Faults, log: pytest.LogCaptureFixture) -> None:
    """Neither a token nor a code, a state or a cookie, at any level. [T31]"""
    browser = web.browser()
    begun = browser.begin()
    callback = sign_in(browser)
    tokens = web.tokens.load("user-alice")
    assert tokens is not None
    secrets = [tokens.access_token, tokens.refresh_token, tokens.id_token, browser.cookie()]
    secrets += [parameter(callback, name) for name in ("code", "state")] + [parameter(begun, "nonce")]
    browser.post("/auth/refresh")
    browser.post("/auth/logout")
    faults.answers["/token"] = REFUSED
    secrets.append(parameter(sign_in(browser), "code"))
    written = "\n".join(str(vars(record)) for record in log.records if record.name.startswith("pywry_auth"))
    assert "auth_event" in written
    for secret in secrets:
        assert secret
        for part in secret.split("."):
            assert part not in written


class _Record(logging.LogRecord):
    """A record of an application that notes values of its own in each line."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.user = self.client = self.session = self.event = self.provider = "the application's"


@pytest.fixture
def own_records() -> Iterator[None]:
    before = logging.getLogRecordFactory()
    logging.setLogRecordFactory(_Record)
    yield
    logging.setLogRecordFactory(before)


@pytest.mark.usefixtures("own_records")
def test_the_attributes_of_an_application_stay(log: pytest.LogCaptureFixture) -> None:
    """``logging`` refuses a field with the name of an attribute, so that a login would fail."""
    emit(None, LoginFailed(mode="native", error="timeout", user_id="alice"))
    (record,) = log.records
    assert record.user == "the application's"  # type: ignore[attr-defined]
    assert fields_of(record) == {
        "event": "login_failed",
        "user": "alice",
        "error": "timeout",
        "mode": "native",
    }
