"""A login that must not ask its user says so at once."""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pywry_auth.app import PyWry
from pywry_auth.backends.file_locks import FileLocks, default_folder
from pywry_auth.exceptions import (
    AuthenticationError,
    AuthFlowTimeout,
    LoginRequired,
    TokenError,
    TokenRefreshError,
)
from pywry_auth.providers.oidc import GenericOIDCProvider
from pywry_auth.state.token_stores import MemoryTokenStore, SQLiteTokenStore
from pywry_auth.state.tokens import TokenStore
from pywry_auth.testing.identity_provider import DEFAULT_CLIENTS, IdentityProvider, Quirks
from tests.cli.program import COMMAND, scheduled, started
from tests.person import Person

_CLIENT_ID = DEFAULT_CLIENTS[0].client_id
_USER = "user-alice"


@pytest.fixture
def idp() -> Iterator[IdentityProvider]:
    with IdentityProvider(signing_algorithm="ES256") as idp:
        yield idp


@pytest.fixture
def provider(idp: IdentityProvider) -> Iterator[GenericOIDCProvider]:
    provider = GenericOIDCProvider(_CLIENT_ID, issuer_url=idp.issuer)
    yield provider
    provider.close()


@pytest.fixture
def store() -> TokenStore:
    return MemoryTokenStore()


@pytest.fixture
def app(provider: GenericOIDCProvider, store: TokenStore) -> Iterator[PyWry]:
    app = PyWry(provider=provider, token_store=store)
    yield app
    app.close()


