"""``login_as`` and ``logout``: a test client with a real session and cookie."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from flask import Flask
from werkzeug.test import Client as WSGIClient

from pywry_auth.deploy_routes import create_auth_blueprint
from pywry_auth.exceptions import AuthenticationError
from pywry_auth.models import OAuthTokenSet
from pywry_auth.state import MemorySessionStore, SQLiteSessionStore, issue_session_token
from pywry_auth.testing import LocalProvider, login_as, logout
from pywry_auth.testing.clients import browser_of
from tests.testing.sites import SITE, ASGIClient, fastapi_site, flask_site, parts_of


def _client(kind: str, provider: LocalProvider, base_url: str = "http://localhost", **settings: Any) -> Any:
    if kind == "flask":
        return flask_site(provider, **settings).test_client()
    return ASGIClient(fastapi_site(provider, **settings), base_url)


@pytest.fixture(params=["flask", "fastapi"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_client_has_roles_profile_and_tokens(kind: str, local_provider: LocalProvider) -> None:
    client = _client(kind, local_provider)
    assert client.get("/me").status_code == 401
    calls = local_provider.calls
    profile = {"email": "alice@example.com"}
    session = login_as(client, "alice", roles=["editor"], user_info=profile, tokens="an access token")
    assert (session.user_id, session.roles) == ("alice", ["editor"])
    shown = {"user": "alice", "roles": ["editor"], "sub": "alice", "email": "alice@example.com"}
    assert client.get("/me").json == shown
    assert "an access token" in client.get("/token").text
    assert client.get("/auth/status").json["user_id"] == "alice"
    assert local_provider.calls == calls


def test_the_rules_for_cookies_apply(kind: str, local_provider: LocalProvider) -> None:
    """A bearer token would exempt the client from the check of the origin."""
    client = _client(kind, local_provider)
    login_as(client, "alice")
    post = client.post if kind == "flask" else lambda url, headers: client.open("POST", url, headers)
    assert post("/me", headers={"Origin": "https://evil.example"}).status_code == 403
    assert post("/me", headers={"Origin": "http://localhost"}).status_code == 200


def test_a_second_sign_in_replaces_the_first(kind: str, local_provider: LocalProvider) -> None:
    client = _client(kind, local_provider)
    first = login_as(client, "alice", tokens="of alice")
    store = browser_of(client).routes.sessions.store
    login_as(client, "bob")
    assert client.get("/me").json == {"user": "bob", "roles": ["viewer"], "sub": "bob"}
    assert client.get("/token").status_code == 401
    assert store.get_session(first.session_id) is None
    login_as(client, "alice")
    assert client.get("/token").status_code == 401  # the tokens of the earlier session have gone with it


def test_a_client_is_signed_out(kind: str, local_provider: LocalProvider) -> None:
    client = _client(kind, local_provider)
    logout(client)
    login_as(client, "alice", tokens="a token")
    other = (
        client.application.test_client() if kind == "flask" else ASGIClient(client.app, "http://localhost")
    )
    login_as(other, "alice", tokens="a token")
    logout(client)
    assert client.get("/me").status_code == 401
    assert "a token" in other.get("/token").text


def test_the_application_itself_signs_the_client_out(kind: str, local_provider: LocalProvider) -> None:
    client = _client(kind, local_provider)
    login_as(client, "alice", tokens=OAuthTokenSet("a token", refresh_token=None))
    post = client.post
    assert post("/auth/logout").json["logged_out"] is True
    assert client.get("/me").status_code == 401
    login_as(client, "alice")
    assert client.get("/me").status_code == 200


@pytest.mark.parametrize("cookie", ["pywry_session", "__Host-pywry_session"])
def test_a_site_on_https_is_tested_at_both_of_its_names(cookie: str, local_provider: LocalProvider) -> None:
    settings: dict[str, Any] = {"public_base_url": SITE, "auth_session_cookie": cookie}
    client = flask_site(local_provider, **settings).test_client()
    login_as(client, "alice")
    assert client.get("/me").status_code == 200
    assert client.get("/me", base_url=SITE).status_code == 200
    of_fastapi = ASGIClient(fastapi_site(local_provider, **settings), SITE)
    login_as(of_fastapi, "alice")
    assert of_fastapi.get("/me").status_code == 200


@pytest.mark.parametrize(
    "settings",
    [{"public_base_url": SITE}, {"cookie_secure": "true"}, {"auth_session_cookie": "__Host-session"}],
)
def test_a_cookie_that_the_client_would_not_send_is_an_error(
    settings: dict[str, Any], local_provider: LocalProvider
) -> None:
    client = ASGIClient(fastapi_site(local_provider, **settings))
    right = settings.get("public_base_url", "https://testserver")
    with pytest.raises(AuthenticationError, match=f'use TestClient\\(app, base_url="{right}"\\)'):
        login_as(client, "alice")
    client = ASGIClient(fastapi_site(local_provider, **settings), right)
    login_as(client, "alice")
    assert client.get("/me").status_code == 200


def test_any_prefix_and_host_works(local_provider: LocalProvider) -> None:
    app = flask_site(local_provider, {"url_prefix": "/oauth", "name": "oauth"})
    app.config["SERVER_NAME"] = "shop.localhost:5000"
    client = app.test_client()
    login_as(client, "alice")
    assert client.get("/me").status_code == 200
    login_as(client, "alice", base_url="http://127.0.0.1:5000")
    assert client.get("/me", base_url="http://127.0.0.1:5000").status_code == 200


def test_the_session_is_in_the_store_of_the_application(
    local_provider: LocalProvider, tmp_path: Path
) -> None:
    parts = parts_of(local_provider)
    parts["session_store"] = SQLiteSessionStore(tmp_path / "sessions.sqlite3")
    app = Flask("site")
    app.register_blueprint(create_auth_blueprint(**parts))
    session = login_as(app.test_client(), "alice")
    assert SQLiteSessionStore(tmp_path / "sessions.sqlite3").get_session(session.session_id) == session


def test_an_application_that_is_not_set_up_is_an_error(local_provider: LocalProvider) -> None:
    with pytest.raises(AuthenticationError, match=r"call pywry_auth\.flask\.init_app"):
        login_as(Flask("site").test_client(), "alice")
    with pytest.raises(AuthenticationError, match=r"call app\.add_middleware"):
        login_as(ASGIClient(FastAPI()), "alice")
    with pytest.raises(AuthenticationError, match="PYWRY_DEPLOY__AUTH_ENABLED=true"):
        login_as(flask_site(local_provider, auth_enabled=False).test_client(), "alice")
    for wrong in (WSGIClient(Flask("site").wsgi_app), None, "client"):
        with pytest.raises(TypeError, match=r"pass app\.test_client"):
            login_as(wrong, "alice")


def test_wrong_arguments_are_errors(local_provider: LocalProvider) -> None:
    client = flask_site(local_provider).test_client()
    with pytest.raises(ValueError, match="user_id is empty"):
        login_as(client, "")
    session = login_as(client, "alice")
    for roles in ("editor", [1], [None], 5):
        with pytest.raises(TypeError, match=r'roles=\["editor"\]'):
            login_as(client, "alice", roles=roles)  # type: ignore[arg-type]
    for user_id in (7, None, b"alice"):
        with pytest.raises(TypeError, match=r"str\(user\.id\)"):
            login_as(client, user_id)  # type: ignore[arg-type]
    wrong: list[tuple[str, Any]] = [
        ("user_info", "x"),
        ("user_info", {"name": {1}}),
        ("tokens", {}),
        ("tokens", 7),
    ]
    for name, value in wrong:
        with pytest.raises(TypeError, match=f"{name} is|not JSON"):
            login_as(client, "bob", **{name: value})
    assert (client.get("/me").json or {})["user"] == session.user_id  # still signed in


def test_a_bearer_token_has_a_profile(local_provider: LocalProvider) -> None:
    store = MemorySessionStore()
    app = Flask("site")
    app.register_blueprint(create_auth_blueprint(**{**parts_of(local_provider), "session_store": store}))
    token = issue_session_token(store, "alice", ["viewer"], user_info={"email": "alice@example.com"})
    response = app.test_client().get("/auth/userinfo", headers={"Authorization": f"Bearer {token}"})
    assert "alice@example.com" in response.text
