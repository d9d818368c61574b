"""The route ``POST /auth/logout``."""

from __future__ import annotations

import base64
import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from urllib.parse import parse_qsl, urlsplit

import pytest
import redis
import requests
from werkzeug.test import TestResponse

from pywry_auth.backends.base import Terms
from pywry_auth.backends.encrypted import EncryptedBackend
from pywry_auth.backends.memory import MemoryBackend
from pywry_auth.backends.redis import RedisBackend
from pywry_auth.exceptions import TokenExpiredError
from pywry_auth.flow.refresh import refresh_stored
from pywry_auth.models import OAuthTokenSet
from pywry_auth.providers.oidc import GenericOIDCProvider
from pywry_auth.state.records import pack
from pywry_auth.state.sessions import issue_session_token
from pywry_auth.testing.identity_provider import IdentityProvider
from tests.deploy.web import CLIENT_SECRET, HTML, SITE, Browser, WatchedBackend, Web, attributes, set_cookies
from tests.faults import Faults
from tests.peers.redis_server import RedisServer
from tests.waiting import eventually


def test_a_logout_ends_the_session_and_deletes_the_cookie(web_on: Web) -> None:
    browser = web_on.browser()
    browser.sign_in()
    cookie = browser.cookie() or ""
    response = browser.post("/auth/logout")
    assert response.status_code == 200
    assert set(response.json) == {"logged_out", "logout_url"}
    assert response.json["logged_out"] is True
    assert response.headers["Cache-Control"] == "no-store"
    found = attributes(set_cookies(response)["pywry_session"])
    assert (found["max-age"], found["path"], found["httponly"]) == ("0", "/", "True")
    assert browser.cookie() is None
    assert web_on.sessions.list_user_sessions("user-alice") == []
    browser.plant("pywry_session", cookie)
    assert browser.user is None, "the old cookie is no longer valid"


def test_the_last_logout_removes_and_revokes_the_tokens(web_on: Web) -> None:
    browser = web_on.browser()
    browser.sign_in()
    tokens = web_on.tokens.load("user-alice")
    assert tokens is not None
    browser.post("/auth/logout")
    assert web_on.tokens.list_keys() == []
    assert web_on.calls()["revoke"] == 2
    for token in (tokens.access_token, tokens.refresh_token):
        assert _introspect(web_on.idp, token or "") == {"active": False}


def test_tokens_remain_while_the_user_has_another_session(web_on: Web) -> None:
    one, two = web_on.browser(), web_on.browser()
    one.sign_in()
    two.sign_in()
    one.post("/auth/logout")
    assert (one.user, two.user) == (None, "user-alice")
    assert web_on.calls()["revoke"] == 0
    assert two.post("/auth/refresh").status_code == 200
    two.post("/auth/logout")
    assert web_on.calls()["revoke"] == 2
    assert web_on.tokens.list_keys() == []


def test_everywhere_ends_only_the_users_own_sessions(web_on: Web) -> None:
    browsers = [web_on.browser() for _ in range(3)]
    for browser in browsers:
        browser.sign_in()
    bob = web_on.browser()
    bob.sign_in(username="bob")
    assert browsers[0].post("/auth/logout?everywhere=1").status_code == 200
    assert [browser.user for browser in browsers] == [None] * 3
    assert bob.user == "user-bob"
    assert web_on.tokens.list_keys() == ["user-bob"]


@pytest.mark.parametrize("query", ["everywhere=0", "everywhere=", "everywhere=true", "x=1"])
def test_any_other_value_ends_only_this_session(web: Web, alice: Browser, query: str) -> None:
    other = web.browser()
    other.sign_in()
    alice.post(f"/auth/logout?{query}")
    assert other.user == "user-alice"


def test_the_logout_url_signs_out_at_the_provider_and_returns(web: Web, alice: Browser) -> None:
    """The provider redirects to the site's registered URL. [P11]"""
    address = urlsplit(alice.post("/auth/logout").json["logout_url"])
    asked = dict(parse_qsl(address.query))
    assert f"{address.scheme}://{address.netloc}{address.path}" == f"{web.idp.issuer}/end_session"
    assert asked["post_logout_redirect_uri"] == f"{web.base_url}/"
    assert asked["client_id"] == "site"
    assert asked["id_token_hint"].count(".") == 2
    response = requests.get(address.geturl(), allow_redirects=False, timeout=20)
    assert response.headers["Location"] == f"{web.base_url}/?state={asked['state']}"


