"""Forged, duplicate, nameless, planted and stolen cookies."""

from __future__ import annotations

import base64
import hashlib
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from pywry_auth.backends.base import Backend
from pywry_auth.backends.memory import MemoryBackend
from pywry_auth.backends.sqlite import SQLiteBackend
from pywry_auth.deploy.cookies import TokenSigner
from pywry_auth.digests import digest_of
from pywry_auth.state.auth import AuthConfig
from pywry_auth.state.sessions import issue_session_token
from tests.deploy.binding import BINDING, binding_of, binding_set_by
from tests.deploy.web import (
    SECRET,
    Browser,
    WatchedBackend,
    Web,
    attributes,
    parameter,
    set_cookies,
)
from tests.peers.redis_server import RedisServer
from tests.person import Person

_KNOWN = ["local", "admin", "unknown", "user-alice", "anonymous", "0", "1", "null", "None", "session", "*"]
_ODD = [
    "",
    " ",
    "x" * 4096,
    "a.b",
    ".",
    "..",
    "a" * 43 + "." + "b" * 43,
    "%00",
    "a;b",
    '"quoted"',
    "é",
    "\u2028",
]


@pytest.mark.parametrize("value", [*_KNOWN, *_ODD])
def test_a_guessable_or_malformed_token_identifies_no_user(web: Web, value: str) -> None:
    """As a cookie and as a bearer token. [T11]"""
    header = {"Cookie": f"pywry_session={value}".encode().decode("latin-1")}
    assert _user(web, header) is None
    bearer = {"Authorization": f"Bearer {value}".encode().decode("latin-1")}
    assert _user(web, bearer) is None


def test_a_forged_cookie_causes_no_look_up(make_web: Callable[..., Web]) -> None:
    backend = WatchedBackend(MemoryBackend())
    web = make_web(backend)
    other = TokenSigner(["the site's own long secret for tests "], "session").new()
    unsigned, wrong_purpose = other.partition(".")[0], TokenSigner([SECRET], "login").new()
    for value in [*_KNOWN, *_ODD, other, unsigned, wrong_purpose]:
        cookie = f"pywry_session={value}".encode().decode("latin-1")
        assert _user(web, {"Cookie": cookie}) is None
    assert backend.operations == []


def test_a_cookie_with_one_changed_character_is_invalid(web: Web, alice: Browser) -> None:
    value = alice.cookie() or ""
    # The last character of each part has unused bits in base64url, so it is not changed.
    for place in [0, 5, value.index(".") - 2, value.index("."), value.index(".") + 1, len(value) - 2]:
        changed = value[:place] + ("A" if value[place] != "A" else "B") + value[place + 1 :]
        assert _user(web, {"Cookie": f"pywry_session={changed}"}) is None
    assert _user(web, {"Cookie": f"pywry_session={value}"}) == "user-alice"


def test_among_cookies_of_one_name_only_the_genuine_one_counts(web: Web, alice: Browser) -> None:
    """A neighbouring domain adds one before or after; the order does not matter. [T12]"""
    ours = f"pywry_session={alice.cookie()}"
    for tossed in ("pywry_session=x", "pywry_session=", f"pywry_session={'y' * 150}", "pywry_session"):
        assert _user(web, {"Cookie": f"{tossed}; {ours}"}) == "user-alice"
        assert _user(web, {"Cookie": f"{ours}; {tossed}"}) == "user-alice"
    assert _user(web, {"Cookie": f"{ours}; {ours}"}) == "user-alice"


def test_of_two_genuine_cookies_neither_is_trusted(web: Web, alice: Browser) -> None:
    """An attacker plants the cookie of the attacker's own session. [T12]"""
    bob = web.browser()
    bob.sign_in(username="bob")
    pair = [f"pywry_session={browser.cookie()}" for browser in (alice, bob)]
    assert _user(web, {"Cookie": "; ".join(pair)}) is None
    assert _user(web, {"Cookie": "; ".join(reversed(pair))}) is None


@pytest.mark.parametrize(
    "before", ["\xa0", "\x85", "\x1f", "\x0b", "\u2003".encode().decode("latin-1"), '"', "="]
)
def test_a_name_with_other_characters_is_another_name(web: Web, alice: Browser, before: str) -> None:
    """Browsers do not know ``\\xa0__Host-name`` as a name that begins with ``__Host-``. [T49]"""
    value = alice.cookie()
    assert _user(web, {"Cookie": f"{before}pywry_session={value}"}) is None
    assert _user(web, {"Cookie": f"pywry_session{before}={value}"}) is None
    for other in (f"{before}pywry_session=x", f'a="; b={before}', f"{before}"):
        assert _user(web, {"Cookie": f"{other}; pywry_session={value}"}) == "user-alice"


