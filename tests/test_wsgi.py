"""``wsgi.py``: the application of the environment's settings, for any WSGI server."""

from __future__ import annotations

import os
import runpy
from pathlib import Path
from typing import cast

import pytest
from flask import Flask

from pywry_auth import get_token_store
from pywry_auth.cli.identity_provider import Client, IdentityProvider
from tests.deploy.web import SITE, Browser
from tests.peers.web_server import CLIENT_ID, CLIENT_SECRET, ROOT, settings_for

_ROUTES = {"login", "callback", "refresh", "logout", "userinfo", "status"}


class Environment:
    """The process's environment with the settings of a site, and of one alone."""

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


def test_it_has_the_six_routes_and_pages_of_its_own_and_needs_no_provider_to_start(
    environment: Environment,
) -> None:
    app = environment.app()
    rules = {rule.rule for rule in app.url_map.iter_rules()}
    assert rules >= {f"/auth/{name}" for name in _ROUTES} | {"/", "/account", "/admin"}
    assert app.test_client().get("/").status_code == 200


def test_the_stores_are_those_of_the_settings(environment: Environment, tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite3"
    app = environment.app(
        PYWRY_DEPLOY__STATE_BACKEND="sqlite",
        PYWRY_DEPLOY__SQLITE_PATH=str(path),
        PYWRY_DEPLOY__TOKEN_SECRET="a long secret of the tests",
        PYWRY_DEPLOY__LOGIN_RATE_LIMIT="1/minute",
    )
    assert not path.exists(), "before anybody asked"
    answers = [app.test_client().get("/auth/login").status_code for _ in range(2)]
    assert answers == [502, 429]
    assert path.exists()


def test_tokens_are_where_their_own_setting_says(environment: Environment, tmp_path: Path) -> None:
    client = Client(CLIENT_ID, CLIENT_SECRET, (f"{SITE}/auth/callback",))
    tokens = get_token_store("sqlite", path=str(tmp_path / "tokens.sqlite3"))
    with IdentityProvider(clients=[client], signing_algorithm="ES256") as idp:
        app = environment.app(
            PYWRY_OAUTH2__ISSUER_URL=idp.issuer,
            PYWRY_OAUTH2__TOKEN_STORE_BACKEND="sqlite",
            PYWRY_DEPLOY__SQLITE_PATH=str(tmp_path / "tokens.sqlite3"),
        )
        Browser(app.test_client(), SITE).sign_in()
    assert tokens.list_keys() == ["user-alice"]


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"PYWRY_OAUTH2__CLIENT_ID": None}, "PYWRY_OAUTH2__CLIENT_ID"),
        ({"PYWRY_DEPLOY__SESSION_TTL": "long"}, "PYWRY_DEPLOY__SESSION_TTL"),
        ({"PYWRY_DEPLOY__STATE_BACKEND": "sqlite"}, "PYWRY_DEPLOY__TOKEN_SECRET"),
    ],
)
def test_what_cannot_work_is_named(
    environment: Environment, changed: dict[str, str | None], named: str
) -> None:
    with pytest.raises(RuntimeError, match=named):
        environment.app(**changed)
