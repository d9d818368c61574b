"""Bearer tokens open only the site that issued them. [T58]"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from pywry_auth.backends.memory import MemoryBackend
from pywry_auth.backends.sqlite import SQLiteBackend
from pywry_auth.config import DeploySettings
from pywry_auth.deploy_routes import create_auth_blueprint, create_auth_router
from pywry_auth.exceptions import AuthenticationError
from pywry_auth.models import Grant, UserSession
from pywry_auth.providers.oidc import GenericOIDCProvider
from pywry_auth.state import get_session_store
from pywry_auth.state.auth import AuthConfig
from pywry_auth.state.sessions import SessionStore, issue_session_token, session_id_of_bearer
from pywry_auth.state.sites import sites_of
from pywry_auth.state.tokens import TokenStore
from tests.deploy import web as web_module
from tests.deploy.hosts import HOSTS, Host
from tests.deploy.web import SECRET, WatchedBackend, Web

OTHER_SECRET = "the other site's own long secret for tests"


def config_of(*secrets: str) -> AuthConfig:
    return AuthConfig(enabled=True, token_secret=",".join(secrets))


def user_at(web: Web, token: str) -> str | None:
    """Return the user of a bearer token at a site, according to its routes and its guards."""
    headers = {"Authorization": f"Bearer {token}"}
    user: str | None = web.browser().get("/auth/status", html=False, **headers).json["user_id"]
    guarded = web.browser().get("/members", html=False, **headers)
    assert guarded.status_code == (200 if user else 401)
    return user


@pytest.mark.parametrize("host", HOSTS[:2], ids=lambda host: host.name)
@pytest.mark.parametrize(
    ("config", "settings"),
    [(config_of(OTHER_SECRET), {}), (config_of(SECRET), {"redis_prefix": "wiki"})],
    ids=["secret", "prefix"],
)
def test_a_token_of_another_site_is_no_credential(
    make_web: Callable[..., Web], host: Host, config: AuthConfig, settings: dict[str, str]
) -> None:
    """Sites with another secret or prefix share a store, and each token opens one of them. [T58]"""
    backend = MemoryBackend()
    bank, wiki = make_web(backend, host=host), make_web(backend, host=host, config=config, settings=settings)
    token = issue_session_token(wiki.sessions, "user-alice", ["admin"])
    assert user_at(wiki, token) == "user-alice"
    assert user_at(bank, token) is None
    own = issue_session_token(bank.sessions, "user-alice", ["viewer"])
    assert user_at(bank, own) == "user-alice"
    assert user_at(wiki, own) is None
    bearer = {"Authorization": f"Bearer {token}"}
    assert bank.browser().get("/admin", html=False, **bearer).status_code == 401
    assert bank.browser().get("/auth/userinfo", html=False, **bearer).status_code == 401
    assert bank.browser().post("/auth/refresh", html=False, **bearer).status_code == 401


def test_a_token_of_another_site_signs_no_user_out(make_web: Callable[..., Web]) -> None:
    """Not even with ``everywhere``, which would end the sessions of a user with the same ID. [T58]"""
    backend = MemoryBackend()
    bank, wiki = make_web(backend), make_web(backend, config=config_of(OTHER_SECRET))
    alice = bank.browser()
    alice.sign_in()
    token = issue_session_token(wiki.sessions, "user-alice")
    response = bank.browser().post(
        "/auth/logout?everywhere=1", html=False, **{"Authorization": f"Bearer {token}"}
    )
    assert response.status_code == 200
    assert alice.user == "user-alice"
    assert user_at(wiki, token) == "user-alice"


def test_a_token_survives_the_rotation_of_the_secret(make_web: Callable[..., Web]) -> None:
    """Each listed secret is accepted, and the first one binds new tokens. [T58]"""
    backend = MemoryBackend()
    before = make_web(backend, config=config_of("old" * 12))
    during = make_web(backend, config=config_of("new" * 12, "old" * 12))
    after = make_web(backend, config=config_of("new" * 12))
    old = issue_session_token(before.sessions, "robot")
    new = issue_session_token(during.sessions, "robot")
    assert [user_at(site, old) for site in (before, during, after)] == ["robot", "robot", None]
    assert [user_at(site, new) for site in (before, during, after)] == [None, "robot", "robot"]


def test_a_token_without_a_site_opens_only_sites_without_a_secret(make_web: Callable[..., Web]) -> None:
    """A program issued it on a store of its own, or an earlier version did. [T58]"""
    backend = MemoryBackend()
    bound, free = make_web(backend), make_web(backend, config=AuthConfig(enabled=True))
    unbound = issue_session_token(SessionStore(backend), "robot")
    assert (user_at(bound, unbound), user_at(free, unbound)) == (None, "robot")
    assert user_at(free, issue_session_token(bound.sessions, "robot")) is None


def test_changes_of_a_session_keep_its_site(make_web: Callable[..., Web]) -> None:
    backend = MemoryBackend()
    bank, wiki = make_web(backend), make_web(backend, config=config_of(OTHER_SECRET))
    token = issue_session_token(wiki.sessions, "robot", ["viewer"])
    (session,) = bank.sessions.list_user_sessions("robot")
    bank.sessions.set_roles("robot", ["admin"])
    bank.sessions.refresh_session(session.session_id, 1000)
    assert (user_at(bank, token), user_at(wiki, token)) == (None, "robot")


def test_a_program_with_the_sites_settings_issues_its_tokens(
    make_web: Callable[..., Web], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """``get_session_store()`` binds them as the site does. [T58]"""
    place = tmp_path / "state.sqlite3"
    monkeypatch.setenv("PYWRY_DEPLOY__STATE_BACKEND", "sqlite")
    monkeypatch.setenv("PYWRY_DEPLOY__SQLITE_PATH", str(place))
    monkeypatch.setenv("PYWRY_DEPLOY__TOKEN_SECRET", SECRET)
    program = get_session_store()
    backend = SQLiteBackend(place)
    site, other = make_web(backend), make_web(backend, config=config_of(OTHER_SECRET))
    token = issue_session_token(program, "robot")
    assert (user_at(site, token), user_at(other, token)) == ("robot", None)
    explicit = get_session_store("sqlite", path=tmp_path / "state.sqlite3", session_ttl=60)
    explicit.bind_tokens(SECRET)
    assert user_at(site, issue_session_token(explicit, "robot")) == "robot"
    for store in (program, explicit, backend):
        store.close()


NEW, OLD = "new" * 12, "old" * 12


@pytest.mark.parametrize(
    "arguments", [(f"{NEW},{OLD}",), (f" {NEW} , {OLD}, ",), (NEW, OLD), (NEW,), (OLD,)], ids=str
)
def test_a_program_binds_its_store_with_the_settings_value(
    make_web: Callable[..., Web], arguments: tuple[str, ...]
) -> None:
    """During a rotation, the value is a list with commas. [T58]"""
    backend = MemoryBackend()
    site = make_web(backend, config=config_of(NEW, OLD))
    program = SessionStore(backend)
    program.bind_tokens(*arguments)
    assert user_at(site, issue_session_token(program, "robot")) == "robot"
    assert set(program.sites) <= set(site.sessions.sites)


@pytest.mark.parametrize("value", ["", " ", ",", " , "])
def test_a_value_without_a_secret_binds_to_no_site(make_web: Callable[..., Web], value: str) -> None:
    """The empty text is no secret. [T58]"""
    backend = MemoryBackend()
    free = make_web(backend, config=AuthConfig(enabled=True))
    program = SessionStore(backend)
    program.bind_tokens(value)
    assert user_at(free, issue_session_token(program, "robot")) == "robot"


class OwnStore(SessionStore):
    """A store whose methods have the parameters from before sites were introduced."""

    suspended: frozenset[str] = frozenset()

    def create_session(
        self,
        session_id: str,
        user_id: str,
        roles: Iterable[str] | None = None,
        ttl: float | None = None,
        metadata: Mapping[str, Any] | None = None,
        *,
        idle_ttl: float | None = None,
        grant: Grant | None = None,
        browser: str = "",
        network: str = "",
        account: str = "",
    ) -> UserSession:
        return super().create_session(
            session_id,
            user_id,
            roles,
            ttl,
            metadata,
            idle_ttl=idle_ttl,
            grant=grant,
            browser=browser,
            network=network,
            account=account,
        )

    def get_session(self, session_id: str) -> UserSession | None:
        session = super().get_session(session_id)
        return None if session is None or session.user_id in self.suspended else session


@pytest.mark.parametrize("host", HOSTS[:2], ids=lambda host: host.name)
def test_a_store_with_methods_of_its_own_serves_cookies_and_tokens(
    make_web: Callable[..., Web], host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its look-up decides for both, and the binding to the site holds. [T58]"""
    monkeypatch.setattr(web_module, "SessionStore", OwnStore)
    backend = MemoryBackend()
    bank, wiki = make_web(backend, host=host), make_web(backend, host=host, config=config_of(OTHER_SECRET))
    alice = bank.browser()
    alice.sign_in()
    token = issue_session_token(bank.sessions, "robot")
    assert (alice.user, user_at(bank, token), user_at(wiki, token)) == ("user-alice", "robot", None)
    monkeypatch.setattr(OwnStore, "suspended", {"user-alice", "robot"})
    assert (alice.user, user_at(bank, token)) == (None, None)


