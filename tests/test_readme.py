"""The README's code runs unchanged, and its statements are true."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import Client as WSGIClient

from pywry_auth.testing.identity_provider import DEFAULT_CLIENTS, DEFAULT_USERS, IdentityProvider
from tests.cli.program import COMMAND, started
from tests.deploy.hosts import Host, served_by_wsgi
from tests.deploy.web import Browser
from tests.documents import LOCAL_ISSUER, README, ROOT, block, blocks, exported
from tests.person import Person

_TEXT = README.read_text()


@pytest.fixture
def idp() -> Iterator[IdentityProvider]:
    """The provider as its command starts it, but on another port."""
    with IdentityProvider() as idp:
        yield idp


def test_it_is_short() -> None:
    assert len(_TEXT.splitlines()) < 150
    assert (ROOT / "docs" / "_static" / "demo.png").stat().st_size < 150_000


def test_the_provider_starts_by_the_command_and_knows_the_clients() -> None:
    assert "\npywry-auth provider\n" in block(README, "sh", "pip install")
    with started(COMMAND, "provider", "--port", "0") as program:
        assert program.process.stdout is not None
        told = [program.process.stdout.readline() for _ in range(1 + len(DEFAULT_USERS))]
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+\n", told[0])
    for user, line in zip(DEFAULT_USERS, told[1:], strict=True):
        assert f"`{user.username}`" in _TEXT
        assert f"`{user.password}`" in _TEXT
        assert user.username in line
        assert user.password in line
    for client in DEFAULT_CLIENTS:
        (row,) = [line for line in _TEXT.splitlines() if line.startswith(f"| `{client.client_id}`")]
        assert (f"`{client.client_secret}`" if client.client_secret else "| none |") in row
        (uri,) = re.findall(r"`(http://[^`]+)`", row)
        assert uri in client.redirect_uris
    web = DEFAULT_CLIENTS[1].redirect_uris
    assert set(web) == {
        f"http://{h}:{p}/auth/callback" for h in ("127.0.0.1", "localhost") for p in (5000, 8000)
    }


def test_the_program_signs_in_once_with_the_exported_settings(idp: IdentityProvider, tmp_path: Path) -> None:
    settings = exported(block(README, "sh", "pywry-demo"), idp.issuer)
    assert len(settings) == 4
    settings |= {"XDG_STATE_HOME": str(tmp_path), "PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring"}
    for first in (True, False):
        with started(sys.executable, "-c", blocks(README, "python")[0], **settings) as program:
            if first:
                Person().sign_in(program.url())
            status, out, err = program.end()
        assert (status, out) == (0, "Signed in: alice@example.com as user-alice\n"), err
    assert idp.calls["token"] == 1


def _settings_of_the_site(idp: IdentityProvider, folder: Path) -> dict[str, str]:
    settings = exported(block(README, "sh", "pywry-web"), idp.issuer)
    assert len(settings["PYWRY_DEPLOY__TOKEN_SECRET"]) > 40  # the shell created it
    return settings | {"PYWRY_DEPLOY__SQLITE_PATH": str(folder / "state.sqlite3")}


def _executed(code: str) -> Any:
    own: dict[str, Any] = {"__name__": "own"}
    exec(code, own)  # noqa: S102 - the purpose of this function
    return own["app"]


def test_the_flask_application_signs_in_with_the_exported_settings(
    idp: IdentityProvider, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in _settings_of_the_site(idp, tmp_path).items():
        monkeypatch.setenv(name, value)
    app = _executed(block(README, "python", "init_app").replace(LOCAL_ISSUER, idp.issuer))
    browser = Browser(app.test_client(), "http://127.0.0.1:5000")
    assert browser.get("/profile").status_code == 401
    assert browser.get("/profile", html=True).location == "/auth/login?next=%2Fprofile"
    assert browser.sign_in("/auth/login?next=/profile").location == "http://127.0.0.1:5000/profile"
    answer = browser.get("/profile").json
    assert (answer["user"], answer["roles"]) == ("user-alice", ["viewer"])
    assert answer["profile"] == browser.get("/auth/userinfo").json["user_info"]
    assert idp.calls["userinfo"] == 2


def test_the_fastapi_application_signs_in_with_the_exported_settings(
    idp: IdentityProvider, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in _settings_of_the_site(idp, tmp_path).items():
        monkeypatch.setenv(name, value)
    app = served_by_wsgi(_executed(block(README, "python", "AuthMiddleware")), Host("fastapi"))
    browser = Browser(WSGIClient(app), "http://127.0.0.1:8000")
    assert browser.get("/reports").status_code == 401
    assert browser.get("/reports", html=True).location == "/auth/login?next=%2Freports"
    assert browser.sign_in("/auth/login?next=/reports").location == "http://127.0.0.1:8000/reports"
    assert browser.get("/reports").json == {"for": "user-alice"}


def test_every_command_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"(?:^|`)make (\w+)\b", _TEXT, re.MULTILINE))
    assert targets >= {"demo", "test", "docs"}
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)
    assert LOCAL_ISSUER in _TEXT
