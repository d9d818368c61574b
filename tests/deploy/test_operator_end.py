"""Sessions that an operator or the application ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from pywry_auth.backends.base import Terms, UnreadableRecord
from pywry_auth.backends.memory import MemoryBackend
from pywry_auth.exceptions import StoreUnavailable
from pywry_auth.flask import SignInDecision, end_user_sessions
from pywry_auth.flow.events import Event, SignedOut, listen, unlisten
from pywry_auth.state.sessions import issue_session_token
from pywry_auth.testing.faulty_backend import FaultyBackend
from tests.deploy.web import WatchedBackend, Web


@pytest.fixture
def ends() -> Iterator[list[SignedOut]]:
    """The events of sign-outs."""
    found: list[SignedOut] = []

    def note(_sender: object, event: Event) -> None:
        if isinstance(event, SignedOut):
            found.append(event)

    listen(note)
    yield found
    unlisten(note)


def _end(web: Web, user_id: str = "user-alice") -> int:
    with web.app.app_context():
        return end_user_sessions(user_id)


def test_an_application_ends_all_sessions_of_a_user_and_the_tokens(
    web_on: Web, ends: list[SignedOut]
) -> None:
    """The user's next request is refused, and the provider's grant is revoked. [T42]"""
    browsers = [web_on.browser(), web_on.browser()]
    for browser in browsers:
        browser.sign_in()
    token = issue_session_token(web_on.sessions, "user-alice")
    others = web_on.browser()
    others.sign_in(username="bob")
    assert _end(web_on) == 3
    assert [browser.get("/members").status_code for browser in browsers] == [401, 401]
    assert web_on.client().get("/members", headers={"Authorization": f"Bearer {token}"}).status_code == 401
    assert others.get("/members").status_code == 200
    assert web_on.tokens.load("user-alice") is None
    assert web_on.calls()["revoke"] == 2
    assert [(each.user_id, each.sessions, each.reason) for each in ends] == [("user-alice", 3, "operator")]


def test_tokens_without_a_session_are_revoked_too(web: Web) -> None:
    """The session store's own ``delete_user_sessions`` leaves them, for jobs."""
    web.browser().sign_in()
    assert web.sessions.delete_user_sessions("user-alice") == 1
    assert web.tokens.load("user-alice") is not None
    assert _end(web) == 0
    assert web.tokens.load("user-alice") is None
    assert web.calls()["revoke"] == 2


def test_all_accounts_of_a_user_with_an_own_id_end(make_web: Callable[..., Web]) -> None:
    web = make_web(on_sign_in=lambda attempt: SignInDecision(user_id="55"))
    browsers = [web.browser(), web.browser()]
    browsers[0].sign_in()
    browsers[1].sign_in(username="bob")
    assert _end(web, "55") == 2
    assert [browser.get("/members").status_code for browser in browsers] == [401, 401]
    assert [web.tokens.load(f"user-{name}") for name in ("alice", "bob")] == [None, None]
    assert web.calls()["revoke"] == 4


def test_a_session_that_cannot_be_read_ends_with_the_others(web: Web, ends: list[SignedOut]) -> None:
    """Another worker may read it."""
    web.browser().sign_in()
    _damage(web)
    assert _end(web) == 2
    assert web.sessions.session_ids("user-alice") == []
    assert web.tokens.load("user-alice") is None
    assert [each.sessions for each in ends] == [2]


def test_if_no_session_can_be_read_the_work_is_not_reported_as_done(web: Web) -> None:
    """The keys of this process are wrong then, so that it cannot read and revoke the tokens either."""
    _damage(web)
    with pytest.raises(UnreadableRecord, match="ENCRYPTION_KEYS"):
        _end(web)
    assert web.sessions.session_ids("user-alice") == ["bad"]


def _damage(web: Web) -> None:
    web.backend.put("session:bad", b"garbage", Terms(ttl=60, group="session:user-alice"))


def test_an_outage_is_told_and_a_repeated_call_finishes_the_work(make_web: Callable[..., Web]) -> None:
    """A session ends after its tokens, so that no part of the work is lost. [T43]"""
    faulty = FaultyBackend(MemoryBackend())
    web = make_web(faulty)
    browser = web.browser()
    browser.sign_in()

    def fail(operation: str, key: str) -> None:
        if operation == "pop" and key.startswith("session:"):
            raise StoreUnavailable("The store is down: a simulated failure.")

    faulty.before = fail
    with pytest.raises(StoreUnavailable):
        _end(web)
    faulty.before = lambda operation, key: None
    assert _end(web) == 1
    assert browser.get("/members").status_code == 401
    assert web.tokens.load("user-alice") is None
    assert web.calls()["revoke"] == 2


def test_sessions_that_ended_before_an_outage_are_reported(
    make_web: Callable[..., Web], ends: list[SignedOut]
) -> None:
    """Whichever operation of the store fails, each session has one event. [S8]"""
    watched = WatchedBackend(MemoryBackend())
    web, failing = make_web(watched), 0
    while True:
        for _ in range(2):
            web.browser().sign_in()
        watched.forget()
        ends.clear()
        watched.fails = failing.__eq__
        ended = None
        with suppress(StoreUnavailable):
            ended = _end(web)
        reported = sum(each.sessions or 0 for each in ends)
        is_over = len(watched.operations) <= failing
        watched.fails = lambda number: False
        assert ended in (None, reported)
        assert _end(web) == 2 - reported
        assert sum(each.sessions or 0 for each in ends) == 2
        if is_over:
            break
        failing += 2
    assert failing > 10
