"""Only a navigation begins or finishes a login."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pywry_auth.backends.memory import MemoryBackend
from pywry_auth.deploy.routes import ROUTES
from pywry_auth.flow.signals import login_failed
from tests.deploy.web import SiteResponse, WatchedBackend, Web, set_cookies

REFUSED: dict[str, dict[str, str]] = {
    "image": {"Sec_Fetch_Mode": "no-cors", "Sec_Fetch_Dest": "image"},
    "frame": {"Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "iframe"},
    "object": {"Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "object"},
    "script": {"Sec_Fetch_Mode": "cors", "Sec_Fetch_Dest": "empty"},
    "only the mode": {"Sec_Fetch_Mode": "same-origin"},
    "only the destination": {"Sec_Fetch_Dest": "image"},
    "empty": {"Sec_Fetch_Mode": ""},
    "prefetch": {"Sec_Purpose": "prefetch"},
    "prerender": {
        "Sec_Fetch_Mode": "navigate",
        "Sec_Fetch_Dest": "document",
        "Sec_Purpose": "prefetch;prerender",
    },
    "old Chrome": {"Purpose": "Prefetch"},
    "old Safari": {"X_Purpose": "preview"},
    "old Firefox": {"X_Moz": "prefetch"},
}
ALLOWED: dict[str, dict[str, str]] = {
    "browser": {"Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document", "Sec_Fetch_Site": "cross-site"},
    "service worker": {
        "Sec_Fetch_Mode": "navigate",
        "Sec_Fetch_Dest": "empty",
        "Sec_Fetch_Site": "same-origin",
    },
    "program": {},
    "other purpose": {"Sec_Purpose": "view"},
}
_LOGINS = ("login", "callback")


@pytest.fixture
def watched() -> WatchedBackend:
    return WatchedBackend(MemoryBackend())


@pytest.fixture
def failures() -> list[str]:
    """The failed logins that the application reported."""
    found: list[str] = []

    def failed(_sender: object, error: str) -> None:
        found.append(error)

    login_failed.connect(failed, weak=False)
    return found


def _refused(response: SiteResponse) -> None:
    assert (response.status_code, response.json["error"]) == (400, "not_a_navigation")
    assert response.headers["Cache-Control"] == "no-store"
    assert not set_cookies(response)


@pytest.mark.parametrize("kind", REFUSED)
def test_another_request_begins_no_login(
    make_web: Callable[..., Web], watched: WatchedBackend, failures: list[str], kind: str
) -> None:
    """Nothing is stored, counted or reported, and the provider gets no call. [T56]"""
    web = make_web(watched)
    _refused(web.browser().get("/auth/login?next=/members", False, **REFUSED[kind]))
    assert watched.operations == []
    assert not web.calls()
    assert failures == []


@pytest.mark.parametrize("kind", REFUSED)
def test_another_request_finishes_no_login(
    make_web: Callable[..., Web], watched: WatchedBackend, failures: list[str], kind: str
) -> None:
    """The pending login stays, so that the user can still finish it. [T56]"""
    web = make_web(watched)
    browser = web.browser()
    callback = browser.authorize()
    watched.forget()
    before = web.calls().copy()
    _refused(browser.get(callback, False, **REFUSED[kind]))
    assert watched.operations == []
    assert web.calls() == before
    assert failures == []
    assert browser.get(callback, False, **ALLOWED["browser"]).status_code == 303


@pytest.mark.parametrize("sender", ["cross-site", "same-site"])
def test_a_service_worker_passes_on_a_frame_of_another_site(
    make_web: Callable[..., Web], sender: str
) -> None:
    """Its requests differ from navigations by their sender, except at the callback. [T56]"""
    browser = make_web().browser()
    passed_on = {"Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "empty", "Sec_Fetch_Site": sender}
    _refused(browser.get("/auth/login", False, **passed_on))
    assert browser.get(browser.authorize(), True, **passed_on).status_code == 303


@pytest.mark.parametrize("kind", ALLOWED)
def test_a_navigation_signs_in(web: Web, kind: str) -> None:
    browser = web.browser()
    begun = browser.get("/auth/login", True, **ALLOWED[kind])
    assert begun.status_code == 302
    assert browser.get(browser.authorize(), True, **ALLOWED[kind]).status_code == 303


def test_the_page_leads_to_a_sign_in_that_keeps_next(web: Web) -> None:
    page = web.browser().get("/auth/login?next=/members", True, **REFUSED["frame"])
    assert page.status_code == 400
    assert f'href="{web.at("/auth/login")}?next=%2Fmembers"' in page.text
    assert "a tab or window of its own" in page.text


def test_no_prefetch_gets_the_choice_of_providers(make_web: Callable[..., Web], web: Web) -> None:
    """A browser would show the prefetched page instead of asking again. [T56]"""
    several = make_web(provider={"one": web.provider, "two": web.provider})
    _refused(several.browser().get("/auth/login", False, **REFUSED["prefetch"]))
    assert several.browser().get("/auth/login", html=True).status_code == 200


@pytest.mark.parametrize(
    "path", [route.path for route in ROUTES if route.method == "GET" and route.name not in _LOGINS]
)
def test_no_other_get_request_has_an_effect(
    make_web: Callable[..., Web], watched: WatchedBackend, path: str
) -> None:
    """A route that writes with GET must refuse what is no navigation. [T56]"""
    web = make_web(watched)
    browser = web.browser()
    browser.sign_in()
    watched.forget()
    before = web.calls().copy()
    for headers in (*REFUSED.values(), *ALLOWED.values()):
        assert not set_cookies(browser.get(f"/auth{path}", False, **headers))
    assert {operation.partition(" ")[0] for operation in watched.operations} <= {"get", "members"}
    assert web.calls() == before
