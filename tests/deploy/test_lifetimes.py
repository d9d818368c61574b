"""How long a site's records are kept: tokens as long as the sessions that need them, and nothing forever."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
import time_machine
from werkzeug.wrappers import Response

from pywry_auth.backends.base import Backend, Terms
from pywry_auth.backends.memory import MemoryBackend
from pywry_auth.models import OAuthTokenSet
from pywry_auth.state.sessions import issue_session_token
from pywry_auth.state.tokens import TokenStore
from tests.deploy.web import Browser, WatchedBackend, Web
from tests.faults import Faults

USER = "user-alice"
TOKENS = f"oauth:tokens:{USER}"


class Expiries(WatchedBackend):
    """Remembers until when each record is kept; infinity means forever."""

    def __init__(self, inner: Backend) -> None:
        super().__init__(inner)
        self.until: dict[str, float] = {}

    def put(self, key: str, value: bytes, terms: Terms = Terms()) -> bool:
        stored = super().put(key, value, terms)
        if stored:
            self.until[key] = time.time() + (float("inf") if terms.ttl is None else terms.ttl)
        return stored


def _assert_kept(web: Web, backend: Expiries) -> None:
    needed = max(session.expires_at for session in web.sessions.list_user_sessions(USER))
    assert needed - 1 <= backend.until[TOKENS] < float("inf")


@pytest.mark.parametrize("refresh_token_ttl", [None, 0.0, 60.0])
def test_tokens_are_kept_as_long_as_the_longest_session(
    make_web: Callable[..., Web], backend: Backend, refresh_token_ttl: float | None
) -> None:
    """It may have begun later, or before SESSION_TTL was lowered, and may be an API client's. [S6]"""
    kept = Expiries(backend)

    def site(session_ttl: float) -> Web:
        web = make_web(kept, settings={"session_ttl": session_ttl, "refresh_rate_limit": "99/minute"})
        web.tokens._refresh_token_ttl = refresh_token_ttl
        return web

    with time_machine.travel(time.time(), tick=True) as clock:

        def refresh(browser: Browser) -> None:
            clock.shift(10)
            assert browser.post("/auth/refresh").status_code == 200

        web = site(20_000)
        browser = web.browser()
        browser.sign_in()
        _assert_kept(web, kept)
        issue_session_token(web.sessions, USER, ttl=50_000)
        _assert_kept(web, kept)
        refresh(browser)
        _assert_kept(web, kept)
        (session, *_) = web.sessions.list_user_sessions(USER)
        web.sessions.refresh_session(session.session_id, 70_000)
        _assert_kept(web, kept)
        lowered = site(5_000)
        again = lowered.browser()
        again.sign_in()
        _assert_kept(lowered, kept)
        refresh(again)
        _assert_kept(lowered, kept)
        raised = site(90_000)
        raised.browser().sign_in()
        _assert_kept(raised, kept)
        elsewhere = TokenStore(kept, refresh_token_ttl=0)  # of a background job, which knows no sessions
        tokens = elsewhere.load(USER)
        assert tokens is not None
        assert elsewhere.replace(USER, tokens, tokens)
        elsewhere.keep_until(USER, time.time() + 10)
        _assert_kept(raised, kept)


@pytest.mark.parametrize("left_out", ["", "expires_in", "refresh_token"])
def test_no_record_is_kept_forever(make_web: Callable[..., Web], faults: Faults, left_out: str) -> None:
    """Users who never sign out must not fill the store, whatever the provider's answers contain."""

    def without(response: Response) -> Response:
        answer: dict[str, Any] = json.loads(response.get_data())
        answer.pop(left_out, None)
        response.set_data(json.dumps(answer))
        return response

    faults.answers["/token"] = without
    kept = Expiries(MemoryBackend())
    web = make_web(kept, settings={"session_ttl": 5_000})
    browser = web.browser()
    browser.begin()
    browser.sign_in()
    _assert_kept(web, kept)
    browser.post("/auth/refresh")
    issue_session_token(web.sessions, USER)
    faults.down("/revoke", "/token")
    browser.post("/auth/refresh")
    browser.post("/auth/logout?everywhere=1")
    assert [key for key, until in kept.until.items() if until > time.time() + 31 * 86400] == []


def test_a_set_of_a_program_is_not_shortened_by_a_session() -> None:
    """Without a site, a set that can be refreshed is kept until it is deleted."""
    kept = Expiries(MemoryBackend())
    store = TokenStore(kept)
    store.save(USER, OAuthTokenSet("a", refresh_token="r", expires_in=60))
    store.keep_until(USER, time.time() + 1000)
    assert kept.until[TOKENS] == float("inf")


def test_a_set_that_no_session_needs_is_not_kept_longer() -> None:
    """Otherwise, each new session of an API client would keep an expired access token."""
    kept = Expiries(MemoryBackend())
    store = TokenStore(kept)
    store.keep_for(5_000)
    store.save(USER, OAuthTokenSet("a", expires_in=60))
    until = kept.until[TOKENS]
    with time_machine.travel(time.time() + 300):
        store.keep_until(USER, time.time() + 50_000)
    assert kept.until[TOKENS] == until
