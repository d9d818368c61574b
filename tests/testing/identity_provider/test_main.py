"""The provider as a program."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from pywry_auth.testing.identity_provider import IdentityProvider
from pywry_auth.testing.identity_provider.__main__ import main
from tests.testing.identity_provider.person import Person


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
    assert f"cannot listen on port {port}" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("seconds", ["nan", "inf", "-1", "soon"])
def test_an_invalid_lifetime_is_refused_at_once(seconds: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([f"--access-token-lifetime={seconds}"])
    assert "--access-token-lifetime" in capsys.readouterr().err
