"""A sign-in puts no token, code, verifier or secret into logs, messages, pages or errors. [T31]"""

from __future__ import annotations

import argparse
import ast
import io
import json
import logging
import re
import socket
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any
from urllib.parse import parse_qsl

import pytest
from werkzeug.wrappers import Response

from pywry_auth.app import PyWry
from pywry_auth.cli.main import COMMANDS
from pywry_auth.config import get_settings
from pywry_auth.exceptions import AuthenticationError
from pywry_auth.testing.identity_provider import Client, IdentityProvider
from tests.house import PACKAGE, ROOT, imports_of
from tests.person import Person, parameters_of

_SECRET = "canary-client-secret"


@dataclass
class Wire:
    """All secrets in requests to the provider's token endpoint and in its answers."""

    secrets: set[str] = field(default_factory=lambda: {_SECRET})
    refuses: bool = False

    def around(self, app: Any) -> Any:
        def serve(environ: dict[str, Any], start_response: Any) -> Any:
            if environ["PATH_INFO"] != "/token":
                return app(environ, start_response)
            body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
            environ["wsgi.input"] = io.BytesIO(body)
            sent = dict(parse_qsl(body.decode()))
            secret = {sent[n] for n in ("code", "code_verifier", "refresh_token") if n in sent}
            self.secrets |= secret | {environ["HTTP_AUTHORIZATION"].removeprefix("Basic ")}
            if self.refuses:  # quote the secrets, as some providers do
                return _quoting(secret)(environ, start_response)
            response = Response.from_app(app, environ)
            members = json.loads(response.get_data())
            self.secrets |= {members[n] for n in ("access_token", "refresh_token", "id_token")}
            return response(environ, start_response)

        return serve


def _quoting(secrets: set[str]) -> Response:
    refusal = {
        "error": "invalid_grant",
        "error_description": f"unknown value {' and '.join(sorted(secrets))}",
    }
    return Response(json.dumps(refusal), 400, content_type="application/json")


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def app(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> Iterator[PyWry]:
    """A program with a client secret, which must register an address with a port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    client = Client("desk", _SECRET, (f"http://127.0.0.1:{port}/callback",))
    with IdentityProvider(clients=[client], signing_algorithm="ES256") as idp:
        idp.wrap(wire.around)
        values = {"provider": "oidc", "issuer_url": idp.issuer, "client_id": "desk", "client_secret": _SECRET}
        for name, value in (values | {"redirect_port": str(port)}).items():
            monkeypatch.setenv(f"PYWRY_OAUTH2__{name.upper()}", value)
        yield PyWry(get_settings())


class Output:
    """Everything that a test logs, prints, or shows in an error or a representation."""

    def __init__(self, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
        caplog.set_level(logging.DEBUG)
        self._caplog, self._capfd = caplog, capfd
        self._texts: list[str] = []

    def add(self, *things: object) -> None:
        self._texts += [text for thing in things for text in (repr(thing), str(thing))]

    def add_error(self, error: BaseException) -> None:
        self.add(error, vars(error), *traceback.format_exception(error))

    def everything(self) -> str:
        # The browser of the user is another program in real life, so leave out its log.
        records = [record for record in self._caplog.records if record.threadName != "person"]
        assert {record.levelno for record in records} >= {logging.DEBUG}
        logged = [f"{record.getMessage()} {vars(record)!r}" for record in records]
        printed = self._capfd.readouterr()
        return "\n".join([*self._texts, *logged, printed.out, printed.err])


@pytest.fixture
def output(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> Output:
    return Output(caplog, capfd)


def test_a_whole_sign_in_shows_no_secret(app: PyWry, wire: Wire, output: Output) -> None:
    person = Person()
    result = app.login(show_window=person.open, close_window=person.close)
    session = app.session_manager
    assert session is not None
    fresh = session.refresh()
    output.add(result, result.tokens, fresh, app, session, get_settings().oauth2)
    assert app.logout()
    everything = output.everything()
    assert "To sign in" in everything or "Sign in with the browser" in everything
    # The client secret, plain and encoded, code, verifier, and twice three tokens
    assert len(wire.secrets) == 10
    assert [secret for secret in wire.secrets if secret in everything or secret in person.last_page] == []


def test_secrets_that_a_provider_quotes_are_not_shown(app: PyWry, wire: Wire, output: Output) -> None:
    wire.refuses = True
    person = Person()
    with pytest.raises(AuthenticationError, match="unknown value") as caught:
        app.login(force=True, show_window=person.open, close_window=person.close)
    output.add_error(caught.value)
    assert len(wire.secrets) == 4  # the client secret, plain and encoded, code and verifier
    everything = output.everything()
    assert [secret for secret in wire.secrets if secret in everything or secret in person.last_page] == []
    assert dict(parameters_of(person.callback))["code"] in wire.secrets


def test_a_refused_refresh_shows_no_secret(app: PyWry, wire: Wire, output: Output) -> None:
    person = Person()
    app.login(force=True, show_window=person.open, close_window=person.close)
    session = app.session_manager
    assert session is not None
    wire.refuses = True
    with pytest.raises(AuthenticationError, match="unknown value") as caught:
        session.refresh()
    output.add_error(caught.value)
    everything = output.everything()
    assert [secret for secret in wire.secrets if secret in everything] == []


_STARTERS = ("subprocess", "webbrowser", "multiprocessing", "pty", "os.system", "os.popen", "os.startfile")
_FAMILIES = ("os.exec", "os.spawn", "os.posix_spawn")


def _starts_programs(source: str, path: str) -> bool:
    """Return whether a file imports a module, or names a function, that starts programs."""
    imported = {entry.name.partition(".")[0] for entry in imports_of(source, path)}
    named = {ast.unparse(node) for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Attribute)}
    return bool((imported | named) & set(_STARTERS)) or any(name.startswith(_FAMILIES) for name in named)


def test_only_two_files_start_programs() -> None:
    """Other users can read a program's arguments; the tests of both files show that none is secret. [T59]"""
    package = ROOT / PACKAGE
    files = {path.relative_to(package).as_posix(): path.read_text("utf-8") for path in package.rglob("*.py")}
    starters = {path for path, source in files.items() if _starts_programs(source, path)}
    assert starters == {"native/browser.py", "cli/demo.py"}


@pytest.mark.parametrize(
    "source",
    [
        "import subprocess",
        "from subprocess import run",
        "def f():\n    import webbrowser",
        "import os\nos.popen('x')",
        "import os\nos.execvp('x', [])",
    ],
)
def test_every_way_to_start_a_program_is_found(source: str) -> None:
    """This tests the check, with example sources."""
    assert _starts_programs(source, "flow/x.py")


def test_no_option_of_the_command_line_takes_a_secret() -> None:
    """Secrets come from the environment. Those of the local provider are no secrets. [T59]"""
    named, shown = set(), set()
    for command in COMMANDS:
        parser = argparse.ArgumentParser()
        import_module(f"pywry_auth.cli.{command.replace('-', '_')}").add_arguments(parser)
        for action in parser._actions:
            if action.nargs == 0:  # a switch, such as --id-token
                continue
            name = f"{command} {' '.join(action.option_strings) or action.dest}"
            words = "secret|token|password|key|url"
            named |= {name} if re.search(words, name.removeprefix("token ")) else set()
            shown |= {name} if re.search("secret|token|password", f"{action.metavar}".lower()) else set()
    assert named == {"provider --access-token-lifetime", "provider --client-key"}  # seconds, and public keys
    assert shown == {"provider --user", "provider --client"}
