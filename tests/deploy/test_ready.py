"""The route ``ready``: whether the stores of a site can be used."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask import Flask

from pywry_auth.backends.base import Terms
from pywry_auth.backends.memory import MemoryBackend
from pywry_auth.deploy.readiness import Readiness
from pywry_auth.deploy.start_probe import probe_stores
from pywry_auth.exceptions import StoreUnavailable
from pywry_auth.flask import init_app
from pywry_auth.state.auth import AuthConfig
from tests.deploy.web import CLIENT_SECRET, SECRET, SITE, Browser, Web, set_cookies
from tests.waiting import await_threads, count_waiters

_DOWN = "redis.example.com refused the connection: a simulated failure."


class Store(MemoryBackend):
    """A shared store, which a test lets fail or wait."""

    shared = True

    def __init__(self, fault: str = "") -> None:
        super().__init__()
        self.fault = fault
        self.tests = 0
        self.asked = threading.Event()
        self.answers = threading.Event()
        self.answers.set()

    def put(self, key: str, value: bytes, terms: Terms = Terms()) -> bool:
        self.tests += key.startswith("probe:")
        self.asked.set()
        assert self.answers.wait(30)
        if self.fault:
            raise StoreUnavailable(self.fault)
        return super().put(key, value, terms)


class Now:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def now() -> Now:
    return Now()


def test_a_site_with_its_store_is_ready(make_web: Callable[..., Web], store: Store) -> None:
    """Without a session and without a cookie, also for HEAD. [S8]"""
    browser = make_web(store).browser()
    for ask in (browser.get, browser.head):
        response = ask("/auth/ready")
        assert (response.status_code, response.headers["Cache-Control"]) == (200, "no-store")
        assert response.mimetype == "application/json"
        assert not set_cookies(response)
    assert browser.get("/auth/ready").json == {"ready": True}
    assert browser.post("/auth/ready").status_code == 405


def test_a_site_without_its_store_is_not_ready(
    make_web: Callable[..., Web], store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """Strangers learn no reason, and the log has it once. [P15]"""
    store.fault = _DOWN
    web = make_web(store)
    caplog.clear()  # of the test at the start
    for html in (False, True):
        response = web.browser().get("/auth/ready", html=html)
        assert (response.status_code, response.headers["Retry-After"]) == (503, "5")
        assert response.headers["Cache-Control"] == "no-store"
        assert response.json["error"] == "temporarily_unavailable"
        assert "redis" not in response.text
        assert not set_cookies(response)
    assert caplog.text.count(_DOWN) == 1


def test_a_store_in_memory_is_always_ready(web: Web) -> None:
    assert web.browser().get("/auth/ready").json == {"ready": True}


def test_a_site_without_sign_in_needs_no_store(make_web: Callable[..., Web], store: Store) -> None:
    store.fault = _DOWN
    web = make_web(store, config=AuthConfig(enabled=False, token_secret=SECRET))
    assert web.browser().get("/auth/ready").json == {"ready": True}
    assert store.tests == 0


def test_the_session_of_a_request_is_not_looked_up(make_web: Callable[..., Web], store: Store) -> None:
    """An unreadable or foreign cookie changes nothing."""
    browser = make_web(store).browser()
    browser.sign_in()
    cookie = browser.cookie()
    assert browser.get("/auth/ready").status_code == 200
    assert browser.cookie() == cookie
    browser.plant("pywry_session", "made up")
    assert browser.get("/auth/ready").status_code == 200


def test_a_protected_application_answers_without_a_session(store: Store) -> None:
    """A load balancer has no session. [S8]"""
    app = Flask("site")
    provider = {
        "PYWRY_OAUTH2__PROVIDER": "oidc",
        "PYWRY_OAUTH2__ISSUER_URL": "https://id.example.com",
        "PYWRY_OAUTH2__CLIENT_ID": "site",
        "PYWRY_OAUTH2__CLIENT_SECRET": CLIENT_SECRET,
    }
    app.config.update(provider, PYWRY_DEPLOY__AUTH_ENABLED="true", PYWRY_DEPLOY__TOKEN_SECRET=SECRET)
    init_app(app, protect=True)
    app.add_url_rule("/", "home", lambda: "home")
    client = app.test_client()
    assert client.get("/", base_url=SITE).status_code == 401
    assert client.get("/auth/ready", base_url=SITE).get_json() == {"ready": True}


def test_the_page_of_the_application_does_not_replace_the_answer(
    make_web: Callable[..., Web], store: Store
) -> None:
    """Such a page may need the store."""
    store.fault = _DOWN
    web = make_web(store)

    def fail(page: Any) -> str:
        raise AssertionError("no page is made")

    if not web.host.fastapi:
        web.app.blueprints["auth"].auth_routes.render = fail
        web.app.register_error_handler(503, fail)
    assert web.browser().get("/auth/ready", html=True).json["error"] == "temporarily_unavailable"


def test_a_store_is_tested_at_most_once_a_second(store: Store, now: Now) -> None:
    """A result is used for that time, whether it is good or not. [P15]"""
    readiness = Readiness(store, store, clock=now)
    assert [readiness.is_ready() for _ in range(20)] == [True] * 20
    store.fault = _DOWN
    now.seconds += 0.9
    assert (readiness.is_ready(), store.tests) == (True, 1)
    now.seconds += 0.2
    assert [readiness.is_ready() for _ in range(20)] == [False] * 20
    assert store.tests == 2
    store.fault = ""
    now.seconds += 1.1
    assert (readiness.is_ready(), store.tests) == (True, 3)


def test_each_change_of_a_store_is_logged_once(
    store: Store, now: Now, caplog: pytest.LogCaptureFixture
) -> None:
    """A server that is down may come back with another fault, such as a wrong password. [S11]"""
    caplog.set_level(logging.INFO, "pywry_auth.deploy")
    tokens = Store()
    readiness = Readiness(store, tokens, reuse=0, clock=now)
    for store.fault, tokens.fault in [
        ("", ""),
        ("a", ""),
        ("b", ""),
        ("b", "c"),
        ("a", ""),
        ("b", ""),
        ("", ""),
        ("", "d"),
    ]:
        readiness.is_ready()
    assert [record.message for record in caplog.records] == [
        "not ready: the session store cannot be used, and requests that it refuses get 503: a",
        "not ready: the session store cannot be used, and requests that it refuses get 503: b",
        "not ready: the token store cannot be used, and requests that it refuses get 503: c",
        "ready: the token store can be used again",
        "ready: the session store can be used again",
        "not ready: the token store cannot be used, and requests that it refuses get 503: d",
    ]


def test_a_silent_store_occupies_few_threads(store: Store, now: Now, monkeypatch: pytest.MonkeyPatch) -> None:
    """One request tests it, two wait, and the others are answered at once. [P15]"""
    readiness = Readiness(store, store, seconds=30, clock=now)
    assert readiness.is_ready()
    now.seconds += 2
    store.answers.clear()
    store.asked.clear()
    waiters = count_waiters(monkeypatch)
    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(readiness.is_ready) for _ in range(3)]
        for _ in range(2):
            assert waiters.acquire(timeout=30)
        assert store.asked.wait(30)
        assert [readiness.is_ready() for _ in range(20)] == [True] * 20, "the last result is two seconds old"
        now.seconds += 3600
        assert [readiness.is_ready() for _ in range(20)] == [True] * 20, "until the present test ends"
        assert store.tests == 2
        store.answers.set()
        assert [each.result(30) for each in waiting] == [True] * 3
    assert readiness.is_ready()


def test_a_burst_before_the_first_result_waits_for_it(
    store: Store, now: Now, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A load balancer does not take a new worker out. [P15]"""
    readiness = Readiness(store, store, seconds=30, clock=now)
    store.answers.clear()
    waiters = count_waiters(monkeypatch)
    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(readiness.is_ready) for _ in range(3)]
        for _ in range(2):
            assert waiters.acquire(timeout=30)
        assert store.asked.wait(30)
        assert not readiness.is_ready(), "the wait has passed"
        threading.Timer(0.02, store.answers.set).start()
        assert readiness.is_ready()
        assert [each.result(30) for each in waiting] == [True] * 3
    assert store.tests == 1


