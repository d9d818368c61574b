"""A program whose user signed in before opens no browser while the grant lasts."""

from __future__ import annotations

import base64
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from werkzeug.wrappers import Response

from pywry_auth.app import PyWry
from pywry_auth.backends.base import Backend, Terms
from pywry_auth.exceptions import AuthenticationError, TokenError, TokenExpiredError
from pywry_auth.models import AuthFlowResult, OAuthTokenSet
from pywry_auth.native.session_manager import SessionManager
from pywry_auth.providers.oidc import GenericOIDCProvider
from pywry_auth.state.accounts import Accounts
from pywry_auth.state.token_record import StoredTokens
from pywry_auth.state.token_stores import MemoryTokenStore, SQLiteTokenStore
from pywry_auth.state.tokens import TokenStore
from pywry_auth.testing.identity_provider import Client, IdentityProvider
from tests.cli.program import started
from tests.peers.redis_server import RedisServer
from tests.person import Person, parameters_of
from tests.waiting import await_threads

_KEYS = [base64.urlsafe_b64encode(bytes(range(number, number + 32))).decode() for number in (1, 2)]
_TIMER = "pywry-auth-refresh"
_SECRETS = ("access_token", "refresh_token", "id_token")


def _client(name: str = "") -> Client:
    """Return a client that is new to this process."""
    return Client(name or f"desk-{uuid4().hex}", "", ("http://127.0.0.1/callback",))


@dataclass
class Desk:
    """A program, its user's machine, and the provider."""

    idp: IdentityProvider
    client_id: str
    store: TokenStore

    def provider(self, client_id: str = "") -> GenericOIDCProvider:
        """Return a new provider object, as in a new process."""
        return GenericOIDCProvider(client_id or self.client_id, issuer_url=self.idp.issuer)

    def sign_in(self, person: Person | None = None, app: PyWry | None = None, **more: Any) -> AuthFlowResult:
        """Sign a user in with a window; ``more`` is passed to ``login``."""
        person = person or Person()
        given: dict[str, Any] = {"provider": self.provider(), "token_store": self.store, **more}
        result = (app or PyWry()).login(
            show_window=person.open, close_window=person.close, notify=_ignore, **given
        )
        assert person.url, "no window was opened"
        return result

    def start(self, app: PyWry | None = None, **more: Any) -> AuthFlowResult:
        """Start the program, which must sign in silently."""
        given: dict[str, Any] = {"provider": self.provider(), "token_store": self.store, **more}
        return (app or PyWry()).login(show_window=_refuse, notify=_refuse, **given)

    def age(self, seconds_left: float, user: str = "user-alice") -> OAuthTokenSet:
        """Make the stored access token expire soon, by this machine's clock."""
        tokens = self.tokens(user)
        assert tokens.expires_in is not None
        aged = replace(tokens, issued_at=time.time() - tokens.expires_in + seconds_left)
        self.store.replace(user, aged, tokens)
        return aged

    def tokens(self, user: str = "user-alice") -> OAuthTokenSet:
        """Return the stored tokens."""
        tokens = self.store.load(user)
        assert tokens is not None
        return tokens

    def end_grant(self) -> None:
        """End the grant at the provider."""
        assert self.provider().revoke_token(self.tokens().refresh_token or "")


def _ignore(message: str) -> None:
    """Ignore the address: the person has it already."""


def _refuse(message: object, *more: Any) -> str:
    pytest.fail(f"the user was asked to sign in: {message}")


@pytest.fixture(autouse=True)
def _folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Set the user's state folder."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


@pytest.fixture
def desk() -> Iterator[Desk]:
    client = _client()
    with IdentityProvider(clients=[client], signing_algorithm="ES256") as idp:
        desk = Desk(idp, client.client_id, MemoryTokenStore())
        yield desk
        desk.provider().close()


@pytest.fixture(params=["memory", "sqlite", "redis", "encrypted", "keyring"])
def everywhere(request: pytest.FixtureRequest, desk: Desk) -> Desk:
    """Return the desk with each kind of store."""
    backend: Backend = request.getfixturevalue(request.param)
    desk.store = TokenStore(backend)
    return desk


# Silent logins


