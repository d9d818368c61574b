"""The routes with the user's own sessions, for browsers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import requests

from pywry_auth.backends.base import Terms
from pywry_auth.backends.memory import MemoryBackend
from pywry_auth.flow.events import Event, SignedOut, listen, unlisten
from pywry_auth.models import Grant
from pywry_auth.providers.oidc import GenericOIDCProvider
from pywry_auth.state.records import pack
from pywry_auth.state.sessions import SessionStore, issue_session_token
from tests.deploy.hosts import HOSTS
from tests.deploy.web import (
    CLIENT_SECRET,
    SITE,
    Browser,
    SiteResponse,
    WatchedBackend,
    Web,
    attributes,
    set_cookies,
)

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"
USER = "user-alice"
_OTHERS = "/auth/sessions/others/end"
_ENDED_ONE = {"ended": 1, "logged_out": False, "logout_url": None}
_MALFORMED = (
    *("x", "a" * 22, "a" * 10240, "%00", "..%2e", "a%2Fb", "a%0Ab", "%FF", "{0.x}", "%3Cscript%3E", "a b"),
)


def _sign_in(web: Web, username: str = "alice") -> Browser:
    browser = web.browser("203.0.113.7")
    callback = browser.authorize(username=username)
    assert browser.get(callback, html=True, User_Agent=FIREFOX).status_code == 303
    return browser


def _listed(browser: Browser) -> list[dict[str, Any]]:
    response = browser.get("/auth/sessions")
    assert (response.status_code, response.headers["Cache-Control"]) == (200, "no-store")
    found: list[dict[str, Any]] = response.json["sessions"]
    return found


def _handle(browser: Browser) -> str:
    (own,) = [each["handle"] for each in _listed(browser) if each["current"]]
    return str(own)


def _end(browser: Browser, handle: str, **headers: str) -> SiteResponse:
    return browser.post(f"/auth/sessions/{handle}/end", False, **headers)


@pytest.fixture
def outs() -> Any:
    """The sign-outs that the applications reported."""
    found: list[SignedOut] = []

    def hear(_sender: object, event: Event) -> None:
        if isinstance(event, SignedOut):
            found.append(event)

    listen(hear)
    yield found
    unlisten(hear)


@pytest.mark.parametrize("hosting", [HOSTS[0], HOSTS[3]], ids=lambda host: host.name)
def test_a_user_lists_and_ends_the_own_sessions(web: Web, outs: list[SignedOut]) -> None:
    """On each host, also below a prefix and behind a proxy. [S8]"""
    one, two, three, bob = _sign_in(web), _sign_in(web), _sign_in(web), _sign_in(web, "bob")
    found = _listed(two)
    assert [each["current"] for each in found] == [False, True, False], "the newest first"
    first = found[-1]
    stored = web.sessions.list_user_sessions(USER)
    assert first == {
        **{"handle": stored[0].handle, "current": False, "kind": "browser", "browser": "Firefox on Linux"},
        **{"network": stored[0].network, "provider": "oidc", "last_used_at": None},
        **{"signed_in_at": stored[0].created_at, "expires_at": stored[0].expires_at},
    }
    assert _end(two, first["handle"]).json == _ENDED_ONE
    assert [each.user for each in (one, two, three)] == [None, USER, USER]
    assert _end(two, first["handle"]).json["error"] == "unknown_session", "it has ended already"
    issue_session_token(web.sessions, USER)
    assert two.post(_OTHERS).json == _ENDED_ONE | {"ended": 2}
    assert two.post(_OTHERS).json == _ENDED_ONE | {"ended": 0}
    assert [each.user for each in (two, three, bob)] == [USER, None, "user-bob"]
    assert web.calls()["revoke"] == 0
    assert [(each.reason, each.sessions, each.user_id) for each in outs] == [("ended_by_user", 1, USER)] * 3
    assert {each.session.session_id for each in outs if each.session} > {
        each.session_id for each in stored[:1]
    }
    own = _end(two, _handle(two)).json
    assert own.pop("logout_url").startswith(f"{web.idp.issuer}/end_session?client_id=site&")
    assert own == {"ended": 1, "logged_out": True}
    assert (two.cookie(), two.user, web.tokens.list_keys()) == (None, None, ["user-bob"])
    assert (outs[-1].reason, web.calls()["revoke"]) == ("", 2)


def test_a_form_returns_to_the_page_with_a_confirmation(web: Web) -> None:
    browser, other = _sign_in(web), _sign_in(web)
    page = browser.get("/auth/sessions", html=True)
    assert page.status_code == 200
    action = f"{web.at('/auth/sessions')}/{_handle(other)}/end"
    assert f'<form method="post" action="{action}">' in page.text
    assert page.text.count("This device") == page.text.count('class="current"') == 1
    assert f"form-action 'self' {web.idp.issuer};" in page.headers["Content-Security-Policy"]
    ended = browser.post(f"/auth/sessions/{_handle(other)}/end", html=True, Origin=SITE)
    at = f"{web.base_url}{web.host.mount}/auth/sessions"
    assert (ended.status_code, ended.location) == (303, f"{at}?ended=1")
    assert "1 session was signed out." in browser.get("/auth/sessions?ended=1", html=True).text
    again = browser.post(_OTHERS, html=True)
    assert again.location == f"{at}?ended=0"
    assert "There was no other session" in browser.get("/auth/sessions?ended=0", html=True).text


@pytest.mark.parametrize("path", ["/auth/logout", "/auth/sessions/{handle}/end"])
@pytest.mark.parametrize("hosting", HOSTS[:3], ids=lambda host: host.name)
def test_the_present_device_is_signed_out_as_everywhere_in_the_site(web: Web, path: str) -> None:
    """Also at the provider: a home page with a guard would otherwise lead straight back. [P11]"""
    browser = _sign_in(web)
    page = browser.get("/auth/sessions", html=True)
    assert f'<form method="post" action="{web.at("/auth/logout")}">' in page.text
    out = browser.post(path.format(handle=_handle(browser)), html=True)
    assert (out.status_code, (out.location or "").partition("?")[0]) == (303, f"{web.idp.issuer}/end_session")
    assert attributes(set_cookies(out)["pywry_session"])["max-age"] == "0"
    asked = dict(parse_qsl(urlsplit(out.location or "").query))
    assert asked["state"] in set_cookies(out)["pywry_session_logout"]
    back = requests.get(out.location or "", allow_redirects=False, timeout=20)
    assert back.headers["Location"] == f"{asked['post_logout_redirect_uri']}?state={asked['state']}"


def test_the_end_of_the_present_session_keeps_the_sessions_of_other_browsers(web: Web) -> None:
    """The query of the sign-out means nothing here."""
    browser, other = _sign_in(web), _sign_in(web)
    assert browser.post(f"/auth/sessions/{_handle(browser)}/end?everywhere=1").json["ended"] == 1
    assert (browser.user, other.user) == (None, USER)


def test_the_page_never_waits_for_the_provider(web: Web) -> None:
    """As long as a worker has not loaded the metadata, its policy permits any address on https."""
    browser = _sign_in(web)
    fresh = GenericOIDCProvider("site", CLIENT_SECRET, issuer_url=web.idp.issuer)
    again = Web(web.idp, web.backend, host=web.host, provider=fresh).browser()
    again.plant("pywry_session", browser.cookie() or "")
    before = web.calls()["discovery"]
    for path in ("/auth/sessions", "/auth/signed-out"):
        page = again.get(path, html=True)
        assert f"form-action 'self' https: {web.idp.issuer};" in page.headers["Content-Security-Policy"]
    assert web.calls()["discovery"] == before


def test_a_visitor_signs_in_first(web: Web) -> None:
    visitor = web.browser()
    asked = visitor.get("/auth/sessions", html=True)
    assert asked.status_code == 302
    visitor.sign_in(asked.location)
    assert "This device" in visitor.get("/auth/sessions", html=True).text
    stranger = web.browser()
    assert stranger.get("/auth/sessions").json["error"] == "login_required"
    for path in (_OTHERS, f"/auth/sessions/{_handle(visitor)}/end"):
        assert stranger.post(path).status_code == 401
        page = stranger.post(path, html=True)
        assert page.status_code == 401
        assert 'sessions"' in page.text, "the sign-in leads to the page, not to the form's address"


@pytest.mark.parametrize("hosting", HOSTS[:2], ids=lambda host: host.name)
def test_a_malformed_handle_is_not_found(web: Web) -> None:
    browser = _sign_in(web)
    for handle in _MALFORMED:
        assert _end(browser, handle).status_code == 404, handle
        page = browser.post(f"/auth/sessions/{handle}/end", html=True)
        assert (page.status_code, "<script" in page.text) == (404, False)
    assert browser.user == USER


def test_a_handle_of_another_user_ends_nothing(web: Web) -> None:
    """Neither does the session ID."""
    mallory, victim = _sign_in(web, "bob"), _sign_in(web)
    (session,) = web.sessions.list_user_sessions(USER)
    for handle in (session.handle, session.session_id):
        response = _end(mallory, handle)
        assert (response.status_code, response.json["error"]) == (404, "unknown_session")
    assert mallory.post(_OTHERS).json["ended"] == 0
    assert victim.user == USER
    text = victim.get("/auth/sessions").text + victim.get("/auth/sessions", html=True).text
    assert session.session_id not in text


def test_a_bearer_token_can_neither_list_nor_end_sessions(web: Web) -> None:
    """Not even together with the cookie. [T61]"""
    browser = _sign_in(web)
    bearer = {"Authorization": f"Bearer {issue_session_token(web.sessions, USER)}"}
    for client in (web.browser(), browser):
        for response in (
            client.get("/auth/sessions", False, **bearer),
            client.post(_OTHERS, False, **bearer),
            _end(client, _handle(browser), **bearer),
        ):
            assert (response.status_code, response.json["error"]) == (403, "browser_session_required")
    assert len(web.sessions.list_user_sessions(USER)) == 2


def test_another_site_can_end_no_session(web: Web) -> None:
    """Neither can a link. [T27]"""
    browser, other = _sign_in(web), _sign_in(web)
    for address in (_OTHERS, f"/auth/sessions/{_handle(other)}/end"):
        for headers in ({"Sec_Fetch_Site": "cross-site"}, {"Origin": "https://evil.example.com"}):
            assert browser.post(address, False, **headers).json["error"] == "cross_site_request"
        assert browser.get(address).status_code == 405
        assert browser.get(address).headers["Allow"] == "OPTIONS, POST"
    assert other.user == USER


def test_the_confirmation_shows_only_a_number(web: Web) -> None:
    browser = _sign_in(web)
    for ended in ("", "-1", "1x", "99999", "%3Cb%3E", "%D9%A1", "1&ended=<b>"):
        page = browser.get(f"/auth/sessions?ended={ended}", html=True)
        assert (page.status_code, "<b>" in page.text) == (200, False)
        assert ("signed out." in page.text) is (ended == "1&ended=<b>")


def test_names_are_text_on_the_page(web: Web) -> None:
    """[T8]"""
    browser = _sign_in(web)
    evil = '"><script>alert(1)</script>'
    grant = Grant("g", 1.0, provider=evil, client_id="site", issuer=web.idp.issuer)
    web.sessions.create_session("s", USER, grant=grant, browser=evil, network=evil)
    page = browser.get("/auth/sessions", html=True).text
    assert "<script" not in page
    assert page.count("&lt;script&gt;") == 4


def test_a_hundred_sessions_are_listed_and_ended(web: Web) -> None:
    browser = _sign_in(web)
    for number in range(100):
        web.sessions.create_session(f"s{number}", USER, ttl=number + 60)
    assert len(_listed(browser)) == 101
    assert browser.get("/auth/sessions", html=True).text.count("<h2>") == 101
    assert browser.post(_OTHERS).json["ended"] == 100
    assert len(_listed(browser)) == 1


def test_a_recorded_use_is_listed(make_web: Callable[..., Web]) -> None:
    web = make_web(settings={"session_idle_ttl": 600})
    browser = _sign_in(web)
    (own,) = _listed(browser)
    assert own["last_used_at"] == own["signed_in_at"]
    assert "Last used" in browser.get("/auth/sessions", html=True).text


def test_a_person_at_another_provider_is_a_stranger(web: Web) -> None:
    """After a change of the provider, two people can have one user ID."""
    browser = _sign_in(web)
    theirs = Grant("theirs", 1.0, issuer="https://old.example.com", client_id="old")
    stranger = web.sessions.create_session("theirs", USER, grant=theirs)
    assert len(_listed(browser)) == 1
    assert _end(browser, stranger.handle).status_code == 404
    assert browser.post(_OTHERS).json["ended"] == 0
    assert web.sessions.validate_session("theirs")


def test_all_accounts_of_one_user_are_listed(web: Web) -> None:
    """The site's hook gave them one user ID."""
    browser = _sign_in(web)
    (own,) = web.sessions.list_user_sessions(USER)
    assert own.grant
    linked = replace(own.grant, grant_id="linked", client_id="another", issuer="https://b.example.com")
    session = web.sessions.create_session("linked", USER, grant=linked, account="b:1")
    assert len(_listed(browser)) == 2
    assert _end(browser, session.handle).json["ended"] == 1


