"""A program with several signed-in users."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from pywry_auth.app import PyWry
from pywry_auth.backends.base import Backend, Terms
from pywry_auth.exceptions import (
    AuthenticationError,
    LoginRequired,
    StoreUnavailable,
    TokenExpiredError,
)
from pywry_auth.models import AuthFlowResult, OAuthTokenSet
from pywry_auth.native.account import Account, described, until
from pywry_auth.native.stored_users import StoredUsers
from pywry_auth.providers.oidc import GenericOIDCProvider
from pywry_auth.state.token_stores import MemoryTokenStore, RedisTokenStore, SQLiteTokenStore
from pywry_auth.state.tokens import TokenStore
from pywry_auth.testing.backend_contract import HOSTILE_KEYS
from pywry_auth.testing.faulty_backend import FaultyBackend
from pywry_auth.testing.identity_provider import DEFAULT_CLIENTS, IdentityProvider
from tests.backends.threads import together
from tests.native.stub_provider import StubProvider
from tests.peers.redis_server import RedisServer
from tests.person import Person, parameters_of

_NAMES = {"1": "Zoe", "2": "alice", "3": "Bob", "4": ""}


@dataclass
class Desk:
    """One store, and new program objects on it, as in new processes."""

    store: TokenStore
    provider: StubProvider = field(default_factory=lambda: StubProvider(time.time))

    def app(self) -> PyWry:
        """Return a program that has just started."""
        return PyWry(provider=self.provider, token_store=self.store)

    def sign_in(self, user: str, **user_info: object) -> OAuthTokenSet:
        """Store what a sign-in of another process stores."""
        users, tokens = StoredUsers(self.provider, self.store, 60.0), self.provider.grant(user)
        assert users.save(user, tokens)
        users.remember(AuthFlowResult(True, tokens, {"sub": user, **user_info}, user))
        return tokens


@pytest.fixture
def desk() -> Desk:
    return Desk(MemoryTokenStore())


@pytest.fixture(params=["memory", "sqlite", "redis", "encrypted", "keyring"])
def everywhere(request: pytest.FixtureRequest) -> Desk:
    """The desk with each kind of store."""
    backend: Backend = request.getfixturevalue(request.param)
    return Desk(TokenStore(backend))


def _of(accounts: list[Account]) -> list[tuple[str, bool]]:
    return [(account.user_id, account.current) for account in accounts]


# The list


def test_accounts_are_listed_with_the_current_one_first_and_then_by_name(everywhere: Desk) -> None:
    for user, name in _NAMES.items():
        everywhere.sign_in(user, name=name, email=f"{user}@example.com")
    everywhere.sign_in("3", name="Bob", email="bob@example.com")
    accounts = everywhere.app().accounts()
    assert _of(accounts) == [("3", True), ("4", False), ("2", False), ("1", False)]
    assert (accounts[0].name, accounts[0].email) == ("Bob", "bob@example.com")
    assert accounts[0].expires_at == pytest.approx(time.time() + 3600, abs=20)
    assert "bob@example.com" not in repr(accounts)
    assert len({*accounts, *accounts}) == 4
    assert everywhere.provider.calls == 0


def test_accounts_without_usable_tokens_of_this_client_are_left_out(everywhere: Desk) -> None:
    everywhere.sign_in("gone")
    everywhere.store.delete("gone")
    expired = replace(everywhere.sign_in("expired"), refresh_token=None, issued_at=0.0)
    everywhere.store.save("expired", replace(expired, expires_in=1))
    for user, member in (("client", {"client_id": "other"}), ("issuer", {"issuer": "https://other"})):
        everywhere.store.save(user, replace(everywhere.sign_in(user), **member))  # type: ignore[arg-type]
    assert everywhere.app().accounts() == []
    tokens = everywhere.sign_in("alice", name="Alice")
    everywhere.store.backend.put("oauth:tokens:damaged", b"{", Terms(group="oauth:tokens"))
    everywhere.store.backend.put(f"oauth:profile:{len('stub-client')}:stub-client:alice", b"garbage")
    (account,) = everywhere.app().accounts()
    assert (account.user_id, account.name, account.scope) == ("alice", "", tokens.scope)


def test_hundreds_of_accounts_with_any_id_and_any_profile(desk: Desk) -> None:
    for number in range(300):
        desk.sign_in(f"user {number}", name=[number], email={"x": None}, login="\x1b[2J" * number)
    for user in HOSTILE_KEYS:
        desk.sign_in(user, name=7, preferred_username=" ")
    accounts = desk.app().accounts()
    assert len(accounts) == 300 + len(set(HOSTILE_KEYS))
    assert all(account.email == "" for account in accounts)


def test_an_outage_is_no_empty_list_and_no_lost_account(desk: Desk) -> None:
    desk.sign_in("alice")
    desk.sign_in("bob")
    faulty = FaultyBackend(desk.store.backend)
    app = PyWry(provider=desk.provider, token_store=TokenStore(faulty))

    def fail(operation: str, key: str) -> None:
        raise StoreUnavailable("The store is down.")

    faulty.before = fail
    calls: list[Callable[[], object]] = [
        app.accounts,
        lambda: app.switch("alice"),
        lambda: app.get_access_token("alice"),
        lambda: app.request_session("https://api.example.com", account="alice"),
        lambda: app.logout("alice"),
    ]
    for call in calls:
        with pytest.raises(StoreUnavailable):
            call()
        assert repr(app) == "<PyWry: no user yet>"
    faulty.before = lambda operation, key: None
    assert _of(app.accounts()) == [("bob", True), ("alice", False)]


# Switching


def test_a_switch_is_for_this_object_and_later_processes(everywhere: Desk) -> None:
    """Another object keeps the user that it has found. [N16]"""
    for user in ("alice", "bob"):
        everywhere.sign_in(user, name=user.title())
    here, there = everywhere.app(), everywhere.app()
    assert there.user_info == {"sub": "bob", "name": "Bob"}
    account = here.switch("alice")
    assert (account.user_id, account.name, account.current) == ("alice", "Alice", True)
    assert here.user_info == {"sub": "alice", "name": "Alice"}
    assert here.get_access_token() == "access.alice.0"
    assert _of(everywhere.app().accounts()) == [("alice", True), ("bob", False)]
    assert _of(there.accounts()) == [("bob", True), ("alice", False)], "it keeps the user that it found"
    assert everywhere.provider.calls == 0


def test_an_unknown_account_is_not_selected_and_the_text_says_what_to_do(everywhere: Desk) -> None:
    everywhere.sign_in("alice")
    app = everywhere.app()
    for user in ("bob", "", "\x1b[2J\n"):
        with pytest.raises(TokenExpiredError, match=r"choose one of accounts\(\), or sign in") as caught:
            app.switch(user)
        assert str(caught.value).isprintable()
        assert caught.value.error == "not_signed_in"
        with pytest.raises(TokenExpiredError, match=r"choose one of accounts\(\)"):
            app.get_access_token(user)
        with pytest.raises(TokenExpiredError, match=r"choose one of accounts\(\)"):
            app.request_session("https://api.example.com", account=user)
        assert app.logout(user) is False
    assert _of(everywhere.app().accounts()) == [("alice", True)]
    with pytest.raises(AuthenticationError, match="No provider is configured"):
        PyWry().switch("alice")


def test_a_user_who_is_signed_out_during_a_switch_is_not_adopted(desk: Desk) -> None:
    for user in ("alice", "bob"):
        desk.sign_in(user)
    faulty = FaultyBackend(desk.store.backend)
    app = PyWry(provider=desk.provider, token_store=TokenStore(faulty))

    def sign_out(operation: str, key: str) -> None:
        if operation == "put" and "current" in key:
            faulty.before = lambda operation, key: None
            assert desk.app().logout("alice")

    faulty.before = sign_out
    with pytest.raises(TokenExpiredError):
        app.switch("alice")
    assert not app.is_authenticated
    assert _of(desk.app().accounts()) == [("bob", False)]


# Signing out


def test_a_named_account_is_signed_out_and_the_others_stay(everywhere: Desk) -> None:
    """The current user stays the current one. [N16]"""
    for user in ("alice", "bob", "carol"):
        everywhere.sign_in(user)
    app, other = everywhere.app(), everywhere.app()
    assert other.is_authenticated
    assert app.logout("alice") is True
    assert set(everywhere.provider.revoked) == {"access.alice.0", "refresh.alice.0"}
    assert _of(app.accounts()) == [("carol", True), ("bob", False)]
    assert app.logout("alice") is False
    assert other.logout("carol") is True
    for each in (app, other, everywhere.app()):
        assert not each.is_authenticated
        assert _of(each.accounts()) == [("bob", False)], "no other user becomes the current one"
    assert app.switch("bob").current
    assert app.is_authenticated


def test_a_named_sign_out_finishes_that_users_revocations(desk: Desk) -> None:
    """For a user without any, it makes no call."""
    for user in ("alice", "bob"):
        desk.store.revocations.add(user, desk.sign_in(user))
        desk.store.delete(user)
    assert desk.app().logout("carol") is False
    assert desk.provider.revoked == []
    assert desk.app().logout("alice") is True
    assert {"access.alice.0", "refresh.alice.0"} <= set(desk.provider.revoked)
    assert desk.app().logout("alice") is False


# Tokens of another account


def test_another_accounts_tokens_are_used_without_a_switch(everywhere: Desk) -> None:
    for user in ("alice", "bob"):
        everywhere.sign_in(user)
    app = everywhere.app()
    assert app.get_access_token("alice") == "access.alice.0"
    assert app.get_access_token("bob") == app.get_access_token() == "access.bob.0"
    assert _of(app.accounts()) == [("bob", True), ("alice", False)]
    session = app.request_session("https://api.example.com", account="alice")
    everywhere.sign_in("alice")
    assert session is not app.request_session("https://api.example.com")
    app.close()
    assert app.get_access_token("alice") == "access.alice.0"


def test_threads_share_the_refresh_of_another_account(desk: Desk) -> None:
    for user in ("alice", "bob"):
        desk.sign_in(user)
    stale = desk.store.load("alice")
    assert stale is not None
    desk.store.save("alice", replace(stale, issued_at=0.0))
    app = desk.app()
    assert set(together(8, lambda index: app.get_access_token("alice"))) == {"access.alice.1"}
    assert desk.provider.calls == 1
    assert app.get_access_token() == "access.bob.0"


# Overlapping processes


@pytest.fixture(params=["sqlite", "redis"])
def stores(
    request: pytest.FixtureRequest, tmp_path: Path, redis_server: RedisServer
) -> Callable[[], TokenStore]:
    """Open the same store again, as another process does."""
    if request.param == "sqlite":
        return lambda: SQLiteTokenStore(tmp_path / "tokens.sqlite3")
    redis_server.client.flushall()
    return lambda: RedisTokenStore(redis_server.url)


def test_switches_sign_outs_and_sign_ins_at_once_lose_no_tokens(stores: Callable[[], TokenStore]) -> None:
    """Each grant is stored under its user or revoked, and the current user is one with tokens. [T43]"""
    provider = StubProvider(time.time)
    desks = [Desk(stores(), provider) for _ in range(5)]
    for number in range(12):
        granted = {user: desks[0].sign_in(user) for user in (f"alice{number}", f"bob{number}")}
        alice, bob, carol = *granted, f"carol{number}"

        def act(index: int, alice: str = alice, bob: str = bob, carol: str = carol) -> object:
            app = desks[index].app()
            steps: list[Callable[[], object]] = [
                lambda: app.switch(alice).user_id,
                lambda: app.switch(bob).user_id,
                lambda: app.logout(bob),
                lambda: desks[index].sign_in(carol),
                lambda: [account.user_id for account in app.accounts()],
            ]
            try:
                return steps[index]()
            except TokenExpiredError:
                return None

        to_alice, to_bob, _, tokens, listed = together(5, act)
        assert isinstance(tokens, OAuthTokenSet)
        assert to_alice == alice
        assert to_bob in (bob, None)
        assert isinstance(listed, list)
        assert alice in listed
        left = {account.user_id: account for account in desks[0].app().accounts()}
        assert {alice, carol} <= set(left)
        assert bob not in left
        assert f"refresh.{bob}.0" in provider.revoked
        current = [user for user, account in left.items() if account.current]
        assert current in ([alice], [carol], [])
        for user in (alice, carol):
            assert desks[0].app().logout(user)
    assert desks[0].app().accounts() == []
    for desk in desks:
        desk.store.close()


# The sign-in of another account, and the background


@pytest.fixture
def idp() -> Iterator[IdentityProvider]:
    with IdentityProvider(signing_algorithm="ES256") as idp:
        yield idp


@pytest.fixture
def app(idp: IdentityProvider) -> Iterator[PyWry]:
    provider = GenericOIDCProvider(DEFAULT_CLIENTS[0].client_id, issuer_url=idp.issuer)
    app = PyWry(provider=provider, token_store=MemoryTokenStore())
    yield app
    app.close()
    provider.close()


def _ignore(message: str) -> None:
    """Ignore the address: the person has it already."""


def _window(person: Person) -> dict[str, Any]:
    return {"show_window": person.open, "close_window": person.close, "notify": _ignore}


def test_a_known_account_without_tokens_fills_in_its_address_at_the_provider(app: PyWry) -> None:
    """The user can still sign in as another one, and the result names that user. [S5, N16]"""
    first, again, other = Person(), Person(), Person("bob", "builder")
    app.login(**_window(first))
    assert "login_hint" not in dict(parameters_of(first.url))
    app.login(force=True, account="user-alice", **_window(again))
    assert dict(parameters_of(again.url))["login_hint"] == "alice@example.com"
    result = app.login(force=True, account="user-alice", login_hint="mine", **_window(other))
    assert dict(parameters_of(other.url))["login_hint"] == "mine"
    assert result.user_id == "user-bob"
    assert _of(app.accounts()) == [("user-bob", True), ("user-alice", False)]


@dataclass
class Window:
    """What ``done`` received."""

    calls: list[tuple[AuthFlowResult | None, BaseException | None]] = field(default_factory=list)
    threads: list[threading.Thread] = field(default_factory=list)

    def done(self, result: AuthFlowResult | None, error: BaseException | None) -> None:
        """Note the outcome."""
        self.calls.append((result, error))
        self.threads.append(threading.current_thread())


def test_a_login_in_the_background_reports_its_result_once(app: PyWry) -> None:
    window = Window()
    login = app.login_in_background(window.done, **_window(Person()))
    assert login.wait(20)
    ((result, error),) = window.calls
    assert result is not None
    assert (result.user_id, error) == ("user-alice", None)
    assert app.is_authenticated
    (thread,) = window.threads
    assert thread is not threading.current_thread()
    assert thread.daemon, "the exit of the interpreter must not wait for a user"
    login.cancel()
    assert len(window.calls) == 1


def test_a_login_in_the_background_can_be_cancelled_at_any_moment(app: PyWry) -> None:
    """Also before the thread has begun, and while the user signs in. [L11]"""
    for _ in range(5):
        window = Window()
        login = app.login_in_background(window.done, **_window(Person(action="")) | {"show_window": _unseen})
        login.cancel()
        assert login.wait(20)
        ((result, error),) = window.calls
        assert result is None
        assert getattr(error, "error", "") == "cancelled"
    shown, window = threading.Event(), Window()
    login = app.login_in_background(window.done, notify=_ignore, show_window=lambda *_: _set(shown))
    assert shown.wait(20)
    assert repr(app) == "<PyWry: signing in>"
    assert not login.wait(0)
    login.cancel()
    assert login.wait(20)
    assert getattr(window.calls[0][1], "error", "") == "cancelled"
    assert repr(app) == "<PyWry: no user yet>"


def _unseen(url: str, config: object) -> str:
    return "unseen"


def _set(event: threading.Event) -> str:
    event.set()
    return "a window"


def test_a_login_of_one_account_does_not_join_that_of_another(app: PyWry) -> None:
    """A user with stored tokens needs no browser, while another one signs in."""
    app.login(**_window(Person("bob", "builder")))
    shown, window = threading.Event(), Window()
    waiting = app.login_in_background(
        window.done, force=True, notify=_ignore, show_window=lambda *_: _set(shown)
    )
    assert shown.wait(20)
    assert app.login(account="user-bob", timeout=20).user_id == "user-bob"
    assert not waiting.wait(0)
    waiting.cancel()
    assert waiting.wait(20)


def test_a_finished_background_login_cancels_no_later_login(app: PyWry) -> None:
    window = Window()
    finished = app.login_in_background(window.done, mode="silent")
    assert finished.wait(20)
    assert isinstance(window.calls[0][1], LoginRequired)
    person = Person()

    def show(url: str, config: Any) -> str:
        finished.cancel()
        return person.open(url, config)

    assert app.login(show_window=show, close_window=person.close, notify=_ignore).success


def test_wrong_arguments_are_reported_in_the_callers_thread(app: PyWry) -> None:
    window = Window()
    with pytest.raises(AuthenticationError, match="does not exist"):
        app.login_in_background(window.done, mode="magic")  # type: ignore[arg-type]
    with pytest.raises(AuthenticationError, match="silent"):
        app.login_in_background(window.done, prompt="none")
    with pytest.raises(TypeError, match=r"login\(\) has no argument 'colour'"):
        app.login_in_background(window.done, colour="red")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="two arguments"):
        app.login_in_background(None)  # type: ignore[arg-type]
    assert window.calls == []


@pytest.mark.parametrize("fault", [ZeroDivisionError("mine"), SystemExit(3), KeyboardInterrupt()])
def test_an_unexpected_error_reaches_the_window_too(desk: Desk, fault: BaseException) -> None:
    """Without it, the window would wait forever."""
    window, faulty = Window(), FaultyBackend(desk.store.backend)

    def fail(operation: str, key: str) -> None:
        raise fault

    faulty.before = fail
    app = PyWry(provider=desk.provider, token_store=TokenStore(faulty))
    assert app.login_in_background(window.done).wait(20)
    assert window.calls == [(None, fault)]


def test_an_error_of_the_window_is_logged_and_ends_nothing(
    app: PyWry, caplog: pytest.LogCaptureFixture
) -> None:
    waits: list[bool] = []
    begin = threading.Event()

    def done(result: AuthFlowResult | None, error: BaseException | None) -> None:
        assert begin.wait(20)
        waits.append(login.wait())  # it would wait for itself
        raise ZeroDivisionError("mine")

    login = app.login_in_background(done, mode="silent")
    begin.set()
    assert login.wait(20)
    assert waits == [False]
    assert "login_in_background() failed" in caplog.text
    assert "ZeroDivisionError" in caplog.text


# What repr shows


def test_a_repr_shows_the_user_and_the_time_without_the_store(desk: Desk) -> None:
    tokens = desk.sign_in("248289", name="Alice\n\x1b[2J" + "x" * 100)
    desk.store.save("248289", replace(tokens, expires_in=10**9))
    app = desk.app()
    assert repr(app) == "<PyWry: no user yet>"
    assert app.is_authenticated
    shown = repr(app)
    assert shown.isprintable()
    assert shown.startswith("<PyWry: Alice??[2Jxxx")
    assert "(248289), until 20" in shown
    assert len(shown) < 130
    assert repr(app.session_manager).startswith("<SessionManager: 248289, until 20")
    app.logout()
    assert repr(app) == "<PyWry: signed out>"


@pytest.mark.parametrize("expires_at", [None, 0.0, 1e300, float("nan"), float("inf")])
def test_a_time_that_is_over_or_unknown_is_left_out(expires_at: float | None) -> None:
    assert described("bob", {"name": "bob"}, expires_at) == "bob"


def test_a_time_today_has_no_date() -> None:
    assert re.fullmatch(r", until [0-2][0-9]:[0-5][0-9]", until(time.time() + 60))