def test_a_second_login_is_silent_and_makes_no_call(everywhere: Desk) -> None:
    """The program is the same, or has just been started. [S5]"""
    app = PyWry()
    first = everywhere.sign_in(app=app)
    calls = everywhere.idp.calls
    for again in (everywhere.start(app), everywhere.start(), everywhere.start()):
        assert again == first
    assert everywhere.idp.calls == calls


def test_logins_in_one_process_share_the_default_store(desk: Desk) -> None:
    first = desk.sign_in(token_store=None)
    assert desk.start(token_store=None) == first


def test_a_restarted_program_has_the_user_the_profile_and_the_tokens(everywhere: Desk) -> None:
    first = everywhere.sign_in()
    app = PyWry()
    everywhere.start(app)
    assert app.is_authenticated
    assert app.user_info == first.user_info
    assert app.user_info["name"] == "Alice Example"
    assert app.get_access_token() == first.tokens.access_token
    answer = app.request_session(everywhere.idp.issuer).get(f"{everywhere.idp.issuer}/userinfo")
    assert answer.json()["sub"] == "user-alice"
    app.close()


@pytest.mark.parametrize("left", [30, -1, -250])
def test_a_token_that_is_due_costs_one_refresh_and_no_sign_in(everywhere: Desk, left: float) -> None:
    everywhere.sign_in()
    old = everywhere.age(left)
    before = everywhere.idp.calls
    app = PyWry()
    result = everywhere.start(app)
    assert result.tokens.access_token != old.access_token
    assert result.tokens == everywhere.tokens()
    assert everywhere.start() == replace(result, tokens=everywhere.tokens())
    used = everywhere.idp.calls - before
    assert (used["token"], used["authorize"]) == (1, 0)
    app.close()


def test_during_an_outage_a_valid_token_signs_the_user_in(desk: Desk) -> None:
    desk.sign_in()
    aged = desk.age(30)
    desk.idp.stop()
    result = desk.start()
    assert result.tokens == aged
    assert result.user_info["name"] == "Alice Example"


def test_during_an_outage_an_expired_token_is_an_error_and_is_kept(desk: Desk) -> None:
    """An outage is never treated as the end of the grant, and no browser opens. [S5]"""
    desk.sign_in()
    aged = desk.age(-1)
    down = threading.Event()
    down.set()
    desk.idp.wrap(lambda app: lambda e, s: (Response("", 503) if down.is_set() else app)(e, s))
    with pytest.raises(TokenError) as caught:
        desk.start()
    assert caught.value.error == "provider_unreachable"
    assert desk.tokens() == aged
    down.clear()
    assert desk.start().user_id == "user-alice"


def test_the_profile_is_that_of_the_sign_in(desk: Desk) -> None:
    """This holds even if a refresh returned no ID token, and needs no call."""
    first = desk.sign_in()
    desk.store.save("user-alice", replace(desk.tokens(), id_token=None, id_token_claims={}))
    before = desk.idp.calls
    assert desk.start().user_info == first.user_info
    assert desk.idp.calls == before


@pytest.mark.parametrize("id_token", [True, False])
def test_a_lost_profile_is_requested_once_again(desk: Desk, id_token: bool) -> None:
    first = desk.sign_in()
    if not id_token:
        desk.store.save("user-alice", replace(desk.tokens(), id_token=None, id_token_claims={}))
    Accounts(desk.store.backend, desk.client_id).forget("user-alice")
    before = desk.idp.calls
    assert desk.start(account="user-alice").user_info == first.user_info
    assert desk.start().user_info == first.user_info
    assert (desk.idp.calls - before)["userinfo"] == 1


def test_during_an_outage_a_lost_profile_is_taken_from_the_id_token(desk: Desk) -> None:
    first = desk.sign_in()
    Accounts(desk.store.backend, desk.client_id).forget("user-alice")
    desk.idp.wrap(lambda app: Response("no", 500))
    assert desk.start(account="user-alice").user_info["name"] == first.user_info["name"]


def test_a_stored_users_tokens_outlive_a_failed_request_for_the_profile(desk: Desk) -> None:
    desk.sign_in()
    desk.store.save("user-alice", replace(desk.tokens(), id_token=None, id_token_claims={}))
    Accounts(desk.store.backend, desk.client_id).forget("user-alice")
    before = desk.tokens()
    desk.idp.wrap(lambda app: Response("no", 500))
    with pytest.raises(AuthenticationError):
        desk.start(account="user-alice")
    assert desk.tokens() == before
    assert desk.idp.calls["revoke"] == 0


