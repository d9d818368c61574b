"""No failure admits a user, ends a session or causes a 500. [T28, P15]"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from pywry_auth.backends.base import Terms
from pywry_auth.backends.memory import MemoryBackend
from pywry_auth.backends.redis import RedisBackend
from pywry_auth.backends.sqlite import SQLiteBackend
from pywry_auth.providers.oidc import GenericOIDCProvider
from tests.deploy.hosts import PROTECTED
from tests.deploy.web import Browser, SiteResponse, WatchedBackend, Web, set_cookies
from tests.faults import Faults
from tests.peers.redis_server import RedisServer
from tests.waiting import eventually

Ask = Callable[[Browser], SiteResponse]

REQUESTS: dict[str, Ask] = {
    "login": lambda browser: browser.get("/auth/login"),
    "login page": lambda browser: browser.get("/auth/login", html=True),
    "status": lambda browser: browser.get("/auth/status"),
    "userinfo": lambda browser: browser.get("/auth/userinfo"),
    "refresh": lambda browser: browser.post("/auth/refresh"),
    "logout": lambda browser: browser.post("/auth/logout"),
    "logout page": lambda browser: browser.post("/auth/logout", html=True),
    "everywhere": lambda browser: browser.post("/auth/logout?everywhere=1"),
    "members": lambda browser: browser.get("/members"),
    "members page": lambda browser: browser.get("/members", html=True),
    "admin": lambda browser: browser.get("/admin"),
    "write": lambda browser: browser.get("/write"),
    "document": lambda browser: browser.get("/documents/7"),
    "who": lambda browser: browser.get("/who"),
}
_ENDS_SESSION = {"logout", "logout page", "everywhere"}


@pytest.fixture
def watched() -> WatchedBackend:
    return WatchedBackend(MemoryBackend())


@pytest.fixture
def site(make_web: Callable[..., Web], watched: WatchedBackend) -> Web:
    return make_web(watched, settings={"default_roles": "viewer,admin"})


def _unavailable(response: SiteResponse) -> None:
    assert response.status_code == 503
    assert int(response.headers["Retry-After"]) > 0
    assert response.headers["Cache-Control"] == "no-store"
    assert not set_cookies(response), "the cookie is not deleted, and no login begins [P15]"
    assert "Location" not in response.headers
    assert PROTECTED not in response.text
    if response.is_json:
        assert response.json["error"] == "temporarily_unavailable"
    else:
        assert "Not available at the moment" in response.text


@pytest.mark.parametrize("name", REQUESTS)
@pytest.mark.parametrize("lasting", [True, False])
def test_a_store_failure_at_any_operation_gets_503(
    make_web: Callable[..., Web], monkeypatch: pytest.MonkeyPatch, name: str, lasting: bool
) -> None:
    """Each operation fails in turn, by itself or with all later ones. [T28]"""
    monkeypatch.setattr("pywry_auth.flow.refresh._LONGEST_OUTAGE", 0.4)
    provider = make_web().provider  # shared, so that its metadata are fetched once
    watched, browser = _signed_in(make_web, provider)
    assert REQUESTS[name](browser).status_code < 500
    operations = list(watched.operations)
    for failing in range(len(operations)):
        watched, browser = _signed_in(make_web, provider)
        watched.fails = partial(_from if lasting else _at, failing)
        response = REQUESTS[name](browser)
        watched.fails = partial(_at, -1)
        if failing >= len(operations) - _survived(name, lasting):
            assert response.status_code == (303 if name == "logout page" else 200)
        else:
            _unavailable(response)
        if name not in _ENDS_SESSION:
            assert browser.user == "user-alice"
        REQUESTS["logout"](browser)
        assert browser.user is None


def _survived(name: str, lasting: bool) -> int:
    """Return how many of the last operations a request does not need."""
    if name == "refresh":  # the lock expires, and the fresh tokens are stored once the store is back
        return 1 if lasting else 3
    return 1 if name in _ENDS_SESSION else 0  # a finished revocation stays in the queue


def _signed_in(make_web: Callable[..., Web], provider: GenericOIDCProvider) -> tuple[WatchedBackend, Browser]:
    watched = WatchedBackend(MemoryBackend())
    browser = make_web(watched, settings={"default_roles": "viewer,admin"}, provider=provider).browser()
    browser.sign_in()
    watched.forget()
    return watched, browser


def _at(failing: int, number: int) -> bool:
    return number == failing


def _from(failing: int, number: int) -> bool:
    return number >= failing


@pytest.mark.parametrize("lasting", [True, False])
@pytest.mark.parametrize("signed_in", [True, False])
def test_a_store_failure_in_a_callback_signs_the_user_in_or_gets_503(
    site: Web, watched: WatchedBackend, lasting: bool, signed_in: bool
) -> None:
    """After a failure, an earlier session remains, and signing in works afterwards. [T28, T67]"""

    def begin() -> tuple[Browser, str]:
        browser = site.browser()
        if signed_in:
            browser.sign_in(username="bob")
        callback = browser.authorize()
        watched.forget()
        return browser, callback

    browser, callback = begin()
    browser.get(callback)
    operations = len(watched.operations)
    browser.post("/auth/logout")
    for failing in range(operations):
        browser, callback = begin()
        cookie = browser.cookie()
        watched.fails = partial(_from if lasting else _at, failing)
        response = browser.get(callback)
        watched.fails = partial(_at, -1)
        if response.status_code == 303:  # only the clean-up after the new session failed
            assert browser.user == "user-alice"
        else:
            _unavailable(response)
            assert browser.cookie() == cookie
            assert browser.user in (None, "user-bob" if signed_in else None)
        browser.sign_in()
        assert browser.user == "user-alice"
        browser.post("/auth/logout")
        for user in ("user-alice", "user-bob"):
            assert site.sessions.list_user_sessions(user) == [], "no session is unknown to the browser"


def test_an_error_page_links_to_the_failed_page(site: Web, watched: WatchedBackend) -> None:
    browser = site.browser()
    browser.sign_in()
    watched.fails = partial(_from, 0)
    page = browser.get("/members?a=1", html=True)
    assert 'href="/members?a=1"' in page.text
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    watched.fails = partial(_at, -1)
    assert browser.get("/members?a=1").json["page"] == PROTECTED


ANSWERS = [
    (500, "text/plain", b"down"),
    (200, "application/json", b"{}"),
    (200, "application/json", b"[]"),
    (200, "application/json", b"null"),
    (200, "text/html", b"<html>error</html>"),
    (200, "application/json", b'{"error": "server_error", "error_description": "\\u0000<script>"}'),
    (204, "application/json", b""),
    (302, "text/plain", b""),
    (403, "application/json", b'{"error": 5}'),
    (200, "application/json", b'{"sub": "user-mallory", "keys": 5, "access_token": [], "id_token": {}}'),
    (200, "application/json", b"[" * 100_000),
    (200, "application/json", b" " * (2 << 20)),
    (429, "application/json", b'{"error": "slow_down"}'),
]


@pytest.mark.parametrize(
    "path", ["/.well-known/openid-configuration", "/jwks", "/token", "/userinfo", "/revoke", "/end_session"]
)
def test_no_malformed_provider_response_signs_in_another_user(
    make_web: Callable[..., Web], faults: Faults, path: str
) -> None:
    """In login, refresh and logout, with and without discovery. [T28]"""
    for answer in ANSWERS:
        web = make_web()
        faults.answers[path] = answer
        browser = web.browser()
        begun = browser.get("/auth/login")
        assert begun.status_code in (302, 400, 502, 503), answer
        if begun.status_code == 302:
            response = browser.get(browser.authorize())
            assert response.status_code in (303, 400, 403, 502, 503), answer
            assert (response.status_code == 303) == (browser.user == "user-alice")
            assert browser.user in ("user-alice", None)
            assert (PROTECTED in browser.get("/members").text) == (browser.user is not None)
        faults.answers.clear()
        browser = make_web().browser()  # this application remembers no failure of discovery
        browser.sign_in()
        faults.answers[path] = answer
        assert browser.post("/auth/refresh").status_code in (200, 400, 401, 502, 503), answer
        assert browser.user == "user-alice"
        assert browser.post("/auth/logout").status_code == 200, answer
        assert browser.user is None
        faults.answers.clear()


def test_a_sign_in_that_fails_with_its_revocation_leaves_no_grant(
    make_web: Callable[..., Web], faults: Faults
) -> None:
    """The store fails at any moment after the code exchange, while the provider revokes nothing. [T67]"""
    watched = WatchedBackend(MemoryBackend())
    web, issued = make_web(watched), 0
    for failing in range(7):
        browser = web.browser()
        callback, before = browser.authorize(), web.calls()["token"]
        watched.forget()
        watched.fails = partial(_from, failing)
        faults.answers["/revoke"] = (500, "application/json", b"{}")
        _unavailable(browser.get(callback))
        watched.fails = partial(_at, -1)
        faults.answers.clear()
        revoked = web.calls()["revoke"]
        if web.calls()["token"] > before:
            issued += 1
            assert eventually(partial(_has_revoked, web, revoked + 2)), failing
            assert eventually(lambda: web.backend.members("oauth:revocations") == [])
    assert issued > 2


def _has_revoked(web: Web, calls: int) -> bool:
    return web.calls()["revoke"] >= calls


def test_a_profile_of_another_subject_creates_no_session(web: Web, faults: Faults) -> None:
    """UserInfo and ID token must have the same subject (OIDC Core §5.3.2)."""
    faults.answers["/userinfo"] = (
        200,
        "application/json",
        b'{"sub": "user-bob", "email": "alice@example.com"}',
    )
    browser = web.browser()
    response = browser.get(browser.authorize())
    assert (response.status_code, response.json["error"]) == (400, "subject_mismatch")
    assert browser.user is None


def test_sessions_survive_a_redis_outage(
    make_web: Callable[..., Web], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A real Redis stops and starts again. [P15]"""
    with RedisServer(tmp_path_factory.mktemp("gone")) as server:
        backend = RedisBackend(server.url)
        browser = make_web(backend).browser()
        browser.sign_in()
        callback = browser.authorize()
        cookie = browser.cookie()
        server.stop()
        for name in ("status", "userinfo", "members", "refresh", "logout", "login"):
            began = time.monotonic()
            _unavailable(REQUESTS[name](browser))
            assert time.monotonic() - began < 8
        _unavailable(browser.get(callback))
        assert browser.get("/public").status_code == 200
        assert browser.cookie() == cookie
        server.start()
        assert browser.user is None, "it keeps no data on disk"
        browser.sign_in()
        assert browser.user == "user-alice"
        backend.close()