@pytest.mark.parametrize("form", ["={0}={1}", " ={0}={1}", "={0}", "; ={0}={1};", "x={0}={1}", "{0}%3D{1}"])
def test_a_nameless_cookie_is_ignored(make_web: Callable[..., Web], form: str) -> None:
    """CVE-2023-23934: ``=__Host-name=value`` is not a cookie of that name. [T12]"""
    web = make_web(
        config=AuthConfig(enabled=True, token_secret=SECRET, session_cookie="__Host-app"),
        settings={"public_base_url": "https://app.example.com"},
        base_url="https://app.example.com",
    )
    browser = web.browser()
    browser.sign_in()
    value = browser.cookie("__Host-app") or ""
    assert _user(web, {"Cookie": f"__Host-app={value}"}) == "user-alice"
    assert _user(web, {"Cookie": form.format("__Host-app", value)}) is None


@pytest.mark.parametrize("name", ["__Host-app", "__Secure-app"])
def test_cookie_name_prefixes_are_respected(make_web: Callable[..., Web], name: str) -> None:
    """Always Secure, without Domain, path /; the binding cookie too (RFC 6265bis §4.1.3). [T12]"""
    web = make_web(
        config=AuthConfig(enabled=True, token_secret=SECRET, session_cookie=name),
        settings={"public_base_url": "https://app.example.com", "cookie_secure": "false"},
        base_url="https://app.example.com",
    )
    browser = web.browser()
    begun = browser.get("/auth/login")
    done = browser.sign_in()
    out = browser.post("/auth/logout")
    for response, cookie in ((begun, "__Host-app_login_"), (done, name), (out, name)):
        headers = set_cookies(response)
        assert any(each.startswith(cookie) for each in headers)
        for header in headers.values():
            found = attributes(header)
            assert (found["secure"], found["path"], found["httponly"]) == ("True", "/", "True")
            assert "domain" not in found


@pytest.mark.parametrize(
    ("setting", "base_url", "secure"),
    [
        ("auto", "http://127.0.0.1", False),
        ("auto", "http://app.localhost:8000", False),
        ("auto", "https://app.example.com", True),
        ("true", "http://127.0.0.1", True),
        ("false", "https://app.example.com", False),
    ],
)
def test_cookies_are_for_https_only_except_on_a_loopback_host(
    make_web: Callable[..., Web], setting: str, base_url: str, secure: bool
) -> None:
    public = base_url if base_url.startswith("https") else ""
    settings = {"cookie_secure": setting, "public_base_url": public}
    browser = make_web(settings=settings, base_url=base_url).browser()
    begun, done, out = (
        list(set_cookies(answer).items())
        for answer in (browser.get("/auth/login"), browser.sign_in(), browser.post("/auth/logout"))
    )
    assert (len(begun), len(done), len(out)) == (1, 1, 2)
    for name, header in (*begun, *done, *out):
        # A browser accepts the names of the cookies for a login and a sign-out on https only with Secure.
        bound = secure or name.startswith("__Host-")
        assert attributes(header).get("secure") == ("True" if bound else None)


@pytest.mark.parametrize("name", ["pywry_session", "__Host-app", "__Secure-app"])
@pytest.mark.parametrize("path", ["", "/shop"])
def test_on_https_no_other_host_can_set_the_binding_cookie(
    make_web: Callable[..., Web], name: str, path: str
) -> None:
    """Its name requires Secure, the path / and no Domain, whatever the session cookie is called. [T49]"""
    web = _at_https(make_web, public_base_url=HTTPS + path, auth_session_cookie=name)
    ((found, header),) = set_cookies(web.browser().get("/auth/login")).items()
    assert found.startswith(f"__Host-{name.partition('-')[2] or name}_login_")
    set_to = attributes(header)
    assert (set_to["secure"], set_to["path"], set_to["httponly"]) == ("True", "/", "True")
    assert "domain" not in set_to


def test_a_cookie_tossed_by_another_host_binds_no_login_on_https(make_web: Callable[..., Web]) -> None:
    """Nor does it let the attacker's callback end the victim's session. [T49]"""
    web = _at_https(make_web)
    attacker, victim = web.browser(), web.browser()
    callback = attacker.authorize(username="bob")
    name, value = binding_set_by(attacker.get("/auth/login"))
    assert name.startswith("__Host-"), "another host cannot set this name"
    for tossed in (name.removeprefix("__Host-"), name.replace("__Host-", "__Secure-"), name.lower()):
        victim.plant(tossed, value)
    victim.sign_in()
    refused = victim.get(callback)
    assert (refused.status_code, refused.json["error"]) == (400, "other_browser")
    assert victim.user == "user-alice"
    attacker.sign_in(username="bob")
    assert victim.user == "user-alice", "the two browsers share no binding"
    fresh = web.browser()
    fresh.plant(name.removeprefix("__Host-"), value)
    assert fresh.get(attacker.authorize(username="bob")).json["error"] == "cookie_missing"
    assert fresh.post("/auth/logout").json["logged_out"] is True
    assert attacker.user == "user-bob"


