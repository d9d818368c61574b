"""The local provider of an application's tests: settings, and a whole sign-in."""

from __future__ import annotations

import gc
from typing import Any
from urllib.parse import urlencode

import pytest
import requests
from flask import Flask

from pywry_auth.config import get_settings
from pywry_auth.deploy_routes import create_auth_blueprint
from pywry_auth.exceptions import AuthenticationError
from pywry_auth.providers.factory import create_provider_from_settings
from pywry_auth.providers.oidc import GenericOIDCProvider
from pywry_auth.state.token_stores import MemoryTokenStore
from pywry_auth.testing import LocalProvider, User, login_as
from pywry_auth.testing.identity_provider.levels import SECOND_FACTOR
from tests.testing.sites import SITE, ASGIClient, fastapi_site, flask_site, parts_of


def test_a_client_of_flask_signs_in(local_provider: LocalProvider) -> None:
    client = flask_site(local_provider).test_client()
    login_as(client, "someone")
    response = local_provider.sign_in(client, "alice", "/me?tab=2")
    assert (response.status_code, response.location) == (303, "http://localhost/me?tab=2")
    me = client.get("/me").json or {}
    assert (me["user"], me["roles"], me["email"]) == ("user-alice", ["viewer"], "alice@example.com")
    assert client.get("/token").status_code == 200
    assert local_provider.sign_in(client, "bob@example.com").status_code == 303
    assert (client.get("/me").json or {})["user"] == "user-bob"


@pytest.mark.parametrize("base_url", ["http://localhost", "https://testserver"])
def test_a_client_of_fastapi_signs_in(base_url: str, local_provider: LocalProvider) -> None:
    client = ASGIClient(fastapi_site(local_provider), base_url)
    assert local_provider.sign_in(client, "alice").status_code == 303
    assert client.get("/me").json["user"] == "user-alice"
    login_as(client, "bob")
    assert client.get("/me").json["user"] == "bob"


@pytest.mark.parametrize("public", ["", "https://testserver/shop"])
def test_an_application_may_be_below_a_path(public: str) -> None:
    """Flask's test client puts ``APPLICATION_ROOT`` before each path."""
    with LocalProvider("http://localhost/shop/auth/callback", f"{public}/auth/callback") as provider:
        app = flask_site(provider, public_base_url=public)
        app.config["APPLICATION_ROOT"] = "/shop"
        client = app.test_client()
        assert provider.sign_in(client, "alice", "/me").status_code == 303
        assert (client.get("/me").json or {})["user"] == "user-alice"


def test_the_end_of_a_session_reaches_the_application_of_its_client() -> None:
    """Each application is told about its own sessions."""
    with LocalProvider() as provider:
        client = flask_site(provider).test_client()
        web = ASGIClient(fastapi_site(provider), "http://localhost")
        provider.sign_in(client, "alice")
        provider.sign_in(web, "alice")
        other = client.application.test_client()
        provider.sign_in(other, "bob")
        _, second = provider.sids("alice")
        assert provider.end_sessions("alice", second) == [200]
        assert (client.get("/me").status_code, web.get("/me").status_code) == (200, 401)
        assert provider.end_sessions("alice") == [200]
        assert (client.get("/me").status_code, other.get("/me").status_code) == (401, 200)
        assert provider.sids("alice") == []


def test_a_logout_token_reaches_an_application_below_a_path() -> None:
    with LocalProvider("http://localhost/shop/auth/callback") as provider:
        app = flask_site(provider)
        app.config["APPLICATION_ROOT"] = "/shop"
        client = app.test_client()
        provider.sign_in(client, "alice")
        assert provider.end_sessions("alice") == [200]
        assert client.get("/me").status_code == 401


def test_sessions_of_a_client_that_is_gone_end_silently() -> None:
    with LocalProvider() as provider:
        provider.sign_in(flask_site(provider).test_client(), "alice")
        gc.collect()
        assert provider.end_sessions("alice") == []


def test_a_sign_in_takes_the_second_step(local_provider: LocalProvider) -> None:
    class Wishing(GenericOIDCProvider):
        """Asks for a second factor at every sign-in."""

        def build_authorize_url(self, *arguments: Any, **named: Any) -> str:
            url = super().build_authorize_url(*arguments, **named)
            return f"{url}&{urlencode({'acr_values': SECOND_FACTOR})}"

    parts, store = parts_of(local_provider), MemoryTokenStore()
    secret = local_provider.settings["PYWRY_OAUTH2__CLIENT_SECRET"]
    wishing = Wishing("tested-site", secret, issuer_url=local_provider.issuer)
    app = Flask("site")
    app.register_blueprint(create_auth_blueprint(**{**parts, "provider": wishing, "token_store": store}))
    assert local_provider.sign_in(app.test_client(), "alice").status_code == 303
    tokens = store.load("user-alice")
    assert tokens is not None
    assert tokens.id_token_claims["acr"] == SECOND_FACTOR