def test_a_request_does_not_wait_longer_than_the_test_may_take(store: Store) -> None:
    """The site is not ready if the test of another request takes too long. [P15]"""
    tested, goes_on = threading.Event(), threading.Event()

    def clock() -> float:
        tested.set()
        assert goes_on.wait(30)
        return 100.0

    readiness = Readiness(store, store, seconds=0.1, clock=clock)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(readiness.is_ready)
        assert tested.wait(30)
        assert not readiness.is_ready()
        goes_on.set()
        assert first.result(30)


def test_a_process_without_threads_is_not_ready(
    store: Store, now: Now, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The answer is 503, and the log has the remedy. [S8]"""

    def fail(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    readiness = Readiness(store, store, reuse=0, clock=now)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fail)
        assert [readiness.is_ready() for _ in range(2)] == [False] * 2
        probe_stores(store, store)
    assert "raise the limit of its threads" in caplog.records[0].getMessage()
    assert len(caplog.records) == 2
    assert readiness.is_ready()


def test_a_store_that_never_answers_is_not_tested_again(
    store: Store, now: Now, caplog: pytest.LogCaptureFixture
) -> None:
    """Only the first request waits for the time limit. [P15]"""
    readiness = Readiness(store, store, seconds=0.5, reuse=0, clock=now)
    store.answers.clear()
    assert not readiness.is_ready()
    begun = time.monotonic()
    assert [readiness.is_ready() for _ in range(6)] == [False] * 6
    assert time.monotonic() - begun < 2
    assert store.tests == 1
    assert caplog.text.count("does not answer within 0.5 seconds") == 1
    store.answers.set()
    await_threads("pywry-auth-store-probe")
    assert readiness.is_ready()
    assert store.tests == 2


def test_readiness_does_not_ask_the_provider(alice: Browser, web: Web) -> None:
    """Existing sessions go on without it."""
    before = sum(web.calls().values())
    assert alice.get("/auth/ready").status_code == 200
    assert sum(web.calls().values()) == before
