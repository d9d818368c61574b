"""The commands in this process, and users that are signed in with the same settings."""

from __future__ import annotations

import base64
import io
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from pywry_auth.app import PyWry
from pywry_auth.cli.main import main
from pywry_auth.models import OAuthTokenSet
from pywry_auth.state.token_stores import SQLiteTokenStore
from pywry_auth.testing.identity_provider import DEFAULT_CLIENTS, IdentityProvider
from tests.person import Person

_PASSWORDS = {"alice": "wonderland", "bob": "builder"}


@dataclass(frozen=True)
class Ran:
    """A command that has ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one object on standard output."""
        assert self.out.count("\n") == 1
        return json.loads(self.out)


class Commands:
    """Runs commands in this process, with the settings of a SQLite file and a local provider.

    Args:
        idp: The provider.
        folder: A folder of the test.
        monkeypatch: Sets the environment.
        capsys: Captures the output.
    """

    def __init__(
        self,
        idp: IdentityProvider,
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        self.idp = idp
        self.store = SQLiteTokenStore(folder / "tokens.sqlite3")
        self.settings = {
            "PYWRY_OAUTH2__PROVIDER": "oidc",
            "PYWRY_OAUTH2__CLIENT_ID": DEFAULT_CLIENTS[0].client_id,
            "PYWRY_OAUTH2__ISSUER_URL": idp.issuer,
            "PYWRY_OAUTH2__TOKEN_STORE_BACKEND": "sqlite",
            "PYWRY_DEPLOY__SQLITE_PATH": str(folder / "tokens.sqlite3"),
        }
        self._monkeypatch, self._capsys = monkeypatch, capsys
        for name, value in self.settings.items():
            monkeypatch.setenv(name, value)

    def run(self, *arguments: str, stdin: str | bytes = "") -> Ran:
        """Run a command, and return its end."""
        self._capsys.readouterr()
        given = stdin.encode() if isinstance(stdin, str) else stdin
        self._monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given), "utf-8"))
        try:
            status = main(arguments)
        except SystemExit as error:
            status = int(error.code or 0)
        out, err = self._capsys.readouterr()
        assert "Traceback" not in err
        return Ran(status, out, err)

    def sign_in(self, *names: str) -> None:
        """Sign users in with a window, the last one as the current account."""
        for name in names:
            person = Person(name, _PASSWORDS[name])
            app = PyWry()
            app.login(force=True, show_window=person.open, close_window=person.close, notify=_ignore)
            app.close()

    def tokens(self, user: str = "user-alice") -> OAuthTokenSet:
        """Return the stored tokens of a user."""
        tokens = self.store.load(user)
        assert tokens is not None
        return tokens

    def end_access_token(self, **changes: Any) -> None:
        """Let Alice's access token expire, and change other members of her tokens."""
        tokens = self.tokens()
        aged = replace(tokens, issued_at=time.time() - (tokens.expires_in or 0) - 1, **changes)
        self.store.replace("user-alice", aged, tokens)

    def end_id_token(self) -> None:
        """Let Alice's ID token expire."""
        tokens = self.tokens()
        claims = {**tokens.id_token_claims, "exp": time.time() - 1}
        aged = replace(tokens, id_token=unsigned(claims), id_token_claims=claims)
        self.store.replace("user-alice", aged, tokens)


def unsigned(claims: Mapping[str, Any]) -> str:
    """Return an ID token without a valid signature, as it is stored."""
    parts = (json.dumps({"alg": "ES256"}), json.dumps(dict(claims)), "signature")
    return ".".join(base64.urlsafe_b64encode(part.encode()).rstrip(b"=").decode() for part in parts)


def _ignore(message: str) -> None:
    """Ignore the address: the person has it already."""