def test_a_login_begun_under_the_plain_name_starts_again_on_https(make_web: Callable[..., Web]) -> None:
    """After an upgrade, it fails with a page that offers a new attempt. [T49]"""
    web = _at_https(make_web)
    begun = web.browser().get("/auth/login")
    name, value = binding_set_by(begun)
    older = web.browser()
    older.plant(name.removeprefix("__Host-"), value)
    callback = Person().authorize(begun.location or "")
    page = older.get(callback, html=True)
    assert page.status_code == 400
    assert "Try again" in page.text
    assert not set_cookies(page)


def test_a_login_replaces_a_planted_session(web_on: Web) -> None:
    """The attacker's own valid session, planted before the victim signs in, ends. [T9]"""
    attacker = web_on.browser()
    attacker.sign_in(username="bob")
    planted = attacker.cookie() or ""
    victim = web_on.browser()
    victim.plant("pywry_session", planted)
    assert victim.user == "user-bob", "before the login, the victim uses the attacker's session"
    victim.sign_in()
    assert victim.cookie() != planted
    assert victim.user == "user-alice"
    assert attacker.user is None
    assert len(web_on.sessions.list_user_sessions("user-alice")) == 1


@pytest.mark.parametrize("planted", ["attacker-chose-this", "a" * 43 + "." + "b" * 43, ""])
def test_a_planted_value_never_becomes_a_session(web: Web, planted: str) -> None:
    """A login always creates a new session token. [T9]"""
    victim = web.browser()
    victim.plant("pywry_session", planted)
    victim.sign_in()
    assert victim.cookie() != planted
    assert _user(web, {"Cookie": f"pywry_session={planted}"}) is None


def test_a_bearer_token_during_login_does_not_become_the_session(web: Web) -> None:
    """The header changes nothing, and the API client's session remains. [T9]"""
    token = issue_session_token(web.sessions, "robot", ["viewer"])
    browser = web.browser()
    callback = browser.authorize()
    browser.get(callback, Authorization=f"Bearer {token}")
    assert browser.user == "user-alice"
    assert _user(web, {"Authorization": f"Bearer {token}"}) == "robot"


def test_each_kind_of_token_is_valid_only_for_its_purpose(web: Web, alice: Browser) -> None:
    """State, binding cookie, session ID, provider's tokens, bearer token and cookie. [T10]"""
    begun = alice.get("/auth/login", html=True)
    state, binding = parameter(begun.location, "state"), binding_set_by(begun)[1]
    tokens = web.tokens.load("user-alice")
    assert tokens is not None
    (session,) = web.sessions.list_user_sessions("user-alice")
    bearer = issue_session_token(web.sessions, "robot", ["admin"])
    cookie = alice.cookie() or ""
    strangers = [
        state,
        binding,
        binding.partition(".")[0],
        session.session_id,
        tokens.id_token,
        tokens.access_token,
        tokens.refresh_token,
        f"pywry_{session.session_id}",
        f"pywry_{state}",
    ]
    for value in [*strangers, bearer, hashlib.sha256(bearer.encode()).hexdigest()]:
        assert _user(web, {"Cookie": f"pywry_session={value}"}) is None
    for value in [*strangers, cookie, cookie.partition(".")[0], f"pywry_{cookie}", f"pywry_{cookie[:43]}"]:
        assert _user(web, {"Authorization": f"Bearer {value}"}) is None
    for scheme in ("Basic", "Token", "", "Bearer Bearer", "DPoP"):
        assert _user(web, {"Authorization": f"{scheme} {bearer}"}) is None
    # A session cookie is not valid as a binding cookie.
    response = web.client(use_cookies=False).get(
        "/auth/callback?code=x&state=" + state,
        headers={"Cookie": f"{BINDING}={cookie}", "Accept": "application/json"},
    )
    assert response.json["error"] == "cookie_unknown"


def test_another_services_bearer_token_does_not_hide_the_cookie(web: Web, alice: Browser) -> None:
    cookie = {"Cookie": f"pywry_session={alice.cookie()}"}
    assert _user(web, cookie | {"Authorization": "Basic dXNlcjpwYXNz"}) == "user-alice"
    assert _user(web, cookie | {"Authorization": "Bearer of-another-service"}) == "user-alice"
    ended = issue_session_token(web.sessions, "robot", ttl=60)
    web.sessions.delete_user_sessions("robot")
    assert _user(web, cookie | {"Authorization": f"Bearer {ended}"}) is None, (
        "an ended bearer session takes precedence over the cookie"
    )


