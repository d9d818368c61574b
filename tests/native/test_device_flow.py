"""A program's login on another device, at the local provider."""

from __future__ import annotations

import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pywry_auth.app import PyWry
from pywry_auth.config import OAuth2Settings, PyWrySettings
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import (
    AuthenticationError,
    AuthFlowCancelled,
    AuthFlowTimeout,
    StoreUnavailable,
    TokenError,
)
from pywry_auth.flow.events import Event, LoginFailed, LoginSucceeded, listen, unlisten
from pywry_auth.models import OAuthTokenSet
from pywry_auth.native.device_flow import DeviceFlow
from pywry_auth.protocol.device import DeviceAuthorization
from pywry_auth.providers.oidc import GenericOIDCProvider
from pywry_auth.state.token_stores import MemoryTokenStore
from pywry_auth.testing.identity_provider import DEFAULT_CLIENTS, IdentityProvider
from tests.native.stub_provider import StubProvider
from tests.person import Person
from tests.waiting import await_threads

_CLIENT_ID = DEFAULT_CLIENTS[0].client_id
_SECONDS = 20


@pytest.fixture
def idp() -> Iterator[IdentityProvider]:
    with IdentityProvider(signing_algorithm="ES256", device_interval=0.1) as idp:
        yield idp


@pytest.fixture
def provider(idp: IdentityProvider) -> Iterator[GenericOIDCProvider]:
    provider = GenericOIDCProvider(_CLIENT_ID, issuer_url=idp.issuer)
    yield provider
    provider.close()


@pytest.fixture
def app(provider: GenericOIDCProvider) -> Iterator[PyWry]:
    app = PyWry(provider=provider, token_store=MemoryTokenStore())
    yield app
    app.close()


@pytest.fixture
def events() -> Iterator[list[Event]]:
    seen: list[Event] = []

    def note(sender: object, event: Event) -> None:
        seen.append(event)

    listen(note)
    yield seen
    unlisten(note)


@pytest.fixture(autouse=True)
def _own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


class User:
    """A user that reads the message, and answers at the provider's page."""

    def __init__(self, deny: bool = False) -> None:
        self.messages: list[str] = []
        self.deny = deny

    def __call__(self, message: str) -> None:
        self.messages.append(message)
        address, code = self.read()
        person = Person()
        (person.deny_device if self.deny else person.approve_device)(address, code)

    def read(self) -> tuple[str, str]:
        """Return the two lines that are set apart."""
        address, code = (line.strip() for line in self.messages[-1].splitlines() if line.startswith("    "))
        return address, code


def test_a_user_signs_in_on_another_device(
    app: PyWry, provider: GenericOIDCProvider, events: list[Event]
) -> None:
    """The message says where, which code, for which client, and for how long; a second login is silent."""
    user = User()
    result = app.login(mode="device", notify=user)
    assert (result.user_id, result.user_info["name"]) == ("user-alice", "Alice Example")
    assert app.get_access_token() == result.tokens.access_token
    address, _ = user.read()
    (message,) = user.messages
    assert address.endswith("/device")
    assert f"sign in at {address.split('/')[2]}" in message
    for part in ("only if you started this sign-in", "10 minutes", _CLIENT_ID, "openid email profile"):
        assert part in message
    assert app.login(mode="device", notify=user).user_id == "user-alice"
    assert len(user.messages) == 1
    assert app.login(mode="device", notify=user, force=True).user_id == "user-alice"
    assert len(user.messages) == 2
    first, *others = events
    assert len(others) == 2
    assert all(isinstance(event, LoginSucceeded) for event in events)
    assert isinstance(first, LoginSucceeded)
    assert first.seconds is not None


def test_scopes_of_one_login_are_requested(app: PyWry) -> None:
    user = User()
    result = app.login(mode="device", notify=user, scopes=["openid", "profile"])
    assert set(result.tokens.scope.split()) == {"openid", "profile"}
    assert "with openid profile." in user.messages[0]


def test_a_denied_request_fails_with_an_event(app: PyWry, events: list[Event]) -> None:
    with pytest.raises(AuthenticationError, match="Sign-in was refused at the provider") as caught:
        app.login(mode="device", notify=User(deny=True))
    assert (caught.value.error, caught.value.provider) == ("access_denied", "oidc")
    (event,) = events
    assert isinstance(event, LoginFailed)
    assert event.error == "access_denied"