@pytest.fixture(autouse=True)
def _unattended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Take away the display and the terminal."""
    for name in (
        "DISPLAY",
        "WAYLAND_DISPLAY",
        "BROWSER",
        "SSH_CONNECTION",
        "SSH_TTY",
        "TMUX",
        "STY",
        "ZELLIJ",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "stdin", None)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


def _sign_in(app: PyWry, person: Person | None = None, **more: Any) -> None:
    person = person or Person()
    app.login(
        force=True, show_window=person.open, close_window=person.close, notify=lambda message: None, **more
    )
    app.close()


def _age(store: TokenStore, **more: Any) -> None:
    """Let the stored access token expire."""
    tokens = store.load(_USER)
    assert tokens is not None
    store.replace(_USER, replace(tokens, issued_at=time.time() - 9999, **more), tokens)


def _refuse(*arguments: object) -> str:
    pytest.fail("the user was asked")


def _refused(app: PyWry, reason: str, **more: Any) -> LoginRequired:
    """Return the error of a silent login, which must print and open nothing."""
    with pytest.raises(LoginRequired, match=reason) as caught:
        app.login(mode="silent", show_window=_refuse, notify=_refuse, **more)
    assert (caught.value.error, caught.value.provider) == ("login_required", "oidc")
    return caught.value


def test_a_silent_login_uses_and_refreshes_stored_tokens(
    idp: IdentityProvider, app: PyWry, store: TokenStore
) -> None:
    _sign_in(app)
    calls = idp.calls
    assert app.login(mode="silent").user_id == _USER
    assert idp.calls == calls
    _age(store)
    assert app.login(mode="silent").tokens == store.load(_USER)
    assert (idp.calls - calls)["token"] == 1


def test_a_silent_login_without_a_stored_user_says_why(
    idp: IdentityProvider, app: PyWry, capsys: pytest.CaptureFixture[str]
) -> None:
    error = _refused(app, "No user of this program is stored: sign in first.*BACKEND=auto.*mode=.silent.")
    assert "Traceback" not in str(error)
    assert error.__cause__ is None
    assert capsys.readouterr() == ("", "")
    assert not idp.calls


def test_a_silent_login_says_what_is_missing(
    app: PyWry, store: TokenStore, provider: GenericOIDCProvider
) -> None:
    _sign_in(app)
    _refused(app, "login_hint", login_hint="bob")
    _refused(app, "tokens are not stored", account="user-bob")
    _refused(app, "lack some of the scopes", scopes=["openid", "groups"])
    assert app.login(mode="silent").user_id == _USER
    _age(store)
    tokens = store.load(_USER)
    assert tokens is not None
    assert provider.revoke_token(tokens.refresh_token or "")
    error = _refused(app, "cannot be refreshed.*invalid_grant.*mode=.silent.")
    assert isinstance(error.__cause__, TokenRefreshError)
    assert "mode=" not in error.reason
    assert "invalid_grant" in error.reason


def test_a_silent_login_without_a_selected_user_says_that_others_are_stored(
    app: PyWry, provider: GenericOIDCProvider, tmp_path: Path
) -> None:
    given: dict[str, Any] = {"provider": provider, "token_store": SQLiteTokenStore(tmp_path / "t.db")}
    for person in (Person(), Person("bob", "builder")):
        _sign_in(app, person, **given)
    app.logout()
    _refused(app, r"No user is selected.*stored user \(account\)", **given)
    assert app.login(mode="silent", account=_USER, **given).user_id == _USER
    app.logout()
    _refused(app, "No user of this program is stored: sign in first. This login", **given)


def test_a_silent_login_without_a_refresh_token_needs_the_user(app: PyWry, store: TokenStore) -> None:
    _sign_in(app)
    _age(store, refresh_token=None)
    _refused(app, "cannot be refreshed")


def test_a_silent_login_reports_an_unreachable_provider_as_such(
    idp: IdentityProvider, app: PyWry, store: TokenStore
) -> None:
    """The tokens are kept, and no user is told to sign in."""
    _sign_in(app)
    _age(store)
    idp.stop()
    with pytest.raises(TokenError) as caught:
        app.login(mode="silent")
    assert caught.value.error == "provider_unreachable"
    assert store.load(_USER) is not None


def test_a_silent_login_waits_for_no_browser_of_another_process(
    provider: GenericOIDCProvider, tmp_path: Path
) -> None:
    locks = FileLocks(default_folder())
    handle = locks.take(f"login {_CLIENT_ID}", wait=False)
    assert handle is not None
    try:
        _refused(PyWry(), "No user", provider=provider, token_store=SQLiteTokenStore(tmp_path / "t.db"))
    finally:
        locks.free(handle)


def test_a_silent_login_does_not_join_a_login_that_waits_for_the_user(app: PyWry) -> None:
    person, errors = Person(), list[LoginRequired]()

    def show(url: str, config: Any) -> str:
        thread = threading.Thread(target=lambda: errors.append(_refused(app, "No user")))
        thread.start()
        thread.join(20)
        return person.open(url, config)

    app.login(show_window=show, close_window=person.close, notify=lambda message: None)
    assert len(errors) == 1
    assert app.is_authenticated


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"mode": "window"}, "use auto, browser, device, paste, silent"),
        ({"mode": ""}, "use auto, browser, device, paste, silent"),
        ({"prompt": "none"}, 'mode="silent"'),
        ({"prompt": "login none"}, 'mode="silent"'),
        ({"mode": "silent", "force": True}, "never asks"),
        ({"mode": "silent", "prompt": "login"}, "never asks"),
    ],
)
def test_arguments_that_contradict_each_other_are_refused(
    app: PyWry, arguments: dict[str, Any], text: str
) -> None:
    with pytest.raises(AuthenticationError, match=text) as caught:
        app.login(show_window=_refuse, notify=_refuse, **arguments)
    assert caught.value.error == "invalid_configuration"


# Without a user who could notice


class _Stream:
    """A standard stream, or a closed one."""

    def __init__(self, terminal: bool | None) -> None:
        self._terminal = terminal

    def isatty(self) -> bool:
        if self._terminal is None:
            raise ValueError("I/O operation on closed file")
        return self._terminal

    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> None:
        """Do nothing."""


def test_a_process_without_terminal_and_display_does_not_ask(idp: IdentityProvider, app: PyWry) -> None:
    """A scheduled job never waits. [S5]"""
    for more in ({}, {"force": True}, {"prompt": "login"}, {"mode": "auto"}):
        with pytest.raises(LoginRequired, match=r"no terminal, display.*mode=\"browser\"") as caught:
            app.login(**more)
        assert caught.value.error == "login_required"
    assert not idp.calls


@pytest.mark.parametrize("stream", [_Stream(None), _Stream(False), object(), None])
@pytest.mark.parametrize("name", ["stdin", "stderr"])
def test_a_stream_that_is_no_terminal_does_not_count(
    app: PyWry, monkeypatch: pytest.MonkeyPatch, name: str, stream: object
) -> None:
    with monkeypatch.context() as context:
        context.setattr(sys, name, stream)
        with pytest.raises(LoginRequired):
            app.login()


def test_a_terminal_that_shows_standard_error_can_be_asked(
    app: PyWry, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as context:
        context.setattr(sys, "stderr", _Stream(True))
        with pytest.raises(AuthFlowTimeout):
            app.login(timeout=0.01)


@pytest.mark.parametrize("pipe", [True, False])
def test_a_terminal_as_input_counts_unless_standard_error_is_a_file(
    app: PyWry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, pipe: bool
) -> None:
    """The user reads a pipe through tee, for example. Nothing waits in silence. [S5]"""
    ends = os.pipe()
    with (
        open(ends[0]),
        open(ends[1], "w") as end,
        (tmp_path / "log").open("w") as log,
        monkeypatch.context() as context,
    ):
        context.setattr(sys, "stdin", _Stream(True))
        context.setattr(sys, "stderr", end if pipe else log)
        with pytest.raises(AuthFlowTimeout if pipe else LoginRequired):
            app.login(timeout=0.01)


def test_pasting_needs_a_terminal_or_a_notebook(app: PyWry, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(AuthenticationError, match=r'"paste" needs a terminal.*neither') as caught:
        app.login(mode="paste")
    assert caught.value.error == "invalid_configuration"
    assert capsys.readouterr().err == ""


class _Remote:
    """A user of an SSH session without a browser, and the messages for the user."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self._person = Person()
        self._threads: list[threading.Thread] = []

    def read(self, message: str) -> None:
        self.messages.append(message)
        found = re.search(r"http\S+/device\S*|http\S+/authorize\S+", message)
        assert found is not None, message
        act = self._person.sign_in if "/authorize" in found[0] else self._allow
        self._threads.append(threading.Thread(target=act, args=(found[0],)))
        self._threads[-1].start()

    def _allow(self, uri: str) -> None:
        code = re.search(r"\b[A-Z]{4}-[A-Z]{4}\b", self.messages[-1])
        self._person.approve_device(uri, code[0] if code else "")

    def leave(self) -> None:
        for thread in self._threads:
            thread.join(20)


