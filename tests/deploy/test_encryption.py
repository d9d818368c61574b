"""With ENCRYPTION_KEYS, a stolen store contains no token, profile or cookie. [T13]"""

from __future__ import annotations

import base64
import os
import sqlite3
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from pywry_auth import get_token_store
from pywry_auth.backends.factory import open_backend
from pywry_auth.backends.options import StorageOptions
from pywry_auth.backends.record_form import decompressed
from pywry_auth.deploy_routes import create_auth_blueprint
from pywry_auth.exceptions import AuthenticationError
from pywry_auth.state.session_stores import MemorySessionStore
from pywry_auth.state.token_stores import MemoryTokenStore
from pywry_auth.testing.identity_provider import IdentityProvider
from tests.deploy.binding import binding_set_by
from tests.deploy.web import CLIENT_SECRET, SECRET, SITE, Browser, parameter
from tests.peers.redis_server import RedisServer

NEW, OLD = (base64.urlsafe_b64encode(os.urandom(32)).decode("ascii") for _ in range(2))


@dataclass
class Site:
    """A site configured by the environment, with an accessible store."""

    settings: dict[str, str]
    rows: Callable[[], dict[bytes, bytes]]
    write: Callable[[bytes, bytes], object]
    monkeypatch: pytest.MonkeyPatch

    def start(self, keys: str = "", read_plaintext: bool = False) -> Browser:
        """Return a browser at a newly started instance of the site."""
        chosen = {"ENCRYPTION_KEYS": keys, "ENCRYPTION_READ_PLAINTEXT": str(read_plaintext).lower()}
        own = {f"DEPLOY__{name}": value for name, value in chosen.items()}
        for name, value in {**self.settings, **own}.items():
            self.monkeypatch.setenv(f"PYWRY_{name}", value)
        get_token_store.cache_clear()
        return Browser(self._app().test_client(), SITE)

    def restart(self, browser: Browser, keys: str, read_plaintext: bool = False) -> None:
        """Start the site with other settings for a browser, which keeps its cookies."""
        browser.client.application = self.start(keys, read_plaintext).client.application

    def _app(self) -> Flask:
        app = Flask("site")
        app.register_blueprint(create_auth_blueprint())
        return app


@pytest.fixture(params=["sqlite", "redis"])
def site(
    request: pytest.FixtureRequest, idp: IdentityProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Site]:
    for name in [name for name in os.environ if name.startswith("PYWRY_")]:
        monkeypatch.delenv(name)
    settings = {
        "OAUTH2__PROVIDER": "oidc",
        "OAUTH2__CLIENT_ID": "site",
        "OAUTH2__CLIENT_SECRET": CLIENT_SECRET,
        "OAUTH2__ISSUER_URL": idp.issuer,
        "DEPLOY__AUTH_ENABLED": "true",
        "DEPLOY__TOKEN_SECRET": SECRET,
        "DEPLOY__STATE_BACKEND": request.param,
    }
    if request.param == "sqlite":
        place = tmp_path / "state.sqlite3"
        settings["DEPLOY__SQLITE_PATH"] = str(place)
        yield Site(settings, lambda: _rows(place), lambda key, value: _write(place, key, value), monkeypatch)
        open_backend(StorageOptions("sqlite", path=place)).close()
    else:
        server: RedisServer = request.getfixturevalue("redis_server")
        server.client.flushall()
        settings["DEPLOY__REDIS_URL"] = server.url
        yield Site(settings, lambda: _values(server), server.client.set, monkeypatch)
        open_backend(StorageOptions("redis", server.url)).close()
    get_token_store.cache_clear()


def _rows(place: Path) -> dict[bytes, bytes]:
    with sqlite3.connect(place) as connection:
        rows = connection.execute("SELECT key, value FROM records").fetchall()
    connection.close()
    return {bytes(key): bytes(value) for key, value in rows}


def _write(place: Path, key: bytes, value: bytes) -> None:
    with sqlite3.connect(place) as connection:
        connection.execute("UPDATE records SET value = ? WHERE key = ?", (value, key))
    connection.close()


def _values(server: RedisServer) -> dict[bytes, bytes]:
    contents = server.contents()
    return {key: contents[key][0] for key in contents if server.client.type(key) == b"string"}


