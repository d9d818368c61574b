"""The events of native mode: exactly one each, with the right sender."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from pywry_auth.app import PyWry
from pywry_auth.exceptions import AuthenticationError, AuthFlowCancelled, TokenError
from pywry_auth.flow.events import (
    Event,
    LoginFailed,
    LoginSucceeded,
    SignedOut,
    TokensRefreshed,
    listen,
    unlisten,
)
from pywry_auth.models import AuthFlowResult, AuthorizationRequest
from pywry_auth.native.flow_manager import AuthFlowManager
from pywry_auth.native.session_manager import SessionManager
from pywry_auth.protocol.authorization_response import ResponseParameters
from pywry_auth.providers.oidc import GenericOIDCProvider
from pywry_auth.state.token_stores import MemoryTokenStore
from pywry_auth.testing.identity_provider import DEFAULT_CLIENTS, IdentityProvider
from tests.person import Person
from tests.waiting import count_waiters

_SECONDS = 20
_ALICE: Mapping[str, Any] = {"mode": "native", "user_id": "user-alice", "provider": "oidc"}


class Recorder:
    """A listener that remembers the senders and events."""

    def __init__(self) -> None:
        self.all: list[tuple[object, Event]] = []
        self.refreshed = threading.Event()

    def __call__(self, sender: object, event: Event) -> None:
        self.all.append((sender, event))
        if isinstance(event, TokensRefreshed):
            self.refreshed.set()

    def take(self, sender: object) -> list[Event]:
        """Return the events since the last call, all of which have this sender."""
        assert all(found is sender for found, _ in self.all)
        events = [event for _, event in self.all]
        self.all.clear()
        return events


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    recorder = Recorder()
    listen(recorder)
    yield recorder
    unlisten(recorder)


@pytest.fixture
def idp() -> Iterator[IdentityProvider]:
    with IdentityProvider(signing_algorithm="ES256") as idp:
        yield idp


@pytest.fixture
def provider(idp: IdentityProvider) -> Iterator[GenericOIDCProvider]:
    provider = GenericOIDCProvider(DEFAULT_CLIENTS[0].client_id, issuer_url=idp.issuer)
    yield provider
    provider.close()


@pytest.fixture
def store() -> MemoryTokenStore:
    return MemoryTokenStore()


def _ignore(message: str) -> None:
    """Ignore the address: the person has it already."""


def _login(app: PyWry, provider: GenericOIDCProvider, person: Person, **more: Any) -> AuthFlowResult:
    return app.login(provider, show_window=person.open, close_window=person.close, notify=_ignore, **more)


def _age(store: MemoryTokenStore, seconds_left: float) -> None:
    tokens = store.load("user-alice")
    assert tokens is not None
    assert tokens.expires_in is not None
    store.replace(
        "user-alice", replace(tokens, issued_at=time.time() - tokens.expires_in + seconds_left), tokens
    )


def _plays_alice(request: AuthorizationRequest) -> ResponseParameters:
    return parse_qsl(urlsplit(Person().authorize(request.url)).query)


def test_a_login_a_refresh_and_a_logout_are_one_event_each(
    recorder: Recorder, provider: GenericOIDCProvider, store: MemoryTokenStore
) -> None:
    app = PyWry()
    _login(app, provider, Person(), token_store=store)
    (event,) = recorder.take(app)
    assert isinstance(event, LoginSucceeded)
    assert event.seconds is not None
    assert 0 < event.seconds < _SECONDS
    assert event == LoginSucceeded(**_ALICE, seconds=event.seconds)
    _age(store, 1)
    app.get_access_token()
    app.get_access_token()
    assert recorder.take(app) == [TokensRefreshed(**_ALICE)]
    assert app.logout()
    assert not app.logout()
    assert recorder.take(app) == [SignedOut(**_ALICE)]


@pytest.mark.parametrize("due", [False, True])
def test_a_silent_login_is_one_event_without_a_time(
    recorder: Recorder, provider: GenericOIDCProvider, store: MemoryTokenStore, due: bool
) -> None:
    _login(PyWry(), provider, Person(), token_store=store)
    recorder.all.clear()
    if due:
        _age(store, 1)
    app = PyWry()
    app.login(provider, token_store=store)
    refreshed: list[Event] = [TokensRefreshed(**_ALICE)] if due else []
    assert recorder.take(app) == [*refreshed, LoginSucceeded(**_ALICE, seconds=None)]
    app.close()


def test_the_refresh_in_the_background_is_one_event(
    recorder: Recorder, provider: GenericOIDCProvider, store: MemoryTokenStore
) -> None:
    _login(PyWry(), provider, Person(), token_store=store)
    recorder.all.clear()
    _age(store, 61.5)
    app = PyWry()
    app.login(provider, token_store=store)
    assert recorder.refreshed.wait(_SECONDS)
    app.close()
    assert recorder.take(app) == [LoginSucceeded(**_ALICE), TokensRefreshed(**_ALICE)]


def test_only_the_manager_that_refreshed_emits_an_event(
    recorder: Recorder, provider: GenericOIDCProvider, store: MemoryTokenStore
) -> None:
    _login(PyWry(), provider, Person(), token_store=store)
    recorder.all.clear()
    one, other = (SessionManager(provider, store, "user-alice") for _ in range(2))
    seen = one.get_access_token()
    one.refresh(instead_of=seen)
    other.refresh(instead_of=seen)
    assert recorder.take(one) == [TokensRefreshed(**_ALICE)]


def test_a_thread_that_joins_a_login_emits_nothing(
    recorder: Recorder, provider: GenericOIDCProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, person, waiters = PyWry(), Person(), count_waiters(monkeypatch)
    second = threading.Thread(target=lambda: _login(app, provider, Person()))

    def show(url: str, config: Any) -> str:
        second.start()
        assert waiters.acquire(timeout=_SECONDS)
        return person.open(url, config)

    app.login(provider, show_window=show, close_window=person.close, notify=_ignore)
    second.join(_SECONDS)
    assert [type(event) for event in recorder.take(app)] == [LoginSucceeded]


def test_a_login_that_fails_is_one_event(
    recorder: Recorder, provider: GenericOIDCProvider, store: MemoryTokenStore
) -> None:
    app = PyWry()
    with pytest.raises(AuthenticationError):
        _login(app, provider, Person(action="cancel"), token_store=store)
    assert recorder.take(app) == [LoginFailed(mode="native", provider="oidc", error="access_denied")]

    def close(url: str, config: Any) -> str:
        app.cancel()
        return "a window"

    with pytest.raises(AuthFlowCancelled):
        app.login(provider, token_store=store, show_window=close, notify=_ignore)
    assert recorder.take(app) == [LoginFailed(mode="native", provider="oidc", error="cancelled")]


def test_a_silent_login_that_fails_is_one_event(
    recorder: Recorder, idp: IdentityProvider, provider: GenericOIDCProvider, store: MemoryTokenStore
) -> None:
    _login(PyWry(), provider, Person(), token_store=store)
    recorder.all.clear()
    _age(store, -1)

    def down(environ: Any, start_response: Any) -> list[bytes]:
        start_response("500 Down", [])
        return [b""]

    idp.wrap(lambda inner: down)
    app = PyWry()
    with pytest.raises(TokenError):
        app.login(provider, token_store=store)
    assert recorder.take(app) == [LoginFailed(mode="native", provider="oidc", error="provider_unreachable")]


def test_a_manager_without_a_program_is_the_sender(
    recorder: Recorder, provider: GenericOIDCProvider, store: MemoryTokenStore
) -> None:
    flow = AuthFlowManager(provider, store, handler=_plays_alice)
    flow.run_native()
    assert recorder.take(flow) == [LoginSucceeded(**_ALICE, seconds=flow.seconds)]
    session = SessionManager(provider, store, "user-alice")
    session.refresh()
    session.logout()
    session.logout()
    assert recorder.take(session) == [TokensRefreshed(**_ALICE), SignedOut(**_ALICE)]
    failing = AuthFlowManager(provider, handler=lambda request: [("error", "access_denied")])
    with pytest.raises(AuthenticationError):
        failing.run_native()
    (event,) = recorder.take(failing)
    assert isinstance(event, LoginFailed)


def test_a_listener_finds_the_user_signed_in(
    recorder: Recorder, provider: GenericOIDCProvider, store: MemoryTokenStore
) -> None:
    app, found = PyWry(), list[bool]()

    def look(sender: object, event: Event) -> None:
        found.append(app.is_authenticated)

    listen(look)
    try:
        _login(app, provider, Person(), token_store=store)
        app.logout()
    finally:
        unlisten(look)
    assert found == [True, False]


def test_signals_have_the_program_as_their_sender(
    provider: GenericOIDCProvider, store: MemoryTokenStore
) -> None:
    from pywry_auth.flow.signals import token_refreshed, user_logged_in, user_logged_out

    app, received = PyWry(), list[tuple[str, object]]()

    def logged_in(sender: object, **facts: object) -> None:
        received.append(("in", facts["user_id"]))

    def refreshed(sender: object, **facts: object) -> None:
        received.append(("refreshed", facts["user_id"]))

    def logged_out(sender: object, **facts: object) -> None:
        received.append(("out", facts["user_id"]))

    user_logged_in.connect(logged_in, sender=app)
    token_refreshed.connect(refreshed, sender=app)
    user_logged_out.connect(logged_out, sender=app)
    _login(app, provider, Person(), token_store=store)
    assert app.session_manager is not None
    app.session_manager.refresh()
    app.logout()
    assert received == [(name, "user-alice") for name in ("in", "refreshed", "out")]


def test_native_mode_does_not_import_blinker() -> None:
    program = (
        "import sys, pywry_auth.app, pywry_auth.native.flow_manager, pywry_auth.native.session_manager\n"
        "assert 'blinker' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