def test_many_foreign_cookies_do_not_hide_the_session_cookie(web: Web, alice: Browser) -> None:
    """The browser sends 10 KB of cookies. [T12, T41]"""
    others = "; ".join(f"c{number}={'x' * 20}" for number in range(400))
    assert _user(web, {"Cookie": f"{others}; pywry_session={alice.cookie()}; {others}"}) == "user-alice"
    many = "; ".join(["pywry_session=forged"] * 400)
    assert _user(web, {"Cookie": f"{many}; pywry_session={alice.cookie()}"}) == "user-alice"


def test_an_sqlite_file_contains_no_cookie(
    make_web: Callable[..., Web], sqlite_backend: SQLiteBackend, tmp_path: Path
) -> None:
    """A stolen dump is not enough to sign in. [T13]"""
    secrets = _walk(make_web(sqlite_backend))
    sqlite_backend.close()
    files = [file.read_bytes() for file in tmp_path.iterdir()]
    with sqlite3.connect(tmp_path / "state.sqlite3") as connection:
        rows = connection.execute("SELECT key, value FROM records").fetchall()
    connection.close()
    assert rows
    _hold(b"\n".join([*files, *(bytes(part) for row in rows for part in row)]), secrets)


def test_redis_contains_no_cookie(
    make_web: Callable[..., Web], redis_backend: Backend, redis_server: RedisServer
) -> None:
    """A stolen dump is not enough to sign in. [T13]"""
    secrets = _walk(make_web(redis_backend))
    parts = [part for key, parts in redis_server.contents().items() for part in (key, *parts)]
    assert len(parts) > 5
    _hold(b"\n".join(parts), secrets)


def test_secret_rotation_keeps_users_signed_in(make_web: Callable[..., Web]) -> None:
    web = make_web()
    old = web.browser()
    old.sign_in()
    both = make_web(web.backend, config=AuthConfig(enabled=True, token_secret=f"a newer secret, {SECRET}"))
    assert _user(both, {"Cookie": f"pywry_session={old.cookie()}"}) == "user-alice"
    new = both.browser()
    new.sign_in()
    only = make_web(web.backend, config=AuthConfig(enabled=True, token_secret="a newer secret"))
    assert _user(only, {"Cookie": f"pywry_session={new.cookie()}"}) == "user-alice"
    assert _user(only, {"Cookie": f"pywry_session={old.cookie()}"}) is None
    assert _user(web, {"Cookie": f"pywry_session={new.cookie()}"}) is None


def test_a_signer_accepts_only_its_own_values() -> None:
    signer = TokenSigner(["one", "two"], "session")
    value = signer.new()
    assert signer.digest(value) == digest_of(value.partition(".")[0])
    assert TokenSigner(["two", "one"], "session").digest(value) == signer.digest(value)
    assert TokenSigner(["two"], "session").digest(value) is None
    assert TokenSigner(["one", "two"], "login").digest(value) is None
    for odd in (f"{value}\ud800", f"é.{value}", f"{value}{'A' * 200}", "\0", ""):
        assert signer.digest(odd) is None
    assert len({signer.new() for _ in range(1000)}) == 1000
    assert len(base64.urlsafe_b64decode(value.partition(".")[0] + "=")) == 32


HTTPS = "https://app.example.com"


def _at_https(make_web: Callable[..., Web], **settings: str) -> Web:
    """Return an application that browsers reach over https."""
    config = AuthConfig(enabled=True, token_secret=SECRET)
    return make_web(settings={"public_base_url": HTTPS, **settings}, config=config, base_url=HTTPS)


def _user(web: Web, headers: dict[str, str]) -> str | None:
    client = web.client(use_cookies=False)
    response = client.get("/auth/status", headers=headers)
    assert response.status_code == 200
    user: str | None = response.json["user_id"]
    guarded = client.get("/members", headers=headers)
    assert guarded.status_code == (200 if user else 401)
    return user


def _walk(web: Web) -> list[str]:
    """Sign in and begin another login; return all the browsers' secrets."""
    browser = web.browser()
    state = parameter(browser.authorize(), "state")
    pending = web.browser()
    waiting = parameter(pending.begin(), "state")
    browser.sign_in()
    bearer = issue_session_token(web.sessions, "robot", ["viewer"])
    cookies = [browser.cookie() or "", binding_of(browser), binding_of(pending)]
    parts = [part for cookie in cookies for part in [cookie, *cookie.split(".")]]
    return [*parts, bearer, bearer.removeprefix("pywry_"), state, waiting, SECRET]


def _hold(dump: bytes, secrets: list[str]) -> None:
    assert b"session" in dump
    for secret in secrets:
        assert len(secret) > 20
        assert secret.encode() not in dump
        assert base64.b64encode(secret.encode()) not in dump
        if len(secret) == 43:  # nor the bytes that the text stands for
            assert base64.urlsafe_b64decode(secret + "=") not in dump
