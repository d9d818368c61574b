"""A provider that hangs or refuses calls costs a bounded number of threads. [T44, T70, T73]"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from werkzeug.wrappers import Response

from pywry_auth.asgi.bridge import THREADS
from pywry_auth.deploy.capacity import this_process
from pywry_auth.protocol.gate import CallGate
from pywry_auth.providers.oidc import GenericOIDCProvider
from pywry_auth.testing.identity_provider import IdentityProvider
from tests.deploy.hosts import FLASK, HOSTS, Host
from tests.deploy.web import CLIENT_SECRET, Browser, SiteResponse, Web, with_parameter
from tests.faults import Faults, hanging

_SECONDS = 20


class Clock:
    """Monotonic time that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def provider(idp: IdentityProvider, clock: Clock) -> GenericOIDCProvider:
    provider = GenericOIDCProvider("site", CLIENT_SECRET, issuer_url=idp.issuer, http_timeout_seconds=0.3)
    provider.gate = CallGate("oidc", clock)
    return provider


@pytest.fixture
def web(make_web: Callable[..., Web], provider: GenericOIDCProvider) -> Web:
    return make_web(provider=provider)


def _unavailable(response: SiteResponse, seconds: int = 5) -> None:
    assert (response.status_code, response.headers["Retry-After"]) == (503, str(seconds))
    assert response.headers["Cache-Control"] == "no-store"


def _pause(provider: GenericOIDCProvider) -> None:
    """Let calls time out until the provider is paused."""
    for _ in range(3):
        with provider.gate.slot():
            provider.gate.timed_out()


def test_calls_pause_after_time_outs_and_resume_after_an_answer(
    web: Web, faults: Faults, clock: Clock
) -> None:
    """Three callbacks wait for the provider, and the fourth one fails at once. [T44]"""
    waiting = [web.browser() for _ in range(4)]
    callbacks = [browser.authorize() for browser in waiting]
    last = web.browser()
    last_callback = last.authorize()
    with hanging(faults, "/token"):
        codes = [browser.get(callbacks.pop()).status_code for browser in reversed(waiting[1:])]
        assert codes == [502] * 3
        sent = web.calls()["token"]
        _unavailable(waiting[0].get(callbacks[0]))
        assert web.calls()["token"] == sent
        clock.now = 5.0
        assert waiting[0].get(callbacks[0]).status_code == 502, "one call tests the provider"
        clock.now = 14.9
        _unavailable(last.get(last_callback), 1)
    clock.now = 15.0
    assert web.browser().sign_in().status_code == 303
    assert web.browser().sign_in().status_code == 303


def test_a_refused_callback_can_be_reloaded(web: Web, provider: GenericOIDCProvider, clock: Clock) -> None:
    """It does not use up the pending login, and sends no code. [T44]"""
    browser = web.browser()
    callback = browser.authorize()
    _pause(provider)
    page = browser.get(callback, html=True)
    _unavailable(page)
    assert "reload this page" in page.text
    assert "Not available at the moment" in page.text
    assert web.calls()["token"] == 0
    clock.now = 5.0
    assert browser.get(callback).status_code == 303
    assert browser.user == "user-alice"


@pytest.mark.parametrize("cause", ["cookie_missing", "other_browser", "state_unknown", "state_used"])
def test_a_callback_without_a_pending_login_needs_no_slot(
    web: Web, provider: GenericOIDCProvider, cause: str
) -> None:
    """It is refused at once, although all slots of a silent provider are taken. [T44, T56]"""
    browser, other = web.browser(), web.browser()
    callback = browser.authorize()
    other.begin()
    if cause == "state_used":
        assert browser.get(callback).status_code == 303
        browser.post("/auth/logout")
    callers = {"cookie_missing": web.browser(), "other_browser": other}
    address = with_parameter(callback, "state", "x") if cause == "state_unknown" else callback
    _pause(provider)
    response = callers.get(cause, browser).get(address)
    assert (response.status_code, response.json["error"]) == (400, cause)


def test_a_login_needs_no_slot_once_the_endpoints_are_known(
    web: Web, make_web: Callable[..., Web], provider: GenericOIDCProvider
) -> None:
    web.browser().begin()
    _pause(provider)
    assert web.browser().get("/auth/login").status_code == 302


def test_a_login_that_needs_discovery_is_refused_during_a_pause(
    make_web: Callable[..., Web], idp: IdentityProvider
) -> None:
    """Nothing is stored, and no request is sent. [T44]"""
    provider = GenericOIDCProvider("site", CLIENT_SECRET, issuer_url=idp.issuer)
    web = make_web(provider=provider)
    _pause(provider)
    _unavailable(web.browser().get("/auth/login"))
    assert not web.calls()


