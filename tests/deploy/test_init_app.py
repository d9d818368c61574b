"""``init_app``: settings of the application, its prefix and name, and several applications in one process."""

from __future__ import annotations

import logging
import os
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from flask import Blueprint, Flask

from pywry_auth.deploy_routes import create_auth_blueprint
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError
from pywry_auth.flask import (
    current_session,
    get_access_token,
    get_session_store,
    get_user_tokens,
    init_app,
    login_required,
    roles_required,
    user_logged_in,
)
from pywry_auth.per_process import Living
from pywry_auth.providers.oidc import GenericOIDCProvider
from pywry_auth.state import MemorySessionStore, issue_session_token
from pywry_auth.state import get_session_store as store_of_settings
from pywry_auth.state.auth import AuthConfig
from pywry_auth.testing.identity_provider import Client, IdentityProvider
from tests.deploy.web import SITE, Browser

OAUTH2, DEPLOY = "PYWRY_OAUTH2__", "PYWRY_DEPLOY__"
_REDIRECTS = tuple(f"{SITE}{path}" for path in ("/auth/callback", "/oauth/callback", "/callback"))
_CLIENTS = [Client(name, f"{name}-secret", _REDIRECTS) for name in ("first", "second")]
Make = Callable[..., Flask]


@pytest.fixture(scope="module")
def provider() -> Iterator[IdentityProvider]:
    with IdentityProvider(clients=_CLIENTS, signing_algorithm="ES256") as running:
        yield running


