"""A program sees, uses and ends the sign-in that an earlier process stored."""

from __future__ import annotations

import itertools
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from keyring.backends.SecretService import Keyring

from pywry_auth.app import PyWry
from pywry_auth.backends.base import Backend
from pywry_auth.backends.memory import MemoryBackend
from pywry_auth.config import OAuth2Settings, PyWrySettings
from pywry_auth.exceptions import AuthenticationError, StoreUnavailable, TokenExpiredError
from pywry_auth.providers.oidc import GenericOIDCProvider
from pywry_auth.state.accounts import Accounts
from pywry_auth.state.token_stores import (
    KeyringTokenStore,
    MemoryTokenStore,
    RedisTokenStore,
    SQLiteTokenStore,
    get_token_store,
)
from pywry_auth.state.tokens import TokenStore
from pywry_auth.testing.faulty_backend import FaultyBackend
from pywry_auth.testing.identity_provider import DEFAULT_CLIENTS, IdentityProvider
from tests.backends.threads import together
from tests.cli.program import scheduled
from tests.peers.redis_server import RedisServer
from tests.peers.secret_service import SecretService
from tests.person import Person

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_CLIENT_ID = DEFAULT_CLIENTS[0].client_id
_USER = "user-alice"


@pytest.fixture
def idp() -> Iterator[IdentityProvider]:
    with IdentityProvider(signing_algorithm="ES256") as idp:
        yield idp


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Set the user's state folder, and no settings."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.delenv("PYWRY_OAUTH2__CLIENT_ID", raising=False)


def _sign_in(app: PyWry, person: Person | None = None, **more: Any) -> str:
    person = person or Person()
    result = app.login(
        force=True, show_window=person.open, close_window=person.close, notify=lambda message: None, **more
    )
    app.close()
    return result.tokens.access_token


@dataclass
class Desk:
    """One store, and new program objects on it, as in new processes."""

    idp: IdentityProvider
    store: TokenStore

    def app(self) -> PyWry:
        """Return a program that has not signed in yet."""
        return PyWry(
            provider=GenericOIDCProvider(_CLIENT_ID, issuer_url=self.idp.issuer), token_store=self.store
        )

    def age(self, seconds_left: float, **more: Any) -> None:
        """Make the stored access token expire soon."""
        tokens = self.store.load(_USER)
        assert tokens is not None
        assert tokens.expires_in is not None
        aged = replace(tokens, issued_at=time.time() - tokens.expires_in + seconds_left, **more)
        self.store.replace(_USER, aged, tokens)


@pytest.fixture
def desk(idp: IdentityProvider) -> Desk:
    return Desk(idp, MemoryTokenStore())


@pytest.fixture(params=["memory", "sqlite", "redis", "encrypted", "keyring"])
def everywhere(request: pytest.FixtureRequest, desk: Desk) -> Desk:
    """The desk with each kind of store."""
    backend: Backend = request.getfixturevalue(request.param)
    desk.store = TokenStore(backend)
    return desk


# In a new process

_STATUS = """
print(app.is_authenticated, (app.user_info or {}).get("email"))
"""
_WORK = (
    _STATUS
    + """
print(app.get_access_token(), app.session_manager.tokens.client_id)
api = app.request_session(sys.argv[1])
print(api.get(sys.argv[1] + "/userinfo").json()["sub"])
print(app.logout(), app.logout())
"""
    + _STATUS
)
_BY_SETTINGS = """
import sys
from pywry_auth import PyWry
app = PyWry()
"""


@pytest.fixture(params=["sqlite", "redis", "keyring"])
def settings(
    request: pytest.FixtureRequest, idp: IdentityProvider, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, str]]:
    """The settings of a program with each persistent store."""
    settings = {
        "PYWRY_OAUTH2__PROVIDER": "oidc",
        "PYWRY_OAUTH2__CLIENT_ID": _CLIENT_ID,
        "PYWRY_OAUTH2__ISSUER_URL": idp.issuer,
        "PYWRY_OAUTH2__TOKEN_STORE_BACKEND": request.param,
    }
    if request.param == "redis":
        server: RedisServer = request.getfixturevalue("redis_server")
        server.client.flushall()
        settings["PYWRY_DEPLOY__REDIS_URL"] = server.url
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    if request.param != "keyring":
        yield settings
        return
    with SecretService() as service:
        monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", service.address)
        vault = Keyring()
        monkeypatch.setattr("keyring.get_keyring", lambda: vault)
        yield settings