@pytest.mark.parametrize("names_sessions", [True, False])
def test_the_hint_never_names_the_session_of_another_browser(web: Web, names_sessions: bool) -> None:
    """The later sign-in has replaced the stored ID token (RP-Initiated Logout §2)."""
    browsers = [web.browser(), web.browser()]
    for browser in browsers:
        browser.sign_in()
    if not names_sessions:
        stored = web.tokens.load("user-alice")
        assert stored
        header, payload, signature = (stored.id_token or "").split(".")
        claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
        assert claims.pop("sid")
        changed = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
        web.tokens.save("user-alice", replace(stored, id_token=f"{header}.{changed}.{signature}"))
    urls = [browser.post("/auth/logout").json["logout_url"] for browser in browsers]
    assert ["id_token_hint=" in url for url in urls] == [not names_sessions, True]


def test_no_answer_tells_a_bearer_client_a_token_or_claim_of_the_user(web_on: Web) -> None:
    """An API client's session may have less than the user's profile. [T61]"""
    web_on.browser().sign_in()
    stored = web_on.tokens.load("user-alice")
    assert stored is not None
    token = issue_session_token(web_on.sessions, "user-alice", ["viewer"])
    client = web_on.client(use_cookies=False)
    canaries = [stored.access_token, stored.refresh_token, stored.id_token, "alice@example.com", "Alice"]
    claims = [part for part in (stored.id_token or "").split(".") if len(part) > 20]
    for accept in ("application/json", HTML):
        headers = {"Authorization": f"Bearer {token}", "Accept": accept}
        for path in (
            "/auth/status",
            "/auth/userinfo",
            "/auth/login",
            "/auth/callback?state=x",
            "/auth/nothing",
        ):
            _holds_none(client.get(path, headers=headers), [*canaries, *claims])
        _holds_none(client.post("/auth/refresh", headers=headers), [*canaries, *claims])
    out = client.post("/auth/logout", headers=headers | {"Accept": "application/json"})
    _holds_none(out, [*canaries, *claims])
    asked = dict(parse_qsl(urlsplit(out.json["logout_url"]).query))
    assert asked == {"client_id": "site", "post_logout_redirect_uri": f"{web_on.base_url}/"}


@pytest.mark.parametrize("html", [False, True])
def test_a_cookie_beside_a_bearer_token_opens_no_id_token(web: Web, alice: Browser, html: bool) -> None:
    """The sign-out URL keeps its other parameters, in JSON and in a redirect. [T61]"""
    token = issue_session_token(web.sessions, "user-alice", ["viewer"])
    out = alice.post("/auth/logout", html=html, Authorization=f"Bearer {token}")
    url = out.location if html else out.json["logout_url"]
    asked = dict(parse_qsl(urlsplit(url or "").query))
    assert asked == {"client_id": "site", "post_logout_redirect_uri": f"{web.base_url}/"}


def test_a_bearer_token_of_another_service_changes_no_sign_out(web: Web, alice: Browser) -> None:
    """Some proxies add an own token to every request."""
    url = alice.post("/auth/logout", Authorization="Bearer of-another-service").json["logout_url"]
    assert "id_token_hint=" in url


@pytest.mark.parametrize(("length", "kept"), [(2000, True), (2001, False)])
def test_a_sign_out_url_has_at_most_2000_characters(
    web: Web, alice: Browser, length: int, kept: bool
) -> None:
    """A longer one lacks the ID token; the client and the way back stay. [T61]"""
    state = "s" * 22
    without = web.provider.end_session_url(post_logout_redirect_uri=f"{web.base_url}/", state=state)
    stored = web.tokens.load("user-alice")
    assert stored is not None
    hint = "i" * (length - len(without) - len("&id_token_hint="))
    web.tokens.save("user-alice", replace(stored, id_token=hint))
    url = alice.post("/auth/logout").json["logout_url"]
    asked = dict(parse_qsl(urlsplit(url).query))
    assert len(url) == (2000 if kept else len(without))
    assert asked.pop("id_token_hint", None) == (hint if kept else None)
    assert len(asked.pop("state")) == len(state)
    assert asked == {"client_id": "site", "post_logout_redirect_uri": f"{web.base_url}/"}


