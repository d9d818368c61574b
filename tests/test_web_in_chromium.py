"""A user in a real browser at ``pywry-auth demo``."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from selenium import webdriver

from tests.cli.web_demo import web_demo
from tests.peers.browser import set_appearance
from tests.peers.walk import Walk
from tests.person import Person

_ALICE, _BOB = ("alice", "wonderland"), ("bob", "builder")
_SIGNED_OUT: dict[str, object] = {
    **{"authenticated": False, "user_id": None, "roles": [], "expires_at": None},
    **{"name": None, "picture": None},
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with web_demo(tmp_path_factory.mktemp("demo") / "tmp") as demo:
        yield demo.site


@pytest.fixture
def walk(chromium: webdriver.Chrome, site: str) -> Walk:
    chromium.execute_cdp_cmd("Network.clearBrowserCookies", {})
    set_appearance(chromium)
    return Walk(chromium, site)


def test_a_user_signs_in_visits_pages_and_signs_out(walk: Walk) -> None:
    walk.go("/")
    walk.see("Welcome")
    walk.press("Your account")
    walk.see("Sign in")
    walk.sign_in(*_BOB)
    walk.arrive("/account")
    assert "bob@example.com" in walk.text
    walk.press("Home")
    walk.see("Signed in as Bob Example")
    walk.press("Administration")
    walk.see("Not allowed", "/admin")
    walk.press("Home")
    walk.press("Sign out")
    walk.see_signed_out("Welcome")
    walk.press("Sign in")
    walk.see("Sign in")  # the user is signed out at the provider too
    walk.sign_in(*_ALICE)
    walk.arrive_where(lambda address: address.partition("?")[0] == "/")
    walk.press("Administration")
    walk.see("Administration", "/admin")
    assert "manage_users" in walk.text


def test_scripts_of_the_site_can_read_the_sign_in_status(walk: Walk) -> None:
    walk.go("/auth/status")  # JSON without a policy, so that scripts may fetch
    assert walk.fetch("/auth/status") == {"status": 200, "json": _SIGNED_OUT}
    refused = walk.fetch("/auth/userinfo")
    assert (refused["status"], refused["json"]["error"]) == (401, "not_signed_in")
    assert walk.fetch("/account")["status"] == 401, "a script cannot follow a redirect to the provider"
    walk.go("/auth/login?next=/auth/status")
    walk.sign_in(*_ALICE)
    walk.arrive("/auth/status")
    status = walk.fetch("/auth/status")["json"]
    assert (status["authenticated"], status["user_id"]) == (True, "user-alice")
    assert status["roles"] == ["viewer", "admin"]
    info = walk.fetch("/auth/userinfo")["json"]
    assert (info["user_id"], info["user_info"]["email"]) == ("user-alice", "alice@example.com")
    assert walk.fetch("/auth/refresh", "POST")["json"]["refreshed"] is True
    assert walk.driver.execute_script("return document.cookie") == ""
    walk.go("/")
    assert "error" in walk.fetch("/auth/status"), "the policy of the site's pages forbids scripts"
    walk.go("/auth/status")
    assert walk.fetch("/auth/logout", "POST")["json"]["logged_out"] is True
    assert walk.fetch("/auth/status") == {"status": 200, "json": _SIGNED_OUT}


def test_two_tabs_can_sign_in_at_the_same_time(walk: Walk) -> None:
    """Neither login replaces the other. [P2]"""
    walk.go("/account")
    first = walk.driver.current_window_handle
    walk.driver.switch_to.new_window("tab")
    try:
        walk.go("/admin")
        walk.sign_in(*_ALICE)
        walk.arrive("/admin")
        second = walk.driver.current_window_handle
        walk.driver.switch_to.window(first)
        walk.sign_in(*_ALICE)
        walk.arrive("/account")
        walk.driver.switch_to.window(second)
        walk.driver.refresh()
        walk.see("Administration")
        walk.press("Sign out")
        walk.see_signed_out("Welcome")
    finally:
        walk.driver.close()
        walk.driver.switch_to.window(first)
    walk.driver.refresh()
    walk.see("Sign in")  # a sign-out in one tab applies to all


def test_tabs_opened_at_the_same_moment_all_sign_in(walk: Walk) -> None:
    """A browser does this when it restores yesterday's tabs. [P2]"""
    walk.go("/auth/status")  # JSON without a policy, so that scripts may open windows
    first = walk.driver.current_window_handle
    walk.driver.execute_script("for (let i = 0; i < 4; i++) window.open('/account?tab=' + i)")
    tabs = [handle for handle in walk.driver.window_handles if handle != first]
    for tab in tabs:
        walk.driver.switch_to.window(tab)
        walk.arrive_where(lambda address: "/authorize?" in address)
    for tab in tabs:
        walk.driver.switch_to.window(tab)
        walk.sign_in(*_BOB)
        walk.arrive_where(lambda address: address.startswith("/account?tab="))
        walk.driver.close()
    walk.driver.switch_to.window(first)