@pytest.fixture
def make(provider: IdentityProvider, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Makes applications whose settings are in ``app.config`` only."""
    for name in [name for name in os.environ if name.startswith("PYWRY_")]:
        monkeypatch.delenv(name)

    def made(client: str = "first", **arguments: Any) -> Flask:
        app: Flask = arguments.pop("app", None) or Flask(client)
        app.config |= {
            "PYWRY_OAUTH2__PROVIDER": "oidc",
            "PYWRY_OAUTH2__ISSUER_URL": provider.issuer,
            "PYWRY_OAUTH2__CLIENT_ID": client,
            "PYWRY_OAUTH2__CLIENT_SECRET": f"{client}-secret",
            "PYWRY_DEPLOY__AUTH_ENABLED": True,
            "PYWRY_DEPLOY__LOGIN_RATE_LIMIT": "100000/minute",
            **arguments.pop("config", {}),
        }
        init_app(app, **arguments)

        @app.get("/token")
        @login_required
        def token() -> str:
            assert current_session
            return f"{current_session.user_id} {get_access_token()}"

        return app

    return made


def _refused(app: Flask, **arguments: Any) -> str:
    with pytest.raises(AuthenticationError) as caught:
        init_app(app, **arguments)
    assert caught.value.error == ErrorCode.INVALID_CONFIGURATION
    return str(caught.value)


@pytest.mark.parametrize(("prefix", "name"), [("/oauth", "oauth"), ("/oauth/", "auth"), ("/", "own")])
def test_the_application_chooses_prefix_and_name(make: Make, prefix: str, name: str) -> None:
    app = make(url_prefix=prefix, name=name)
    browser = Browser(app.test_client(), SITE)
    browser.sign_in(f"{prefix.rstrip('/')}/login?next=/token")
    assert browser.get("/token").text.startswith("user-alice ")
    with app.test_request_context():
        assert app.url_for(f"{name}.login") == f"{prefix.rstrip('/')}/login"
    assert app.test_client().get("/token", headers={"Accept": "text/html"}).status_code == 302


def test_a_name_that_is_taken_is_refused_with_the_arguments_to_pass() -> None:
    app = Flask("site")
    app.register_blueprint(Blueprint("auth", __name__))
    message = _refused(app)
    assert "name=" in message
    assert "url_prefix=" in message


@pytest.mark.parametrize(
    "prefix", ["oauth", "", "/a//b", "//a", "/a/../b", "/a/./b", "/<lang>", "/a?b", "/a b", None]
)
def test_a_prefix_that_is_no_path_is_refused(prefix: Any) -> None:
    assert "url_prefix=" in _refused(Flask("site"), url_prefix=prefix)


@pytest.mark.parametrize("name", ["", "a.b", None])
def test_a_name_that_is_no_name_of_a_blueprint_is_refused(name: Any) -> None:
    assert "name=" in _refused(Flask("site"), name=name)


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("protect", [False, True])
def test_a_path_of_another_view_is_an_error_in_the_log(
    make: Make, caplog: pytest.LogCaptureFixture, later: bool, protect: bool
) -> None:
    """Otherwise the sign-in, or the view, is unreachable without a word. The view may have another method."""
    passwords = Blueprint("passwords", __name__, url_prefix="/auth")
    passwords.add_url_rule("/login", "login", str)
    passwords.add_url_rule("/callback", "form", str, methods=["POST"])
    app = Flask("site")
    if not later:
        app.register_blueprint(passwords)
    app = make(app=app, protect=protect, callback_path="/old")
    if later:
        app.register_blueprint(passwords)
        app.add_url_rule("/old", "old", str)
    for _ in range(2):
        app.test_client().get("/token")
    record, *others = [record for record in caplog.records if "have one path" in record.getMessage()]
    assert ["GET /old" in other.getMessage() for other in others] == [True] * later
    assert record.levelno == logging.ERROR
    assert "'passwords.login'" in record.getMessage()
    assert "GET /auth/login" in record.getMessage()
    assert "url_prefix='/oauth'" in record.getMessage()


def test_a_view_with_the_path_of_one_providers_callback_is_an_error_in_the_log(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    app = Flask("site")
    app.add_url_rule("/auth/callback/one", "mine", str)
    named = {
        name: GenericOIDCProvider("client", "secret", issuer_url=f"https://{name}.example.com")
        for name in ("one", "two")
    }
    make(app=app, provider=named).test_client().get("/token")
    (record,) = [record for record in caplog.records if "have one path" in record.getMessage()]
    assert "'mine'" in record.getMessage()
    assert "GET /auth/callback/one" in record.getMessage()


def test_an_application_that_matches_hosts_is_refused(make: Make) -> None:
    """None of its hosts would have the routes."""
    app = Flask("site", host_matching=True, static_host="127.0.0.1")
    app.config.update(make().config)
    assert "host_matching" in _refused(app)


def test_a_refused_call_registers_nothing() -> None:
    """The next call would otherwise be refused for the name of the blueprint."""
    app = Flask("site")
    app.add_url_rule("/old", "old", lambda: "old")
    provider = GenericOIDCProvider("first", issuer_url="https://id.example.com")
    assert "/old" in _refused(app, provider=provider, callback_path="/old")
    assert not app.blueprints
    init_app(app, provider, callback_path="/new")
    with pytest.raises(AuthenticationError, match="once"):
        app.register_blueprint(create_auth_blueprint(provider), name="again", url_prefix="/again")


def test_a_second_call_on_one_application_is_refused(make: Make) -> None:
    assert "once" in _refused(make(), name="again", url_prefix="/again")


def test_settings_of_the_application_take_precedence_one_by_one(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The variables stay as they are, and the same client's secret may be in the environment."""
    monkeypatch.setenv(OAUTH2 + "CLIENT_SECRET", "first-secret")
    monkeypatch.setenv(DEPLOY + "AUTH_SESSION_COOKIE", "of_the_environment")
    monkeypatch.setenv(DEPLOY + "DEFAULT_ROLES", "of_the_environment")
    before = dict(os.environ)
    app = make(config={OAUTH2 + "CLIENT_SECRET": None, DEPLOY + "DEFAULT_ROLES": ["own"]})
    browser = Browser(app.test_client(), SITE)
    browser.sign_in()
    assert browser.cookie("of_the_environment")
    assert browser.get("/auth/status").json["roles"] == ["own"]
    assert dict(os.environ) == before


def test_another_client_in_the_environment_keeps_its_secret(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first client would otherwise send the secret of the second."""
    monkeypatch.setenv(OAUTH2 + "CLIENT_ID", "second")
    monkeypatch.setenv(OAUTH2 + "CLIENT_SECRET", "second-secret")
    monkeypatch.setenv(OAUTH2 + "TOKEN_URL", "https://second.example.com/token")
    browser = Browser(make(config={OAUTH2 + "CLIENT_SECRET": ""}).test_client(), SITE)
    answer = browser.get(browser.authorize())
    assert answer.json["error"] == "invalid_client", "no secret was sent"
    browser = Browser(make().test_client(), SITE)
    browser.sign_in()  # at the token endpoint of its own provider


def test_a_wrong_value_is_named_and_not_shown(make: Make) -> None:
    with pytest.raises(AuthenticationError) as caught:
        make(config={DEPLOY + "SESSION_TTL": "canary", DEPLOY + "TOKEN_SECRET": b"canary" * 9})
    assert DEPLOY + "SESSION_TTL" in str(caught.value)
    assert DEPLOY + "TOKEN_SECRET" in str(caught.value)
    assert "canary" not in str(caught.value)


def test_the_error_about_the_provider_names_app_config(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that is set, but belongs to another client, is not read."""
    monkeypatch.setenv(OAUTH2 + "CLIENT_ID", "second")
    monkeypatch.setenv(OAUTH2 + "ISSUER_URL", "https://second.example.com")
    with pytest.raises(AuthenticationError, match=r"ISSUER_URL is not set.*another client.*app\.config"):
        make(config={OAUTH2 + "ISSUER_URL": None})
    monkeypatch.delenv(OAUTH2 + "CLIENT_ID")
    assert "app.config before init_app(app)" in _refused(Flask("bare"))


def test_an_unknown_name_is_warned_about(make: Make) -> None:
    with pytest.warns(UserWarning, match="^PYWRY_DEPLOY__AUTH_ENABLDE is not a setting.*did you mean"):
        make(config={DEPLOY + "AUTH_ENABLDE": True})


def test_an_access_rule_of_from_prefixed_env_is_kept(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLASK_PYWRY_DEPLOY__ALLOWED_USERS", "user-bob")
    loaded = Flask("loaded").config
    loaded.from_prefixed_env()
    browser = Browser(make(config={"PYWRY_DEPLOY": loaded["PYWRY_DEPLOY"]}).test_client(), SITE)
    assert browser.get(browser.authorize()).status_code == 403
    browser.sign_in(username="bob")


def test_two_applications_of_one_process_share_nothing(make: Make) -> None:
    """Users with equal IDs are different users, also in 16 threads. Each is the sender of its signals."""
    apps = {"/auth": make("first"), "/oauth": make("second", url_prefix="/oauth")}
    senders: list[Flask] = []

    def heard(sender: Flask, **data: Any) -> None:
        senders.append(sender)

    def visit(number: int) -> tuple[str, Browser]:
        prefix = ("/auth", "/oauth")[number % 2]
        browser = Browser(apps[prefix].test_client(), SITE, f"127.0.0.{number + 1}")
        browser.sign_in(f"{prefix}/login")
        return prefix, browser

    with user_logged_in.connected_to(heard), ThreadPoolExecutor(16) as pool:
        visited = list(pool.map(visit, range(16)))
    assert senders.count(apps["/auth"]) == senders.count(apps["/oauth"]) == 8
    tokens = {prefix: {b.get("/token").text for own, b in visited if own == prefix} for prefix in apps}
    assert tokens["/auth"].isdisjoint(tokens["/oauth"])
    _, browser = visited[0]
    other = Browser(apps["/oauth"].test_client(), SITE)
    other.plant("pywry_session", browser.cookie() or "")
    assert other.get("/oauth/status").json["authenticated"] is False
    assert browser.post("/auth/logout?everywhere=1").status_code == 200
    assert visited[2][1].get("/token").status_code == 401
    assert visited[1][1].get("/token").status_code == 200


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "instance"


def _debugged(
    provider: IdentityProvider, folder: Path, *, debug: bool = True, testing: bool = False, **more: Any
) -> Flask:
    app = Flask(more.pop("name", "first"), instance_path=str(folder))
    app.debug, app.testing = debug, testing
    app.config |= more.pop("config", {})
    usual = GenericOIDCProvider("first", "first-secret", issuer_url=provider.issuer)
    init_app(app, more.pop("corp", usual), **more)
    app.add_url_rule("/token", "token", login_required(get_access_token))
    return app


def test_in_debug_mode_sessions_and_tokens_survive_a_restart(
    provider: IdentityProvider, folder: Path, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """The reloader starts two processes at once, and both make the file."""
    with ThreadPoolExecutor(4) as pool:
        apps = list(pool.map(lambda number: _debugged(provider, folder), range(4)))
    assert len({tuple(app.extensions["pywry_auth"].routes.options.secrets) for app in apps}) == 1
    browser = Browser(apps[0].test_client(), SITE)
    browser.sign_in()
    again = Browser(_debugged(provider, folder).test_client(), SITE)
    again.plant("pywry_session", browser.cookie() or "")
    assert again.get("/token").text == browser.get("/token").text != ""
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    told = [record.getMessage() for record in caplog.records if "survive a restart" in record.getMessage()]
    assert str(folder) in told[0]
    assert apps[0].extensions["pywry_auth"].routes.options.secrets[0] not in caplog.text
    assert "PYWRY_DEPLOY__TOKEN_SECRET" not in apps[0].config


def test_applications_in_one_instance_folder_share_nothing(
    provider: IdentityProvider, folder: Path, make: Make
) -> None:
    """Neither does the same application before and after a change of its client."""
    second = GenericOIDCProvider("second", "second-secret", issuer_url=provider.issuer)
    apps = [_debugged(provider, folder), _debugged(provider, folder, corp=second)]
    apps.append(_debugged(provider, folder, config={DEPLOY + "AUTH_SESSION_COOKIE": "own"}))
    apps.append(_debugged(provider, folder, name="admin"))
    assert len({app.extensions["pywry_auth"].routes.options.secrets[0] for app in apps}) == 4
    browsers = [Browser(app.test_client(), SITE) for app in apps]
    for browser in browsers:
        browser.sign_in()
    assert len({browser.get("/token").text for browser in browsers}) == 4
    assert browsers[0].cookie()
    browsers[1].plant("pywry_session", browsers[0].cookie() or "")
    assert browsers[1].get("/token").status_code == 401


def test_in_debug_mode_the_path_of_the_file_may_be_chosen(
    provider: IdentityProvider, folder: Path, tmp_path: Path, make: Make
) -> None:
    """The log names this setting if the instance folder cannot be used."""
    app = _debugged(provider, folder, config={DEPLOY + "SQLITE_PATH": tmp_path / "own"})
    assert app.extensions["pywry_auth"].routes.sessions.store.shared
    assert (tmp_path / "own").exists()
    assert not folder.exists()


def test_applications_that_share_records_are_warned_about(
    provider: IdentityProvider, make: Make, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """With other clients, equal user IDs may be different users."""

    def warnings() -> int:
        return sum("different clients" in record.getMessage() for record in caplog.records)

    shared = {
        DEPLOY + "STATE_BACKEND": "sqlite",
        DEPLOY + "TOKEN_SECRET": "an own secret of this site 0123456789",
    }
    at = [{"config": {**shared, DEPLOY + "SQLITE_PATH": tmp_path / name}} for name in "abc"]
    kept = [make("first", **at[0]), make("first", **at[0]), make("second", **at[1])]
    assert warnings() == 0
    kept.append(make("second", **at[0]))
    assert warnings() == 1
    off = {"config": {**at[0]["config"], DEPLOY + "AUTH_ENABLED": False}}
    kept.append(make("second", **off))
    assert warnings() == 1
    corp = [GenericOIDCProvider(client, issuer_url=provider.issuer) for client in ("first", "second")]
    told = []
    for each in corp:
        app = Flask("code")
        init_app(app, each)  # in the memory of the process, which get_session_store() returns
        kept.append(app)
        told.append(warnings())
    assert told[1] == told[0] + 1


@pytest.mark.parametrize(
    "arguments",
    [
        {"debug": False},
        {"config": {DEPLOY + "ENCRYPTION_KEYS": urlsafe_b64encode(bytes(range(32))).decode()}},
        {"config": {DEPLOY + "AUTH_ENABLED": False}},
        {"auth_config": AuthConfig(enabled=False)},
        {"testing": True},
        {"config": {DEPLOY + "STATE_BACKEND": "memory"}},
        {"config": {DEPLOY + "TOKEN_SECRET": "an own secret of this site 0123456789"}},
        {
            "config": {
                OAUTH2 + "CLIENT_ID": "first",
                OAUTH2 + "PROVIDER": "google",
                OAUTH2 + "TOKEN_STORE_BACKEND": "memory",
            }
        },
    ],
)
def test_otherwise_nothing_is_kept_in_the_instance_folder(
    provider: IdentityProvider, folder: Path, make: Make, arguments: dict[str, Any]
) -> None:
    _debugged(provider, folder, **arguments)
    assert not folder.exists()


def test_an_instance_folder_that_cannot_be_used_is_a_warning(
    provider: IdentityProvider, folder: Path, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    folder.write_text("a file has its name")
    app = _debugged(provider, folder)
    (record,) = [record for record in caplog.records if "cannot be used" in record.getMessage()]
    assert record.levelno == logging.WARNING
    assert "PYWRY_DEPLOY__SQLITE_PATH" in record.getMessage()
    Browser(app.test_client(), SITE).sign_in()


# The application's own stores


@pytest.fixture(params=["app.config", "debug mode", "sqlite in app.config", "store in code"])
def configured(request: pytest.FixtureRequest, make: Make, provider: IdentityProvider, folder: Path) -> Flask:
    """An application whose stores are not those of the environment."""
    sqlite = {
        DEPLOY + "STATE_BACKEND": "sqlite",
        DEPLOY + "SQLITE_PATH": folder / "state.sqlite3",
        DEPLOY + "TOKEN_SECRET": "an own secret of this site 0123456789",
    }
    makers: dict[str, Callable[[], Flask]] = {
        "app.config": make,
        "debug mode": lambda: _debugged(provider, folder),
        "sqlite in app.config": lambda: make(config=sqlite),
        "store in code": lambda: make(session_store=MemorySessionStore()),
    }
    return makers[request.param]()


def test_a_user_is_signed_out_everywhere_and_loses_the_tokens(
    configured: Flask, provider: IdentityProvider
) -> None:
    """A job and a command find the application's own stores, outside of a request."""
    browsers = [Browser(configured.test_client(), SITE) for _ in range(2)]
    for browser in browsers:
        browser.sign_in()
    revoked = provider.calls["revoke"]
    with configured.app_context():
        tokens = get_user_tokens()
        assert tokens is get_user_tokens()
        assert tokens.get_access_token("user-alice") in browsers[0].get("/token").text
        assert get_session_store().delete_user_sessions("user-alice") == 2
        assert tokens.revoke("user-alice")
    assert [browser.get("/token").status_code for browser in browsers] == [401, 401]
    assert provider.calls["revoke"] > revoked


def _audited() -> str:
    return "audited"


def test_bearer_tokens_and_permissions_are_those_of_the_application(configured: Flask) -> None:
    configured.add_url_rule("/audit", "audit", roles_required("auditor")(_audited))
    with configured.app_context():
        store = get_session_store()
        bearer = {"Authorization": f"Bearer {issue_session_token(store, 'a-job', ['auditor'])}"}
        store.set_role_permissions("auditor", ["audit"])
    assert configured.test_client().get("/audit", headers=bearer).text == "audited"
    with configured.test_request_context(headers=bearer):
        assert current_session
        assert configured.extensions["pywry_auth"].routes.sessions.store.allows(
            current_session, "", "", "audit"
        )


def test_jobs_of_an_application_refresh_at_the_time_of_its_settings(make: Make) -> None:
    app = make(config={OAUTH2 + "REFRESH_BUFFER_SECONDS": 5})
    assert app.extensions["pywry_auth"].routes.options.refresh_buffer == 5
    assert app.extensions["pywry_auth"].routes.user_tokens._buffer == 5


def test_without_an_application_the_stores_are_an_error(make: Make) -> None:
    with pytest.raises(RuntimeError, match="application context"):
        get_session_store()
    with Flask("bare").app_context(), pytest.raises(AuthenticationError, match="init_app"):
        get_user_tokens()


def test_the_memory_of_the_settings_is_warned_about_if_no_application_uses_it(
    make: Make, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pywry_auth.state.session_stores._of_sites", Living())  # without other tests' sites
    app = make()
    store_of_settings("memory")
    assert not caplog.records
    store_of_settings()
    assert "pywry_auth.flask.get_session_store()" in caplog.text
    assert app.extensions["pywry_auth"].routes.sessions.store is not store_of_settings()