@pytest.mark.parametrize("refused", [False, True])
def test_a_remote_user_gets_a_device_code_unless_the_provider_refuses(
    monkeypatch: pytest.MonkeyPatch, store: TokenStore, refused: bool
) -> None:
    """The message says first why this way was chosen. [N3]"""
    monkeypatch.setenv("SSH_CONNECTION", "192.0.2.1 50000 192.0.2.9 22")
    quirks = Quirks(device_client_refused=refused, device_interval=1)
    remote = _Remote()
    with IdentityProvider(signing_algorithm="ES256", quirks=quirks) as idp:
        provider = GenericOIDCProvider(_CLIENT_ID, issuer_url=idp.issuer)
        app = PyWry(provider=provider, token_store=store)
        assert app.login(notify=remote.read, timeout=20).user_id == _USER
        remote.leave()
        app.close()
        provider.close()
    (message,) = remote.messages
    if refused:
        lead = "The provider refused a device code (unauthorized_client). This is an SSH session"
        assert message.startswith(lead)
        assert "ssh -L" in message
    else:
        assert message.startswith("This is an SSH session without a browser of its own, so you sign in with")


def test_a_request_that_a_device_code_cannot_carry_uses_the_address(
    monkeypatch: pytest.MonkeyPatch, app: PyWry
) -> None:
    monkeypatch.setenv("SSH_CONNECTION", "192.0.2.1 50000 192.0.2.9 22")
    remote = _Remote()
    assert app.login(notify=remote.read, prompt="login", timeout=20).user_id == _USER
    remote.leave()
    assert "ssh -L" in remote.messages[0]