def test_going_back_after_sign_in_does_not_repeat_the_callback(walk: Walk) -> None:
    """The callback is not in the history, and its code is used once. [P4]"""
    walk.go("/")
    walk.press("Your account")
    walk.sign_in(*_BOB)
    walk.arrive("/account")
    walk.driver.back()
    walk.see("Welcome back")  # the provider's page; the user is still signed in there
    walk.press("Continue as Bob Example")
    walk.see("Signed in as Bob Example", "/")


def test_a_repeated_callback_leads_to_the_application_or_an_error(walk: Walk) -> None:
    """The application if the user is signed in, otherwise the error page. [P3, P4]"""
    walk.go("/account")
    callback = Person(*_BOB).authorize(walk.driver.current_url)
    walk.go(callback)
    walk.see("Your account", "/account")
    walk.go(callback)
    walk.see("Signed in as Bob Example", "/")
    walk.press("Sign out")
    walk.see_signed_out("Welcome")
    walk.go(callback)
    walk.see("Sign-in failed")
    assert "Start again" in walk.text
    walk.press("Try again")
    walk.see("Sign in")


def test_a_user_who_cancels_at_the_provider_can_sign_in_again(walk: Walk) -> None:
    walk.go("/account")
    walk.press("Cancel")
    walk.see("You cancelled")
    walk.press("Sign in")
    walk.sign_in(*_ALICE)
    walk.arrive("/account")


def test_a_frame_leads_out_to_the_sign_in_and_back(walk: Walk) -> None:
    """The link is in sight in a small frame, and the sign-in returns to the page around it. [T39]"""
    walk.go("/auth/status")  # JSON without a policy, so that scripts may add a frame
    walk.driver.execute_script(
        "const frame = document.createElement('iframe');"
        "Object.assign(frame, {width: 300, height: 150, src: '/account'}); document.body.append(frame)"
    )
    walk.driver.switch_to.frame(0)
    walk.see("Please sign in")
    assert walk.faults_of_looks() == []
    assert walk.driver.execute_script("return document.documentElement.scrollHeight <= innerHeight")
    walk.press("Sign in")
    walk.driver.switch_to.default_content()
    walk.see("Sign in")
    walk.sign_in(*_BOB)
    walk.arrive("/auth/status")


_LOOKS: dict[str, Callable[[webdriver.Chrome], None]] = {
    "light": lambda driver: set_appearance(driver, width=1280),
    "dark": lambda driver: set_appearance(driver, dark=True, width=1280),
    "narrow": lambda driver: set_appearance(driver, width=360),
}


def test_every_page_is_readable_in_light_dark_and_narrow(walk: Walk) -> None:
    def look(path: str, heading: str) -> None:
        walk.go(path)
        for name, dress in _LOOKS.items():
            dress(walk.driver)
            walk.see(heading)
            assert walk.faults_of_looks() == [], name

    look("/", "Welcome")
    look("/nothing", "Not Found")
    look("/auth/callback?state=x&code=y", "Sign-in failed")
    look("/account", "Sign in")
    walk.sign_in(*_BOB)
    walk.arrive("/account")
    look("/account", "Your account")
    look("/", "Signed in as Bob Example")
    look("/admin", "Not allowed")
    walk.driver.execute_cdp_cmd("Network.clearBrowserCookies", {})
    walk.go("/admin")
    walk.sign_in(*_ALICE)
    walk.arrive("/admin")
    look("/admin", "Administration")