def _run(code: str, settings: dict[str, str], *arguments: str) -> list[str]:
    with scheduled(sys.executable, "-W", "error", "-c", code, *arguments, **settings) as program:
        status, out, err = program.end()
    assert (status, err) == (0, "")
    return out.splitlines()


def test_a_new_process_uses_and_ends_the_stored_sign_in(
    idp: IdentityProvider, settings: dict[str, str]
) -> None:
    """The other processes are signed out then, too. [S5]"""
    here = PyWry()
    token = _sign_in(here)
    assert here.is_authenticated
    assert _run(_BY_SETTINGS + _WORK, settings, idp.issuer) == [
        "True alice@example.com",
        f"{token} {_CLIENT_ID}",
        _USER,
        "True False",
        "False None",
    ]
    assert not here.is_authenticated
    assert here.user_info is None
    with pytest.raises(TokenExpiredError):
        here.get_access_token()
    assert idp.calls["revoke"] == 2


@pytest.mark.parametrize("settings", ["sqlite"], indirect=True)
def test_a_store_made_in_code_is_at_the_place_of_the_settings(
    idp: IdentityProvider, settings: dict[str, str]
) -> None:
    token = _sign_in(PyWry())
    provider = GenericOIDCProvider(_CLIENT_ID, issuer_url=idp.issuer)
    store = get_token_store(settings["PYWRY_OAUTH2__TOKEN_STORE_BACKEND"], client_id=_CLIENT_ID)
    app = PyWry(provider=provider, token_store=store)
    assert app.get_access_token() == token
    assert (store.load(_USER) or pytest.fail("it is not stored")).access_token == token
    assert app.logout()
    assert not PyWry().is_authenticated


# In one process


def test_each_member_answers_from_the_store(everywhere: Desk) -> None:
    """No call goes to the provider. [S5]"""
    token = _sign_in(everywhere.app())
    calls = everywhere.idp.calls
    for ask in (
        lambda app: app.is_authenticated is True,
        lambda app: app.user_info["name"] == "Alice Example",
        lambda app: app.get_access_token() == token,
        lambda app: app.session_manager.tokens.access_token == token,
        lambda app: app.request_session("https://api.example.com") is not None,
    ):
        assert ask(everywhere.app())
    assert everywhere.idp.calls == calls


def test_logout_ends_the_sign_in_of_the_user_that_was_used_last(everywhere: Desk) -> None:
    _sign_in(everywhere.app(), Person("bob", "builder"))
    _sign_in(everywhere.app())
    first, second = everywhere.app(), everywhere.app()
    assert second.is_authenticated
    assert first.logout() is True
    assert everywhere.idp.calls["revoke"] == 2
    assert everywhere.store.list_keys() == ["user-bob"]
    for app in (first, second, everywhere.app()):
        assert not app.is_authenticated
        assert app.logout() is False
    assert everywhere.app().login(account="user-bob").user_id == "user-bob"


def test_after_logout_no_other_user_takes_the_place_until_login(desk: Desk) -> None:
    """A program whose user signed out must not continue with the data of another one. [N16]"""
    app, other = desk.app(), desk.app()
    _sign_in(app)
    _sign_in(other, Person("bob", "builder"))
    assert app.logout()
    assert other.is_authenticated
    assert not app.is_authenticated
    assert app.session_manager is None
    assert app.logout() is False
    assert app.login(mode="silent").user_id == "user-bob"
    assert app.is_authenticated


def test_a_program_keeps_its_user_while_another_program_selects_another(desk: Desk) -> None:
    """The user's name and the token belong together. [N16]"""
    token = _sign_in(desk.app())
    app = desk.app()
    assert app.is_authenticated
    _sign_in(desk.app(), Person("bob", "builder"))
    assert app.get_access_token() == token
    assert app.user_info is not None
    assert app.user_info["name"] == "Alice Example"
    app.logout()
    assert desk.store.list_keys() == ["user-bob"]


def test_a_token_that_is_due_is_refreshed_without_a_login(desk: Desk) -> None:
    old = _sign_in(desk.app())
    desk.age(-1)
    app = desk.app()
    assert app.is_authenticated
    assert app.get_access_token() != old
    assert desk.idp.calls["token"] == 2