def test_threads_that_log_in_at_once_get_the_same_tokens(desk: Desk) -> None:
    desk.sign_in()
    desk.age(-1)
    app, results = PyWry(), list[AuthFlowResult]()
    before = desk.idp.calls["token"]
    threads = [threading.Thread(target=lambda: results.append(desk.start(app))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len({result.tokens.access_token for result in results}) == 1
    assert len(results) == 8
    assert desk.idp.calls["token"] - before == 1
    app.close()


# Logins with a sign-in


def test_force_and_prompt_always_require_a_sign_in(desk: Desk) -> None:
    desk.sign_in()
    for wish in ({"force": True}, {"prompt": "login"}, {"prompt": "select_account"}):
        assert desk.sign_in(**wish).user_id == "user-alice"
    assert desk.start().user_id == "user-alice"


@pytest.mark.parametrize("left", [30, -1])
def test_after_the_end_of_the_grant_the_user_must_sign_in(everywhere: Desk, left: float) -> None:
    everywhere.sign_in()
    everywhere.age(left)
    everywhere.end_grant()
    before = everywhere.idp.calls["token"]
    assert everywhere.sign_in().user_id == "user-alice"
    assert everywhere.idp.calls["token"] - before == 2, "expected one refusal and one exchange"
    assert everywhere.start().user_id == "user-alice"


def test_without_a_refresh_token_an_expired_token_requires_a_sign_in(desk: Desk) -> None:
    desk.sign_in()
    desk.store.save("user-alice", replace(desk.tokens(), refresh_token=None))
    desk.age(30)
    assert desk.start().user_id == "user-alice"
    desk.age(-1)
    assert desk.sign_in().user_id == "user-alice"


@pytest.mark.parametrize("garbage", [b"", b"garbage", b"{}", b'{"v":99}', b"\xff" * 100])
def test_unreadable_tokens_require_a_sign_in(everywhere: Desk, garbage: bytes) -> None:
    """The sign-in replaces a damaged record, and one of a newer version or with unknown keys. [S6, T68]"""
    everywhere.sign_in()
    everywhere.store.backend.put("oauth:tokens:user-alice", garbage, Terms(group="oauth:tokens"))
    assert everywhere.sign_in().user_id == "user-alice"
    assert everywhere.start().user_id == "user-alice"


def test_each_account_can_be_selected_and_the_last_one_is_the_default(everywhere: Desk) -> None:
    """A cancelled sign-in does not change the default. [N16]"""
    everywhere.sign_in()
    everywhere.sign_in(Person("bob", "builder"), force=True)
    assert everywhere.start().user_id == "user-bob"
    alice = everywhere.start(account="user-alice")
    assert (alice.user_id, alice.user_info["email"]) == ("user-alice", "alice@example.com")
    assert everywhere.start().user_id == "user-alice"
    with pytest.raises(AuthenticationError):
        everywhere.sign_in(Person(action="cancel"), account="user-carol")
    assert everywhere.start().user_id == "user-alice"


@pytest.mark.parametrize("hint", ["alice", "alice@example.com", "ALICE@example.com", "user-alice"])
def test_a_hint_that_matches_the_stored_user_is_silent(desk: Desk, hint: str) -> None:
    desk.sign_in()
    assert desk.start(login_hint=hint).user_id == "user-alice"


def test_a_hint_at_another_user_requires_a_sign_in(desk: Desk) -> None:
    """A user who wants to be Bob must not work as Alice. [N16]"""
    desk.sign_in()
    person = Person(username="", password="builder")
    assert desk.sign_in(person, login_hint="bob").user_id == "user-bob"
    assert dict(parameters_of(person.url))["login_hint"] == "bob"


@pytest.mark.parametrize("scopes", [["openid"], ["email", "openid"], "openid profile"])
def test_granted_scopes_require_no_sign_in(desk: Desk, scopes: Any) -> None:
    desk.sign_in()
    assert desk.start(scopes=scopes).tokens.scope == "openid email profile"


def test_new_scopes_are_requested_once_even_if_they_are_refused(desk: Desk) -> None:
    desk.sign_in()
    more = ["openid", "groups"]
    assert desk.sign_in(scopes=more).tokens.scope == "openid groups"
    assert desk.start(scopes=more).tokens.scope == "openid groups"
    desk.store.save(
        "user-alice", replace(desk.tokens(), scope="openid")
    )  # as if the provider granted no more
    assert desk.start(scopes=more).tokens.scope == "openid"
    assert desk.sign_in(scopes=["openid", "email"]).tokens.scope == "openid email"


def test_a_logout_removes_one_user_and_no_other(everywhere: Desk) -> None:
    everywhere.sign_in(Person("bob", "builder"))
    app = PyWry()
    everywhere.sign_in(app=app, force=True)
    assert app.logout()
    assert not app.is_authenticated
    assert everywhere.store.list_keys() == ["user-bob"]
    assert Accounts(everywhere.store.backend, everywhere.client_id).get("user-alice") is None
    everywhere.sign_in()
    assert everywhere.start(account="user-bob").user_id == "user-bob"


def test_a_logout_in_one_program_is_seen_by_the_others(everywhere: Desk) -> None:
    here, there = PyWry(), PyWry()
    everywhere.sign_in(app=here)
    everywhere.start(there)
    assert there.logout()
    assert not here.is_authenticated
    assert here.user_info is None
    with pytest.raises(TokenExpiredError):
        here.get_access_token()
    assert here.logout() is False
    everywhere.sign_in()


def test_a_logout_can_be_repeated_after_a_failure_of_the_store(desk: Desk) -> None:
    app = PyWry()
    desk.sign_in(app=app)
    remove = desk.store.remove

    def fail(key: str, stored: StoredTokens) -> bool:
        raise AuthenticationError("The store is away.", error="temporarily_unavailable")

    desk.store.remove = fail  # type: ignore[method-assign]
    with pytest.raises(AuthenticationError, match="away"):
        app.logout()
    assert app.is_authenticated
    desk.store.remove = remove  # type: ignore[method-assign]
    assert app.logout()


# Several programs


@pytest.mark.parametrize("another", ["client", "issuer"])
def test_tokens_of_another_client_or_issuer_are_neither_used_nor_destroyed(
    everywhere: Desk, another: str
) -> None:
    """Both have the same user ID on one store. [S6]"""
    theirs = everywhere.sign_in().tokens
    client = _client("" if another == "client" else everywhere.client_id)
    with IdentityProvider(clients=[client], signing_algorithm="ES256") as idp:
        other = Desk(idp, client.client_id, everywhere.store)
        with pytest.raises(AuthenticationError, match="denied the request"):
            other.sign_in(Person(action="cancel"), account="user-alice")
        other.provider().close()
    assert everywhere.tokens() == replace(theirs, id_token_claims=everywhere.tokens().id_token_claims)
    assert everywhere.start().user_id == "user-alice"


@dataclass
class Programs:
    """Programs of one user with separate settings."""

    idp: IdentityProvider
    monkeypatch: pytest.MonkeyPatch

    def login(self, client_id: str, person: Person | None, **deploy: str) -> AuthFlowResult:
        """Run a program that takes all settings from the environment."""
        oauth2 = {
            "PROVIDER": "oidc",
            "ISSUER_URL": self.idp.issuer,
            "CLIENT_ID": client_id,
            "TOKEN_STORE_BACKEND": "sqlite",
        }
        with self.monkeypatch.context() as environment:
            for name, value in oauth2.items():
                environment.setenv(f"PYWRY_OAUTH2__{name}", value)
            for name, value in deploy.items():
                environment.setenv(f"PYWRY_DEPLOY__{name}", value)
            app = PyWry()
            if person is None:
                return app.login(show_window=_refuse, notify=_refuse)
            result = app.login(show_window=person.open, close_window=person.close, notify=_ignore)
            app.close()
        assert person.url, "no window was opened"
        return result


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Programs]]:
    """Return a function that creates programs by their client IDs, with a provider for them."""
    with ExitStack() as providers:

        def make(*names: str) -> Programs:
            idp = IdentityProvider(clients=[_client(name) for name in names], signing_algorithm="ES256")
            return Programs(providers.enter_context(idp), monkeypatch)

        yield make