def _dump(site: Site) -> bytes:
    """Return the whole content of the store, decompressed."""
    parts = [part for row in site.rows().items() for part in row]
    return b"\n".join([*parts, *map(_inflated, parts)])


def _inflated(data: bytes) -> bytes:
    try:
        return decompressed(data)
    except (ValueError, zlib.error):
        return b""


def _walk(browser: Browser, idp: IdentityProvider) -> dict[str, bytes]:
    """Sign in, refresh and begin a login; return the secrets by name."""
    browser.sign_in()
    assert browser.post("/auth/refresh").status_code == 200
    begun = browser.get("/auth/login", html=True)
    state = parameter(begun.location, "state")
    cookies = dict([("pywry_session", browser.cookie() or ""), binding_set_by(begun)])
    assert len(cookies) == 2
    profile = browser.get("/auth/userinfo").json["user_info"]
    secrets = {"state": state, "name": profile["name"], "email": profile["email"]}
    secrets |= {
        f"{name} {at}": part for name, value in cookies.items() for at, part in enumerate(value.split("."))
    }
    return {name: value.encode() for name, value in secrets.items()} | {"a JWT": b"eyJ"}


def _found(dump: bytes, secrets: dict[str, bytes]) -> set[str]:
    members = {"access_token", "refresh_token", "code_verifier", "nonce", "user_info"}
    return {name for name, value in {**secrets, **{m: m.encode() for m in members}}.items() if value in dump}


def test_the_store_contains_no_secret(site: Site, idp: IdentityProvider) -> None:
    secrets = _walk(site.start(NEW), idp)
    assert len(site.rows()) >= 4
    assert _found(_dump(site), secrets) == set()


def test_without_keys_the_same_search_finds_secrets(site: Site, idp: IdentityProvider) -> None:
    """Even then it finds no cookie and no state."""
    secrets = _walk(site.start(), idp)
    assert _found(_dump(site), secrets) == {
        *("name", "email", "a JWT", "access_token", "refresh_token"),
        *("code_verifier", "nonce", "user_info"),
    }


def test_key_rotation_keeps_users_signed_in(site: Site) -> None:
    before = site.start(OLD)
    before.sign_in()
    cookie = before.cookie() or ""
    for keys, user in ((f"{NEW},{OLD}", "user-alice"), (OLD, "user-alice"), (NEW, None)):
        browser = site.start(keys)
        browser.plant("pywry_session", cookie)
        assert browser.user == user
    browser = site.start(f"{NEW},{OLD}")
    browser.sign_in()
    cookie = browser.cookie() or ""
    browser = site.start(NEW)
    browser.plant("pywry_session", cookie)
    assert browser.user == "user-alice"


def test_a_modified_or_swapped_session_is_not_valid(site: Site) -> None:
    """The visitor is asked to sign in, without an error page."""
    alice, bob = site.start(NEW), site.start(NEW)
    alice.sign_in()
    bob.sign_in(username="bob")
    sessions = {key: value for key, value in site.rows().items() if b"session:" in key}
    assert len(sessions) == 2
    for key, value in zip(sessions, reversed(sessions.values()), strict=True):
        site.write(key, value)
    assert (alice.user, bob.user) == (None, None)
    for key, value in sessions.items():
        site.write(key, value[:-1] + bytes([value[-1] ^ 1]))
    assert (alice.user, bob.user) == (None, None)
    for key, value in sessions.items():
        site.write(key, value)
    assert (alice.user, bob.user) == ("user-alice", "user-bob")


def test_a_session_written_without_the_keys_is_not_valid(site: Site) -> None:
    """Write access to the store does not make an administrator."""
    forged = site.start()
    forged.sign_in()
    cookie = forged.cookie() or ""
    browser = site.start(NEW)
    browser.plant("pywry_session", cookie)
    assert browser.user is None
    browser.sign_in()
    assert browser.user == "user-alice"


