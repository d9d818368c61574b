"""The README's code runs as it stands, and what it names is there."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from werkzeug.test import Client as WSGIClient

from pywry_auth.config import DeploySettings, OAuth2Settings
from pywry_auth.testing.identity_provider import Client, IdentityProvider
from tests.cli.program import started
from tests.deploy.hosts import Host, served_by_wsgi
from tests.deploy.web import Browser
from tests.person import Person

_ROOT = Path(__file__).parents[1]
_README = (_ROOT / "README.md").read_text()
_ISSUER = "https://id.example.com"


@pytest.fixture
def idp() -> Iterator[IdentityProvider]:
    client = Client("my-program", redirect_uris=("http://127.0.0.1/callback",))  # as the README says
    with IdentityProvider(signing_algorithm="ES256", clients=[client]) as idp:
        yield idp


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", _README, re.DOTALL | re.MULTILINE)


def test_the_program_signs_in_with_the_exported_settings(idp: IdentityProvider) -> None:
    settings = _exports("pip install .\n", idp)
    assert len(settings) == 3
    with started(sys.executable, "-c", _blocks("python")[0], **settings) as program:
        Person().sign_in(program.url())
        status, out, err = program.end()
    assert (status, out) == (0, "Signed in: alice@example.com as user-alice\n"), err
    assert idp.calls["revoke"] == 2


def _exports(after: str, idp: IdentityProvider) -> dict[str, str]:
    """Return the variables of the shell block that begins so."""
    (block,) = [block for block in _blocks("sh") if block.startswith(after)]
    exports = re.findall(r"^export (\w+)=(\S+)", block, re.MULTILINE)
    return {name: value.replace(_ISSUER, idp.issuer) for name, value in exports}


def test_the_web_application_signs_in_with_the_exported_settings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    site = "https://app.example.com"
    client = Client("my-site", "...", (f"{site}/auth/callback",), (f"{site}/",))  # as the README says
    with IdentityProvider(signing_algorithm="ES256", clients=[client]) as idp:
        settings = _exports("pip install '.[deploy]'\n", idp)
        settings["PYWRY_DEPLOY__SQLITE_PATH"] = str(tmp_path / "state.sqlite3")
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        own: dict[str, Any] = {"__name__": "own"}
        exec(next(block for block in _blocks("python") if "init_app" in block), own)  # noqa: S102 - this is what it is for
        browser = Browser(own["app"].test_client(), site)
        assert browser.get("/", html=True).text == "Hello"
        assert browser.get("/reports").status_code == 401
        browser.sign_in("/auth/login?next=/reports")
        assert browser.get("/", html=True).text == "Hello user-alice"
        assert browser.get("/reports").text == "For alice@example.com alone"
        assert browser.get("/users").status_code == 403


def test_the_fastapi_application_signs_in_with_the_exported_settings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    site = "https://app.example.com"
    client = Client("my-site", "...", (f"{site}/auth/callback",), (f"{site}/",))
    with IdentityProvider(signing_algorithm="ES256", clients=[client]) as idp:
        settings = _exports("pip install '.[deploy]'\n", idp)
        settings["PYWRY_DEPLOY__SQLITE_PATH"] = str(tmp_path / "state.sqlite3")
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        own: dict[str, Any] = {"__name__": "own"}
        exec(next(block for block in _blocks("python") if "AuthMiddleware" in block), own)  # noqa: S102 - this is what it is for
        browser = Browser(WSGIClient(served_by_wsgi(own["app"], Host("fastapi"))), site)
        assert browser.get("/dashboard", html=True).location == "/auth/login?next=/dashboard"
        assert browser.get("/reports").status_code == 401
        browser.sign_in("/auth/login?next=/dashboard")
        assert browser.get("/dashboard").json == {"user": "user-alice", "roles": ["viewer"]}
        assert browser.get("/reports").json == {"for": "alice@example.com"}
        assert browser.get("/users").status_code == 403


def test_the_provider_can_be_made_in_code(idp: IdentityProvider) -> None:
    code = _blocks("python")[1]
    assert _ISSUER in code
    with started(sys.executable, "-c", code.replace(_ISSUER, idp.issuer)) as program:
        Person().sign_in(program.url())
        status, out, err = program.end()
    assert (status, out) == (0, "openid email profile\n"), err


def test_a_program_stays_signed_in_and_takes_the_token_to_an_api(
    idp: IdentityProvider, tmp_path: Path
) -> None:
    oauth2 = {
        "PROVIDER": "oidc",
        "ISSUER_URL": idp.issuer,
        "CLIENT_ID": "my-program",
        "TOKEN_STORE_BACKEND": "sqlite",
    }
    settings = {f"PYWRY_OAUTH2__{name}": value for name, value in oauth2.items()}
    settings["XDG_STATE_HOME"] = str(tmp_path)
    code = _blocks("python")[2].replace(_ISSUER, idp.issuer)
    assert ".login()" in code
    for again in (False, True):
        with started(sys.executable, "-c", code, **settings) as program:
            if not again:
                Person().sign_in(program.url())
            status, out, err = program.end()
        assert (status, out) == (0, "Alice Example\n"), err
    assert idp.calls["token"] == 1


def test_every_setting_is_one_and_has_its_default() -> None:
    fields = {
        name.upper(): field
        for kind in (OAuth2Settings, DeploySettings)
        for name, field in kind.model_fields.items()
    }
    told = {
        name: cells[2].strip(" `")
        for cells in (line.split("|") for line in _README.splitlines() if line.startswith("| `"))
        for name in re.findall(r"`([A-Z_]+)`", cells[1])
    }
    assert len(told) > 35
    assert told == {name: _default(fields[name].default) for name in told}
    assert set(re.findall(r"PYWRY_(?:OAUTH2|DEPLOY)__([A-Z_]+)", _README)) <= set(fields)


def _default(value: object) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, tuple):
        return "-".join(str(port) for port in value)
    if isinstance(value, (list, dict)):
        return ",".join(value)
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def test_every_place_and_command_is_there() -> None:
    places = re.findall(r"`((?:pywry_auth|tests|bench)/[\w./]*)`", _README)
    assert len(places) >= 7
    assert [place for place in places if not (_ROOT / place).exists()] == []
    makefile = (_ROOT / "Makefile").read_text()
    targets = re.findall(r"\bmake (demo|test)\b", _README)
    assert {"demo", "test"} == set(targets)
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)
