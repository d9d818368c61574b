"""Attacks on login: foreign browsers, replayed callbacks and flooding."""

from __future__ import annotations

import multiprocessing
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlencode, urlsplit
from uuid import uuid4

import pytest

from pywry_auth.backends.base import Backend
from pywry_auth.backends.memory import MemoryBackend
from pywry_auth.deploy.cookies import TokenSigner
from pywry_auth.models import AuthorizationRequest
from pywry_auth.state.pending import LONG, PER_CLIENT, PER_CLIENT_LONG, PendingAuthorization, PendingStore
from tests.backends.threads import together
from tests.deploy.binding import BINDING, binding_of
from tests.deploy.redeemer import Callback, open_backend, redeem
from tests.deploy.web import SECRET, Browser, Web, parameter, set_cookies
from tests.peers.redis_server import RedisServer


def _without_cookie(web: Web) -> Browser:
    return web.browser()


def _with_own_cookie(web: Web) -> Browser:
    browser = web.browser()
    browser.begin()
    return browser


def _with_tossed_cookie(web: Web) -> Browser:
    """Plant a cookie signed with another key.

    An attacker who controls a neighbouring domain can do this.
    """
    browser = web.browser()
    browser.plant(BINDING, TokenSigner(["another site's secret"], "login").new())
    return browser


def _with_own_session(web: Web) -> Browser:
    browser = web.browser()
    browser.sign_in(username="bob")
    return browser


@pytest.mark.parametrize(
    "victim",
    [_without_cookie, _with_own_cookie, _with_tossed_cookie, _with_own_session],
    ids=lambda f: f.__name__,
)
def test_a_callback_in_another_browser_creates_no_session(
    web_on: Web, victim: Callable[[Web], Browser]
) -> None:
    """No token request is sent, and the first browser can finish. [T1]"""
    attacker = web_on.browser()
    callback = attacker.authorize()
    browser = victim(web_on)
    before, user = web_on.calls()["token"], browser.user
    for html in (True, False, False):
        response = browser.get(callback, html=html)
        assert response.status_code == 400
        assert not set_cookies(response)
    assert web_on.calls()["token"] == before
    assert browser.user == user
    assert attacker.get(callback).status_code == 303
    assert attacker.user == "user-alice"


def test_a_binding_cookie_elsewhere_than_in_its_cookie_is_ignored(web: Web) -> None:
    """A query, a header or another cookie does not bind the browser. [T1]"""
    attacker = web.browser()
    callback = attacker.authorize()
    value = binding_of(attacker)
    other = web.browser()
    other.plant(f"x{BINDING}", value)
    response = other.get(f"{callback}&{urlencode({BINDING: value})}", Authorization=f"Bearer {value}")
    assert response.json["error"] == "cookie_missing"
    assert web.calls()["token"] == 0


def test_one_state_is_redeemed_once_by_many_threads(web_on: Web) -> None:
    """Simultaneous callbacks with one state lead to one session. [T2]"""
    browser = web_on.browser()
    callback = browser.authorize()
    binding = binding_of(browser)
    browsers = [web_on.browser() for _ in range(50)]
    for other in browsers:
        other.plant(BINDING, binding)
    answers = together(50, lambda number: browsers[number].get(callback).status_code)
    assert Counter(answers) == {303: 1, 400: 49}
    assert web_on.calls()["token"] == 1
    assert len(web_on.sessions.list_user_sessions("user-alice")) == 1


def test_one_state_is_redeemed_once_by_two_processes(
    make_web: Callable[..., Web], redis_server: RedisServer, tmp_path: Path
) -> None:
    """Each process has 50 threads, on SQLite and on Redis. [T2]"""
    places = [str(tmp_path / "shared.sqlite3"), redis_server.url]
    prefix = uuid4().hex
    webs = {place: make_web(open_backend(place, prefix)) for place in places}
    callbacks = []
    for place, web in webs.items():
        browser = web.browser()
        url, binding = browser.authorize(), binding_of(browser)
        callbacks.append(Callback(place, prefix, web.idp.issuer, url, binding))
    context = multiprocessing.get_context("spawn")
    start, answers = context.Barrier(100), context.Queue()
    workers = [context.Process(target=redeem, args=(callbacks, 50, start, answers)) for _ in range(2)]
    for worker in workers:
        worker.start()
    reported: dict[str, list[tuple[int, str]]] = {place: [] for place in places}
    for _ in range(4):
        place, some = answers.get(timeout=60)
        reported[place] += some
    for worker in workers:
        worker.join(30)
        worker.close()
    answers.close()
    answers.join_thread()
    for place, web in webs.items():
        assert Counter(status for status, _ in reported[place]) == {303: 1, 400: 99}
        assert {error for _, error in reported[place]} <= {"", "state_used", "state_unknown"}
        assert len(web.sessions.list_user_sessions("user-alice")) == 1
        web.backend.close()
    assert web.calls()["token"] == 2, "one session for each login"


