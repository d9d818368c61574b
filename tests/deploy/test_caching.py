"""A shared cache never serves one visitor's response to another. [T30]"""

from __future__ import annotations

from dataclasses import dataclass, field

from werkzeug.test import TestResponse

from pywry_auth.backends.memory import MemoryBackend
from pywry_auth.flow.events import listen, unlisten
from pywry_auth.testing.identity_provider import IdentityProvider
from tests.deploy.binding import BINDING, binding_of
from tests.deploy.hosts import PROTECTED
from tests.deploy.web import Browser, Web


@dataclass
class CachingProxy:
    """An eager shared cache that follows ``Vary`` (RFC 9111 §3, §4.1)."""

    stored: dict[str, list[tuple[dict[str, str], TestResponse]]] = field(default_factory=dict)
    hits: int = 0

    def get(self, browser: Browser, path: str, cookie: str, **headers: str) -> TestResponse:
        sent = {name.lower().replace("_", "-"): value for name, value in headers.items()} | {"cookie": cookie}
        for selecting, answer in self.stored.get(path, []):
            if all(sent.get(name, "") == value for name, value in selecting.items()):
                self.hits += 1
                return answer
        answer = browser.client.get(path, base_url=browser.base_url, headers=sent)
        control = answer.headers.get("Cache-Control", "")
        vary = [name.strip().lower() for name in answer.headers.get("Vary", "").split(",") if name.strip()]
        # More eager than the RFC: it stores responses to Authorization, without freshness, and of any status.
        if "no-store" not in control and "private" not in control and "*" not in vary:
            selecting = {name: sent.get(name, "") for name in vary}
            self.stored.setdefault(path, []).append((selecting, answer))
        return answer


PATHS = ["/auth/status", "/auth/userinfo", "/members", "/who", "/admin", "/write", "/documents/7", "/public"]


def test_no_visitor_gets_the_cached_response_of_another(web: Web) -> None:
    proxy = CachingProxy()
    cookies = {"visitor": ""}
    for name in ("alice", "bob"):
        browser = web.browser()
        browser.sign_in(username=name)
        cookies[name] = f"pywry_session={browser.cookie()}"
    client = web.browser()
    client.client = web.client(use_cookies=False)
    for _ in range(2):
        for name, cookie in cookies.items():
            for path in PATHS:
                text = proxy.get(client, path, cookie, accept="application/json").text
                for other in {"alice", "bob"} - {name}:
                    assert f"user-{other}" not in text, (name, path)
                assert (PROTECTED in text) == (name != "visitor" and path == "/members")
    assert proxy.hits > 0
    assert not [path for path in proxy.stored if path.startswith("/auth")]


def test_no_visitor_gets_the_cached_response_of_an_api_client(web: Web) -> None:
    from pywry_auth.state.sessions import issue_session_token

    proxy = CachingProxy()
    client = web.browser()
    client.client = web.client(use_cookies=False)
    token = issue_session_token(web.sessions, "robot", ["admin"])
    for _ in range(2):
        for path in PATHS:
            proxy.get(client, path, "", authorization=f"Bearer {token}", accept="application/json")
            answer = proxy.get(client, path, "", accept="application/json").text
            assert "robot" not in answer
            assert PROTECTED not in answer


def test_responses_with_cookies_are_not_cached(web: Web) -> None:
    """CVE-2023-30861: a cache stores no response with a cookie."""
    proxy = CachingProxy()
    one, two = web.browser(), web.browser()
    first = proxy.get(one, "/auth/login", "")
    second = proxy.get(two, "/auth/login", "")
    assert first.headers["Set-Cookie"] != second.headers["Set-Cookie"]
    assert first.location != second.location
    callback = one.authorize()
    done = proxy.get(
        one,
        callback.removeprefix("http://127.0.0.1"),
        f"{BINDING}={binding_of(one)}",
    )
    assert done.status_code == 303
    assert proxy.get(two, callback.removeprefix("http://127.0.0.1"), "").status_code == 400
    assert proxy.stored == {}


def test_an_unexpected_error_of_a_route_in_flask_is_not_cached(idp: IdentityProvider) -> None:
    """An application's own event listener can fail, for example. [T30]"""

    def fail(sender: object, event: object) -> None:
        raise RuntimeError("a fault of the listener")

    listen(fail)
    try:
        browser = Web(idp, MemoryBackend()).browser()
        response = browser.get(browser.authorize(), html=True)
    finally:
        unlisten(fail)
    assert response.status_code == 500
    assert response.headers["Cache-Control"] == "no-store"
    assert "Cookie" in response.headers["Vary"]
