"""A whole native login, and all its possible results. [S5, N8-N11, N14, L]"""

from __future__ import annotations

import asyncio
import logging
import os
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import (
    AuthenticationError,
    AuthFlowCancelled,
    AuthFlowTimeout,
    StoreUnavailable,
    TokenError,
)
from pywry_auth.models import AuthFlowState, AuthorizationRequest, OAuthTokenSet
from pywry_auth.native.flow_manager import AuthFlowManager
from pywry_auth.protocol.authorization_response import AuthorizationCode, ResponseParameters
from pywry_auth.providers.base import OAuthProvider
from pywry_auth.providers.oidc import GenericOIDCProvider
from pywry_auth.state.token_stores import MemoryTokenStore
from pywry_auth.testing.identity_provider import DEFAULT_CLIENTS, IdentityProvider
from tests.native.sockets import PATIENCE, Answer, Client, Running, fetch, is_listening, open_descriptors
from tests.person import Person

COMPLETE = "✅ Authentication Complete — You can close this window."


@pytest.fixture(autouse=True)
def no_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Open no window on the screen of a developer who runs these tests."""
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER", "SSH_CONNECTION", "SSH_TTY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def idp() -> Iterator[IdentityProvider]:
    with IdentityProvider(signing_algorithm="ES256") as idp:
        yield idp


@pytest.fixture
def provider(idp: IdentityProvider) -> Iterator[GenericOIDCProvider]:
    provider = GenericOIDCProvider(DEFAULT_CLIENTS[0].client_id, issuer_url=idp.issuer)
    yield provider
    provider.close()


class StandIn(OAuthProvider):
    """A provider that answers at once, without a network, and can be delayed on request."""

    name = "stand-in"

    def __init__(self) -> None:
        super().__init__(
            "client",
            authorize_url="https://provider.example.com/authorize",
            token_url="https://provider.example.com/token",
            userinfo_url="https://provider.example.com/userinfo",
        )
        self.reached = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()
        self.revoked: list[str] = []

    def request_revocation(self, token: str) -> bool | None:
        self.revoked.append(token)
        return True

    def exchange_code(
        self,
        code: AuthorizationCode | str,
        redirect_uri: str,
        pkce_verifier: str | None = None,
        nonce: str | None = None,
    ) -> OAuthTokenSet:
        self.reached.set()
        assert self.go_on.wait(PATIENCE)
        return OAuthTokenSet("canary-access", refresh_token="canary-refresh")

    def get_userinfo(self, access_token: str) -> dict[str, Any]:
        return {"sub": "alice"}


class Window:
    """An application's own window, or a user who reads the notice: it calls the callback directly."""

    def __init__(self) -> None:
        self.opened: list[tuple[str, Mapping[str, Any]]] = []
        self.closed: list[str] = []
        self.shown = threading.Event()

    def open(self, url: str, config: Mapping[str, Any]) -> str:
        self.opened.append((url, config))
        self.shown.set()
        return "the window"

    def close(self, label: str) -> None:
        self.closed.append(label)

    @property
    def redirect_uri(self) -> str:
        assert self.shown.wait(PATIENCE)
        return parse_qs(urlsplit(self.opened[-1][0]).query)["redirect_uri"][0]

    def come_back(self, parameters: str = "code=canary-code") -> Answer:
        """Bring the provider's response to the callback."""
        redirect_uri = self.redirect_uri
        state = parse_qs(urlsplit(self.opened[-1][0]).query)["state"][0]
        return fetch(redirect_uri, f"/callback?{parameters}&state={state}")


class OneStep(Window):
    """A window that brings the response as soon as it opens."""

    def open(self, url: str, config: Mapping[str, Any]) -> str:
        label = super().open(url, config)
        self.browser = Running(self.come_back)
        return label


def silent(message: str) -> None:
    """Ignore the message."""


def manager(provider: OAuthProvider, *arguments: Any, **options: Any) -> AuthFlowManager:
    quick: dict[str, Any] = {"notify": silent, "auth_timeout": PATIENCE}
    return AuthFlowManager(provider, *arguments, **quick | options)


# Success