def test_one_client_cannot_evict_logins_of_another(web_on: Web, backend: Backend) -> None:
    """One network begins ten thousand logins from many addresses. [T3]"""
    victim = web_on.browser("203.0.113.7")
    callback = victim.authorize()
    attacker = web_on.browser("2001:db8:1:2::1")
    first = attacker.authorize()
    for number in range(300):
        web_on.browser(f"2001:db8:1:2::{number:x}").begin()
    pending = PendingStore(backend)
    for number in range(10_000):
        request = AuthorizationRequest(
            "https://id.example.com/", f"state-{number}", "http://127.0.0.1/auth/callback", "n" * 43, "v" * 86
        )
        pending.put(PendingAuthorization(request, "oidc", "b" * 64, "/"), "2001:db8:1:2::/64")
    assert len(backend.members("pending:2001:db8:1:2::/64")) == PER_CLIENT
    assert victim.get(callback).status_code == 303
    assert attacker.get(first).json["error"] == "state_unknown", "a client evicts its own logins"


def test_many_long_return_addresses_end_no_login_of_a_neighbour(make_web: Callable[..., Web]) -> None:
    """Further logins of this network return to the site's own path. [T3]"""
    web = make_web()
    address = "/" + LONG * "x"
    before, after = web.browser("203.0.113.7"), web.browser("203.0.113.7")
    callback = before.authorize(f"/auth/login?next={address}")
    for _ in range(PER_CLIENT_LONG):
        web.browser("203.0.113.7").get(f"/auth/login?next={address}")
    assert urlsplit(before.get(callback).headers["Location"]).path == address
    assert urlsplit(after.sign_in(f"/auth/login?next={address}").headers["Location"]).path == "/"
    other = web.browser("203.0.113.8").sign_in(f"/auth/login?next={address}")
    assert urlsplit(other.headers["Location"]).path == address


def test_unfinished_logins_have_bounded_memory(make_web: Callable[..., Web]) -> None:
    """New logins evict the oldest logins of the same client. [T3, T41]"""
    backend = MemoryBackend()
    web = make_web(backend)
    victim, attacker = web.browser("203.0.113.7"), web.browser("203.0.113.9")
    callback, first = victim.authorize(), attacker.authorize()
    for _ in range(PER_CLIENT + 200):
        attacker.get("/auth/login")
    assert len(backend) <= 1 + PER_CLIENT + 2, "the logins and two counters"
    assert attacker.get(first).json["error"] == "state_unknown"
    assert victim.get(callback).status_code == 303


def test_unsolicited_callbacks_leave_no_records(make_web: Callable[..., Web]) -> None:
    """The store contains as many records as before. [T41]"""
    backend = MemoryBackend()
    browser = make_web(backend).browser()
    browser.begin()
    before = len(backend)
    for number in range(300):
        assert browser.get(f"/auth/callback?code=x&state={number}").status_code == 400
    assert len(backend) == before


def test_removing_a_user_ends_sessions_in_every_worker_at_once(
    make_web: Callable[..., Web], redis_backend: Backend
) -> None:
    """Two instances of the application share only Redis. [T42]"""
    one, two = make_web(redis_backend), make_web(redis_backend)
    browsers = [one.browser(), two.browser(), two.browser()]
    for browser in browsers:
        browser.sign_in()
    bob = two.browser()
    bob.sign_in(username="bob")
    assert all(browser.get("/members").status_code == 200 for browser in [*browsers, bob])
    assert one.sessions.delete_user_sessions("user-alice") == 3
    assert [browser.get("/members").status_code for browser in [*browsers, bob]] == [401, 401, 401, 200]
    assert [browser.user for browser in browsers] == [None] * 3
    assert browsers[0].post("/auth/refresh").status_code == 401


def test_a_removed_permission_is_effective_at_the_next_request(
    make_web: Callable[..., Web], redis_backend: Backend
) -> None:
    """Every worker reads the current permissions of a role. [T42]"""
    one, two = make_web(redis_backend), make_web(redis_backend)
    browser = two.browser()
    browser.sign_in()
    assert browser.get("/write").status_code == 403
    one.sessions.set_role_permissions("viewer", ["read", "write"])
    assert browser.get("/write").status_code == 200
    one.sessions.set_role_permissions("viewer", ["read"])
    assert browser.get("/write").status_code == 403


def test_only_the_exact_state_of_the_browser_is_accepted(web: Web) -> None:
    """The state without the cookie, its prefix, digest and variants are refused. [T1]"""
    browser = web.browser()
    callback = browser.authorize()
    state = parameter(callback, "state")
    for wrong in (state[:-1], state + "A", state.swapcase(), f" {state}", f"{state} ", state[::-1], SECRET):
        query = urlencode({"code": parameter(callback, "code"), "state": wrong, "iss": web.idp.issuer})
        assert browser.get(f"/auth/callback?{query}").json["error"] == "state_unknown"
    assert web.calls()["token"] == 0
    assert browser.get(callback).status_code == 303
