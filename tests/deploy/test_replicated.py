"""Sign-ins and sign-outs that the store has not confirmed on its replicas."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from pywry_auth.backends.base import Backend
from pywry_auth.backends.memory import MemoryBackend
from pywry_auth.exceptions import StoreUnavailable
from pywry_auth.flask import end_user_sessions
from pywry_auth.flow.events import Event, LoginSucceeded, listen, unlisten
from pywry_auth.testing.faulty_backend import FaultyBackend
from tests.deploy.web import Browser, SiteResponse, Web, set_cookies
from tests.faults import Faults
from tests.waiting import eventually

USER = "user-alice"
SIGN_OUTS = ("/auth/logout", "/auth/logout?everywhere=1", "/auth/sessions/{handle}/end")


class Replicated(FaultyBackend):
    """A store whose replicas can be cut off: it keeps all writes, and confirms none of them.

    Args:
        inner: The backend that keeps the records.
    """

    def __init__(self, inner: Backend) -> None:
        super().__init__(inner)
        self.blocks = 0
        self.refused = False
        self.before = self._confirm

    def _confirm(self, operation: str, _key: str) -> None:
        if operation == "replicated":
            self.blocks += 1
            if self.refused:
                raise StoreUnavailable("Only 0 of 1 replicas have the last writes.")

    @contextmanager
    def cut_off(self) -> Iterator[None]:
        """Let no replica confirm a write in the block."""
        self.refused = True
        try:
            yield
        finally:
            self.refused = False


@pytest.fixture
def store() -> Replicated:
    return Replicated(MemoryBackend())


@pytest.fixture
def site(make_web: Callable[..., Web], store: Replicated) -> Web:
    return make_web(store)


@pytest.fixture
def browser(site: Web) -> Browser:
    browser = site.browser()
    browser.sign_in()
    return browser


def _unavailable(response: SiteResponse) -> None:
    assert response.status_code == 503
    assert int(response.headers["Retry-After"]) > 0
    assert "pywry_session" not in set_cookies(response), "the cookie is neither set nor deleted"


def test_a_login_that_is_not_confirmed_leaves_nothing(site: Web, store: Replicated) -> None:
    """Neither a cookie nor a session nor a grant remains, and signing in works afterwards. [T72, S7]"""
    successes: list[Event] = []

    def note(_sender: object, event: Event) -> None:
        if isinstance(event, LoginSucceeded):
            successes.append(event)

    browser = site.browser()
    callback = browser.authorize()
    listen(note)
    try:
        with store.cut_off():
            _unavailable(browser.get(callback, html=True))
    finally:
        unlisten(note)
    assert successes == []
    assert site.sessions.session_ids(USER) == []
    assert site.tokens.list_keys() == []
    assert site.calls()["revoke"] == 2
    browser.sign_in()
    assert browser.user == USER


def test_it_leaves_the_browsers_earlier_session(site: Web, store: Replicated, browser: Browser) -> None:
    """The user is not signed out, and the tokens of the session are not revoked. [P15]"""
    callback = browser.authorize()
    with store.cut_off():
        _unavailable(browser.get(callback, html=True))
    assert browser.user == USER
    assert len(site.sessions.session_ids(USER)) == 1
    assert site.tokens.load(USER) is not None
    assert site.calls()["revoke"] == 0


def test_a_login_that_an_outage_left_is_undone_later(site: Web, store: Replicated) -> None:
    """After a failover, only this process knows the tokens: they are revoked in the background. [S7]"""
    browser = site.browser()
    callback = browser.authorize()
    down = [False]

    def fail(operation: str, _key: str) -> None:
        down[0] = down[0] or operation == "replicated"
        if down[0]:
            raise StoreUnavailable("The store is down: a simulated failure.")

    store.before = fail
    _unavailable(browser.get(callback, html=True))
    assert site.calls()["revoke"] == 0
    store._inner = MemoryBackend()  # the new primary has none of the records
    store.before = lambda operation, key: None
    assert eventually(lambda: site.calls()["revoke"] == 2)
    assert eventually(lambda: site.tokens.list_keys() == [])
    assert site.sessions.session_ids(USER) == []


@pytest.mark.parametrize("path", SIGN_OUTS)
@pytest.mark.parametrize("html", [False, True], ids=["script", "form"])
def test_a_sign_out_is_confirmed_before_the_cookie_goes(
    site: Web, store: Replicated, browser: Browser, path: str, html: bool
) -> None:
    """A repeated request finds no session, and must be confirmed all the same. [T72]"""
    (session_id,) = site.sessions.session_ids(USER)
    session = site.sessions.get_session(session_id)
    assert session is not None
    target = path.format(handle=session.handle)
    with store.cut_off():
        _unavailable(browser.post(target, html))
        assert site.sessions.session_ids(USER) == []
        _unavailable(browser.post("/auth/logout", html))
    assert browser.cookie() is not None
    response = browser.post("/auth/logout", html)
    assert response.status_code == (303 if html else 200)
    assert browser.cookie() is None
    assert site.calls()["revoke"] == 2


@pytest.mark.parametrize("which", ["one", "others"])
def test_the_end_of_another_session_is_confirmed(
    site: Web, store: Replicated, browser: Browser, which: str
) -> None:
    """Also if a repeated request finds no session with the handle. [T72]"""
    site.browser().sign_in()
    listed = browser.get("/auth/sessions").json["sessions"]
    (other,) = [each["handle"] for each in listed if not each["current"]]
    path = f"/auth/sessions/{other if which == 'one' else 'others'}/end"
    with store.cut_off():
        for _ in range(2):
            _unavailable(browser.post(path))
    assert browser.user == USER
    assert browser.post(path).status_code == (404 if which == "one" else 200)


def test_the_end_by_the_application_is_confirmed(site: Web, store: Replicated, browser: Browser) -> None:
    with site.app.app_context():
        with store.cut_off():
            for _ in range(2):
                with pytest.raises(StoreUnavailable):
                    end_user_sessions(USER)
        assert end_user_sessions(USER) == 0
    assert browser.user is None


def test_the_end_of_a_refused_grant_is_confirmed(
    site: Web, store: Replicated, browser: Browser, faults: Faults
) -> None:
    faults.answers["/token"] = (400, "application/json", b'{"error": "invalid_grant"}')
    with store.cut_off():
        _unavailable(browser.post("/auth/refresh"))
    assert browser.user is None
    assert site.tokens.load(USER) is None


def test_the_end_by_changed_rules_is_confirmed(
    make_web: Callable[..., Web], store: Replicated, browser: Browser
) -> None:
    """The user gets no access in any case, and the revocation stays in the queue. [T41]"""
    strict = make_web(store, settings={"allowed_users": "user-bob"})
    cookie = browser.cookie()
    assert cookie is not None
    other = strict.browser()
    other.plant("pywry_session", cookie)
    with store.cut_off():
        _unavailable(other.get("/members"))
    assert other.user is None
    assert len(list(strict.tokens.revocations.of_user(USER, lambda tokens: True))) == 1


def test_a_login_does_not_begin_without_replicas(site: Web, store: Replicated) -> None:
    """The user is told before the sign-in at the provider, and a begun login is not lost. [T72]"""
    with store.cut_off():
        response = site.browser().get("/auth/login", html=True)
    _unavailable(response)
    assert "Location" not in response.headers


def test_requests_that_sign_no_one_in_or_out_need_no_confirmation(
    store: Replicated, browser: Browser
) -> None:
    """Session checks and refreshes cost no wait, and go on without replicas. [T72]"""
    store.blocks = 0
    with store.cut_off():
        for path in ("/auth/status", "/auth/userinfo", "/auth/sessions", "/members", "/auth/verify"):
            assert browser.get(path).status_code in (200, 204)
        assert browser.post("/auth/refresh").status_code == 200
    assert store.blocks == 0


@pytest.mark.parametrize("path", SIGN_OUTS[:2])
def test_a_request_is_confirmed_once(store: Replicated, browser: Browser, path: str) -> None:
    """A login costs a wait at its begin and one at its end, and a sign-out costs one."""
    store.blocks = 0
    browser.sign_in()
    assert store.blocks == 2
    assert browser.post(path).status_code == 200
    assert store.blocks == 3


def test_a_logout_at_the_provider_is_confirmed(site: Web, store: Replicated, browser: Browser) -> None:
    """The provider may send the same token again until the site has confirmed it. [T33]"""
    token = site.idp.logout_token("site", sub=USER)

    def send() -> SiteResponse:
        return site.client().post("/auth/backchannel-logout", data={"logout_token": token})

    with store.cut_off():
        for _ in range(2):
            response = send()
            assert response.status_code == 400
            assert "send the logout token again" in response.json["error_description"]
            assert int(response.headers["Retry-After"]) > 0
            assert browser.user is None
    assert send().status_code == 200
