"""The sessions that a browser was given."""

from __future__ import annotations

import pytest

from pywry_auth.backends.base import Backend, Terms
from pywry_auth.backends.memory import MemoryBackend
from pywry_auth.state.browsers import BrowserSessions
from tests.backends.threads import together


@pytest.fixture
def browsers(backend: Backend) -> BrowserSessions:
    return BrowserSessions(backend, 60)


def test_a_new_session_returns_the_others_of_the_browser(browsers: BrowserSessions) -> None:
    """The caller ends them. [T67]"""
    assert browsers.of("a browser") == []
    assert browsers.add("a browser", "first") == []
    assert browsers.add("another browser", "foreign") == []
    assert browsers.add("a browser", "second", ["cookie", "first"]) == ["cookie", "first"]
    assert browsers.of("a browser") == ["second", "cookie", "first"]


def test_of_simultaneous_sessions_only_the_last_is_not_returned(browsers: BrowserSessions) -> None:
    """Otherwise two tabs would leave a session that no browser knows. [T67]"""
    returned = together(8, lambda number: browsers.add("a browser", f"session {number}"))
    latest = browsers.of("a browser")[0]
    ended = {session for sessions in returned for session in sessions}
    assert ended == {f"session {number}" for number in range(8)} - {latest}


def test_the_list_of_a_browser_is_bounded(browsers: BrowserSessions) -> None:
    for number in range(50):
        browsers.add("a browser", f"session {number}")
    assert browsers.of("a browser") == [f"session {number}" for number in range(49, 41, -1)]


class _Forgetful(MemoryBackend):
    """A backend that stores a value, but reports that it did not, once."""

    forgets = True

    def put(self, key: str, value: bytes, terms: Terms = Terms()) -> bool:
        stored, self.forgets = super().put(key, value, terms) and not self.forgets, False
        return stored


def test_a_new_session_is_not_among_the_others_after_a_lost_answer() -> None:
    """Otherwise a sign-in would end its own session."""
    assert BrowserSessions(_Forgetful(), 60).add("a browser", "new", ["old"]) == ["old"]