class Ledger:
    """A store and a session manager that record the tokens and the last page that the person had seen."""

    def __init__(self, person: Person) -> None:
        self.person = person
        self.saved: list[tuple[str, OAuthTokenSet, str]] = []

    def save(self, key: str, tokens: OAuthTokenSet) -> None:
        self.saved.append((key, tokens, self.person.last_page))

    def save_tokens(self, tokens: OAuthTokenSet) -> None:
        self.saved.append(("session", tokens, self.person.last_page))


def test_stored_tokens_stay_valid_if_the_session_manager_then_fails(
    provider: GenericOIDCProvider, idp: IdentityProvider
) -> None:
    """They have an owner by then, so they are not revoked."""

    class FailingManager:
        def save_tokens(self, tokens: OAuthTokenSet) -> None:
            raise StoreUnavailable("The store is down.")

    person = Person()
    ledger = Ledger(person)
    flow = AuthFlowManager(provider, ledger, FailingManager(), notify=lambda message: None)
    with pytest.raises(StoreUnavailable):
        flow.run_native(person.open, person.close)
    assert [key for key, *_ in ledger.saved] == ["user-alice"]
    assert idp.calls["revoke"] == 0


def test_the_page_confirms_the_sign_in_only_after_the_tokens_are_stored(
    provider: GenericOIDCProvider,
) -> None:
    person = Person()
    notices: list[str] = []
    ledger = Ledger(person)
    flow = AuthFlowManager(provider, ledger, ledger, notify=notices.append)
    assert (flow.flow_state, flow.flow_id) == (AuthFlowState.IDLE, "")
    result = flow.run_native(person.open, person.close, {"width": 400})
    assert result.success
    assert result.user_id == "user-alice"
    assert result.user_info["email"] == "alice@example.com"
    assert flow.flow_state is AuthFlowState.COMPLETED
    assert len(flow.flow_id) >= 16
    assert ledger.saved == [("user-alice", result.tokens, ""), ("session", result.tokens, "")]
    assert person.last_status == 200
    assert COMPLETE in person.last_page
    assert (person.config, person.closed) == ({"width": 400}, ["a window"])
    assert len(notices) == 1
    assert notices[0].count(person.url) == 1


def test_pkce_and_further_parameters_are_sent_as_configured() -> None:
    for use_pkce in (True, False):
        window = OneStep()
        flow = manager(StandIn(), use_pkce=use_pkce, extra_params={"prompt": "select_account"})
        flow.run_native(window.open)
        query = parse_qs(urlsplit(window.opened[0][0]).query)
        assert query["prompt"] == ["select_account"]
        assert ("code_challenge" in query) is use_pkce


def test_a_login_without_nonce_and_pkce_is_refused_at_once() -> None:
    provider = GenericOIDCProvider("c", issuer_url="https://id.example.com", use_nonce=False)
    with pytest.raises(AuthenticationError, match="PKCE") as caught:
        AuthFlowManager(provider, use_pkce=False)
    assert caught.value.error == ErrorCode.INVALID_CONFIGURATION


def test_a_real_browser_signs_in(provider: GenericOIDCProvider, chromium: webdriver.Chrome) -> None:
    """The browser opens connections in advance. [N1]"""
    window = Window()
    flow = manager(provider, auth_timeout=60)
    login = Running(lambda: flow.run_native(window.open))
    assert window.shown.wait(PATIENCE)
    chromium.get(window.opened[0][0])
    chromium.find_element(By.NAME, "username").send_keys("alice")
    chromium.find_element(By.NAME, "password").send_keys("wonderland\n")
    assert login.result().user_id == "user-alice"
    WebDriverWait(chromium, PATIENCE).until(lambda driver: driver.title == COMPLETE)
    assert chromium.find_element(By.TAG_NAME, "h1").text == COMPLETE


OPENED_BROWSER = """
import sys
from tests.native.test_flow_manager import StandIn
from pywry_auth.native.flow_manager import AuthFlowManager
result = AuthFlowManager(StandIn(), auth_timeout=20).run_native()
print(result.user_id)
"""

