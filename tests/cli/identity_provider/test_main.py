"""The provider as a program of its own."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import dataclass
from urllib.parse import urlsplit

from pywry_auth.cli.identity_provider import IdentityProvider
from tests.cli.identity_provider.person import Person


def test_as_a_program_it_prints_its_issuer_and_ends_on_ctrl_c() -> None:
    command = [sys.executable, "-m", "pywry_auth.cli.identity_provider", "--port", "0"]
    command += ["--access-token-lifetime", "5", "--signing-algorithm", "ES256"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stderr
        issuer = process.stdout.readline().strip()
        alice = Person(IdentityProviderElsewhere(issuer))  # type: ignore[arg-type]
        assert alice.tokens()["expires_in"] == 5
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=10) == 0
        assert process.stderr.read() == ""


@dataclass(frozen=True)
class IdentityProviderElsewhere:
    """A provider in another process: all that a person needs of it."""

    issuer: str


def test_as_a_program_it_says_that_a_port_is_taken(provider: IdentityProvider) -> None:
    port = str(urlsplit(provider.issuer).port)
    command = [sys.executable, "-m", "pywry_auth.cli.identity_provider", "--port", port]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"cannot listen on port {port}" in done.stderr
    assert "Traceback" not in done.stderr
