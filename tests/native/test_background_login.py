"""Which logins a cancellation ends, and which ones it does not."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pywry_auth.app import PyWry
from pywry_auth.backends.options import StorageOptions
from pywry_auth.config import OAuth2Settings, PyWrySettings
from pywry_auth.exceptions import AuthFlowCancelled, AuthFlowTimeout
from pywry_auth.models import AuthFlowResult
from pywry_auth.native.background_login import BackgroundLogin
from pywry_auth.state.tokens import TokenStore
from tests.native.sockets import Running
from tests.native.steps import PATIENCE, SteppedBackend, SteppedProvider, Steps, settle, visit


class _Desk:
    """A program, and the ends of its background logins."""

    def __init__(self) -> None:
        self.steps = Steps()
        self.provider = SteppedProvider(self.steps)
        self.backend = SteppedBackend(self.steps, local=True)
        self.store = TokenStore(self.backend)
        self.app = PyWry(provider=self.provider, token_store=self.store)
        self.shown = threading.Event()
        self.ends: list[AuthFlowResult | BaseException | None] = []

    def begin(self, **more: Any) -> BackgroundLogin:
        given: dict[str, Any] = {"mode": "browser", "notify": _ignore, "show_window": self.wait_in_vain}
        return self.app.login_in_background(
            lambda result, error: self.ends.append(result or error), **given | more
        )

    def wait_in_vain(self, url: str, config: object) -> str:
        self.shown.set()
        return "window"

    def sign_in(self, **more: Any) -> AuthFlowResult:
        given: dict[str, Any] = {"mode": "browser", "notify": _ignore, "show_window": _answer}
        return self.app.login(**given | more)

    def age(self) -> None:
        """Let the stored access token expire."""
        tokens = self.store.load("alice")
        assert tokens is not None
        self.store.replace("alice", replace(tokens, issued_at=time.time() - 9999), tokens)

    def hang(self, name: str, until: threading.Event) -> threading.Event:
        """Let a kind of call hang, and return the event that tells that one does."""
        reached, make = threading.Event(), self.steps.make

        def held(called: str, call: Callable[[], Any]) -> Any:
            if called == name:
                reached.set()
                until.wait(PATIENCE)
            return make(called, call)

        self.steps.make = held  # type: ignore[method-assign,assignment]
        return reached


def _ignore(message: str) -> None:
    pass


def _answer(url: str, config: object) -> str:
    threading.Thread(target=visit, args=(url,), daemon=True).start()
    return "window"


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[_Desk]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    desk = _Desk()
    yield desk
    desk.app.cancel()
    settle()
    desk.app.close()


def test_cancelling_a_silent_login_leaves_the_sign_in_of_another_thread(desk: _Desk) -> None:
    """It never joined that one."""
    desk.sign_in()
    desk.age()
    release = threading.Event()
    reached = desk.hang("get", release)
    desk.backend.local = False
    silent = desk.begin(mode="silent")
    assert reached.wait(PATIENCE)
    silent.cancel()
    assert silent.wait(PATIENCE)
    release.set()
    asking = desk.begin(force=True)
    assert desk.shown.wait(PATIENCE)
    silent.cancel()
    assert not asking.wait(0.05)
    asking.cancel()
    assert asking.wait(PATIENCE)
    assert [type(end) for end in desk.ends] == [AuthFlowCancelled] * 2


def test_cancelling_a_login_ends_the_one_that_it_joined(desk: _Desk) -> None:
    first = Running(lambda: desk.sign_in(show_window=desk.wait_in_vain))
    assert desk.shown.wait(PATIENCE)
    second = desk.begin()
    second.wait(0.05)
    second.cancel()
    assert second.wait(PATIENCE)
    with pytest.raises(AuthFlowCancelled):
        first.result()
    assert isinstance(desk.ends[0], AuthFlowCancelled)


def test_a_login_that_was_cancelled_before_it_began_never_signs_in(
    desk: _Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its thread starts late, when another login with usable tokens runs already."""
    desk.sign_in()
    go_on, run = threading.Event(), BackgroundLogin._run  # the thread's function

    def late(login: BackgroundLogin) -> None:
        go_on.wait(PATIENCE)
        run(login)

    monkeypatch.setattr(BackgroundLogin, "_run", late)
    login = desk.begin()
    login.cancel()
    other = Running(lambda: desk.sign_in(force=True, show_window=desk.wait_in_vain))
    assert desk.shown.wait(PATIENCE)
    go_on.set()
    assert login.wait(PATIENCE)
    assert isinstance(desk.ends[0], AuthFlowCancelled)
    desk.app.cancel()
    with pytest.raises(AuthFlowCancelled):
        other.result()


def test_a_login_that_was_cancelled_uses_no_stored_tokens(desk: _Desk) -> None:
    desk.sign_in()
    desk.steps.make = _cancelling(desk)  # type: ignore[method-assign,assignment]
    with pytest.raises(AuthFlowCancelled):
        desk.app.login(mode="silent")