def test_expired_tokens_that_cannot_be_refreshed_sign_no_user_in_but_can_be_removed(desk: Desk) -> None:
    _sign_in(desk.app())
    desk.age(-1, refresh_token=None)
    assert not desk.app().is_authenticated
    assert desk.app().user_info is None
    desk.app().logout()
    assert desk.store.list_keys() == []


def test_a_lost_profile_is_replaced_by_the_claims_of_the_id_token(desk: Desk) -> None:
    _sign_in(desk.app())
    accounts = Accounts(desk.store.backend, _CLIENT_ID)
    accounts.remember(_USER, {}, ())
    calls = desk.idp.calls
    info = desk.app().user_info
    assert info is not None
    assert info["sub"] == _USER
    assert desk.idp.calls == calls


def test_threads_that_ask_first_share_one_session_manager(desk: Desk) -> None:
    _sign_in(desk.app())
    app = desk.app()
    found = together(8, lambda number: app.session_manager)
    assert found[0] is not None
    assert len({id(session) for session in found}) == 1


def test_a_logout_while_a_login_runs_concerns_the_user_before(desk: Desk) -> None:
    token = _sign_in(desk.app())
    app, person, outcomes = desk.app(), Person("bob", "builder"), list[bool]()

    def show(url: str, config: Any) -> str:
        outcomes.append(app.logout())
        assert not app.is_authenticated
        return person.open(url, config)

    result = app.login(force=True, show_window=show, close_window=person.close, notify=lambda message: None)
    app.close()
    assert outcomes == [True]
    assert result.user_id == "user-bob"
    assert app.get_access_token() == result.tokens.access_token != token
    assert desk.store.list_keys() == ["user-bob"]