def test_no_code_is_logged(
    app: PyWry, provider: GenericOIDCProvider, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither code appears at any level, in errors, or in a representation. [T31]"""
    user, seen = User(), []
    original = provider.request_device_authorization

    def request() -> Any:
        seen.append(original())
        return seen[-1]

    provider.request_device_authorization = request  # type: ignore[method-assign]
    with caplog.at_level(logging.DEBUG):
        app.login(mode="device", notify=user)
        with pytest.raises(AuthenticationError) as caught:
            app.login(mode="device", notify=User(deny=True), force=True)
    told = caplog.text + str(caught.value) + repr(caught.value) + repr(seen)
    assert len(seen) == 2
    for authorization in seen:
        for secret in (authorization.device_code, authorization.user_code):
            assert secret not in told
            assert secret.replace("-", "") not in told


@pytest.mark.parametrize("arguments", [{"prompt": "login"}, {"login_hint": "alice"}])
def test_parameters_that_the_grant_cannot_carry_are_refused(app: PyWry, arguments: dict[str, str]) -> None:
    with pytest.raises(AuthenticationError, match="cannot pass prompt or login_hint") as caught:
        app.login(mode="device", **arguments)  # type: ignore[arg-type]
    assert caught.value.error == "invalid_configuration"


def test_cancel_ends_a_login_at_once(app: PyWry, idp: IdentityProvider) -> None:
    """The user never answered."""

    def cancel(message: str) -> None:
        threading.Timer(0.05, app.cancel).start()

    with pytest.raises(AuthFlowCancelled):
        app.login(mode="device", notify=cancel)
    with pytest.raises(AuthFlowTimeout, match="leaves no time"):
        app.login(mode="device", timeout=0)


@pytest.mark.parametrize(
    ("timeout", "setting", "expected"), [(None, None, 600), (30.0, 60.0, 30), (None, 60.0, 60)]
)
def test_a_device_has_the_lifetime_of_the_code_unless_a_limit_is_chosen(
    provider: GenericOIDCProvider, timeout: float | None, setting: float | None, expected: float
) -> None:
    """The usual 120 s for a browser are too short for another device."""
    chosen = {} if setting is None else {"auth_timeout_seconds": setting}
    settings = PyWrySettings(oauth2=OAuth2Settings(provider="custom", client_id="unused", **chosen))  # type: ignore[arg-type]
    app = PyWry(settings, provider=provider, token_store=MemoryTokenStore())
    told: list[str] = []

    def stop(message: str) -> None:
        told.append(message)
        raise AuthFlowCancelled("seen")

    with pytest.raises(AuthFlowCancelled):
        app.login(mode="device", notify=stop, timeout=timeout)
    duration = f"{expected} seconds" if expected < 120 else f"{expected // 60} minutes"
    assert f"valid for {duration}" in " ".join(told[0].split())


class _Unwritable(MemoryTokenStore):
    def save(self, key: str, tokens: OAuthTokenSet, **options: Any) -> bool:
        raise StoreUnavailable("the disk is full")


def test_tokens_that_cannot_be_stored_are_revoked(
    idp: IdentityProvider, provider: GenericOIDCProvider
) -> None:
    """[T43]"""
    with pytest.raises(StoreUnavailable):
        DeviceFlow(provider, _Unwritable(), notify=User()).sign_in()
    assert idp.calls["revoke"] == 2


def test_a_flow_that_was_cancelled_before_it_began_asks_nothing(
    idp: IdentityProvider, provider: GenericOIDCProvider
) -> None:
    flow = DeviceFlow(provider, notify=User())
    flow.cancel()
    with pytest.raises(AuthFlowCancelled) as caught:
        flow.sign_in()
    assert caught.value.flow_id
    assert not idp.calls


_CODES = DeviceAuthorization("canary-device", "WDJB-MJHT", "https://id.example.com/device", interval=0.001)


class _Scripted(StubProvider):
    """A provider that runs a function at the poll."""

    poll: Callable[[], OAuthTokenSet]
    polls = 0

    def request_device_authorization(self) -> DeviceAuthorization:
        return _CODES

    def poll_device_authorization(self, authorization: DeviceAuthorization) -> OAuthTokenSet:
        assert authorization is _CODES
        self.polls += 1
        return self.poll()

    def get_userinfo(self, access_token: str) -> dict[str, Any]:
        return {"sub": "alice"}


def _flow(poll: Callable[[], OAuthTokenSet], **more: Any) -> tuple[DeviceFlow, _Scripted, MemoryTokenStore]:
    provider, store = _Scripted(time.time), MemoryTokenStore()
    provider.poll = poll
    return DeviceFlow(provider, store, notify=lambda message: None, **more), provider, store


def _settle() -> None:
    await_threads("pywry-auth-call", "pywry-auth-guard", seconds=_SECONDS)


def _tokens(**more: Any) -> OAuthTokenSet:
    return OAuthTokenSet("access", refresh_token="refresh", client_id="stub-client", **more)


def test_the_tokens_of_a_device_carry_a_new_grant() -> None:
    flow, provider, store = _flow(_tokens)
    result = flow.sign_in()
    assert result.tokens.grant is not None
    assert result.tokens.grant.subject == "alice"
    assert store.load("alice") == result.tokens
    assert provider.revoked == []


def test_a_nonce_that_was_not_sent_is_refused() -> None:
    """The tokens are revoked, and the advice names no setting that does not apply. [T43]"""
    flow, provider, _ = _flow(lambda: _tokens(id_token_claims={"sub": "alice", "nonce": "another-login"}))
    with pytest.raises(TokenError) as caught:
        flow.sign_in()
    assert caught.value.error == "invalid_id_token"
    assert "USE_NONCE" not in str(caught.value)
    assert provider.revoked == ["refresh", "access"]


@pytest.mark.parametrize("refused", [False, True])
@pytest.mark.parametrize("end", ["cancel", "deadline"])
def test_the_end_of_a_login_waits_for_no_poll(refused: bool, end: str) -> None:
    """Tokens that arrive afterwards are revoked. [T43]"""
    go_on = threading.Event()

    def hang() -> OAuthTokenSet:
        if end == "cancel":
            flow.cancel()
        assert go_on.wait(_SECONDS)
        if refused:
            raise TokenError("Refused.", error="access_denied")
        return _tokens()

    flow, provider, store = _flow(hang, auth_timeout=_SECONDS if end == "cancel" else 0.1)
    with pytest.raises(AuthFlowCancelled if end == "cancel" else AuthFlowTimeout):
        flow.sign_in()
    assert provider.revoked == []
    go_on.set()
    _settle()
    assert provider.revoked == ([] if refused else ["refresh", "access"])
    assert store.list_keys() == []


def test_tokens_that_cannot_be_revoked_at_once_stay_in_the_queue() -> None:
    """[T43]"""

    def poll() -> OAuthTokenSet:
        flow.cancel()
        provider.request_revocation = _away  # type: ignore[method-assign]
        return _tokens(id_token_claims={"sub": "alice"})

    flow, provider, store = _flow(poll)
    with pytest.raises(AuthFlowCancelled):
        flow.sign_in()
    _settle()
    (queued,) = store.revocations.of_user("alice", lambda tokens: True)
    assert queued.tokens.refresh_token == "refresh"


def _away(token: str) -> bool | None:
    raise TokenError("The provider could not be reached.", error=ErrorCode.PROVIDER_UNREACHABLE)


@pytest.mark.parametrize("moment", ["start of the thread", "poll", "profile"])
def test_an_interrupt_loses_no_tokens(moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C arrives in the thread of the login, also while it starts another thread. [T43]"""
    original = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        original(thread)
        here = threading.current_thread() is threading.main_thread()
        if moment == "start of the thread" and polled and here:
            raise KeyboardInterrupt

    def interrupt(at: str) -> None:
        if moment == at:
            signal.raise_signal(signal.SIGINT)
            time.sleep(0.05)

    def poll() -> OAuthTokenSet:
        interrupt("poll")
        return _tokens()

    def profile(access_token: str) -> dict[str, Any]:
        interrupt("profile")
        return {"sub": "alice"}

    polled: list[float] = []

    def wait(seconds: float) -> bool:
        polled.append(seconds)
        return False

    flow, provider, store = _flow(poll, wait=wait)
    provider.get_userinfo = profile  # type: ignore[method-assign]
    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(KeyboardInterrupt):
        flow.sign_in()
    monkeypatch.undo()
    _settle()
    assert provider.polls == 1
    assert (store.list_keys() == ["alice"]) != (provider.revoked == ["refresh", "access"])


def test_a_code_that_cannot_be_shown_ends_the_login(
    provider: GenericOIDCProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wait for a user that has seen nothing would be in silence. [N2]"""
    monkeypatch.setattr(sys, "stderr", None)
    with pytest.raises(AuthenticationError, match=r"the code cannot be shown.*pass notify"):
        DeviceFlow(provider).sign_in()