BROWSER = """#!{python}
import sys
from urllib.parse import parse_qs, urlsplit
from urllib.request import urlopen
import pathlib, urllib.error
import urllib.request
print("noise of a browser")
class Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *arguments):
        return None
try:
    urllib.request.build_opener(Stay).open(sys.argv[1])
except urllib.error.HTTPError as redirect:
    query = parse_qs(urlsplit(redirect.headers["Location"]).query)
with open("{seen}", "wb") as file:
    for process in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            file.write(process.read_bytes())
        except OSError:
            pass
    secrets = [query[name][0] for name in ("state", "code_challenge")]
    file.write("\\n".join(["", *secrets, sys.argv[1]]).encode())
urlopen(query["redirect_uri"][0] + "?code=c&state=" + query["state"][0])
"""


def run_program(script: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        env=os.environ | environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def open_the_system_browser(
    tmp_path: Path, suffix: str = ""
) -> tuple[subprocess.CompletedProcess[str], Path]:
    """Sign in with a browser that records the arguments of all processes."""
    browser, seen = tmp_path / "browser", tmp_path / "seen"
    browser.write_text(BROWSER.format(python=sys.executable, seen=seen))
    browser.chmod(0o755)
    return run_program(OPENED_BROWSER, BROWSER=str(browser) + suffix), seen


CLOSED_TERMINAL = """
from pywry_auth import AuthFlowManager, OAuthProvider, OAuthTokenSet
class Provider(OAuthProvider):
    def exchange_code(self, *_):
        return OAuthTokenSet("access")
    def get_userinfo(self, _):
        return {"sub": "alice"}
provider = Provider("c", authorize_url="https://provider.example.com/", token_url="https://provider.example.com/")
print(AuthFlowManager(provider, auth_timeout=20).run_native().user_id)
"""


def test_a_terminal_that_was_closed_does_not_end_a_login_with_a_browser(tmp_path: Path) -> None:
    """The exit code is that of a successful program, too. [N2]"""
    controller, terminal = os.openpty()
    os.close(controller)
    browser = tmp_path / "browser"
    browser.write_text(BROWSER.format(python=sys.executable, seen=os.devnull))
    browser.chmod(0o755)
    command, environ = [sys.executable, "-c", CLOSED_TERMINAL], os.environ | {"BROWSER": str(browser)}
    run = subprocess.run(
        command, env=environ, stdout=subprocess.PIPE, stderr=terminal, timeout=60, check=False
    )
    os.close(terminal)
    assert (run.returncode, run.stdout) == (0, b"alice\n")


def test_the_system_browser_is_opened_and_stdout_stays_clean(tmp_path: Path) -> None:
    run, _ = open_the_system_browser(tmp_path)
    assert run.stdout == "alice\n"
    assert run.stderr.startswith("Sign in with the browser that is opening.")
    assert run.stderr.count("https://provider.example.com/authorize?") == 1


@pytest.mark.parametrize("suffix", ["", " %s", " %s &"])
def test_no_process_has_the_authorization_request_among_its_arguments(tmp_path: Path, suffix: str) -> None:
    """Every user of the machine can read the arguments of all processes. [T59]"""
    run, seen = open_the_system_browser(tmp_path, suffix)
    assert run.stdout == "alice\n"
    arguments, state, challenge, address = seen.read_bytes().rsplit(b"\n", 3)
    assert address in arguments
    assert address.startswith(b"http://127.0.0.1:")
    assert state not in arguments
    assert challenge not in arguments


@pytest.mark.parametrize("open_browser", [False, True])
def test_without_a_browser_the_address_is_printed_once_to_stderr(
    capfd: pytest.CaptureFixture[str], open_browser: bool
) -> None:
    """The user can open the address in any browser. [N2]"""
    flow = AuthFlowManager(StandIn(), auth_timeout=0.05, open_browser=open_browser)
    with pytest.raises(AuthFlowTimeout):
        flow.run_native()
    printed = capfd.readouterr()
    assert printed.out == ""
    assert len(re.findall(r"^ {4}https://provider\.example\.com/authorize\?\S+$", printed.err, re.M)) == 1
    assert "open this address in a browser" in printed.err


def test_a_program_without_a_console_signs_in_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under pythonw there is no stderr, and messages must not go to stdout instead."""
    monkeypatch.setattr(sys, "stderr", None)
    window = OneStep()
    assert AuthFlowManager(StandIn()).run_native(window.open).user_id == "alice"


def failing_notice(message: str) -> None:
    raise RuntimeError(f"canary {message}")


def test_a_notice_that_fails_does_not_end_a_login_with_a_window(caplog: pytest.LogCaptureFixture) -> None:
    """The notice is only a help. [N2]"""
    caplog.set_level(logging.INFO, "pywry_auth")
    window = OneStep()
    assert manager(StandIn(), notify=failing_notice).run_native(window.open).user_id == "alice"
    assert "notify raised RuntimeError" in caplog.text
    assert "canary" not in caplog.text


@pytest.mark.parametrize("browser", ["", "/missing/browser", "/missing/a %s:/missing/b"])
def test_a_login_that_no_user_could_see_fails_at_once(monkeypatch: pytest.MonkeyPatch, browser: str) -> None:
    """Neither the notice nor a browser works, so a wait would be in vain. [N2]"""
    monkeypatch.setenv("BROWSER", browser)
    before = open_descriptors()
    flow = manager(StandIn(), notify=failing_notice)
    with pytest.raises(AuthenticationError, match=r"no browser can be opened.*\(RuntimeError\)") as caught:
        flow.run_native()
    assert not isinstance(caught.value, AuthFlowTimeout)
    assert "canary" not in str(caught.value)
    assert "http" not in str(caught.value)
    assert flow.flow_state is AuthFlowState.FAILED
    assert open_descriptors() <= before


def test_without_console_and_browser_the_login_fails_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under pythonw the address cannot be printed."""
    monkeypatch.setattr(sys, "stderr", None)
    with pytest.raises(AuthenticationError, match="cannot be asked to sign in"):
        AuthFlowManager(StandIn(), open_browser=False).run_native()


# Failures, and their reasons


def test_a_denial_ends_the_login_at_once_with_the_providers_error(
    provider: GenericOIDCProvider,
) -> None:
    """The error names the provider, and the page is honest. [N10]"""
    person, store = Person(action="cancel"), MemoryTokenStore()
    flow = manager(provider, store, auth_timeout=60)
    started = time.monotonic()
    with pytest.raises(AuthenticationError) as caught:
        flow.run_native(person.open, person.close)
    assert time.monotonic() - started < PATIENCE
    assert type(caught.value) is AuthenticationError
    assert caught.value.error == "access_denied"
    assert (caught.value.provider, caught.value.flow_id) == ("oidc", flow.flow_id)
    assert flow.flow_state is AuthFlowState.FAILED
    assert store.list_keys() == []
    assert person.last_status == 400
    assert "access_denied" in person.last_page
    assert "sign in again" in person.last_page
    assert COMPLETE not in person.last_page


def test_a_providers_error_text_is_escaped_on_the_page() -> None:
    """An error description cannot add markup to the page. [T35, L]"""
    window = Window()
    login = Running(lambda: manager(StandIn()).run_native(window.open))
    answer = window.come_back("error=server_error&error_description=%3Cscript%3Ealert(1)%3C/script%3E")
    with pytest.raises(AuthenticationError) as caught:
        login.result()
    assert caught.value.error_description == "<script>alert(1)</script>"
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in answer.text
    assert "<script" not in answer.text


def test_a_token_endpoint_failure_is_shown_on_the_page(
    idp: IdentityProvider, provider: GenericOIDCProvider
) -> None:
    def broken(app: Any) -> Any:
        def answer(environ: dict[str, Any], start_response: Any) -> Any:
            if environ["PATH_INFO"] != "/token":
                return app(environ, start_response)
            start_response("500 Internal Server Error", [("Content-Type", "text/html")])
            return [b"<h1>canary</h1>"]

        return answer

    idp.wrap(broken)
    person, store = Person(), MemoryTokenStore()
    flow = manager(provider, store)
    with pytest.raises(TokenError) as caught:
        flow.run_native(person.open, person.close)
    assert caught.value.flow_id == flow.flow_id
    assert flow.flow_state is AuthFlowState.FAILED
    assert store.list_keys() == []
    assert person.last_status == 400
    assert "Sign-in failed" in person.last_page
    assert "canary" not in person.last_page + str(caught.value)


def test_a_response_of_another_issuer_is_refused_before_its_code_is_sent(
    idp: IdentityProvider, provider: GenericOIDCProvider
) -> None:
    """The ``iss`` parameter is compared (RFC 9207). [T4]"""

    class MixedUp(Person):
        def bring(self, callback: str) -> None:
            super().bring(re.sub("iss=[^&]*", "iss=https%3A%2F%2Fother.example.com", callback))

    person = MixedUp()
    with pytest.raises(AuthenticationError) as caught:
        manager(provider).run_native(person.open, person.close)
    assert caught.value.error == "issuer_mismatch"
    assert idp.calls["token"] == 0
    assert "Sign-in failed" in person.last_page


class BrokenStore(MemoryTokenStore):
    def save(self, key: str, tokens: OAuthTokenSet, *, hold: float = 0.0, owner: str | None = None) -> bool:
        raise RuntimeError("the disk is full")


def test_a_failing_store_is_not_shown_as_a_success() -> None:
    window = Window()
    flow = manager(StandIn(), BrokenStore())
    login = Running(lambda: flow.run_native(window.open, window.close))
    answer = window.come_back()
    with pytest.raises(RuntimeError, match="the disk is full"):
        login.result()
    assert flow.flow_state is AuthFlowState.FAILED
    assert answer.status == 400
    assert "could not finish" in answer.text
    assert "disk" not in answer.text
    assert window.closed == ["the window"]


def test_forged_responses_do_not_affect_the_login() -> None:
    """These are a forged code, a forged error, a favicon request and a second redirect. [L]"""
    window = Window()
    login = Running(lambda: manager(StandIn()).run_native(window.open))
    for forged in ("/callback?code=forged&state=x", "/callback?error=access_denied", "/favicon.ico", "/"):
        assert fetch(window.redirect_uri, forged).status in (400, 204, 404)
    assert not login.is_over
    assert window.come_back().status == 200
    assert login.result().user_id == "alice"


def test_a_refusal_without_state_is_named_when_the_wait_ends() -> None:
    """The wait goes on, because any program could have sent it. [S5.3]"""
    window = Window()
    flow = manager(StandIn(), auth_timeout=0.6)
    login = Running(lambda: flow.run_native(window.open))
    query = parse_qs(urlsplit(window.opened[-1][0] if window.shown.wait(PATIENCE) else "").query)
    nonce = query.get("nonce", ["no-nonce-here"])[0]
    refusal = f"/callback?error=invalid_scope&error_description=no+{query['state'][0]}+{nonce}"
    assert fetch(window.redirect_uri, refusal).status == 400
    assert not login.is_over
    with pytest.raises(AuthFlowTimeout, match=r"without the state of this login.*invalid_scope") as caught:
        login.result()
    assert (caught.value.error, caught.value.timeout) == ("timeout", 0.6)
    assert caught.value.error_description.startswith("unverified: invalid_scope")
    assert query["state"][0] not in f"{caught.value}{caught.value.error_description}"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_the_redirect_uri_can_be_the_one_that_is_registered(host: str) -> None:
    """It is the same in the request and at the exchange. [N9]"""
    window, provider = Window(), StandIn()
    login = Running(
        lambda: manager(provider, redirect_host=host, redirect_path="/oauth2/back").run_native(window.open)
    )
    uri = window.redirect_uri
    assert uri == f"http://{host}:{urlsplit(uri).port}/oauth2/back"
    state = parse_qs(urlsplit(window.opened[-1][0]).query)["state"][0]
    assert fetch(uri, f"/oauth2/back?code=canary-code&state={state}").status == 200
    assert login.result().user_id == "alice"


def test_ports_in_use_end_the_login_before_anything_opens() -> None:
    """The error names the port. [N8]"""
    window = Window()
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        flow = manager(StandIn(), redirect_ports=[port])
        with pytest.raises(AuthenticationError, match=str(port)) as caught:
            flow.run_native(window.open)
    assert (caught.value.provider, caught.value.flow_id) == ("stand-in", flow.flow_id)
    assert flow.flow_state is AuthFlowState.FAILED
    assert window.opened == []
    step = OneStep()
    assert flow.run_native(step.open).success  # the port is free now
    assert urlsplit(step.redirect_uri).port == port


# Timeout and cancellation


def test_the_login_times_out_while_a_browser_keeps_a_connection_open() -> None:
    """An idle connection delays neither the timeout nor the end of the server. [N1, N14]"""
    before = open_descriptors()
    window = Window()
    flow = manager(StandIn(), auth_timeout=0.5)
    login = Running(lambda: flow.run_native(window.open, window.close))
    with Client(window.redirect_uri) as idle:
        started = time.monotonic()
        with pytest.raises(AuthFlowTimeout) as caught:
            login.result()
        assert time.monotonic() - started < 3
        assert idle.everything() == b""
    error = caught.value
    assert (error.provider, error.flow_id, error.timeout) == ("stand-in", flow.flow_id, 0.5)
    assert flow.flow_state is AuthFlowState.TIMED_OUT
    assert window.closed == ["the window"]
    assert not is_listening(window.redirect_uri)
    assert open_descriptors() <= before


def test_cancel_ends_the_login_while_a_browser_keeps_a_connection_open() -> None:
    window = Window()
    flow = manager(StandIn())
    login = Running(lambda: flow.run_native(window.open, window.close))
    with Client(window.redirect_uri):
        started = time.monotonic()
        flow.cancel()
        with pytest.raises(AuthFlowCancelled) as caught:
            login.result()
        assert time.monotonic() - started < 3
    assert (caught.value.provider, caught.value.flow_id) == ("stand-in", flow.flow_id)
    assert flow.flow_state is AuthFlowState.CANCELLED
    assert window.closed == ["the window"]
    assert not is_listening(window.redirect_uri)


def test_a_second_use_of_the_one_time_address_during_the_exchange_revokes_the_tokens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A thief who is faster than the user's browser has already brought a response. [T59]"""
    addresses: queue.Queue[str] = queue.Queue()
    monkeypatch.setenv("BROWSER", "a browser that never opens")
    monkeypatch.setattr("pywry_auth.native.browser.open_browser", addresses.put)
    provider, store = StandIn(), MemoryTokenStore()
    provider.go_on.clear()
    login = Running(manager(provider, store).run_native)
    address = addresses.get(timeout=PATIENCE)
    path = urlsplit(address).path
    request = parse_qs(urlsplit(fetch(address, path).headers["Location"]).query)
    thief = Running(lambda: fetch(address, f"/callback?code=c&state={request['state'][0]}"))
    assert provider.reached.wait(PATIENCE)
    assert fetch(address, path).status == 410
    provider.go_on.set()
    with pytest.raises(AuthenticationError, match="opened in two browsers"):
        login.result()
    assert thief.result().status == 400
    assert "canary-refresh" in provider.revoked
    assert store.load("alice") is None


def test_cancel_during_the_exchange_revokes_the_tokens() -> None:
    window, store, provider = Window(), MemoryTokenStore(), StandIn()
    provider.go_on.clear()
    flow = manager(provider, store)
    login = Running(lambda: flow.run_native(window.open))
    browser = Running(window.come_back)
    assert provider.reached.wait(PATIENCE)
    assert flow.flow_state is AuthFlowState.EXCHANGING_CODE
    flow.cancel()
    provider.go_on.set()
    with pytest.raises(AuthFlowCancelled):
        login.result()
    assert store.list_keys() == []
    assert provider.revoked == ["canary-refresh", "canary-access"]
    assert "cancelled" in browser.result().text


class SlowToBegin(StandIn):
    """A provider whose discovery takes a while."""

    def build_authorize_url(self, *arguments: Any, **options: Any) -> str:
        self.reached.set()
        assert self.go_on.wait(PATIENCE)
        return super().build_authorize_url(*arguments, **options)


def test_cancel_before_the_browser_opens_prevents_the_opening() -> None:
    window, provider = Window(), SlowToBegin()
    notices: list[str] = []
    provider.go_on.clear()
    flow = manager(provider, notify=notices.append)
    login = Running(lambda: flow.run_native(window.open))
    assert provider.reached.wait(PATIENCE)
    assert flow.flow_state is AuthFlowState.AWAITING_CALLBACK
    flow.cancel()
    provider.go_on.set()
    with pytest.raises(AuthFlowCancelled):
        login.result()
    assert (window.opened, notices) == ([], [])


def test_cancel_without_a_login_does_not_end_the_next_one() -> None:
    flow = manager(StandIn())
    flow.cancel()
    assert flow.run_native(OneStep().open).success
    flow.cancel()
    assert flow.flow_state is AuthFlowState.COMPLETED
    assert flow.run_native(OneStep().open).success


# The application's own callbacks


def test_a_window_that_fails_to_open_ends_the_login() -> None:
    def failing(*_: object) -> str:
        raise ValueError("canary")

    before = open_descriptors()
    window = Window()
    flow = manager(StandIn())
    with pytest.raises(AuthenticationError, match="show_window raised ValueError") as caught:
        flow.run_native(failing, window.close)
    assert isinstance(caught.value.__cause__, ValueError)
    assert "canary" not in str(caught.value)
    assert caught.value.flow_id == flow.flow_id
    assert flow.flow_state is AuthFlowState.FAILED
    assert window.closed == []  # no window was opened
    assert open_descriptors() <= before


def test_a_window_may_report_that_the_user_closed_it() -> None:
    def closed(url: str, config: Mapping[str, Any]) -> str:
        raise AuthFlowCancelled("The window was closed.")

    flow = manager(StandIn())
    with pytest.raises(AuthFlowCancelled, match="The window was closed"):
        flow.run_native(closed)
    assert flow.flow_state is AuthFlowState.CANCELLED


def test_a_window_that_cannot_be_closed_does_not_fail_the_login(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def failing(label: str) -> None:
        raise ValueError(label)

    assert manager(StandIn()).run_native(OneStep().open, failing).success
    assert "close_window failed" in caplog.text


# One instance, many callers


def test_a_second_login_at_the_same_time_is_refused() -> None:
    window, other = Window(), Window()
    flow = manager(StandIn())
    login = Running(lambda: flow.run_native(window.open))
    assert window.shown.wait(PATIENCE)
    with pytest.raises(AuthenticationError, match="already under way") as caught:
        flow.run_native(other.open)
    assert caught.value.flow_id == flow.flow_id
    assert flow.flow_state is AuthFlowState.AWAITING_CALLBACK
    assert other.opened == []
    assert window.come_back().status == 200
    assert login.result().success


def test_it_works_in_the_thread_of_a_running_event_loop() -> None:
    async def program() -> str:
        return manager(StandIn()).run_native(OneStep().open).user_id

    assert asyncio.run(program()) == "alice"


def test_it_works_in_a_thread_that_is_not_the_main_one() -> None:
    login = Running(lambda: (threading.current_thread(), manager(StandIn()).run_native(OneStep().open)))
    thread, result = login.result()
    assert thread is not threading.main_thread()
    assert result.success


def test_a_hundred_logins_leave_no_thread_port_or_descriptor() -> None:
    flow, flow_ids, ports = manager(StandIn(), MemoryTokenStore()), set(), set()
    first = OneStep()
    flow.run_native(first.open)
    assert first.browser.result().status == 200
    descriptors, threads = open_descriptors(), set(threading.enumerate())
    for number in range(100):
        window = Window()
        login = Running(partial(flow.run_native, window.open, window.close))
        with Client(window.redirect_uri):  # a preconnect
            if number % 10 == 9:
                flow.cancel()
                with pytest.raises(AuthFlowCancelled):
                    login.result()
            else:
                assert window.come_back().status == 200
                assert login.result().success
        flow_ids.add(flow.flow_id)
        ports.add(window.redirect_uri)
    assert len(flow_ids) == 100
    assert open_descriptors() <= descriptors
    # Timers of earlier tests in this process start a new thread now and then.
    assert {thread.name for thread in set(threading.enumerate()) - threads} <= {"pywry-auth-refresh"}
    assert not [redirect_uri for redirect_uri in ports if is_listening(redirect_uri)]


def test_no_secret_is_logged_or_printed(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """This holds with all log levels enabled. [T31]"""
    caplog.set_level(logging.DEBUG)
    window = OneStep()
    result = manager(StandIn(), MemoryTokenStore()).run_native(window.open)
    printed = capfd.readouterr()
    seen = caplog.text + printed.out + printed.err + repr(result)
    state = parse_qs(urlsplit(window.opened[0][0]).query)["state"][0]
    assert not [secret for secret in (state, "canary") if secret in seen]


# Ctrl-C (N11)


INTERRUPTED = """
import signal, sys, threading
from pywry_auth.native.flow_manager import AuthFlowManager
from tests.native.sockets import is_listening, open_descriptors
from tests.native.test_flow_manager import StandIn, Window

signal.signal(signal.SIGINT, signal.default_int_handler)  # background programs ignore SIGINT

class Slow(StandIn):
    def exchange_code(self, *arguments):
        print("exchanging", flush=True)
        threading.Event().wait(1)  # the time limit of a call
        raise AuthenticationError("The provider did not answer.")

class Printed(Window):
    def open(self, url, config):
        label = super().open(url, config)
        print(url, flush=True)
        return label

before = open_descriptors()
window = Printed()
flow = AuthFlowManager(Slow(), notify=lambda message: None)
try:
    flow.run_native(window.open, window.close)
except KeyboardInterrupt:
    assert open_descriptors() <= before
    assert not is_listening(window.redirect_uri)
    print(flow.flow_state, threading.active_count(), flush=True)
    raise
"""


@pytest.mark.parametrize("exchanging", [False, True])
def test_ctrl_c_cleans_up_while_a_browser_keeps_a_connection_open(exchanging: bool) -> None:
    """A browser that is held still gets a page. The exchange ends in the background. [N11]"""
    with subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as program:
        assert program.stdout is not None
        window = Window()
        window.open(program.stdout.readline().strip(), {})
        with Client(window.redirect_uri):
            browser = Running(window.come_back) if exchanging else None
            if browser:
                assert program.stdout.readline() == "exchanging\n"
            program.send_signal(signal.SIGINT)
            out, err = program.communicate(timeout=PATIENCE)
    assert out == f"AuthFlowState.CANCELLED {3 if exchanging else 1}\n"
    assert program.returncode == -signal.SIGINT
    assert err.rstrip().endswith("KeyboardInterrupt")
    if browser:
        assert browser.result().status == 410


# A handler instead of browser and callback server


def test_a_function_can_play_the_user_without_browser_or_listener(provider: GenericOIDCProvider) -> None:
    store = MemoryTokenStore()

    def user(request: AuthorizationRequest) -> ResponseParameters:
        callback = Person().authorize(request.url)
        assert callback.startswith("http://127.0.0.1/callback?")
        assert "pywry-auth-callback" not in [thread.name for thread in threading.enumerate()]
        return parse_qsl(urlsplit(callback).query)

    flow = manager(provider, store, handler=user)
    result = flow.run_native()
    assert (result.user_id, flow.flow_state) == ("user-alice", AuthFlowState.COMPLETED)
    assert store.load("user-alice") == result.tokens


def test_cancel_while_a_handler_waits_exchanges_no_code() -> None:
    provider = StandIn()

    def user(request: AuthorizationRequest) -> ResponseParameters:
        flow.cancel()
        return [("code", "canary-code"), ("state", request.state)]

    flow = manager(provider, handler=user)
    with pytest.raises(AuthFlowCancelled):
        flow.run_native()
    assert flow.flow_state is AuthFlowState.CANCELLED
    assert not provider.reached.is_set()


def test_a_response_that_a_handler_invented_is_refused() -> None:
    provider = StandIn()
    flow = manager(provider, handler=lambda request: [("code", "canary-code"), ("state", "another")])
    with pytest.raises(AuthenticationError) as caught:
        flow.run_native()
    assert (caught.value.error, caught.value.flow_id) == ("invalid_state", flow.flow_id)
    assert flow.flow_state is AuthFlowState.FAILED
    assert not provider.reached.is_set()


class Broken:
    """A store that cannot save tokens."""

    def save(self, key: str, tokens: OAuthTokenSet) -> None:
        raise OSError("The disk is full.")


def test_tokens_that_cannot_be_stored_are_revoked() -> None:
    provider = StandIn()
    flow = manager(
        provider, Broken(), handler=lambda request: [("code", "canary-code"), ("state", request.state)]
    )
    with pytest.raises(OSError, match="disk"):
        flow.run_native()
    assert provider.revoked == ["canary-refresh", "canary-access"]