def test_a_store_that_is_down_is_an_error_and_not_an_answer(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    _sign_in(desk.app())
    asked: list[Callable[[PyWry], object]] = [
        lambda app: app.is_authenticated,
        lambda app: app.user_info,
        lambda app: app.session_manager,
        lambda app: app.get_access_token(),
        lambda app: app.request_session("https://api.example.com"),
        lambda app: app.logout(),
        lambda app: app.login(mode="silent"),
    ]

    def fail(*arguments: object, **more: object) -> bytes | None:
        raise StoreUnavailable("The store does not answer: try again.")

    monkeypatch.setattr(desk.store.backend, "get", fail)
    for ask in asked:
        with pytest.raises(StoreUnavailable):
            ask(desk.app())


def test_a_logout_that_the_store_interrupted_is_finished_by_a_later_process(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user must not be forgotten before the tokens are removed."""
    _sign_in(desk.app())
    with monkeypatch.context() as context:

        def fail(*arguments: object) -> bool:
            raise StoreUnavailable("The store does not answer: try again.")

        context.setattr(desk.store, "remove", fail)
        with pytest.raises(StoreUnavailable):
            desk.app().logout()
    assert desk.app().is_authenticated
    assert desk.app().logout() is True
    assert desk.store.list_keys() == []


def test_a_sign_in_during_the_revocation_of_a_logout_stays(desk: Desk) -> None:
    """The logout removes the tokens first, and then waits for the provider."""
    _sign_in(desk.app())
    signed_in: list[str] = []

    def during(app: WSGIApplication) -> WSGIApplication:
        def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            if environ["PATH_INFO"] == "/revoke" and not signed_in:
                signed_in.append(_sign_in(desk.app()))
            return app(environ, start_response)

        return answer

    desk.idp.wrap(during)
    assert desk.app().logout() is True
    later = desk.app()
    assert later.is_authenticated
    assert later.user_info is not None
    assert later.user_info["email"] == "alice@example.com"
    assert later.get_access_token() == signed_in[0]


@pytest.mark.parametrize("error", [StoreUnavailable("The store does not answer."), KeyboardInterrupt()])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_wherever_a_login_is_interrupted_a_later_process_can_end_it(
    desk: Desk, error: BaseException, moment: str
) -> None:
    """Tokens in the store always have a user that ``logout`` finds."""
    for number in itertools.count():
        backend = FaultyBackend(MemoryBackend())
        desk.store = TokenStore(backend)
        steps = itertools.count()

        def fail(operation: str, key: str, number: int = number, steps: Iterator[int] = steps) -> None:
            if next(steps) == number:
                raise error

        setattr(backend, moment, fail)
        with suppress(StoreUnavailable, KeyboardInterrupt):
            _sign_in(desk.app())
        reached = next(steps)
        setattr(backend, moment, lambda operation, key: None)
        if reached <= number:
            break
        desk.app().logout()
        assert desk.store.list_keys() == [], number
        assert not any(grant.live for grant in desk.idp.grants()), number
    assert number > 8


def test_a_logout_revokes_what_an_interrupted_login_left(desk: Desk) -> None:
    backend = FaultyBackend(MemoryBackend())
    desk.store = TokenStore(backend)
    _sign_in(desk.app())

    def interrupt(operation: str, key: str) -> None:
        if (operation, key) == ("put", f"oauth:current:{_CLIENT_ID}"):
            raise KeyboardInterrupt

    backend.before = interrupt
    with pytest.raises(KeyboardInterrupt):
        _sign_in(desk.app())
    backend.before = lambda operation, key: None
    assert desk.app().logout() is True
    later = max(desk.idp.grants(), key=lambda grant: grant.number)
    assert not later.live


def test_the_next_logout_finishes_one_that_was_interrupted(desk: Desk) -> None:
    backend = FaultyBackend(MemoryBackend())
    desk.store = TokenStore(backend)
    _sign_in(desk.app())

    def interrupt(operation: str, key: str) -> None:
        if (operation, key) == ("pop", f"oauth:tokens:{_USER}"):
            raise KeyboardInterrupt

    backend.after = interrupt
    with pytest.raises(KeyboardInterrupt):
        desk.app().logout()
    assert desk.app().logout() is True
    assert desk.idp.calls["revoke"] == 2


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("operation", ["get", "put"])
def test_a_refresh_that_is_interrupted_keeps_the_user_signed_in(
    desk: Desk, moment: str, operation: str
) -> None:
    """The old refresh token is invalid by then, and the program may end at Ctrl-C."""
    backend = FaultyBackend(MemoryBackend())
    desk.store = TokenStore(backend)
    _sign_in(desk.app())
    desk.age(-1)
    hits = list[str]()

    def interrupt(done: str, key: str) -> None:
        if (done, key) == (operation, f"oauth:tokens:{_USER}") and desk.idp.calls["token"] == 2 and not hits:
            hits.append(key)
            raise KeyboardInterrupt

    setattr(backend, moment, interrupt)
    with pytest.raises(KeyboardInterrupt):
        desk.app().get_access_token()
    desk.store = TokenStore(backend)
    assert desk.app().get_access_token()
    assert desk.idp.calls["token"] == 2


def test_a_login_that_was_killed_leaves_the_user_before(desk: Desk) -> None:
    """Another user's sign-in began, and its tokens were never stored."""
    _sign_in(desk.app())
    accounts = Accounts(desk.store.backend, _CLIENT_ID)
    for user in ("user-bob", "user-bob", "user-carol"):
        accounts.expect(user, lambda user: user == _USER)
    assert desk.app().is_authenticated
    assert desk.app().logout() is True
    assert desk.store.list_keys() == []


@pytest.mark.parametrize("same_process", [True, False])
def test_after_an_outage_of_the_provider_the_next_logout_revokes(desk: Desk, same_process: bool) -> None:
    _sign_in(desk.app())
    away = threading.Event()
    away.set()
    desk.idp.wrap(lambda app: lambda e, s: (_unavailable if away.is_set() else app)(e, s))
    app = desk.app()
    assert app.logout() is False
    assert not desk.app().is_authenticated
    app = app if same_process else desk.app()
    away.clear()
    other = PyWry(provider=GenericOIDCProvider("other", issuer_url=desk.idp.issuer), token_store=desk.store)
    assert other.logout() is False
    assert desk.idp.calls["revoke"] == 0
    assert app.logout() is True
    assert desk.idp.calls["revoke"] == 2
    assert app.logout() is False


def _unavailable(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("503 Service Unavailable", [("Content-Length", "0")])
    return [b""]


def test_without_a_provider_no_user_is_signed_in_and_logout_says_what_to_pass() -> None:
    app = PyWry()
    assert not app.is_authenticated
    assert app.user_info is None
    assert app.session_manager is None
    with pytest.raises(TokenExpiredError):
        app.get_access_token()
    with pytest.raises(AuthenticationError, match=r"PYWRY_OAUTH2__CLIENT_ID.*PyWry\(provider=") as caught:
        app.logout()
    assert caught.value.error == "invalid_configuration"


def test_variables_that_are_set_later_are_read(
    idp: IdentityProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = PyWry()
    assert not app.is_authenticated
    for name, value in {"PROVIDER": "oidc", "CLIENT_ID": _CLIENT_ID, "ISSUER_URL": idp.issuer}.items():
        monkeypatch.setenv(f"PYWRY_OAUTH2__{name}", value)
    _sign_in(app)
    assert app.is_authenticated
    app.logout()


def test_a_look_at_the_environment_does_not_change_a_login_at_another_provider(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its tokens stay in memory, as the documented default says."""
    variables = {"PROVIDER": "oidc", "CLIENT_ID": "other", "ISSUER_URL": desk.idp.issuer}
    for name, value in {
        **variables,
        "TOKEN_STORE_BACKEND": "sqlite",
        "AUTH_TIMEOUT_SECONDS": "0.001",
    }.items():
        monkeypatch.setenv(f"PYWRY_OAUTH2__{name}", value)
    app = PyWry()
    assert not app.is_authenticated
    _sign_in(app, provider=GenericOIDCProvider(_CLIENT_ID, issuer_url=desk.idp.issuer))
    assert app.is_authenticated
    files = [path for path in (tmp_path / "pywry-auth").glob("*.sqlite3") if _CLIENT_ID in path.name]
    assert files == []


def test_the_last_login_decides_where_the_members_look(desk: Desk) -> None:
    other = MemoryTokenStore()
    app = desk.app()
    _sign_in(app, token_store=other)
    assert other.list_keys() == [_USER]
    assert desk.store.list_keys() == []
    assert app.logout()
    assert other.list_keys() == []


def test_settings_in_code_are_enough(idp: IdentityProvider, tmp_path: Path) -> None:
    """They need no environment, and no deploy settings. [S5]"""

    def app() -> PyWry:
        oauth2 = OAuth2Settings(
            provider="oidc", client_id=_CLIENT_ID, issuer_url=idp.issuer, token_store_backend="sqlite"
        )
        return PyWry(PyWrySettings(oauth2=oauth2))

    token = _sign_in(app())
    assert app().get_access_token() == token
    (path,) = (tmp_path / "pywry-auth").glob("*.sqlite3")
    assert path.name.startswith(f"tokens-{_CLIENT_ID}-")
    assert app().logout()


# Stores made in code


@pytest.mark.parametrize("make", [lambda: get_token_store("sqlite"), SQLiteTokenStore, KeyringTokenStore])
def test_a_place_that_all_clients_share_by_default_is_refused(
    idp: IdentityProvider, make: Callable[[], TokenStore], tmp_path: Path
) -> None:
    """A program's tokens must not be in the file of a site's sessions. [S6]"""
    provider = GenericOIDCProvider(_CLIENT_ID, issuer_url=idp.issuer)
    for app, given in ((PyWry(), make()), (PyWry(provider=provider, token_store=make()), None)):
        with pytest.raises(AuthenticationError, match=r"client_id=provider\.client_id") as caught:
            app.login(provider, token_store=given)
        assert caught.value.error == "invalid_configuration"
    assert not list(tmp_path.rglob("*.sqlite3"))


def test_two_clients_with_stores_made_in_code_do_not_mix(tmp_path: Path) -> None:
    one, two = (get_token_store("sqlite", client_id=name) for name in ("one", "two"))
    assert one is get_token_store("sqlite", client_id="one") is not two
    assert isinstance(one.backend, type(two.backend))
    SQLiteTokenStore(client_id="one").record_failure("k", "e", 60)
    assert one.last_failure("k")
    assert two.last_failure("k") is None
    assert not (tmp_path / "pywry-auth" / "state.sqlite3").exists()
    for store in (one, two):
        store.close()


@pytest.mark.parametrize("make", [lambda: get_token_store("keyring", client_id="one")])
def test_a_keyring_service_belongs_to_one_client(make: Callable[[], TokenStore]) -> None:
    assert not make().at_shared_default
    assert make() is get_token_store("keyring", service_name="pywry_auth:one")


def test_a_redis_prefix_is_shared_by_the_clients(redis_server: RedisServer) -> None:
    """The settings have the same rule. [S6]"""
    assert get_token_store("redis", client_id="one") is get_token_store("redis")
    assert not RedisTokenStore(redis_server.url).at_shared_default