def test_a_failed_discovery_is_remembered_for_seconds(make_web: Callable[..., Web], faults: Faults) -> None:
    """The next visitors get the same error without a request. [T70]"""
    web, asked = make_web(), list[str]()
    faults.down("/.well-known/openid-configuration")
    faults.before = asked.append
    answers = [web.browser().get("/auth/login") for _ in range(5)]
    assert {(answer.status_code, answer.json["error"]) for answer in answers} == {
        (502, "provider_unreachable")
    }
    assert len(asked) == 1


def test_signing_out_does_not_wait_for_a_paused_provider(
    web: Web, alice: Browser, provider: GenericOIDCProvider
) -> None:
    """The session ends, and the tokens are removed here."""
    _pause(provider)
    sent = web.calls()["revoke"]
    assert alice.post("/auth/logout").status_code == 200
    assert alice.user is None
    assert web.tokens.load("user-alice") is None
    assert web.calls()["revoke"] == sent


def test_other_requests_do_not_need_the_provider(
    web: Web, alice: Browser, provider: GenericOIDCProvider
) -> None:
    _pause(provider)
    assert alice.user == "user-alice"
    assert alice.get("/auth/userinfo").status_code == 200
    assert alice.get("/members").status_code == 200


def test_the_setting_limits_the_calls_at_the_same_time(
    make_web: Callable[..., Web], faults: Faults, idp: IdentityProvider
) -> None:
    """Another callback waits for its turn. [T44]"""
    web = make_web(settings={"provider_calls_at_once": 1})
    inside, most = threading.Semaphore(1), []

    def count(path: str) -> None:
        if path == "/token":
            most.append(inside.acquire(blocking=False))
            threading.Event().wait(0.05)  # the provider's time to answer
            inside.release()

    browsers = [web.browser() for _ in range(4)]
    callbacks = [browser.authorize() for browser in browsers]
    faults.before = count
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda pair: pair[0].get(pair[1]), zip(browsers, callbacks, strict=True)))
    assert [answer.status_code for answer in answers] == [303] * 4
    assert most == [True] * 4


# The number of threads


class RecordingGate(CallGate):
    """A gate that records its limits."""

    def limit(self, at_once: Callable[[], int], threads: Callable[[], int]) -> None:
        super().limit(at_once, threads)
        self.limits = at_once, threads


@pytest.mark.parametrize(("host", "threads"), [(FLASK, 8), (HOSTS[1], THREADS)], ids=["flask", "fastapi"])
def test_half_of_the_threads_of_a_server_may_call_the_provider(
    make_web: Callable[..., Web], provider: GenericOIDCProvider, host: Host, threads: int
) -> None:
    """Flask's server has 8 threads unless it says otherwise, and the bridge to FastAPI has its own."""
    provider.gate = gate = RecordingGate()
    make_web(provider=provider, host=host)
    assert [limit() for limit in gate.limits] == [threads // 2, threads]
    make_web(provider=provider, host=host, settings={"provider_calls_at_once": 3})
    assert [limit() for limit in gate.limits] == [3, threads]


def test_a_worker_can_tell_its_threads_after_the_application_was_made(
    make_web: Callable[..., Web], provider: GenericOIDCProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """gunicorn makes the application before it forks its workers."""
    provider.gate = gate = RecordingGate()
    make_web(provider=provider)
    monkeypatch.setattr(this_process, "threads", 20)
    assert [limit() for limit in gate.limits] == [10, 20]


# Too many requests


def _too_many_requests(response: Response) -> Response:
    return Response('{"error": "slow_down"}', 429, {"Retry-After": "42"}, mimetype="application/json")


@pytest.mark.parametrize("path", ["/.well-known/openid-configuration", "/jwks", "/token"])
def test_too_many_requests_are_passed_on(web: Web, faults: Faults, path: str) -> None:
    """The status is 503 with the provider's time, and the code is sent once. [T73]"""
    browser = web.browser()
    faults.answers[path] = _too_many_requests
    response = browser.get("/auth/login")
    if response.status_code == 302:
        faults.answers.clear()
        callback = browser.authorize()
        faults.answers[path] = _too_many_requests
        response = browser.get(callback)
        assert web.calls()["token"] <= 1
    _unavailable(response, 42)
    assert response.json["error"] == "temporarily_unavailable"
    assert "sign in" not in response.json["error_description"].lower()
    assert browser.user is None


@pytest.mark.parametrize(("value", "sent"), [("0", 1), ("86400", 300), ("later", 5)])
def test_the_time_is_bounded(web: Web, faults: Faults, value: str, sent: int) -> None:
    """Whatever the provider says, the browser may try again after 1 s to 300 s. [T73]"""

    def limited(response: Response) -> Response:
        return Response(status=429, headers={"Retry-After": value})

    browser = web.browser()
    callback = browser.authorize()
    faults.answers["/token"] = limited
    _unavailable(browser.get(callback), sent)