def test_a_session_that_cannot_be_read_is_reported(web: Web, outs: list[SignedOut]) -> None:
    """During a rolling upgrade, another worker can end it; all others end. [T68]"""
    browser, other = _sign_in(web), _sign_in(web)
    newer = web.sessions.create_session("newer", USER)
    record = pack({"v": 99, "user_id": USER})
    web.backend.put("session:newer", record, Terms(ttl=60, group=f"session:{USER}"))
    response = browser.get("/auth/sessions")
    assert (len(response.json["sessions"]), response.json["complete"]) == (2, False)
    assert "cannot be shown" in browser.get("/auth/sessions", html=True).text
    texts = {f"/auth/sessions/{newer.handle}/end": "This session could not", _OTHERS: "Not all of your"}
    for path, text in texts.items():
        response = browser.post(path)
        assert (response.status_code, response.json["error"]) == (503, "temporarily_unavailable")
        assert text in response.json["error_description"]
    page = browser.post(_OTHERS, html=True)
    assert f'href="{web.at("/auth/sessions")}"' in page.text
    assert (browser.user, other.user, len(outs)) == (USER, None, 1)
    assert web.sessions.is_unreadable("newer")


def test_an_outage_never_reports_an_end(make_web: Callable[..., Web], outs: list[SignedOut]) -> None:
    """The store fails at each operation in turn; a repeated request finishes the work. [T66]"""
    backend = WatchedBackend(MemoryBackend())
    web = make_web(backend)
    browser = _sign_in(web)
    _sign_in(web)
    backend.forget()
    browser.post(_OTHERS)
    for number in range(len(backend.operations)):
        other = _sign_in(web)
        outs.clear()
        backend.forget()
        backend.fails = lambda operation, number=number: operation >= number  # type: ignore[misc]
        first = browser.post(_OTHERS)
        backend.fails = lambda operation: False
        if first.status_code != 200:
            assert first.status_code == 503
            assert browser.post(_OTHERS).status_code == 200
        assert (browser.user, other.user, len(outs)) == (USER, None, 1), number