def test_encryption_is_switched_on_without_signing_users_out(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    """Each step as documented, with a session, its tokens and a pending login. [S3]"""
    browser = site.start()
    browser.sign_in()
    callback = browser.authorize()
    assert not caplog.records
    site.restart(browser, NEW, read_plaintext=True)
    assert "PYWRY_DEPLOY__ENCRYPTION_READ_PLAINTEXT is on" in caplog.text
    caplog.clear()
    assert browser.user == "user-alice"
    assert browser.post("/auth/refresh").status_code == 200
    site.restart(browser, NEW)
    assert browser.user == "user-alice"
    assert browser.post("/auth/refresh").status_code == 200
    site.restart(browser, NEW, read_plaintext=True)
    assert browser.get(callback, html=True).status_code == 303
    site.restart(browser, NEW)
    assert browser.user == "user-alice"
    assert browser.post("/auth/logout").json["logged_out"] is True
    assert "missing" not in caplog.text


def test_a_worker_without_the_keys_answers_503_and_keeps_the_cookie(site: Site) -> None:
    """During the switch, workers of before still run. They sign no user out. [T68]"""
    new = site.start(NEW)
    new.sign_in()
    stored = site.rows()
    old = site.start()
    old.plant("pywry_session", new.cookie() or "")
    for answer in (
        old.get("/auth/status"),
        old.get("/auth/userinfo"),
        old.post("/auth/refresh"),
        old.post("/auth/logout"),
    ):
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
        assert "Set-Cookie" not in answer.headers
    assert site.rows() == stored
    login = site.start()
    response = login.get(login.authorize(), html=True)
    assert response.status_code == 503, "the tokens of the user are not replaced"
    kept = {key: value for key, value in site.rows().items() if b"oauth:tokens" in key or b"session:" in key}
    assert kept.items() <= stored.items()
    again = site.start(NEW)
    again.plant("pywry_session", new.cookie() or "")
    assert again.user == "user-alice"


@pytest.mark.parametrize(
    ("in_code", "warns"),
    [
        ((), True),
        (("session_store",), True),
        (("token_store",), True),
        (("session_store", "token_store"), False),
    ],
)
def test_a_site_with_a_store_of_the_settings_is_warned_that_clear_records_are_accepted(
    site: Site, caplog: pytest.LogCaptureFixture, in_code: tuple[str, ...], warns: bool
) -> None:
    """Also if the other store is passed in code. [S3]"""
    site.start(NEW, read_plaintext=True)
    caplog.clear()
    stores: dict[str, Any] = {"session_store": MemorySessionStore(), "token_store": MemoryTokenStore()}
    create_auth_blueprint(**{name: stores[name] for name in in_code})
    assert ("PYWRY_DEPLOY__ENCRYPTION_READ_PLAINTEXT is on" in caplog.text) is warns


def test_reading_clear_records_without_keys_is_refused(site: Site) -> None:
    with pytest.raises(
        AuthenticationError, match=r"ENCRYPTION_READ_PLAINTEXT: it needs .*ENCRYPTION_KEYS.*"
    ) as caught:
        site.start("", read_plaintext=True)
    assert str(caught.value).endswith("set the keys, or remove this variable"), "without an example"


def test_settings_of_stores_that_have_no_effect_are_named_at_the_start(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    """Records in memory cannot be forged from outside, and only Redis has replicas. [S10]"""
    site.settings |= {"DEPLOY__REDIS_WAIT_REPLICAS": "1"}
    site.start(NEW)
    in_vain = "PYWRY_DEPLOY__REDIS_WAIT_REPLICAS has no effect"
    assert (in_vain in caplog.text) is (site.settings["DEPLOY__STATE_BACKEND"] == "sqlite")
    caplog.clear()
    site.settings |= {"DEPLOY__STATE_BACKEND": "memory"}
    site.start(NEW, read_plaintext=True)
    assert in_vain in caplog.text
    assert "READ_PLAINTEXT" not in caplog.text


MALFORMED = {"short": "canary", "second": f"{NEW},canary", "long": NEW + "canary", "cut": NEW[:42]}


@pytest.mark.parametrize("fault", MALFORMED)
def test_malformed_keys_are_named_by_variable_and_not_quoted(site: Site, fault: str) -> None:
    with pytest.raises(
        AuthenticationError, match=r"PYWRY_DEPLOY__ENCRYPTION_KEYS.*base64url.*python3"
    ) as caught:
        site.start(MALFORMED[fault])
    assert "canary" not in str(caught.value)
    assert NEW[:42] not in str(caught.value)
