"""The route ``GET /auth/login``."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import parse_qsl, urlsplit

from tests.deploy.binding import BINDING, binding_set_by
from tests.deploy.web import SITE, Browser, WatchedBackend, Web, attributes, parameter, set_cookies
from tests.faults import Faults
from tests.person import Person


def test_a_login_redirects_with_state_nonce_and_code_challenge(web: Web) -> None:
    response = web.browser().get("/auth/login?next=/members")
    assert (response.status_code, response.data) == (302, b"")
    address = urlsplit(response.location)
    asked = parse_qsl(address.query)
    assert f"{address.scheme}://{address.netloc}{address.path}" == f"{web.idp.issuer}/authorize"
    assert dict(asked) | {"state": "", "nonce": "", "code_challenge": ""} == {
        "response_type": "code",
        "client_id": "site",
        "redirect_uri": SITE + web.at("/auth/callback"),
        "scope": "openid email profile",
        "state": "",
        "nonce": "",
        "code_challenge": "",
        "code_challenge_method": "S256",
    }
    assert len(asked) == 8
    assert min(len(dict(asked)[name]) for name in ("state", "nonce", "code_challenge")) >= 43


def test_each_login_has_its_own_secrets(web: Web) -> None:
    browser = web.browser()
    urls = [browser.begin() for _ in range(5)]
    for name in ("state", "nonce", "code_challenge"):
        assert len({parameter(url, name) for url in urls}) == 5
    seen = [parameter(url, name) for url in urls for name in ("state", "nonce", "code_challenge")]
    assert len(set(seen)) == 15


def test_a_login_sets_only_the_binding_cookie(web: Web) -> None:
    response = web.browser().get("/auth/login")
    cookies = set_cookies(response)
    ((name, header),) = cookies.items()
    assert name.startswith(BINDING)
    found = attributes(header)
    assert found.pop("expires")
    assert found == {"max-age": "1200", "httponly": "True", "path": "/", "samesite": "Lax"}
    assert len(header.partition(";")[0]) < 120, "P13"
    assert response.headers["Cache-Control"] == "no-store"
    assert "Cookie" in response.headers["Vary"]


def test_all_tabs_of_a_browser_share_one_binding_cookie(web: Web) -> None:
    """No tab sets another cookie or overwrites the cookie of another. [P2]"""
    browser, other = web.browser(), web.browser()
    mine = {binding_set_by(browser.get("/auth/login")) for _ in range(4)}
    assert len(mine) == 1
    assert binding_set_by(other.get("/auth/login")) not in mine


def test_simultaneous_tabs_do_not_overwrite_each_others_cookie(web_on: Web) -> None:
    """A browser sends their requests before it has received any of the cookies. [P2]"""
    begun = [web_on.browser().get(f"/auth/login?next=/tab/{number}", html=True) for number in range(4)]
    cookies = dict(map(binding_set_by, begun))
    assert len(cookies) == 4
    browser = web_on.browser()
    for name, value in cookies.items():
        browser.plant(name, value)
    for number in (2, 0, 3, 1):
        ended = browser.get(Person().authorize(begun[number].location), html=True)
        assert (ended.status_code, ended.location) == (303, f"{SITE}/tab/{number}")
    assert binding_set_by(browser.get("/auth/login")) in cookies.items(), "no further cookie"


def test_a_forged_binding_cookie_is_replaced(web: Web) -> None:
    browser = web.browser()
    browser.plant(BINDING, "x" * 43 + "." + "y" * 43)
    assert browser.sign_in().status_code == 303


def test_the_code_challenge_can_be_disabled(make_web: Callable[..., Web]) -> None:
    asked = dict(parse_qsl(urlsplit(make_web(use_pkce=False).browser().begin()).query))
    assert "nonce" in asked
    assert "code_challenge" not in asked


def test_a_head_request_begins_no_login(make_web: Callable[..., Web]) -> None:
    """HEAD has no effect. [T27]"""
    from pywry_auth.backends.memory import MemoryBackend

    backend = WatchedBackend(MemoryBackend())
    web = make_web(backend)
    response = web.browser().head("/auth/login")
    assert (response.status_code, response.data) == (204, b"")
    assert not set_cookies(response)
    assert backend.operations == []
    assert not web.calls()


def test_an_unreachable_provider_gets_502(make_web: Callable[..., Web], faults: Faults) -> None:
    faults.down("/.well-known/openid-configuration")
    response = make_web().browser().get("/auth/login")
    assert response.status_code == 502
    assert response.json["error"] == "provider_unreachable"
    assert not set_cookies(response)
    assert response.headers["Cache-Control"] == "no-store"
    faults.answers.clear()
    assert make_web().browser().sign_in().status_code == 303, "another worker remembers no failure"


def test_a_signed_in_user_can_sign_in_again(web: Web, alice: Browser) -> None:
    before = alice.cookie()
    alice.sign_in(username="bob")
    assert alice.user == "user-bob"
    assert alice.cookie() != before
