"""PyWry: a program signs its user in at a local provider, and out again."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
import requests
from werkzeug.wrappers import Response

from pywry_auth.app import PyWry
from pywry_auth.config import OAuth2Settings, get_settings
from pywry_auth.exceptions import (
    AuthenticationError,
    AuthFlowCancelled,
    AuthFlowTimeout,
    TokenError,
    TokenExpiredError,
    TokenRefreshError,
)
from pywry_auth.models import AuthFlowResult
from pywry_auth.providers.oidc import GenericOIDCProvider
from pywry_auth.state.token_stores import MemoryTokenStore
from pywry_auth.testing.identity_provider import DEFAULT_CLIENTS, IdentityProvider
from tests.person import Person, parameters_of
from tests.waiting import await_threads, count_waiters

_SECONDS = 20
_LOGINS = 100 if os.environ.get("SOAK") else 10
_SOAK_SECONDS = 800 if os.environ.get("SOAK") else 100
_CLIENT_ID = DEFAULT_CLIENTS[0].client_id


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
def environment(idp: IdentityProvider, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets ``PYWRY_OAUTH2__*`` variables for the local provider, and further ones by name."""

    def set_variables(**more: str) -> None:
        needed = {"provider": "oidc", "client_id": _CLIENT_ID, "issuer_url": idp.issuer}
        for name, value in (needed | more).items():
            monkeypatch.setenv(f"PYWRY_OAUTH2__{name.upper()}", value)

    return set_variables


def _login(app: PyWry, provider: GenericOIDCProvider | None, person: Person, **more: Any) -> AuthFlowResult:
    return app.login(
        provider, force=True, show_window=person.open, close_window=person.close, notify=_ignore, **more
    )


def _ignore(message: str) -> None:
    """Ignore the address: the person has it already."""


def _is_active(idp: IdentityProvider, token: str | None) -> bool:
    web = DEFAULT_CLIENTS[1]
    answer = requests.post(
        f"{idp.issuer}/introspect",
        data={"token": token},
        auth=(web.client_id, web.client_secret),
        timeout=_SECONDS,
    )
    assert answer.status_code == 200
    return bool(answer.json()["active"])


def test_login_returns_the_user_and_the_granted_scopes(
    idp: IdentityProvider, provider: GenericOIDCProvider
) -> None:
    person = Person()
    result = _login(PyWry(), provider, person)
    assert result.success is True
    assert result.user_id == "user-alice"
    assert result.user_info["name"] == "Alice Example"
    assert result.user_info["email"] == "alice@example.com"
    assert result.tokens.scope == "openid email profile"
    assert result.tokens.expires_at is not None
    assert (result.tokens.issuer, result.tokens.client_id) == (idp.issuer, _CLIENT_ID)
    assert _is_active(idp, result.tokens.access_token)
    assert person.last_status == 200
    assert "✅ Authentication Complete — You can close this window." in person.last_page
    assert person.closed == ["a window"]


def test_login_works_in_a_thread_that_is_not_the_main_one(provider: GenericOIDCProvider) -> None:
    with ThreadPoolExecutor(1) as pool:
        result = pool.submit(_login, PyWry(), provider, Person("bob", "builder")).result(_SECONDS)
    assert result.user_id == "user-bob"


def test_login_works_in_the_thread_of_a_running_event_loop(provider: GenericOIDCProvider) -> None:
    async def program() -> AuthFlowResult:
        return _login(PyWry(), provider, Person())

    assert asyncio.run(program()).user_id == "user-alice"


