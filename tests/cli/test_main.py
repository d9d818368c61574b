"""``pywry-auth login``: it uses the settings of the environment, and prints no traceback."""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from pywry_auth.cli.main import COMMANDS, main
from pywry_auth.cli.summary import describe
from pywry_auth.models import AuthFlowResult, OAuthTokenSet
from pywry_auth.testing.identity_provider import DEFAULT_CLIENTS, IdentityProvider, User
from tests.cli.program import COMMAND, Program, environment, started, terminal
from tests.faults import Faults
from tests.person import Person, parameters_of

_ROOT = Path(__file__).parents[2]
_CLIENT_ID = DEFAULT_CLIENTS[0].client_id
_RESULT = (
    "Signed in:  Alice Example, alice@example.com (user ID user-alice)\n"
    "Scopes:     openid email profile\n"
    "Expires:    "
)


@pytest.fixture
def idp() -> Iterator[IdentityProvider]:
    with IdentityProvider(signing_algorithm="ES256") as idp:
        yield idp


@pytest.fixture
def settings(idp: IdentityProvider) -> dict[str, str]:
    return _settings_for(idp)


def _settings_for(idp: IdentityProvider) -> dict[str, str]:
    values = {"PROVIDER": "oidc", "CLIENT_ID": _CLIENT_ID, "ISSUER_URL": idp.issuer}
    return {f"PYWRY_OAUTH2__{name}": value for name, value in values.items()}


def test_login_prints_only_the_result(settings: dict[str, str]) -> None:
    with started(COMMAND, "login", **settings) as program:
        Person().sign_in(program.url())
        status, out, err = program.end()
    assert status == 0
    assert out.startswith(_RESULT)
    assert out.splitlines()[3].startswith(
        "Kept in:    nowhere. Tokens in memory end with their command: set "
    )
    assert out.count("\n") == 4
    assert "Signed in" not in err


def test_python_m_is_the_same_command(settings: dict[str, str]) -> None:
    with started(sys.executable, "-m", "pywry_auth", "login", **settings) as program:
        Person().sign_in(program.url())
        status, out, _ = program.end()
    assert (status, out.startswith(_RESULT)) == (0, True)


def test_a_denial_is_one_sentence_and_status_1(settings: dict[str, str]) -> None:
    with started(COMMAND, "login", **settings) as program:
        Person(action="cancel").sign_in(program.url())
        status, out, err = program.end()
    assert (status, out) == (1, "")
    assert _complaint(err).startswith("pywry-auth: The provider answered access_denied")


def test_ctrl_c_is_status_130_without_a_traceback(settings: dict[str, str]) -> None:
    """A browser holds a connection that it opened in advance and never used. [N11]"""
    with started(COMMAND, "login", **settings) as program:
        callback = urlsplit(dict(parameters_of(program.url()))["redirect_uri"])
        with socket.create_connection((callback.hostname or "", callback.port or 0)):
            program.interrupt()
            status, out, err = program.end()
    assert (status, out) == (130, "")
    assert _complaint(err) == "pywry-auth: interrupted"


def test_a_second_ctrl_c_ends_at_once_without_a_traceback(
    idp: IdentityProvider, settings: dict[str, str]
) -> None:
    """After the first one, the exchange goes on so that its tokens can be revoked."""
    asked, ended = threading.Event(), threading.Event()

    def hang(path: str) -> None:
        if path == "/token":
            asked.set()
            ended.wait(20)

    def sign_in(url: str) -> None:
        with suppress(OSError):  # the program ends before its last page
            Person().sign_in(url)

    Faults(idp).before = hang
    with started(COMMAND, "login", **settings) as program:
        user = threading.Thread(target=sign_in, args=(program.url(),))
        user.start()
        assert asked.wait(10)
        program.interrupt()
        while not (notice := program.notice()).startswith("pywry-auth: "):
            assert notice
        assert notice.startswith("pywry-auth: interrupted, finishing the call to the provider")
        program.interrupt()
        status, out, err = program.end()
        ended.set()
    user.join()
    assert (status, out) == (130, "")
    assert err.splitlines()[-1] == notice.rstrip()


def _complaint(err: str) -> str:
    assert "Traceback" not in err
    return err.splitlines()[-1]