def test_a_token_is_looked_up_once(make_web: Callable[..., Web]) -> None:
    watched = WatchedBackend(MemoryBackend())
    web = make_web(watched)
    token = issue_session_token(web.sessions, "robot")
    watched.forget()
    assert web.browser().get("/members", Authorization=f"Bearer {token}").status_code == 200
    assert watched.operations == ["get session"]


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
@pytest.mark.parametrize("create", [create_auth_blueprint, create_auth_router])
def test_sites_of_one_process_issue_their_own_tokens(
    create: Callable[..., Any], kind: str, tmp_path: Path, make_web: Callable[..., Web]
) -> None:
    """The settings lead both to one file, and each store issues tokens of its own site. [T58]"""
    provider, tokens = make_web().provider, TokenStore(MemoryBackend())
    place = str(tmp_path / "state.sqlite3")
    secrets = [SECRET, OTHER_SECRET, *([""] if kind == "memory" else [])]
    sites = []
    for secret in secrets:
        deploy: dict[str, Any] = {"token_secret": [SecretStr(secret)]} if secret else {}
        settings = DeploySettings(**deploy, state_backend=kind, sqlite_path=place)
        created = create(provider, token_store=tokens, deploy_settings=settings)
        sites.append(created.auth_routes.sessions)
    issued = [issue_session_token(site.store, f"robot-{number}") for number, site in enumerate(sites)]
    for number, token in enumerate(issued):
        session_id = session_id_of_bearer(token) or ""
        found = [site.store.find_bearer(session_id, site.sites) is not None for site in sites]
        assert found == [each is sites[number] for each in sites]
        assert sites[0].store.delete_session(session_id)  # the records are shared
    sites[0].store.close()