def test_a_second_thread_joins_the_login_under_way(
    idp: IdentityProvider, provider: GenericOIDCProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is one window, one authorization request and one result for all. [N7]"""
    app, person, waiters = PyWry(), Person(), count_waiters(monkeypatch)
    results: list[AuthFlowResult] = []
    second = threading.Thread(target=lambda: results.append(_login(app, provider, Person())))

    def show(url: str, config: Any) -> str:
        second.start()
        assert waiters.acquire(timeout=_SECONDS)
        return person.open(url, config)

    results.append(app.login(provider, show_window=show, close_window=person.close, notify=_ignore))
    second.join(_SECONDS)
    assert len(results) == 2
    assert results[0] is results[1]
    assert idp.calls["authorize"] == 2  # the page, and its form
    assert idp.calls["token"] == 1


def test_login_from_its_own_callback_is_refused_instead_of_waiting_for_itself(
    provider: GenericOIDCProvider,
) -> None:
    app = PyWry()
    with pytest.raises(AuthenticationError, match="wait for itself"):
        app.login(provider, notify=lambda _: app.login(provider))
    assert _login(app, provider, Person()).success


def _deny(app: PyWry, provider: GenericOIDCProvider) -> None:
    with pytest.raises(AuthenticationError) as caught:
        _login(app, provider, Person(action="cancel"))
    assert caught.value.error == "access_denied"


def _cancel(app: PyWry, provider: GenericOIDCProvider) -> None:
    closed = threading.Thread(target=app.cancel)

    def show(url: str, config: Any) -> str:
        closed.start()
        return "a window that is closed at once"

    with pytest.raises(AuthFlowCancelled) as caught:
        app.login(provider, force=True, show_window=show, notify=_ignore)
    closed.join(_SECONDS)
    assert caught.value.error == "cancelled"


def _let_it_time_out(app: PyWry, provider: GenericOIDCProvider) -> None:
    with pytest.raises(AuthFlowTimeout) as caught:
        app.login(
            provider, force=True, show_window=lambda url, config: "unseen", notify=_ignore, timeout=0.05
        )
    assert caught.value.timeout == 0.05


def _succeed(app: PyWry, provider: GenericOIDCProvider) -> None:
    assert _login(app, provider, Person("bob", "builder")).user_id == "user-bob"


@pytest.mark.parametrize("before", [_deny, _cancel, _let_it_time_out, _succeed])
def test_another_login_works_after_any_end_of_the_last_one(
    before: Callable[[PyWry, GenericOIDCProvider], None], provider: GenericOIDCProvider
) -> None:
    app = PyWry()
    before(app, provider)
    assert _login(app, provider, Person()).user_id == "user-alice"
    assert app.user_info is not None
    assert app.user_info["sub"] == "user-alice"


def test_cancel_without_a_login_does_nothing_to_the_next_one(provider: GenericOIDCProvider) -> None:
    app = PyWry()
    app.cancel()
    _login(app, provider, Person())
    app.cancel()
    assert app.is_authenticated
    assert _login(app, provider, Person()).success


def test_cancel_during_a_silent_refresh_prevents_the_window(
    idp: IdentityProvider, provider: GenericOIDCProvider
) -> None:
    """The window that would open afterwards is not wanted any more. [S5]"""
    app, store = PyWry(), MemoryTokenStore()
    tokens = _login(app, provider, Person(), token_store=store).tokens
    store.replace("user-alice", replace(tokens, issued_at=tokens.issued_at - 9999), tokens)
    assert tokens.refresh_token is not None
    provider.revoke_token(tokens.refresh_token)

    def cancelling(wrapped: Any) -> Any:
        def serve(environ: dict[str, Any], start_response: Any) -> Any:
            again.cancel()
            return wrapped(environ, start_response)

        return serve

    again = PyWry()
    idp.wrap(cancelling)
    with pytest.raises(AuthFlowCancelled):
        again.login(
            provider, token_store=store, show_window=lambda url, config: pytest.fail(url), notify=_ignore
        )


def test_a_denial_is_reported_to_the_program_and_to_the_user(provider: GenericOIDCProvider) -> None:
    """The error is the provider's own, and the page is honest. [N10]"""
    person = Person(action="cancel")
    app = PyWry()
    with pytest.raises(AuthenticationError, match="denied the request") as caught:
        _login(app, provider, person)
    assert caught.value.provider == "oidc"
    assert caught.value.flow_id
    assert "You cancelled" in person.last_page
    assert "denied the request" in person.last_page
    assert "Complete" not in person.last_page
    assert not app.is_authenticated


def test_a_token_endpoint_failure_is_reported_to_the_program_and_to_the_user(
    idp: IdentityProvider, provider: GenericOIDCProvider
) -> None:
    def failing(app: Any) -> Any:
        def serve(environ: dict[str, Any], start_response: Any) -> Any:
            broken = environ["PATH_INFO"] == "/token"
            answer = Response("<h1>Traceback</h1>", 500, content_type="text/html") if broken else app
            return answer(environ, start_response)

        return serve

    idp.wrap(failing)
    person, app = Person(), PyWry()
    with pytest.raises(TokenError, match="500") as caught:
        _login(app, provider, person)
    assert caught.value.error == "provider_unreachable"
    assert "Sign-in failed" in person.last_page
    assert "Traceback" not in person.last_page
    assert not app.is_authenticated


class _Misled(Person):
    """Brings a response whose parameter ``iss`` was changed or removed."""

    def __init__(self, issuer: str | None) -> None:
        super().__init__()
        self._issuer = issuer

    def bring(self, callback: str) -> None:
        changed = dict(parameters_of(callback)) | {"iss": self._issuer}
        query = urlencode({name: value for name, value in changed.items() if value is not None})
        super().bring(urlsplit(callback)._replace(query=query).geturl())


@pytest.mark.parametrize("issuer", ["https://attacker.example.com", "", None])
def test_a_response_of_another_issuer_is_refused_and_no_code_is_sent(
    idp: IdentityProvider, provider: GenericOIDCProvider, issuer: str | None
) -> None:
    """The provider announces the parameter ``iss`` (RFC 9207 §2.3), so it is required. [T4]"""
    person = _Misled(issuer)
    with pytest.raises(AuthenticationError) as caught:
        _login(PyWry(), provider, person)
    assert caught.value.error == "issuer_mismatch"
    assert idp.calls["token"] == 0
    assert "Sign-in failed" in person.last_page


def test_the_state_of_a_program_before_during_and_after_a_sign_in(
    idp: IdentityProvider, provider: GenericOIDCProvider
) -> None:
    app = PyWry()
    _assert_signed_out(app)
    result = _login(app, provider, Person())
    assert app.is_authenticated
    assert app.user_info == result.user_info
    assert app.get_access_token() == result.tokens.access_token
    assert app.session_manager is not None
    assert app.session_manager.tokens == result.tokens
    assert app.logout() is True
    _assert_signed_out(app)


def _assert_signed_out(app: PyWry) -> None:
    assert not app.is_authenticated
    assert app.user_info is None
    assert app.session_manager is None
    with pytest.raises(TokenExpiredError) as caught:
        app.get_access_token()
    assert caught.value.error == "not_signed_in"


def test_logout_revokes_both_tokens_and_clears_the_store(
    idp: IdentityProvider, provider: GenericOIDCProvider
) -> None:
    app, store = PyWry(), MemoryTokenStore()
    tokens = _login(app, provider, Person(), token_store=store).tokens
    assert store.list_keys() == ["user-alice"]
    assert app.logout() is True
    assert idp.calls["revoke"] == 2
    assert not _is_active(idp, tokens.access_token)
    assert not _is_active(idp, tokens.refresh_token)
    assert store.list_keys() == []
    assert app.logout() is False


def test_logout_clears_the_store_even_during_an_outage(
    idp: IdentityProvider, provider: GenericOIDCProvider
) -> None:
    app, store = PyWry(), MemoryTokenStore()
    _login(app, provider, Person(), token_store=store)
    idp.stop()
    assert app.logout() is False
    assert not app.is_authenticated
    assert store.list_keys() == []


def test_after_the_end_of_the_grant_no_user_is_signed_in(provider: GenericOIDCProvider) -> None:
    app = PyWry()
    tokens = _login(app, provider, Person()).tokens
    assert tokens.refresh_token is not None
    assert app.session_manager is not None
    provider.revoke_token(tokens.refresh_token)
    with pytest.raises(TokenRefreshError):
        app.session_manager.refresh()
    assert not app.is_authenticated
    assert app.user_info is None
    assert _login(app, provider, Person()).success


def test_hint_prompt_and_scopes_reach_the_provider(provider: GenericOIDCProvider) -> None:
    """A program can let another user sign in. [N16]"""
    person = Person(username="", password="builder")
    result = _login(
        PyWry(),
        provider,
        person,
        login_hint="bob",
        prompt="select_account login",
        scopes=["openid", "groups"],
    )
    asked = dict(parameters_of(person.url))
    assert (asked["login_hint"], asked["prompt"], asked["scope"]) == (
        "bob",
        "select_account login",
        "openid groups",
    )
    assert result.user_id == "user-bob"  # the field contained only the hint
    assert result.tokens.scope == "openid groups"
    assert provider.scopes == ("openid", "email", "profile")


def test_a_window_is_shown_with_some_configuration_and_closed_by_its_label(
    provider: GenericOIDCProvider,
) -> None:
    person = Person()
    _login(PyWry(), provider, person)
    assert person.config == {}
    assert person.closed == ["a window"]


def test_the_environment_is_all_that_a_program_needs(
    idp: IdentityProvider, environment: Callable[..., None]
) -> None:
    environment(scopes="openid groups")
    person, app = Person(), PyWry()
    result = _login(app, None, person)
    assert result.user_id == "user-alice"
    assert result.tokens.scope == "openid groups"
    app.logout()
    assert idp.calls["revoke"] == 2


def test_the_environment_sets_the_time_allowed_and_an_argument_wins(
    environment: Callable[..., None],
) -> None:
    environment(auth_timeout_seconds="0.07")
    with pytest.raises(AuthFlowTimeout) as by_setting:
        PyWry().login(show_window=lambda url, config: "unseen", notify=_ignore)
    assert by_setting.value.timeout == 0.07
    with pytest.raises(AuthFlowTimeout) as by_argument:
        PyWry().login(show_window=lambda url, config: "unseen", notify=_ignore, timeout=0.06)
    assert by_argument.value.timeout == 0.06


def test_the_environment_sets_the_port(environment: Callable[..., None]) -> None:
    """A provider may require a redirect URI that is registered with its port. [N8]"""
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.create_server(("127.0.0.1", 0)) as free:
        busy, port = taken.getsockname()[1], free.getsockname()[1]
        free.close()
        environment(redirect_port=str(port))
        person = Person()
        assert _login(PyWry(), None, person).success
        assert dict(parameters_of(person.url))["redirect_uri"] == f"http://127.0.0.1:{port}/callback"
        environment(redirect_port=str(busy))
        with pytest.raises(AuthenticationError, match=str(busy)):
            _login(PyWry(), None, Person())


def test_the_environment_sets_host_and_path_of_the_redirect_uri(
    environment: Callable[..., None],
) -> None:
    """The client may be registered with the redirect URI of another program. [S3]"""
    environment(redirect_host="[::1]", redirect_path="/callback")
    person = Person()
    assert _login(PyWry(), None, person).success
    assert dict(parameters_of(person.url))["redirect_uri"].startswith("http://[::1]:")
    environment(redirect_host="127.0.0.1", redirect_path="/oauth2/callback")
    opened: list[str] = []

    def show(url: str, _config: object) -> str:
        opened.append(url)
        return "unseen"

    with pytest.raises(AuthFlowTimeout):  # the local provider has registered another path
        PyWry().login(show_window=show, notify=_ignore, force=True, timeout=0.05)
    assert dict(parameters_of(opened[0]))["redirect_uri"].endswith("/oauth2/callback")


def test_the_environment_can_disable_pkce(environment: Callable[..., None]) -> None:
    environment(use_pkce="false")
    person = Person()
    with pytest.raises(AuthenticationError, match="code_challenge"):  # the local provider requires it
        _login(PyWry(), None, person)
    assert "code_challenge" not in dict(parameters_of(person.url))


def test_the_environment_can_disable_the_browser(
    environment: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    opened = tmp_path / "opened"
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" >"{opened}"\n')
    browser.chmod(0o755)
    monkeypatch.setenv("BROWSER", str(browser))
    environment(open_browser="false")
    person, notices = Person(), []

    def notify(message: str) -> None:
        notices.append(message)
        person.open(next(line.strip() for line in message.splitlines() if "http://" in line), {})

    assert PyWry().login(notify=notify).success
    person.close("")
    assert len(notices) == 1
    assert "is opening" not in notices[0]
    assert not opened.exists()


@pytest.mark.parametrize(("seconds", "refreshes"), [("0", 0), ("1800", 1)])
def test_the_environment_sets_how_early_tokens_are_refreshed(
    idp: IdentityProvider, environment: Callable[..., None], seconds: str, refreshes: int
) -> None:
    environment(refresh_buffer_seconds=seconds)
    app, store = PyWry(), MemoryTokenStore()
    tokens = _login(app, None, Person(), token_store=store).tokens
    store.replace(
        "user-alice", replace(tokens, issued_at=tokens.issued_at - 1900), tokens
    )  # 1700 s before its expiry
    app.get_access_token()
    assert idp.calls["token"] - 1 == refreshes


def test_settings_can_be_given_instead(idp: IdentityProvider, environment: Callable[..., None]) -> None:
    environment(scopes="openid")
    settings = get_settings()
    environment(issuer_url="http://127.0.0.1:1")
    assert isinstance(settings.oauth2, OAuth2Settings)
    assert _login(PyWry(settings), None, Person()).tokens.scope == "openid"


@pytest.mark.usefixtures("idp")
def test_without_a_provider_the_error_names_the_variable_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYWRY_OAUTH2__CLIENT_ID", raising=False)
    with pytest.raises(AuthenticationError, match="PYWRY_OAUTH2__CLIENT_ID") as caught:
        PyWry().login()
    assert caught.value.error == "invalid_configuration"


def test_a_missing_store_is_reported_before_the_user_signs_in(
    idp: IdentityProvider, environment: Callable[..., None]
) -> None:
    environment(token_store_backend="keyring")
    with pytest.raises(AuthenticationError, match=r"PYWRY_OAUTH2__TOKEN_STORE_BACKEND.*memory"):
        _login(PyWry(), None, Person())
    assert idp.calls["authorize"] == 0


def test_a_store_in_a_file_is_where_the_settings_say(
    environment: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setenv("PYWRY_DEPLOY__SQLITE_PATH", str(tmp_path / "tokens.db"))
    environment(token_store_backend="sqlite")
    app = PyWry()
    _login(app, None, Person())
    assert app.is_authenticated
    assert (tmp_path / "tokens.db").exists()


def test_many_logins_leave_no_thread_port_or_descriptor() -> None:
    """Some are denied or time out. ``close()`` releases the pooled connections.

    They run in a process of their own, where no earlier test has left a thread.
    """
    code = f"from tests import test_app; test_app.sign_in_many_times({_LOGINS})"
    command = [sys.executable, "-c", code]
    root = Path(__file__).parents[1]
    run = subprocess.run(
        command, cwd=root, capture_output=True, text=True, timeout=_SOAK_SECONDS, check=False
    )
    assert run.returncode == 0, run.stderr


def sign_in_many_times(count: int) -> None:
    server = subprocess.Popen(
        [sys.executable, "-m", "pywry_auth.testing.identity_provider", "--signing-algorithm", "ES256"],
        stdout=subprocess.PIPE,
        text=True,
    )
    with server:
        assert server.stdout is not None
        provider = GenericOIDCProvider(_CLIENT_ID, issuer_url=server.stdout.readline().strip())
        app = PyWry()
        _login(app, provider, Person())  # objects that exist once per process are created now
        _close(app)
        provider.close()
        threads, descriptors = set(threading.enumerate()), _descriptors()
        for number in range(count):
            if number % 10 == 3:
                _deny(app, provider)
            elif number % 10 == 7:
                _let_it_time_out(app, provider)
            else:
                _login(app, provider, Person())
        _close(app)
        assert set(threading.enumerate()) == threads
        assert len(_descriptors().items() - descriptors.items()) <= 1  # one idle connection to the provider
        provider.close()
        assert _descriptors() == descriptors
        server.terminate()


def _close(app: PyWry) -> None:
    """Stop the refresh timer, and wait for the end of its thread."""
    app.close()
    await_threads("pywry-auth-refresh")


def _descriptors() -> dict[str, str]:
    """Return the open descriptors of this process, with their files."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[name] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:  # the descriptor of this listing
            continue
    return found