def test_an_unusable_sqlite_file_gets_503(
    make_web: Callable[..., Web], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The file is replaced by one that is not a database. [P15, T28]"""
    path = tmp_path / "state" / "state.sqlite3"
    backend = SQLiteBackend(path)
    web = make_web(backend)
    browser = web.browser()
    browser.sign_in()
    backend.close()
    for file in path.parent.iterdir():
        file.unlink()
    path.write_bytes(b"this is no database" * 100)
    path.chmod(0o600)
    for name in ("status", "members", "login"):
        response = REQUESTS[name](browser)
        _unavailable(response)
        assert "sqlite" not in response.text.lower(), "the response does not name the store"
    assert "state.sqlite3 failed: it is no SQLite database" in caplog.text
    path.unlink()
    assert browser.user is None
    browser.sign_in()
    assert browser.user == "user-alice"
    backend.close()


def test_unreadable_records_identify_no_user(make_web: Callable[..., Web]) -> None:
    """Of an unknown version, truncated, or of another kind. [T28, T13]"""
    backend = MemoryBackend()
    web = make_web(backend)
    browser = web.browser()
    browser.sign_in()
    (session,) = web.sessions.list_user_sessions("user-alice")
    key = f"session:{session.session_id}"
    good = backend.get(key) or b""
    assert good
    tokens = backend.get("oauth:tokens:user-alice") or b""
    for bad in (
        b"",
        b"{}",
        b"null",
        b"\xff\xfe",
        good[:-1],
        good[:10],
        good[1:],
        b'{"v":0}',
        tokens,
        b"[" * 10**5,
    ):
        backend.put(key, bad, Terms(ttl=60))
        assert browser.user is None
        assert browser.get("/members").status_code == 401
        assert browser.post("/auth/logout").status_code == 503, "another worker may still accept it [T68]"
    pending = web.browser()
    callback = pending.authorize()
    for name in [key for key in backend.members("pending:127.0.0.1") if backend.get(key)]:
        backend.put(name, b'{"v":1}', Terms(ttl=60, group="pending:127.0.0.1"))
    assert pending.get(callback).json["error"] == "state_unknown"
    backend.put("oauth:tokens:user-alice", b"broken")
    browser.sign_in()
    backend.put("oauth:tokens:user-alice", b"broken")
    assert browser.post("/auth/refresh").status_code == 401
    assert browser.post("/auth/logout").status_code == 200