NAMES = ["desk", "Desk", "../desk", "desk/..", "a" * 300, "d.e.s.k", "CON", "x y", "a/b", "a_b"]


def test_each_program_has_a_file_of_its_own(programs: Callable[..., Programs], tmp_path: Path) -> None:
    """Two programs in one file would replace each other's tokens. Some names differ only in unsafe parts."""
    two = programs(*NAMES)
    first = {name: two.login(name, Person()) for name in NAMES}
    for name in NAMES:
        again = two.login(name, None)
        assert again.tokens.client_id == name
        assert again.tokens.access_token == first[name].tokens.access_token
    files = [path for path in (tmp_path / "pywry-auth").iterdir() if path.suffix == ".sqlite3"]
    assert len({path.name.casefold() for path in files}) == len(NAMES)
    assert all(path.name.isascii() and len(path.name) < 100 for path in files)
    assert all(path.stat().st_mode & 0o077 == 0 for path in files)


def test_clients_on_one_configured_file_do_not_use_each_others_tokens(
    programs: Callable[..., Programs], tmp_path: Path
) -> None:
    """A shared store is for one client: the sign-in of the second one replaces that of the first one."""
    two, place = programs("one", "two"), str(tmp_path / "shared.sqlite3")
    two.login("one", Person(), SQLITE_PATH=place)
    assert two.login("one", None, SQLITE_PATH=place).tokens.client_id == "one"
    assert two.login("two", Person(), SQLITE_PATH=place).tokens.client_id == "two"
    assert two.login("two", None, SQLITE_PATH=place).tokens.client_id == "two"
    assert two.login("one", Person(), SQLITE_PATH=place).tokens.client_id == "one"
    assert not (tmp_path / "pywry-auth").exists() or not list((tmp_path / "pywry-auth").glob("*.sqlite3"))