@pytest.mark.parametrize("html", [False, True])
@pytest.mark.parametrize("endpoint", [60, 1900, 3000])
def test_a_long_sign_out_endpoint_keeps_its_query_and_the_client(
    make_web: Callable[..., Web], idp: IdentityProvider, html: bool, endpoint: int
) -> None:
    """Only the ID token is left out, in JSON and in a redirect. [S8]"""
    own = "https://id.example.com/out?" + "keep=" + "k" * endpoint
    provider = GenericOIDCProvider("site", CLIENT_SECRET, issuer_url=idp.issuer, end_session_url=own)
    web = make_web(provider=provider)
    browser = web.browser()
    browser.sign_in()
    out = browser.post("/auth/logout", html=html)
    url = out.location if html else out.json["logout_url"]
    asked = dict(parse_qsl(urlsplit(url).query))
    assert ("id_token_hint" in asked) is (endpoint == 60)
    assert asked["keep"] == "k" * endpoint
    assert (asked["client_id"], asked["post_logout_redirect_uri"]) == ("site", f"{web.base_url}/")


def test_a_form_is_redirected_to_the_providers_sign_out(web: Web, alice: Browser) -> None:
    response = alice.post("/auth/logout", html=True, Origin=SITE)
    assert response.status_code == 303
    assert response.location.startswith(f"{web.idp.issuer}/end_session?")
    assert attributes(set_cookies(response)["pywry_session"])["max-age"] == "0"
    assert alice.user is None


def test_without_provider_sign_out_a_form_returns_to_the_site(make_web: Callable[..., Web]) -> None:
    """The user is not signed in again at once. [P11]"""
    web = make_web()
    at = web.idp.issuer
    plain = GenericOIDCProvider(
        "site",
        CLIENT_SECRET,
        scopes=["openid"],
        issuer=at,
        **{name: f"{at}/{path}" for name, path in _PLAIN.items()},  # type: ignore[arg-type]
    )
    web = make_web(provider=plain, settings={"after_logout_url": "/goodbye"})
    browser = web.browser()
    browser.sign_in()
    response = browser.post("/auth/logout", html=True)
    assert (response.status_code, response.location) == (303, f"{web.base_url}/goodbye")
    browser.sign_in()
    assert browser.post("/auth/logout").json == {"logged_out": True, "logout_url": None}
    assert web.tokens.list_keys() == []


_PLAIN = {
    "authorize_url": "authorize",
    "token_url": "token",
    "jwks_url": "jwks",
    "userinfo_url": "userinfo",
}


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_link_cannot_sign_a_user_out(alice: Browser, method: str) -> None:
    """Only POST ends a session. [T27]"""
    ask = alice.get if method == "GET" else alice.head
    for html in (True, False):
        response = ask("/auth/logout", html=html, Sec_Fetch_Site="cross-site")
        assert response.status_code == 405
        assert "POST" in response.headers.get("Allow", "")
        assert response.headers.get("Cache-Control") == "no-store"
        assert not set_cookies(response)
    assert alice.user == "user-alice"


def test_a_logout_without_a_session_succeeds(web: Web) -> None:
    response = web.browser().post("/auth/logout")
    assert (response.status_code, response.json) == (200, {"logged_out": True, "logout_url": None})
    response = web.browser().post("/auth/logout", html=True)
    assert (response.status_code, response.location) == (303, f"{web.base_url}/")
    assert not web.calls()


def test_a_logout_succeeds_while_the_provider_is_down(web: Web, alice: Browser, faults: Faults) -> None:
    faults.down("/revoke", "/end_session", "/token")
    response = alice.post("/auth/logout")
    assert response.status_code == 200
    assert alice.user is None
    assert web.tokens.list_keys() == []


def test_a_logout_succeeds_without_the_providers_metadata(
    web: Web, make_web: Callable[..., Web], faults: Faults
) -> None:
    """After a restart during an outage, the provider's endpoints are unknown."""
    browser = web.browser()
    browser.sign_in()
    faults.down("/.well-known/openid-configuration")
    restarted = make_web(web.backend)
    again = restarted.browser()
    again.plant("pywry_session", browser.cookie() or "")
    response = again.post("/auth/logout")
    assert (response.status_code, response.json) == (200, {"logged_out": True, "logout_url": None})
    assert again.user is None


def test_a_logout_of_an_api_client_ends_only_its_session(web: Web, alice: Browser) -> None:
    token = issue_session_token(web.sessions, "user-alice", ["viewer"])
    client = web.browser()
    bearer = f"Bearer {token}"
    assert client.get("/members", Authorization=bearer).status_code == 200
    assert client.post("/auth/logout", Authorization=bearer).status_code == 200
    assert client.get("/members", Authorization=bearer).status_code == 401
    assert alice.user == "user-alice"
    assert web.tokens.list_keys() == ["user-alice"]


