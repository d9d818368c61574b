"""``pywry-auth demo --native``: a whole sign-in on this machine, even without a screen."""

from __future__ import annotations

import tempfile
import time
from datetime import datetime
from urllib.parse import urlsplit

import pytest
import requests

from pywry_auth.cli.main import main
from tests.cli.program import COMMAND, started
from tests.person import Person


def test_a_person_signs_in_at_the_printed_address_and_is_named() -> None:
    person = Person()
    with started(COMMAND, "demo", "--native") as program:
        person.sign_in(program.url())
        status, out, err = program.end()
    assert status == 0
    user, scopes, expiry = out.splitlines()
    assert user == "Signed in:  Alice Example, alice@example.com (user ID user-alice)"
    assert scopes == "Scopes:     openid email profile"
    moment = datetime.strptime(" ".join(expiry.split()[1:3]), "%Y-%m-%d %H:%M:%S").timestamp()
    assert 0 < moment - time.time() <= 3600
    assert "Traceback" not in err
    assert "on your own computer" in person.login_page
    assert "Authentication Complete" in person.last_page


def test_ctrl_c_ends_it_and_its_provider() -> None:
    with started(COMMAND, "demo", "--native") as program:
        url = program.url()
        assert requests.get(url, timeout=10).ok
        program.interrupt()
        status, out, err = program.end()
    assert (status, out) == (130, "")
    assert err.splitlines()[-1] == "pywry-auth: interrupted"
    assert "Traceback" not in err
    with pytest.raises(requests.ConnectionError):
        requests.get(urlsplit(url)._replace(query="").geturl(), timeout=10)


def test_a_cancelled_sign_in_is_reported() -> None:
    with started(COMMAND, "demo", "--native") as program:
        Person(action="cancel").sign_in(program.url())
        status, out, err = program.end()
    assert (status, out) == (1, "")
    assert "access_denied" in err.splitlines()[-1]
    assert "Traceback" not in err


def test_a_missing_folder_for_temporary_files_is_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The error names the variable. [S11]"""

    def missing() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", missing)
    assert main(["demo"]) == 1
    assert "Set TMPDIR" in capsys.readouterr().err
