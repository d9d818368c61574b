"""``pywry-auth login`` run again: no browser while the grant lasts, and one for many processes."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from keyring.backends.SecretService import Keyring

from pywry_auth.backends.keyring import KeyringBackend
from pywry_auth.providers.oidc import GenericOIDCProvider
from pywry_auth.state.token_stores import RedisTokenStore, SQLiteTokenStore
from pywry_auth.state.tokens import TokenStore
from pywry_auth.testing.identity_provider import DEFAULT_CLIENTS, IdentityProvider
from tests.cli.program import COMMAND, Program, started
from tests.peers.redis_server import RedisServer
from tests.peers.secret_service import SecretService
from tests.person import Person

_CLIENT_ID = DEFAULT_CLIENTS[0].client_id
_SIGNED_IN = "Signed in:  Alice Example, alice@example.com (user ID user-alice)\n"


@dataclass
class Shell:
    """Runs the command with the settings of one user, and reads its store.

    Args:
        idp: The provider.
        settings: The environment.
        store: Where the command keeps its tokens.
    """

    idp: IdentityProvider
    settings: dict[str, str]
    store: TokenStore

    def sign_in(self) -> None:
        """Run the command and sign in."""
        with started(COMMAND, "login", **self.settings) as program:
            Person().sign_in(program.url())
            self._expect_alice(program)

    def run(self) -> None:
        """Run the command, and assert that it is silent."""
        with started(COMMAND, "login", **self.settings) as program:
            assert self._expect_alice(program) == ""

    def end_token(self) -> None:
        """Let the access token expire."""
        tokens = self.store.load("user-alice")
        assert tokens is not None
        assert tokens.expires_in is not None
        self.store.replace(
            "user-alice", replace(tokens, issued_at=time.time() - tokens.expires_in - 1), tokens
        )

    def end_grant(self) -> None:
        """End the grant at the provider."""
        tokens = self.store.load("user-alice")
        assert tokens is not None
        provider = GenericOIDCProvider(_CLIENT_ID, issuer_url=self.idp.issuer)
        assert provider.revoke_token(tokens.refresh_token or "")
        provider.close()

    @staticmethod
    def _expect_alice(program: Program) -> str:
        status, out, err = program.end()
        assert (status, out.startswith(_SIGNED_IN)) == (0, True), (out, err)
        return err


Place = tuple[dict[str, str], TokenStore]
"""The settings that select a store for the command, and the same store for the test."""


@pytest.fixture
def sqlite(tmp_path: Path) -> Place:
    path = tmp_path / "tokens.sqlite3"
    return {"PYWRY_DEPLOY__SQLITE_PATH": str(path)}, SQLiteTokenStore(path)


@pytest.fixture
def redis(redis_server: RedisServer) -> Place:
    redis_server.client.flushall()
    return {"PYWRY_DEPLOY__REDIS_URL": redis_server.url}, RedisTokenStore(redis_server.url)


@pytest.fixture
def keyring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A real Secret Service without a display, so that it cannot open a dialog."""
    with SecretService() as service:
        monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", service.address)
        locks = tmp_path / "pywry-auth" / "locks"
        yield {}, TokenStore(KeyringBackend(f"pywry_auth:{_CLIENT_ID}", vault=Keyring(), folder=locks))


_STORES = ["sqlite", "redis", "keyring"] if os.environ.get("SOAK") else ["redis", "keyring"]
"""One store with each kind of lock: a lease, as SQLite's too, and a file."""


@pytest.fixture(params=_STORES)
def shell(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shell]:
    place, store = request.getfixturevalue(request.param)
    with IdentityProvider(signing_algorithm="ES256") as idp:
        settings = {
            "PYWRY_OAUTH2__PROVIDER": "oidc",
            "PYWRY_OAUTH2__CLIENT_ID": _CLIENT_ID,
            "PYWRY_OAUTH2__ISSUER_URL": idp.issuer,
            "PYWRY_OAUTH2__TOKEN_STORE_BACKEND": request.param,
            "XDG_STATE_HOME": str(tmp_path),
        }
        yield Shell(idp, settings | place, store)
        store.close()


def test_a_sign_in_lasts_until_the_grant_ends(shell: Shell) -> None:
    """The second run opens no browser. An expired token costs one call, an ended grant a sign-in."""
    shell.sign_in()
    calls = shell.idp.calls
    shell.run()
    assert shell.idp.calls == calls
    shell.end_token()
    shell.run()
    used = shell.idp.calls - calls
    assert (used["token"], used["authorize"]) == (1, 0)
    shell.end_token()
    shell.end_grant()
    shell.sign_in()
    used = shell.idp.calls - calls
    assert (used["token"], used["authorize"]) == (
        3,
        2,
    )  # token: a refusal and an exchange; authorize: the page and its form


def test_processes_that_start_at_once_open_one_browser(shell: Shell) -> None:
    """The other processes wait, and use the result of the first one. [N7]"""
    with ExitStack() as running:
        first = running.enter_context(started(COMMAND, "login", **shell.settings))
        url = first.url()
        others = [running.enter_context(started(COMMAND, "login", **shell.settings)) for _ in range(3)]
        for other in others:
            assert "waits for you to sign in" in other.notice()
        Person().sign_in(url)
        for program in (first, *others):
            status, out, err = program.end()
            assert (status, out.startswith(_SIGNED_IN)) == (0, True), err
            assert ("http" in err) is (program is first)
    assert shell.idp.calls["authorize"] == 2
    assert shell.idp.calls["token"] == 1


def test_a_process_opens_its_own_browser_if_the_first_one_is_killed(shell: Shell) -> None:
    with started(COMMAND, "login", **shell.settings) as first:
        first.url()
        with started(COMMAND, "login", **shell.settings) as second:
            assert "waits for you to sign in" in second.notice()
            first.process.kill()
            Person().sign_in(second.url())
            status, out, _ = second.end()
            assert (status, out.startswith(_SIGNED_IN)) == (0, True)
