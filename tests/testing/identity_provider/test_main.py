"""The provider as a program."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from pywry_auth.testing.identity_provider import IdentityProvider
from pywry_auth.testing.identity_provider.__main__ import main
from pywry_auth.testing.identity_provider.client_assertions import ASSERTION_TYPE
from pywry_auth.testing.identity_provider.quirk_words import quirk_lines
from tests.testing.identity_provider.person import CALLBACK, Person, claims_of, json_of


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Restore the handler for Ctrl-C, which a program under nohup would inherit as ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_as_a_program_it_prints_its_issuer_and_ends_on_ctrl_c() -> None:
    command = [sys.executable, "-m", "pywry_auth.testing.identity_provider", "--port", "0"]
    command += ["--access-token-lifetime", "5", "--signing-algorithm", "ES256"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        issuer = process.stdout.readline().strip()
        assert Person(issuer).tokens()["expires_in"] == 5
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=10)
    finally:
        process.kill()
        process.communicate()
    assert (process.returncode, errors) == (0, "")


def test_as_a_program_it_reports_a_port_in_use(provider: IdentityProvider) -> None:
    port = str(urlsplit(provider.issuer).port)
    command = [sys.executable, "-m", "pywry_auth.testing.identity_provider", "--port", port]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"The provider cannot listen on port {port}: " in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.usefixtures("interruptible")
def test_as_a_program_it_deviates_and_knows_more_clients(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pywry_auth.testing.identity_provider", "--signing-algorithm", "ES256"]
    command += ["--like", "linkedin", "--quirk", "issuer-path=/tenant", "--quirk", "expires-in-string"]
    command += ["--client", "desk", "--client", "site:a:secret", "--redirect-uri", CALLBACK]
    command += ["--client", "pod", "--assertion-file", f"pod={tmp_path / 'assertion'}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        issuer, document = process.stdout.readline().strip(), process.stdout.readline().strip()
        base = issuer.removesuffix("/tenant")
        assert document == f"the discovery document is at {base}/.well-known/openid-configuration"
        alice = Person(base)
        tokens = json_of(alice.exchanges(alice.code(client_id="desk"), client_id="desk"))
        assert tokens["expires_in"] == "3600"
        assert "nonce" not in claims_of(tokens["id_token"], base)
        code = alice.code(client_id="site")
        assert json_of(alice.exchanges(code, client_id="site", client_secret="a:secret", code_verifier=None))[
            "id_token"
        ]
        assertion = (tmp_path / "assertion").read_text().strip()
        proof = {"client_assertion_type": ASSERTION_TYPE, "client_assertion": assertion}
        for _ in range(2):
            answer = alice.exchanges(alice.code(client_id="pod"), client_id="pod", **proof)
            assert json_of(answer)["token_type"]
        assert (tmp_path / "assertion").stat().st_mode & 0o777 == 0o600
    finally:
        process.kill()
        process.communicate()


def test_the_quirks_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list-quirks"]) == 0
    printed = capsys.readouterr().out
    for line in quirk_lines():
        assert f"{line.name}\n    {line.meaning}\n" in printed


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--quirk", "no-such"], "'no-such' is not a quirk: --list-quirks shows their names"),
        (["--quirk", "compress=br"], "quirk compress: use one of: gzip, deflate"),
        (["--like", "nothing"], "--like"),
        (["--client", ":secret"], "--client: write ID or ID:SECRET"),
        (["--redirect-uri", CALLBACK], "--redirect-uri belongs to --client"),
        (["--backchannel-logout-uri", "/logout"], "--backchannel-logout-uri: write an address that begins"),
        (["--client-key", "site"], "--client-key: write ID=FILE"),
        (["--client-key", f"site={__file__}"], "--client-key site: add --client site"),
        (["--client", "site", "--client-key", "site=/no/such/file"], "No such file"),
        (["--assertion-file", "site"], "--assertion-file: write ID=FILE"),
        (["--assertion-file", "site=/no/such/file"], "--assertion-file site: add --client site"),
        (["--client", "site", "--assertion-file", "site=/no/such/file"], "No such file"),
    ],
)
def test_a_wrong_deviation_or_client_is_refused_at_once(
    arguments: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert problem in capsys.readouterr().err


@pytest.mark.parametrize("seconds", ["nan", "inf", "-1", "soon"])
def test_an_invalid_lifetime_is_refused_at_once(seconds: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([f"--access-token-lifetime={seconds}"])
    assert "--access-token-lifetime" in capsys.readouterr().err