def test_the_settings_store_is_that_of_their_site(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A site with another secret does not change it. [T58]"""
    monkeypatch.setenv("PYWRY_DEPLOY__STATE_BACKEND", "sqlite")
    monkeypatch.setenv("PYWRY_DEPLOY__SQLITE_PATH", str(tmp_path / "state.sqlite3"))
    provider = GenericOIDCProvider("site", issuer_url="https://id.example.com")
    tokens, stores = TokenStore(MemoryBackend()), []
    for secret in (SECRET, OTHER_SECRET):
        monkeypatch.setenv("PYWRY_DEPLOY__TOKEN_SECRET", secret)
        blueprint = create_auth_blueprint(provider, token_store=tokens)
        assert get_session_store() is blueprint.auth_routes.sessions.store
        stores.append(get_session_store())
    expected = [sites_of([secret], "pywry") for secret in (SECRET, OTHER_SECRET)]
    assert [store.sites for store in stores] == expected
    stores[0].close()


@pytest.mark.parametrize(
    ("first", "second"),
    [(SECRET, OTHER_SECRET), (SECRET, ""), ("", SECRET), (f"{OTHER_SECRET},{SECRET}", SECRET)],
)
def test_a_store_cannot_be_given_to_a_second_site(
    make_web: Callable[..., Web], first: str, second: str
) -> None:
    """Its tokens would be those of only one of the two. [T58]"""
    store = SessionStore(MemoryBackend())
    provider, tokens = make_web().provider, TokenStore(MemoryBackend())
    for _ in range(2):  # the same site may create its routes again
        create_auth_blueprint(provider, store, tokens, DeploySettings(), config_of(first))
    bound = store.sites
    with pytest.raises(AuthenticationError, match="give each site a session store of its own") as caught:
        create_auth_blueprint(provider, store, tokens, DeploySettings(), config_of(second))
    assert caught.value.error == "invalid_configuration"
    assert SECRET not in str(caught.value)
    assert store.sites == bound


def test_a_refused_token_is_explained_in_the_log_once(
    make_web: Callable[..., Web], caplog: pytest.LogCaptureFixture
) -> None:
    """The line names the settings and not the token. [T31, T58]"""
    web = make_web()
    token = issue_session_token(SessionStore(web.backend), "robot")
    with caplog.at_level(logging.WARNING, "pywry_auth.state"):
        for _ in range(3):
            assert user_at(web, token) is None
    (line,) = [record.getMessage() for record in caplog.records if record.name == "pywry_auth.state"]
    assert "PYWRY_DEPLOY__TOKEN_SECRET" in line
    assert token not in line
    assert "robot" not in line
