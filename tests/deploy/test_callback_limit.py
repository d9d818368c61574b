"""The limit of callbacks that reach the provider, for each client address across all workers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from pywry_auth.backends.base import Backend
from tests.deploy.web import SiteResponse, Web

LIMIT = {"login_rate_limit": "3/minute"}
_SAVED_UP = 12


def test_logins_saved_up_are_not_finished_all_at_once(make_web: Callable[..., Web], backend: Backend) -> None:
    """Of twelve threads on two workers, three reach the provider, and the others can try again. [T56]"""
    unlimited = make_web(backend)
    browsers = [unlimited.browser() for _ in range(_SAVED_UP)]
    callbacks = [browser.authorize() for browser in browsers]
    workers = [make_web(backend, settings=LIMIT) for _ in range(2)]
    for number, browser in enumerate(browsers):
        browser.client.application = workers[number % 2].wsgi
    together = threading.Barrier(_SAVED_UP)

    def finish(number: int) -> SiteResponse:
        together.wait()
        return browsers[number].get(callbacks[number], html=True)

    with ThreadPoolExecutor(_SAVED_UP) as threads:
        responses = list(threads.map(finish, range(_SAVED_UP)))
    assert sorted(response.status_code for response in responses) == [303] * 3 + [429] * 9
    assert unlimited.calls()["token"] == 3
    for number, response in enumerate(responses):
        if response.status_code == 429:
            assert response.headers["Retry-After"] == "60"
            assert "wait 60 seconds and reload this page" in response.text
            browsers[number].client.application = unlimited.wsgi  # as if the window had ended
            assert browsers[number].get(callbacks[number]).status_code == 303, "the login was not lost"


def test_links_of_another_site_do_not_use_up_the_limit(make_web: Callable[..., Web]) -> None:
    """Callbacks without a pending login of this browser do not count. [T56]"""
    web = make_web(settings=LIMIT)
    browser, attacker = web.browser(), web.browser("198.51.100.1")
    foreign, callback = attacker.authorize(), browser.authorize()
    for address in (foreign, f"{foreign}&state=x", "/auth/callback?state=x&code=y", "/auth/callback"):
        for _ in range(2):
            assert browser.get(address).status_code == 400
    for _ in range(5):
        assert browser.get(callback).status_code == 303, "a reloaded callback counts once"
    assert browser.sign_in().status_code == 303


def test_a_limited_callback_keeps_next(make_web: Callable[..., Web]) -> None:
    unlimited = make_web()
    limited = make_web(unlimited.backend, settings={"login_rate_limit": "1/minute"})
    browsers = [unlimited.browser() for _ in range(2)]
    callbacks = [browser.authorize("/auth/login?next=/members") for browser in browsers]
    for browser in browsers:
        browser.client.application = limited.wsgi
    assert browsers[0].get(callbacks[0]).status_code == 303
    page = browsers[1].get(callbacks[1], html=True)
    assert page.status_code == 429
    assert f'href="{limited.at("/auth/login")}?next=%2Fmembers"' in page.text