def test_a_refused_sign_in_is_an_answer(local_provider: LocalProvider) -> None:
    client = flask_site(local_provider, allowed_users=["user-alice"]).test_client()
    assert local_provider.sign_in(client, "bob").status_code == 403
    assert client.get("/me").status_code == 401
    assert local_provider.sign_in(client, "alice").status_code == 303


def test_other_redirect_uris_and_users_are_arguments() -> None:
    carol = User("carol", "a password", {"sub": "7", "email": "carol@example.com"})
    with LocalProvider(f"{SITE}/oauth/callback", users=[carol]) as provider:
        site = flask_site(provider, {"url_prefix": "/oauth"}, public_base_url=SITE)
        client = site.test_client()
        assert provider.sign_in(client, "carol").status_code == 303
        for base_url in ("http://localhost", SITE):
            assert (client.get("/me", base_url=base_url).json or {})["user"] == "7"
        with pytest.raises(ValueError, match=r"it has: carol$"):
            provider.sign_in(client, "alice")


def test_a_sign_out_may_lead_to_the_page_of_the_package(local_provider: LocalProvider) -> None:
    client = flask_site(local_provider, after_logout_url="/auth/signed-out").test_client()
    local_provider.sign_in(client, "alice")
    url = (client.post("/auth/logout").json or {})["logout_url"]
    back = requests.get(url, allow_redirects=False, timeout=20).headers["Location"]
    assert "You are signed out of this site and of" in client.get(back, headers={"Accept": "text/html"}).text


def test_one_of_several_providers_is_chosen(local_provider: LocalProvider) -> None:
    other = GenericOIDCProvider("client-id", issuer_url="https://id.example.com")
    app = Flask("site")
    providers = {"corp": other, "local": local_provider.oauth_provider}
    app.register_blueprint(create_auth_blueprint(**{**parts_of(local_provider), "provider": providers}))
    uri = "http://localhost/auth/callback/local"
    with pytest.raises(AuthenticationError, match=f'use LocalProvider\\("{uri}"\\)'):
        local_provider.sign_in(app.test_client(), "alice")


def test_an_error_says_what_to_do(local_provider: LocalProvider) -> None:
    with pytest.raises(AuthenticationError, match=r'use TestClient\(app, base_url="http://localhost"\)'):
        local_provider.sign_in(ASGIClient(fastapi_site(local_provider)), "alice")
    away = flask_site(local_provider)
    away.config["SERVER_NAME"] = "shop.example.com"
    with pytest.raises(
        AuthenticationError, match=r"set PYWRY_DEPLOY__PUBLIC_BASE_URL .* SERVER_NAME to None"
    ):
        local_provider.sign_in(away.test_client(), "alice")
    shadowed = Flask("site")
    shadowed.add_url_rule("/auth/login", "own", lambda: "a page")
    shadowed.register_blueprint(create_auth_blueprint(**parts_of(local_provider)))
    with pytest.raises(AuthenticationError, match="status 200: another view of the application answers"):
        local_provider.sign_in(shadowed.test_client(), "alice")
    with pytest.raises(AuthenticationError, match=r'use LocalProvider\("http://localhost/oauth/callback"\)'):
        local_provider.sign_in(flask_site(local_provider, {"url_prefix": "/oauth"}).test_client(), "alice")
    with pytest.raises(AuthenticationError, match=r"^GET /auth/login has status 503: Sign-in is.*[^.]\.$"):
        local_provider.sign_in(flask_site(local_provider, auth_enabled=False).test_client(), "alice")
    with (
        LocalProvider() as other,
        pytest.raises(AuthenticationError, match=r"sends its users to http://127\.0\.0\.1:\d+, not to this"),
    ):
        local_provider.sign_in(flask_site(other).test_client(), "alice")


def test_the_settings_configure_an_application(
    local_provider: LocalProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in local_provider.settings.items():
        monkeypatch.setenv(name, value)
    settings = get_settings()
    assert settings.oauth2 is not None
    assert settings.deploy.auth_enabled
    assert settings.deploy == local_provider.deploy_settings
    provider = create_provider_from_settings(settings.oauth2)
    assert provider.is_recorded_issuer(local_provider.issuer)


def test_the_secrets_differ_and_are_not_shown(local_provider: LocalProvider) -> None:
    secrets = [value for name, value in local_provider.settings.items() if name.endswith("SECRET")]
    other = LocalProvider()
    assert len(set(secrets)) == 2
    assert set(secrets).isdisjoint(other.settings.values())
    other.stop()
