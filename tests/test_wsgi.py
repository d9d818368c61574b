"""``wsgi.py``: an application configured by the environment, for any WSGI server."""

from __future__ import annotations

import os
import runpy
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast
from uuid import uuid4

import pytest
import time_machine
from flask import Flask

from pywry_auth import get_token_store
from pywry_auth.state import get_session_store
from pywry_auth.state.sessions import issue_session_token
from pywry_auth.testing.identity_provider import Client, IdentityProvider
from tests.deploy.web import SITE, Browser, attributes, set_cookies
from tests.peers.redis_server import RedisServer
from tests.peers.web_server import CLIENT_ID, CLIENT_SECRET, ROOT, settings_for

_ROUTES = {"login", "callback", "refresh", "logout", "userinfo", "status"}


class Environment:
    """The process's environment with the settings of one site only."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        for name in [name for name in os.environ if name.startswith("PYWRY_")]:
            monkeypatch.delenv(name)

    def app(self, **changed: str | None) -> Flask:
        settings: dict[str, str | None] = {**settings_for("http://127.0.0.1:1"), **changed}
        for name, value in settings.items():
            if value is not None:
                self._monkeypatch.setenv(name, value)
        return cast(Flask, runpy.run_path(str(ROOT / "wsgi.py"))["app"])


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Environment:
    return Environment(monkeypatch)


@pytest.fixture(scope="module")
def idp() -> Iterator[IdentityProvider]:
    client = Client(CLIENT_ID, CLIENT_SECRET, (f"{SITE}/auth/callback",))
    with IdentityProvider(clients=[client], signing_algorithm="ES256") as running:
        yield running


def test_the_application_has_routes_and_pages_and_starts_without_a_provider(
    environment: Environment,
) -> None:
    app = environment.app()
    rules = {rule.rule for rule in app.url_map.iter_rules()}
    assert rules >= {f"/auth/{name}" for name in _ROUTES} | {"/", "/account", "/admin"}
    assert app.test_client().get("/").status_code == 200


def test_the_settings_select_the_stores(environment: Environment, tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite3"
    app = environment.app(
        PYWRY_DEPLOY__STATE_BACKEND="sqlite",
        PYWRY_DEPLOY__SQLITE_PATH=str(path),
        PYWRY_DEPLOY__TOKEN_SECRET="a long secret of the tests of wsgi.py",
        PYWRY_DEPLOY__LOGIN_RATE_LIMIT="1/minute",
    )
    assert not path.exists(), "the first request creates it"
    answers = [app.test_client().get("/auth/login").status_code for _ in range(2)]
    assert answers == [502, 429]
    assert path.exists()


def test_the_token_store_has_its_own_setting(
    environment: Environment, idp: IdentityProvider, tmp_path: Path
) -> None:
    tokens = get_token_store("sqlite", path=str(tmp_path / "tokens.sqlite3"))
    app = environment.app(
        PYWRY_OAUTH2__ISSUER_URL=idp.issuer,
        PYWRY_OAUTH2__TOKEN_STORE_BACKEND="sqlite",
        PYWRY_DEPLOY__SQLITE_PATH=str(tmp_path / "tokens.sqlite3"),
    )
    Browser(app.test_client(), SITE).sign_in()
    assert tokens.list_keys() == ["user-alice"]


def test_the_settings_apply_to_cookies_headers_keys_lifetimes_and_paths(
    environment: Environment,
    idp: IdentityProvider,
    redis_server: RedisServer,
) -> None:
    prefix = uuid4().hex
    app = environment.app(
        PYWRY_OAUTH2__ISSUER_URL=idp.issuer,
        PYWRY_DEPLOY__STATE_BACKEND="redis",
        PYWRY_DEPLOY__REDIS_URL=redis_server.url,
        PYWRY_DEPLOY__REDIS_PREFIX=prefix,
        PYWRY_DEPLOY__TOKEN_SECRET="a long secret of the tests of wsgi.py",
        PYWRY_DEPLOY__AUTH_SESSION_COOKIE="mine",
        PYWRY_DEPLOY__AUTH_HEADER="X-Session",
        PYWRY_DEPLOY__DEFAULT_ROLES="reader, writer",
        PYWRY_DEPLOY__ALLOWED_USERS="user-alice",
        PYWRY_DEPLOY__COOKIE_SECURE="true",
        PYWRY_DEPLOY__SESSION_TTL="5000",
        PYWRY_DEPLOY__SESSION_IDLE_TTL="100",
        PYWRY_DEPLOY__AFTER_LOGIN_URL="/account",
    )
    browser, refused = Browser(app.test_client(), SITE), Browser(app.test_client(), SITE)
    with time_machine.travel(time.time(), tick=True) as clock:
        ended = browser.sign_in()
        assert ended.location == f"{SITE}/account"
        cookie = attributes(set_cookies(ended)["mine"])
        assert (cookie["max-age"], cookie["secure"]) == ("5000", "True")
        assert browser.get("/auth/status").json["roles"] == ["reader", "writer"]
        assert refused.get(refused.authorize(username="bob")).json["error"] == "access_denied"
        (session,) = get_session_store().list_user_sessions("user-alice")
        assert redis_server.client.exists(f"{prefix}:session:{session.session_id}")
        token = issue_session_token(get_session_store(), "robot")
        status = refused.get("/auth/status", X_Session=f"Bearer {token}").json
        assert (status["user_id"], status["expires_at"] - time.time() > 4900) == ("robot", True)
        assert refused.get("/auth/status", Authorization=f"Bearer {token}").json["user_id"] is None
        clock.shift(95)
        assert browser.user == "user-alice"
        clock.shift(95)
        assert browser.user == "user-alice", "the request in between extended it"
        clock.shift(105)
        assert browser.user is None
        assert refused.get("/auth/status", X_Session=f"Bearer {token}").json["user_id"] is None


def test_other_code_gets_the_same_stores_as_the_routes(
    environment: Environment, idp: IdentityProvider
) -> None:
    app = environment.app(
        PYWRY_OAUTH2__ISSUER_URL=idp.issuer,
        PYWRY_DEPLOY__SESSION_IDLE_TTL="100",
        PYWRY_DEPLOY__SESSION_TTL=f"{uuid4().int % 10**6 + 1000}",  # selects a store that no other test uses
    )
    Browser(app.test_client(), SITE).sign_in()
    assert len(get_session_store().list_user_sessions("user-alice")) == 1
    assert "user-alice" in get_token_store("memory").list_keys()


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"PYWRY_OAUTH2__CLIENT_ID": None}, "PYWRY_OAUTH2__CLIENT_ID"),
        ({"PYWRY_DEPLOY__SESSION_TTL": "long"}, "PYWRY_DEPLOY__SESSION_TTL"),
        ({"PYWRY_DEPLOY__STATE_BACKEND": "sqlite"}, "PYWRY_DEPLOY__TOKEN_SECRET"),
    ],
)
def test_an_invalid_setting_is_named(
    environment: Environment, changed: dict[str, str | None], named: str
) -> None:
    with pytest.raises(RuntimeError, match=named):
        environment.app(**changed)