def test_a_setting_limits_how_long_refreshable_tokens_are_kept(
    desk: Desk,
    redis_server: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prefix, person = uuid4().hex, Person()
    settings = {
        "OAUTH2__PROVIDER": "oidc",
        "OAUTH2__ISSUER_URL": desk.idp.issuer,
        "OAUTH2__CLIENT_ID": desk.client_id,
        "OAUTH2__TOKEN_STORE_BACKEND": "redis",
        "OAUTH2__REFRESH_TOKEN_TTL_SECONDS": "86400",
        "DEPLOY__REDIS_URL": redis_server.url,
        "DEPLOY__REDIS_PREFIX": prefix,
    }
    for name, value in settings.items():
        monkeypatch.setenv(f"PYWRY_{name}", value)
    app = PyWry()
    app.login(show_window=person.open, close_window=person.close, notify=_ignore)
    app.close()
    assert 86000 < redis_server.client.ttl(f"{prefix}:oauth:tokens:user-alice") <= 86400


def test_the_file_cannot_be_read_without_the_keys(programs: Callable[..., Programs], tmp_path: Path) -> None:
    """Tokens and profile are encrypted. With other keys the store seems to be empty. [T13]"""
    desk, place = programs("desk"), tmp_path / "tokens.sqlite3"
    settings = {"SQLITE_PATH": str(place), "ENCRYPTION_KEYS": _KEYS[0]}
    tokens = desk.login("desk", Person(), **settings).tokens
    written = b"".join(path.read_bytes() for path in tmp_path.glob("tokens.sqlite3*"))
    for text in (*(getattr(tokens, name) for name in _SECRETS), "Alice Example", "alice@example.com"):
        assert text.encode() not in written
    assert desk.login("desk", None, **settings).tokens == tokens
    both = {**settings, "ENCRYPTION_KEYS": ",".join(reversed(_KEYS))}
    assert desk.login("desk", None, **both).tokens == tokens
    assert desk.login("desk", Person(), **{**settings, "ENCRYPTION_KEYS": _KEYS[1]}).success


# In the background


def test_after_a_silent_login_tokens_are_kept_fresh_until_close(desk: Desk) -> None:
    desk.sign_in()
    before = {thread for thread in threading.enumerate() if thread.name == _TIMER}
    app = PyWry()
    desk.start(app)
    (timer,) = {thread for thread in threading.enumerate() if thread.name == _TIMER} - before
    assert timer.daemon
    earlier = app.session_manager  # the program may keep a reference
    desk.start(app)
    assert app.session_manager is not earlier
    timer.join(20)
    assert not timer.is_alive(), "the timer of the earlier session is still alive"
    app.close()
    await_threads(_TIMER, but=before)


def test_a_program_signs_its_user_in_again_after_the_end_of_the_grant(desk: Desk) -> None:
    """The guide recommends ``on_reauth_required=lambda: app.login()``."""
    app = PyWry()
    desk.sign_in(app=app)
    people: list[Person] = []

    def sign_in_again() -> None:
        people.append(Person())
        desk.sign_in(people[-1], app)

    session = SessionManager(desk.provider(), desk.store, "user-alice", on_reauth_required=sign_in_again)
    old = desk.age(-1)
    desk.end_grant()
    token = session.get_access_token()
    assert token == desk.tokens().access_token != old.access_token
    assert app.get_access_token() == token
    assert len(people) == 1
    session.close()
    app.close()


def test_no_log_or_repr_contains_a_secret(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    """Silent login, refresh, refusal and logout are logged at DEBUG. [T31]"""
    app = PyWry()
    with caplog.at_level(logging.DEBUG):
        desk.sign_in(app=app)
        seen = [desk.tokens(), desk.age(-1)]
        shown = [repr(desk.start(app)), repr(app), repr(app.session_manager)]
        seen.append(desk.tokens())
        desk.age(-1)
        desk.end_grant()
        desk.sign_in(app=app)
        seen.append(desk.tokens())
        app.logout()
    text = caplog.text + "".join(shown)
    assert len(caplog.records) > 3
    for tokens in seen:
        for name in _SECRETS:
            assert getattr(tokens, name) not in text


# Imports

_START = """
import sys
from pywry_auth import GenericOIDCProvider, PyWry, SQLiteTokenStore
provider = GenericOIDCProvider(sys.argv[1], issuer_url=sys.argv[2])
print(PyWry().login(provider, token_store=SQLiteTokenStore(sys.argv[3])).user_id)
"""
_START_BY_SETTINGS = """
import sys
from pywry_auth import PyWry
print(PyWry().login().user_id)
"""
_HEAVY = {
    "requests",
    "requests_oauthlib",
    "oauthlib",
    "urllib3",
    "joserfc",
    "cryptography",
    "flask",
    "redis",
    "keyring",
}
_SHOW = "print(*sorted({name.partition('.')[0] for name in sys.modules}))"


def _loaded_by(code: str, *arguments: str, **variables: str) -> set[str]:
    """Return the packages that a program has loaded after it signed Alice in."""
    with started(sys.executable, "-W", "error", "-c", code + _SHOW, *arguments, **variables) as program:
        status, out, err = program.end()
    assert (status, err) == (0, "")
    user, loaded = out.splitlines()
    assert user == "user-alice"
    return set(loaded.split())


def test_a_silent_login_loads_no_http_no_settings_and_no_callback_server(desk: Desk, tmp_path: Path) -> None:
    """Until the user is signed in, only the standard library is loaded. [S12]"""
    desk.store = SQLiteTokenStore(tmp_path / "t.sqlite3")
    desk.sign_in()
    place = str(tmp_path / "t.sqlite3")
    loaded = _loaded_by(_START, desk.client_id, desk.idp.issuer, place)
    assert not loaded & (_HEAVY | {"pydantic", "pydantic_settings", "platformdirs"})
    found = loaded & {"http", "ssl", "email", "webbrowser", "hmac", "html", "asyncio"}
    assert not found


@pytest.mark.parametrize("backend", ["sqlite", "auto"])
def test_a_silent_login_by_settings_loads_no_http(desk: Desk, tmp_path: Path, backend: str) -> None:
    """The file with the client's assertion is read when the provider is called.

    A program that found no keyring at an earlier sign-in does not look for it again. [S12]
    """
    desk.store = SQLiteTokenStore(tmp_path / "t.sqlite3")
    desk.sign_in()
    settings = {
        "PYWRY_OAUTH2__PROVIDER": "oidc",
        "PYWRY_OAUTH2__CLIENT_ID": desk.client_id,
        "PYWRY_OAUTH2__ISSUER_URL": desk.idp.issuer,
        "PYWRY_OAUTH2__CLIENT_ASSERTION_FILE": str(tmp_path / "assertion"),
        "PYWRY_OAUTH2__TOKEN_STORE_BACKEND": backend,
        "PYWRY_DEPLOY__SQLITE_PATH": str(tmp_path / "t.sqlite3"),
    }
    assert not _loaded_by(_START_BY_SETTINGS, **settings) & _HEAVY