def test_signing_in_as_another_user_ends_the_first_users_session(web_on: Web) -> None:
    """The first user's tokens are removed with the last session."""
    browser = web_on.browser()
    browser.sign_in()
    tokens = web_on.tokens.load("user-alice")
    assert tokens is not None
    browser.sign_in(username="bob")
    assert web_on.sessions.list_user_sessions("user-alice") == []
    assert web_on.tokens.list_keys() == ["user-bob"]
    assert _introspect(web_on.idp, tokens.refresh_token or "") == {"active": False}


def test_signing_in_again_keeps_the_new_tokens(web_on: Web) -> None:
    browser = web_on.browser()
    browser.sign_in()
    browser.sign_in()
    assert web_on.tokens.list_keys() == ["user-alice"]
    assert web_on.calls()["revoke"] == 0
    assert browser.post("/auth/refresh").status_code == 200


class _OtherWorker(GenericOIDCProvider):
    """Another worker's provider, with a refresh that the test can delay."""

    def __init__(self, idp: IdentityProvider) -> None:
        super().__init__("site", CLIENT_SECRET, issuer_url=idp.issuer)
        self.issued: list[OAuthTokenSet] = []
        self.received, self.go_on = threading.Event(), threading.Event()

    def refresh_tokens(self, refresh_token: str) -> OAuthTokenSet:
        self.issued.append(super().refresh_tokens(refresh_token))
        self.received.set()
        assert self.go_on.wait(20)
        return self.issued[-1]

    def refresh(self, web: Web) -> None:
        """Refresh alice's tokens if they exist."""
        with contextlib.suppress(TokenExpiredError):
            refresh_stored(self, web.tokens, "user-alice", lambda tokens: True)


@contextlib.contextmanager
def _refreshing(worker: _OtherWorker, web: Web, begun: bool) -> Iterator[Callable[[], None]]:
    """Yield a function that lets another worker refresh.

    If ``begun``, the refresh has begun and the function lets it end.
    """
    thread = threading.Thread(target=worker.refresh, args=(web,), daemon=True)
    if begun:
        thread.start()
        assert worker.received.wait(20)

    def act() -> None:
        worker.go_on.set()
        if not begun:
            thread.start()
        thread.join(20)

    yield act
    assert not thread.is_alive()


@pytest.mark.parametrize("begun", [False, True], ids=["a whole refresh", "the end of a refresh"])
def test_no_token_remains_after_a_logout_during_a_refresh(idp: IdentityProvider, begun: bool) -> None:
    """Another worker refreshes between any two store operations of the logout."""
    backend = WatchedBackend(MemoryBackend())
    web = Web(idp, backend)
    browser = web.browser()
    browser.sign_in()
    backend.forget()
    browser.post("/auth/logout")
    for number in range(len(backend.operations)):
        browser.sign_in()
        worker = _OtherWorker(idp)
        with _refreshing(worker, web, begun) as act:

            def between(operation: int, number: int = number, act: Callable[[], None] = act) -> bool:
                if operation == number:
                    backend.fails = lambda number: False
                    act()
                return False

            backend.forget()
            backend.fails = between
            assert browser.post("/auth/logout").json["logged_out"] is True
        assert begun <= len(worker.issued)
        assert web.tokens.list_keys() == []
        for tokens in worker.issued:
            for token in (tokens.access_token, tokens.refresh_token):
                assert _introspect(idp, token or "") == {"active": False}, backend.operations


def test_a_logout_removes_the_tokens_of_another_client_without_a_call(web_on: Web) -> None:
    """They stay from before a change of the client, and the provider does not know this client's. [S6]"""
    browser = web_on.browser()
    browser.sign_in()
    theirs = OAuthTokenSet("canary", issuer="https://other.example.com", client_id="other")
    web_on.tokens.save("user-alice", theirs)
    browser.post("/auth/logout")
    assert browser.user is None
    assert web_on.tokens.load("user-alice") is None
    assert web_on.calls()["revoke"] == 0


def _introspect(idp: IdentityProvider, token: str) -> object:
    response = requests.post(
        f"{idp.issuer}/introspect", data={"token": token}, auth=("site", CLIENT_SECRET), timeout=20
    )
    return response.json()


