"""A program that keeps tokens in the keyring reports a missing keyring before the sign-in."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import keyring
import pytest
from keyring.backends import fail
from keyring.backends.SecretService import Keyring

from pywry_auth.app import PyWry
from pywry_auth.exceptions import AuthenticationError
from pywry_auth.testing.identity_provider import Client, IdentityProvider
from tests.backends.fixtures import ENCRYPTION_KEY
from tests.backends.keyrings import SwitchedOffKeyring
from tests.peers.secret_service import SecretService
from tests.person import Person


@pytest.fixture
def client() -> Client:
    """A client that is new to this process."""
    return Client(f"desk-{uuid4().hex}", "", ("http://127.0.0.1/callback",))


@pytest.fixture
def idp(client: Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[IdentityProvider]:
    """A provider, and the settings of a program that signs in there and keeps its tokens in the keyring."""
    with IdentityProvider(clients=[client], signing_algorithm="ES256") as idp:
        settings = {
            "PROVIDER": "oidc",
            "CLIENT_ID": client.client_id,
            "ISSUER_URL": idp.issuer,
            "TOKEN_STORE_BACKEND": "keyring",
        }
        for name, value in settings.items():
            monkeypatch.setenv(f"PYWRY_OAUTH2__{name}", value)
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
        yield idp


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch) -> Callable[[object], None]:
    """Returns a function that selects the keyring of the keyring package."""

    def choose(vault: object) -> None:
        monkeypatch.setattr(keyring, "get_keyring", lambda: vault)

    return choose


class _SwitchedOff(SwitchedOffKeyring):
    priority = 5


class _PlainText(SwitchedOffKeyring):
    name, priority = "PlaintextKeyring", 0.5


def _refuse(message: object, *more: Any) -> str:
    pytest.fail(f"the user was asked to sign in: {message}")


@pytest.mark.parametrize(
    ("vault", "reason"),
    [
        (_SwitchedOff(), "switched off"),
        (fail.Keyring(), "no secure keyring was found"),
        (_PlainText(), "no secure keyring was found"),
    ],
)
def test_an_unusable_keyring_is_reported_before_the_browser_opens(
    idp: IdentityProvider, chosen: Callable[[object], None], vault: object, reason: str
) -> None:
    """The error names the alternatives. [N5]"""
    chosen(vault)
    with pytest.raises(AuthenticationError, match=f"{reason}.*TOKEN_STORE_BACKEND=sqlite.*or memory"):
        PyWry().login(show_window=_refuse, notify=_refuse)
    assert idp.calls["authorize"] == 0


def test_a_missing_package_is_reported_before_the_browser_opens(
    idp: IdentityProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the package to install. [N5]"""
    monkeypatch.setitem(sys.modules, "keyring", None)
    for name in ("keyring", "keyring_vault"):
        monkeypatch.delitem(sys.modules, f"pywry_auth.backends.{name}", raising=False)
    with pytest.raises(AuthenticationError, match=r"pip install 'pywry-auth\[auth\]'") as caught:
        PyWry().login(show_window=_refuse, notify=_refuse)
    assert caught.value.error == "invalid_configuration"
    assert idp.calls["authorize"] == 0


_LATER = """
import sys
from pywry_auth import get_token_store
store = get_token_store("keyring", service_name="pywry_auth:" + sys.argv[1])
print(store.list_keys(), store.load("user-alice").refresh_token)
"""


def test_the_next_program_finds_the_stored_sign_in(
    idp: IdentityProvider, client: Client, chosen: Callable[[object], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tokens are in a real Secret Service, under the name of the client. [S6]"""
    with SecretService() as service:
        monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", service.address)
        chosen(Keyring())
        person, app = Person(), PyWry()
        result = app.login(show_window=person.open, close_window=person.close, notify=lambda message: None)
        command = [sys.executable, "-W", "error", "-c", _LATER, client.client_id]
        later = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
        assert later == f"['user-alice'] {result.tokens.refresh_token}\n"
        assert app.logout()
        assert len(service.names) <= 1  # the index


def test_the_settings_keys_encrypt_a_programs_tokens(
    idp: IdentityProvider, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The tokens and the profile are encrypted. [T13]"""
    monkeypatch.setenv("PYWRY_OAUTH2__TOKEN_STORE_BACKEND", "sqlite")
    monkeypatch.setenv("PYWRY_DEPLOY__SQLITE_PATH", str(tmp_path / "tokens" / "t.db"))
    monkeypatch.setenv("PYWRY_DEPLOY__ENCRYPTION_KEYS", ENCRYPTION_KEY)
    person, app = Person(), PyWry()
    tokens = app.login(show_window=person.open, close_window=person.close, notify=lambda message: None).tokens
    stored = b"".join(file.read_bytes() for file in (tmp_path / "tokens").iterdir())
    assert b"oauth:tokens:user-alice" in stored
    assert tokens.refresh_token is not None
    for secret in (tokens.access_token, tokens.refresh_token, "Alice Example"):
        assert secret.encode() not in stored
    app.close()