def test_a_notebook_can_be_asked(app: PyWry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its standard error is no terminal, but the user sees it."""
    monkeypatch.setattr(sys, "ps1", "In : ", raising=False)
    with pytest.raises(AuthFlowTimeout):
        app.login(timeout=0.01)


@pytest.mark.parametrize(
    "more",
    [
        {"show_window": lambda url, config: "a window"},
        {"notify": lambda message: None},
        {"mode": "browser"},
    ],
)
def test_a_program_that_shows_the_address_itself_asks(app: PyWry, more: dict[str, Any]) -> None:
    with pytest.raises(AuthFlowTimeout):
        app.login(timeout=0.01, **more)


@pytest.mark.parametrize("variables", [{"BROWSER": "true"}, {"DISPLAY": ":7", "BROWSER": "true"}])
def test_a_display_can_be_asked_unless_the_settings_switch_the_browser_off(
    idp: IdentityProvider, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    oauth2 = {"PROVIDER": "oidc", "CLIENT_ID": _CLIENT_ID, "ISSUER_URL": idp.issuer}
    for name, value in {**{f"PYWRY_OAUTH2__{n}": v for n, v in oauth2.items()}, **variables}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(AuthFlowTimeout):
        PyWry().login(timeout=0.01)
    monkeypatch.setenv("PYWRY_OAUTH2__OPEN_BROWSER", "false")
    with pytest.raises(LoginRequired, match=r"no terminal.* OPEN_BROWSER is false") as caught:
        PyWry().login(timeout=0.01)
    assert "display" not in str(caught.value)


def test_a_login_without_any_time_prints_the_address_as_before(
    app: PyWry, capsys: pytest.CaptureFixture[str]
) -> None:
    """Programs that use ``timeout=0`` catch ``AuthFlowTimeout``."""
    with pytest.raises(AuthFlowTimeout, match=r"leaves no time.*mode=.silent.") as caught:
        app.login(timeout=0)
    assert "within" not in str(caught.value)
    assert "http" in capsys.readouterr().err


def test_the_command_has_a_status_of_its_own_when_it_cannot_ask(
    idp: IdentityProvider, tmp_path: Path
) -> None:
    settings = {
        "PYWRY_OAUTH2__PROVIDER": "oidc",
        "PYWRY_OAUTH2__CLIENT_ID": _CLIENT_ID,
        "PYWRY_OAUTH2__ISSUER_URL": idp.issuer,
        "PYWRY_OAUTH2__TOKEN_STORE_BACKEND": "sqlite",
        "XDG_STATE_HOME": str(tmp_path),
    }

    def job(*more: str) -> tuple[int, str, str]:
        with scheduled(COMMAND, "login", *more, **settings) as program:
            return program.end()

    status, out, err = job()
    assert (status, out, err.count("\n")) == (4, "", 1)
    assert "No user of this program is stored" in err
    assert "Run pywry-auth login in a terminal" in err
    assert not any(word in err for word in ("mode=", "show_window", "notify"))
    for _ in range(2):  # --force asks again
        with started(COMMAND, "login", "--force", **settings) as program:
            Person().sign_in(program.url())
            assert program.end()[0] == 0
    assert job("--force")[0] == 4
    assert idp.calls["token"] == 2