def _cancelling(desk: _Desk) -> Callable[[str, Callable[[], Any]], Any]:
    def make(name: str, call: Callable[[], Any]) -> Any:
        desk.app.cancel()
        return call()

    return make


def test_a_login_after_a_cancellation_does_not_join_the_dying_one(desk: _Desk) -> None:
    """It begins when that one has ended, for example because both need one port."""
    closing, close = threading.Event(), threading.Event()

    def close_window(label: str) -> None:
        closing.set()
        close.wait(PATIENCE)

    first = desk.begin(close_window=close_window)
    assert desk.shown.wait(PATIENCE)
    first.cancel()
    assert closing.wait(PATIENCE)
    second = Running(desk.sign_in)
    third = Running(desk.sign_in)
    time.sleep(0.05)
    assert "exchange" not in desk.steps.names
    with pytest.raises(AuthFlowTimeout):
        desk.sign_in(timeout=0.05)
    close.set()
    assert second.result() == third.result()
    assert desk.steps.names.count("exchange") == 1
    assert first.wait(PATIENCE)
    assert isinstance(desk.ends[0], AuthFlowCancelled)


def test_the_process_does_not_end_while_a_background_login_obtains_tokens(desk: _Desk) -> None:
    """Its thread is a daemon, so another one keeps the process alive until the tokens are stored. [T43]"""
    release = threading.Event()
    reached = desk.hang("poll", release)
    login = desk.begin(mode="device", show_window=None)
    assert reached.wait(PATIENCE)
    assert [thread.name for thread in threading.enumerate() if not thread.daemon][-1] == "pywry-auth-guard"
    release.set()
    assert login.wait(PATIENCE)
    assert isinstance(desk.ends[0], AuthFlowResult)


@pytest.mark.parametrize("end", ["cancel", "deadline"])
def test_a_keyring_that_asks_the_user_delays_no_end(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, end: str
) -> None:
    """The store auto looks for the keyring first."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    asked, answered = threading.Event(), threading.Event()

    def wait_for_user(options: StorageOptions) -> StorageOptions:
        asked.set()
        answered.wait(PATIENCE)
        return replace(options, backend="memory")

    monkeypatch.setattr("pywry_auth.state.token_stores.chosen_place", wait_for_user)
    oauth2 = OAuth2Settings(provider="custom", client_id="stub-client", token_store_backend="auto")
    app = PyWry(PyWrySettings(oauth2=oauth2), provider=SteppedProvider(Steps()))
    login = Running(lambda: app.login(mode="silent", timeout=0.1 if end == "deadline" else PATIENCE))
    assert asked.wait(PATIENCE)
    if end == "cancel":
        app.cancel()
    with pytest.raises(AuthFlowCancelled if end == "cancel" else AuthFlowTimeout):
        login.result()
    answered.set()
    settle()


@pytest.mark.parametrize("timeout", [1e10, float("inf")])
def test_a_joined_login_may_have_any_time(desk: _Desk, timeout: float) -> None:
    """The system's longest wait is shorter."""
    release = threading.Event()
    reached = desk.hang("exchange", release)
    first = Running(desk.sign_in)
    assert reached.wait(PATIENCE)
    second = Running(lambda: desk.sign_in(timeout=timeout))
    time.sleep(0.02)
    release.set()
    assert first.result() == second.result()


@pytest.mark.parametrize("end", ["cancel", "deadline"])
def test_a_silent_login_waits_for_no_read_of_a_distant_store(desk: _Desk, end: str) -> None:
    desk.sign_in()
    desk.backend.local = False
    release = threading.Event()
    reached = desk.hang("get", release)
    login = Running(lambda: desk.app.login(mode="silent", timeout=0.1 if end == "deadline" else PATIENCE))
    assert reached.wait(PATIENCE)
    if end == "cancel":
        desk.app.cancel()
    with pytest.raises(AuthFlowCancelled if end == "cancel" else AuthFlowTimeout):
        login.result()
    release.set()


def test_a_silent_login_from_a_local_store_starts_no_worker(
    desk: _Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread would cost more than the reads."""
    desk.sign_in()
    started: list[str] = []
    start = threading.Thread.start

    def note(thread: threading.Thread) -> None:
        started.append(thread.name)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", note)
    assert desk.app.login(mode="silent").user_id == "alice"
    assert started == ["pywry-auth-refresh"]


def test_a_refresh_that_takes_all_of_the_time_is_no_cancellation(desk: _Desk) -> None:
    """The token is due but valid, so the refresh itself is not missed; the login has no time left."""
    desk.sign_in()
    tokens = desk.store.load("alice")
    assert tokens is not None
    desk.store.replace("alice", replace(tokens, issued_at=time.time() - 3570), tokens)
    release = threading.Event()
    desk.provider.before = lambda: release.wait(PATIENCE)
    with pytest.raises(AuthFlowTimeout):
        desk.sign_in(scopes=["more"], timeout=0.1)
    release.set()