def test_a_logout_ends_the_sessions_of_all_genuine_cookies(web: Web) -> None:
    """An attacker who controls a neighbouring domain can add a genuine cookie of another user. [T52]"""
    alice, bob = web.browser(), web.browser()
    alice.sign_in()
    bob.sign_in(username="bob")
    both = f"pywry_session={alice.cookie()}; pywry_session={bob.cookie()}"
    bare = _bare(web, alice)
    assert bare.get("/auth/status", Cookie=both).json["user_id"] is None
    response = bare.post("/auth/logout", Cookie=both)
    assert (response.status_code, response.json["logged_out"]) == (200, True)
    assert (alice.user, bob.user) == (None, None)
    assert web.tokens.list_keys() == []
    assert web.calls()["revoke"] == 4


def test_a_sign_in_ends_the_sessions_of_all_genuine_cookies(web: Web) -> None:
    """Otherwise the other session has no browser that could end it. [T52, T67]"""
    other, browser = web.browser(), web.browser()
    other.sign_in()
    browser.sign_in(username="bob")
    callback = browser.authorize(username="bob")
    _bare(web, browser).get(callback, Cookie=f"{_cookies(browser)}; pywry_session={other.cookie()}")
    assert other.user is None
    assert len(web.sessions.list_user_sessions("user-bob")) == 1


def test_the_slower_of_two_tabs_ends_the_session_of_the_faster(web: Web) -> None:
    """The browser keeps the cookie of the later response, and does not know the other session. [T67]"""
    browser = web.browser()
    first, second = browser.authorize(), browser.authorize()
    cookies = _cookies(browser)  # both responses are on their way before the browser has a session
    for callback in (first, second):
        assert _bare(web, browser).get(callback, Cookie=cookies).status_code == 303
    (session,) = web.sessions.list_user_sessions("user-alice")
    assert session.grant is not None
    assert web.tokens.load("user-alice").grant == session.grant  # type: ignore[union-attr]


def test_a_logout_ends_a_session_whose_response_was_lost(web: Web) -> None:
    """The browser never received its cookie. [T67]"""
    browser = web.browser()
    callback = browser.authorize()
    _bare(web, browser).get(callback, Cookie=_cookies(browser))
    assert len(web.sessions.list_user_sessions("user-alice")) == 1
    assert browser.post("/auth/logout").json["logged_out"] is True
    assert web.sessions.list_user_sessions("user-alice") == []
    assert web.tokens.list_keys() == []


@pytest.mark.parametrize(
    "keys", [("A" * 43, "B" * 42 + "A"), ("A" * 43, "A" * 43)], ids=["an unknown key", "a newer version"]
)
def test_a_logout_from_a_session_that_cannot_be_read_gets_503(
    make_web: Callable[..., Web], keys: tuple[str, str]
) -> None:
    """During a rolling upgrade, another worker can still end it. [T68]"""
    inner = MemoryBackend()
    upgraded, this = (make_web(EncryptedBackend(inner, [key])) for key in keys)
    browser = upgraded.browser()
    browser.sign_in()
    session = upgraded.sessions.list_user_sessions("user-alice")[0]
    if keys[0] == keys[1]:
        record = pack({"v": 99, "user_id": "user-alice"})
        terms = Terms(ttl=60, group="session:user-alice")
        upgraded.backend.put(f"session:{session.session_id}", record, terms)
    other = this.browser()
    other.plant("pywry_session", browser.cookie() or "")
    response = other.post("/auth/logout")
    assert (response.status_code, response.json["error"]) == (503, "temporarily_unavailable")
    assert not set_cookies(response), "the cookie stays"
    if keys[0] != keys[1]:
        assert other.user is None
        assert browser.user == "user-alice"


@pytest.mark.parametrize("everywhere", ["", "?everywhere=1"])
def test_a_repeated_logout_finishes_an_interrupted_one(make_web: Callable[..., Web], everywhere: str) -> None:
    """The store fails at each operation in turn; afterwards, every token is revoked. [T66]"""
    backend = WatchedBackend(MemoryBackend())
    web = make_web(backend)
    browser = web.browser()
    browser.sign_in()
    backend.forget()
    browser.post(f"/auth/logout{everywhere}")
    for number in range(len(backend.operations)):
        browser.sign_in()
        tokens = web.tokens.load("user-alice")
        assert tokens is not None
        backend.forget()
        backend.fails = lambda operation, number=number: operation >= number  # type: ignore[misc]
        first = browser.post(f"/auth/logout{everywhere}")
        backend.fails = lambda operation: False
        if first.status_code != 200:
            assert (first.status_code, browser.user) == (503, "user-alice")
            assert browser.post(f"/auth/logout{everywhere}").status_code == 200
        assert browser.user is None
        assert _introspect(web.idp, tokens.refresh_token or "") == {"active": False}, number