def test_two_browsers_that_end_each_other_leave_no_token(web: Web) -> None:
    """At the same moment, each sees the session of the other at first. [T42]"""
    for _ in range(4):
        browsers = [_sign_in(web), _sign_in(web)]
        handles = [_handle(browser) for browser in browsers]
        start = threading.Barrier(2)

        def end(browser: Browser, handle: str, start: threading.Barrier = start) -> None:
            start.wait(20)
            assert _end(browser, handle).status_code in (200, 401, 404)

        threads = [
            threading.Thread(target=end, args=pair) for pair in zip(browsers, reversed(handles), strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        left = [browser for browser in browsers if browser.user]
        assert bool(left) == bool(web.tokens.list_keys())
        for browser in left:
            browser.post("/auth/logout")
    assert web.tokens.list_keys() == []


def test_a_refresh_does_not_bring_an_ended_session_back(web: Web) -> None:
    """[T43]"""
    browser, other = _sign_in(web), _sign_in(web)
    backend = WatchedBackend(web.backend)
    racing = Web(web.idp, backend, host=web.host)
    again = racing.browser()
    again.plant("pywry_session", other.cookie() or "")
    assert again.get("/auth/status").json["user_id"] == USER
    backend.forget()
    again.post("/auth/refresh")
    browser.post(_OTHERS)
    reached: list[int] = []
    for number in range(len(backend.operations)):
        other = _sign_in(web)
        again.plant("pywry_session", other.cookie() or "")

        def between(operation: int, number: int = number) -> bool:
            if operation == number:
                reached.append(number)
                backend.fails = lambda number: False
                assert browser.post(_OTHERS).json["ended"] == 1
            return False

        backend.forget()
        backend.fails = between
        assert again.post("/auth/refresh").status_code in (200, 401)
        if number not in reached:
            break
        assert (again.user, browser.user) == (None, USER), number
        assert web.tokens.list_keys() == [USER]
    assert len(reached) > 3


def test_two_genuine_cookies_list_nothing(web: Web) -> None:
    """An attacker who controls a neighbouring domain can add one. [T52]"""
    alice, bob = _sign_in(web), _sign_in(web, "bob")
    both = f"pywry_session={alice.cookie()}; pywry_session={bob.cookie()}"
    bare = Browser(web.client(use_cookies=False), web.base_url)
    assert bare.get("/auth/sessions", Cookie=both).status_code == 401
    assert bare.post(_OTHERS, Cookie=both).status_code == 401


def test_a_visitor_in_a_frame_or_prefetch_changes_nothing(web: Web) -> None:
    """The list cannot be framed. [T56]"""
    page = _sign_in(web).get("/auth/sessions", html=True)
    assert "frame-ancestors 'none'" in page.headers["Content-Security-Policy"]
    assert "script" not in page.text


def test_a_store_lists_last_uses() -> None:
    now = [1000.0]
    store = SessionStore(MemoryBackend(clock=lambda: now[0]), idle_ttl=600, clock=lambda: now[0])
    store.create_session("one", "alice")
    store.create_session("two", "alice", idle_ttl=0)
    now[0] = 1200.0
    store.get_session("one")
    assert [(each.session_id, used) for each, used in store.list_sessions_with_use("alice")] == [
        ("one", 1200.0),
        ("two", None),
    ]