def test_the_browser_that_the_environment_names_is_opened_and_any_name_can_be_printed(tmp_path: Path) -> None:
    zoe = User("zoe", "secret", {"sub": "user-zoe", "name": "Zoë 张\x1b[31m", "email": "zoe@example.com"})
    browser = tmp_path / "browser"
    visit = (
        "import requests, sys; from tests.person import Person; "
        "start = requests.get(sys.argv[1], allow_redirects=False); "
        'Person("zoe", "secret").sign_in(start.headers["Location"])'
    )
    browser.write_text(f"#!/bin/sh\ncd '{_ROOT}' && exec '{sys.executable}' -c '{visit}' \"$1\"\n")
    browser.chmod(0o755)
    with IdentityProvider(signing_algorithm="ES256", users=[zoe]) as idp:
        variables = _settings_for(idp) | {"BROWSER": str(browser), "PYTHONIOENCODING": "ascii"}
        with started(COMMAND, "login", **variables) as program:
            status, out, err = program.end()
    assert (status, "Traceback" in err) == (0, False)
    assert out.startswith(r"Signed in:  Zo\xeb \u5f20 [31m, zoe@example.com (user ID user-zoe)")


def test_a_closed_pipe_causes_no_complaint(settings: dict[str, str]) -> None:
    with (
        terminal() as user,
        subprocess.Popen(
            [COMMAND, "login"],
            env=environment(settings | {"BROWSER": "true"}),
            stdin=user,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        assert process.stdout is not None
        process.stdout.close()
        program = Program(process)
        Person().sign_in(program.url())
        assert process.stderr is not None
        assert process.stderr.read().strip() == ""
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("place", "status", "complaint"), [("&-", 0, ""), ("/dev/full", 1, "No space left on device.")]
)
def test_a_closed_or_full_output_causes_no_traceback(
    settings: dict[str, str], place: str, status: int, complaint: str
) -> None:
    with started("sh", "-c", f"exec '{COMMAND}' login >{place}", **settings) as program:
        url = program.url()
        Person().sign_in(url)
        ended, _, err = program.end()
    assert ended == status
    assert "Traceback" not in err
    assert err.partition(url)[2].strip().endswith(complaint)
    assert bool(complaint) is ("pywry-auth: " in err)


def test_a_complaint_never_goes_to_standard_output() -> None:
    command = ["sh", "-c", f"exec '{COMMAND}' login 2>&-"]
    run = subprocess.run(command, env=environment({}), stdout=subprocess.PIPE, timeout=60, check=False)
    assert (run.returncode, run.stdout) == (1, b"")


def test_a_complaint_that_cannot_be_written_causes_no_traceback() -> None:
    """The exit code still reports the failure."""
    program = (
        "import sys; sys.stderr.close(); from pywry_auth.cli.main import main; sys.exit(main(['login']))"
    )
    command = [sys.executable, "-c", program]
    run = subprocess.run(command, env=environment({}), stdout=subprocess.PIPE, timeout=60, check=False)
    assert (run.returncode, run.stdout) == (1, b"")


@pytest.fixture
def complaint(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Complaint:
    return Complaint(monkeypatch, capsys)


class Complaint:
    """The complaint of ``pywry-auth login`` about invalid settings."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys
        for name in [name for name in os.environ if name.startswith("PYWRY_")]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("BROWSER", "true")  # otherwise the command would not ask

    def about(self, **settings: str) -> str:
        for name, value in settings.items():
            self._monkeypatch.setenv(f"PYWRY_OAUTH2__{name}", value)
        assert main(["login"]) == 1
        printed = self._capsys.readouterr()
        assert printed.out == ""
        return printed.err


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({}, "PYWRY_OAUTH2__CLIENT_ID"),
        ({"CLIENT_ID": "x", "TOKEN_URL": "https://id.example.com/token"}, "PYWRY_OAUTH2__AUTHORIZE_URL"),
        ({"CLIENT_ID": "x", "PROVIDER": "oidc"}, "PYWRY_OAUTH2__ISSUER_URL"),
        (
            {"CLIENT_ID": "x", "PROVIDER": "oidc", "ISSUER_URL": "//id.example.com"},
            "PYWRY_OAUTH2__ISSUER_URL",
        ),
        ({"CLIENT_ID": "x", "PROVIDER": "oidc", "ISSUER_URL": "http://127.0.0.1:1"}, "could not be reached"),
        (
            {
                "CLIENT_ID": "x",
                "PROVIDER": "oidc",
                "ISSUER_URL": "http://127.0.0.1:1",
                "TOKEN_STORE_BACKEND": "keyring",
            },
            "PYWRY_OAUTH2__TOKEN_STORE_BACKEND",
        ),
    ],
)
def test_a_misconfiguration_is_one_clear_sentence(
    complaint: Complaint, settings: dict[str, str], named: str
) -> None:
    text = complaint.about(**settings)
    assert text.count("\n") == 1
    assert text.startswith("pywry-auth: ")
    assert named in text


def test_all_bad_values_are_reported_at_once_without_a_secret(complaint: Complaint) -> None:
    text = complaint.about(CLIENT_ID="x", CLIENT_SECRET="canary", HTTP_TIMEOUT_SECONDS="soon", USE_PKCE="2")
    assert "PYWRY_OAUTH2__HTTP_TIMEOUT_SECONDS" in text
    assert "PYWRY_OAUTH2__USE_PKCE" in text
    assert "canary" not in text


@pytest.mark.filterwarnings("default")
def test_a_misspelt_variable_is_reported_in_one_sentence(complaint: Complaint) -> None:
    first, second = complaint.about(
        CLIENT_ID="x", PROVIDER="oidc", ISUER_URL="https://id.example.com"
    ).splitlines()
    assert first.startswith("pywry-auth: ")
    assert first.endswith("did you mean PYWRY_OAUTH2__ISSUER_URL?")
    assert "PYWRY_OAUTH2__ISSUER_URL" in second


@pytest.mark.parametrize("arguments", [[], ["sign-in"], ["login", "now"], ["demo", "now"]])
def test_a_wrong_command_line_gets_the_usage(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: pywry-auth" in capsys.readouterr().err


def test_values_that_the_provider_omits_are_described_as_unknown() -> None:
    result = AuthFlowResult(True, OAuthTokenSet("canary"), {"id": 7}, "7")
    assert describe(result) == (
        "Signed in:  no name given (user ID 7)\nScopes:     none\nExpires:    not stated by the provider"
    )


def test_a_profile_cannot_write_lines_or_colours_of_its_own() -> None:
    profile = {"sub": "a\nb", "name": "Eve\x1b[2J\r\nExpires:    never", "email": ["x"]}
    tokens = OAuthTokenSet("canary", scope="openid\x07")
    lines = describe(AuthFlowResult(True, tokens, profile, "a\nb")).splitlines()
    assert len(lines) == 3
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([name, "--help"])
    assert caught.value.code == 0
    assert f"usage: pywry-auth {name}" in capsys.readouterr().out


def test_the_list_of_commands_loads_none_of_them() -> None:
    """``pywry-auth --help`` answers at once, and needs no optional package."""
    program = (
        "import contextlib, sys; from pywry_auth.cli.main import main\n"
        "with contextlib.suppress(SystemExit): main(['--help'])\n"
        "sys.exit('pywry_auth.app' in sys.modules or 'flask' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", program], env=environment({}), timeout=60, check=False)
    assert run.returncode == 0


class _StartingThread(threading.Thread):
    """A worker thread that is listed before it can be joined, as for a moment in ``start()``."""

    def __init__(self) -> None:
        super().__init__(name="pywry-auth-call", daemon=False)
        self.tries = 0

    def join(self, timeout: float | None = None) -> None:
        self.tries += 1
        if self.tries == 1:
            raise RuntimeError("cannot join thread before it is started")


def _interrupted_command(options: argparse.Namespace) -> None:
    raise KeyboardInterrupt


def test_ctrl_c_waits_for_a_call_whose_thread_is_only_starting(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    call = _StartingThread()
    monkeypatch.setattr(threading, "enumerate", lambda: [call] if call.tries < 2 else [])
    monkeypatch.setattr("pywry_auth.cli.status.run", _interrupted_command)
    assert main(["status"]) == 130
    assert call.tries == 2
    assert "finishing the call" in capsys.readouterr().err