def test_a_revocation_without_an_answer_is_tried_again_in_the_background(
    web: Web, alice: Browser, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A silent provider does not delay the end of the session. [S7]"""
    monkeypatch.setattr("pywry_auth.state.revocations._FIRST_PAUSE", 0.1)
    tokens = web.tokens.load("user-alice")
    assert tokens is not None
    faults.answers["/revoke"] = (503, "application/json", b"{}")
    assert alice.post("/auth/logout").json["logged_out"] is True
    assert alice.user is None
    faults.answers.clear()
    assert eventually(lambda: web.tokens.revocations.next_due() is None)
    assert _introspect(web.idp, tokens.refresh_token or "") == {"active": False}


def test_a_tossed_login_cookie_ends_no_other_session_and_opens_no_id_token(web: Web) -> None:
    """An attacker sets the cookie of an own pending login in the victim's browser. [T52, T67]"""
    attacker, victim, phone = web.browser(), web.browser(), web.browser()
    phone.sign_in()
    attacker.begin()
    for cookie in _cookies(attacker).split("; "):
        victim.plant(*cookie.split("=", 1))
    victim.sign_in()
    response = attacker.post("/auth/logout?everywhere=1")
    assert response.json == {"logged_out": True, "logout_url": None}
    assert phone.user == "user-alice"
    assert phone.post("/auth/refresh").status_code == 200
    assert web.calls()["revoke"] == 0


@pytest.mark.parametrize("everywhere", [False, True])
def test_a_session_that_this_worker_cannot_read_is_not_forgotten(
    make_web: Callable[..., Web], everywhere: bool
) -> None:
    """During an upgrade, it keeps the user's tokens, and a sign-out everywhere ends it. [T68]"""
    backend = MemoryBackend()
    web = make_web(backend)
    browser = web.browser()
    browser.sign_in()
    newer = pack({"v": 99, "user_id": "user-alice"})
    backend.put("session:newer", newer, Terms(ttl=60, group="session:user-alice"))
    browser.post("/auth/logout?everywhere=1" if everywhere else "/auth/logout")
    assert (backend.get("session:newer") is None) is everywhere
    assert web.tokens.exists("user-alice") is not everywhere
    assert web.calls()["revoke"] == (2 if everywhere else 0)


def test_tokens_last_as_long_as_the_session(make_web: Callable[..., Web], redis_server: RedisServer) -> None:
    """Otherwise Redis forgets them 300 s after the access token expired, and nothing revokes them. [S6]"""
    web = make_web(RedisBackend(redis_server.url, prefix="lasting"))
    web.tokens._refresh_token_ttl = 0.0  # the default of the store for Redis
    browser = web.browser()
    browser.sign_in()
    seconds = redis.Redis.from_url(redis_server.url).ttl("lasting:oauth:tokens:user-alice")
    assert 86000 < seconds <= 86400


def _holds_none(response: TestResponse, canaries: list[str | None]) -> None:
    """Make sure that a response shows no canary."""
    shown = f"{response.headers}\n{response.text}"
    assert response.status_code < 500
    assert [canary for canary in canaries if not canary or canary in shown] == []


def _bare(web: Web, browser: Browser) -> Browser:
    """Return a browser that sends only the cookies of each call."""
    return Browser(web.client(use_cookies=False), browser.base_url)


def _cookies(browser: Browser) -> str:
    """Return the cookies of a browser as a header."""
    names = {cookie.key for cookie in (browser.client._cookies or {}).values()}
    return "; ".join(f"{name}={browser.cookie(name)}" for name in names)


def test_sessions_that_ended_before_an_outage_are_reported(
    make_web: Callable[..., Web], caplog: pytest.LogCaptureFixture
) -> None:
    """A repeated logout reports only those that it ends itself. [S8]"""
    backend = WatchedBackend(MemoryBackend())
    web = make_web(backend)
    browsers = [web.browser(), web.browser()]
    for browser in browsers:
        browser.sign_in()
    caplog.set_level("INFO", "pywry_auth.audit")
    backend.forget()
    backend.fails = lambda number: backend.operations.count("pop session") == 2
    assert browsers[0].post("/auth/logout?everywhere=1").status_code == 503
    backend.fails = lambda number: False
    assert browsers[0].post("/auth/logout?everywhere=1").status_code == 200
    lines = [line for line in caplog.messages if line.startswith("logout ")]
    assert [line.count("sessions=1") for line in lines] == [1, 1]
