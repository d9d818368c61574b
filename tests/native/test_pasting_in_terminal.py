"""A user who pastes into a real terminal, with the listener at the same time. [N3]"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator

import pytest

from pywry_auth.testing.identity_provider import DEFAULT_CLIENTS, IdentityProvider
from tests.cli.program import environment
from tests.faults import Faults
from tests.native.sockets import PATIENCE
from tests.person import Person

PROGRAM = """
import logging, sys, termios, threading
logging.basicConfig(level=logging.DEBUG, filename=sys.argv[1])
from pywry_auth import PyWry
from pywry_auth.exceptions import AuthenticationError
before = termios.tcgetattr(0)
app = PyWry()
try:
    end = app.login(mode="paste", timeout=20).user_id
except (KeyboardInterrupt, AuthenticationError) as error:
    end = f"{type(error).__name__} {error}"
app.close()
left = [thread.name for thread in threading.enumerate() if "refresh" not in thread.name][1:]
print("END", end, termios.tcgetattr(0) == before, left)
print("NEXT", input())
"""


class Terminal:
    """A program in a terminal of its own, and everything that the terminal shows."""

    def __init__(self, issuer: str, log: str) -> None:
        self.controller, terminal = os.openpty()
        self.log = log
        self.shown = ""
        self._news = threading.Condition()
        self.process = subprocess.Popen(
            # The program becomes the owner of the terminal, so that Ctrl-C reaches it.
            [sys.executable, "-c", f"import fcntl; fcntl.ioctl(0, {termios.TIOCSCTTY}, 0)\n{PROGRAM}", log],
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            start_new_session=True,
            env=environment(
                {
                    "PYWRY_OAUTH2__PROVIDER": "oidc",
                    "PYWRY_OAUTH2__CLIENT_ID": DEFAULT_CLIENTS[0].client_id,
                    "PYWRY_OAUTH2__ISSUER_URL": issuer,
                }
            ),
        )
        os.close(terminal)
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                text = os.read(self.controller, 4096).decode()
            except OSError:
                return
            with self._news:
                self.shown += text
                self._news.notify_all()

    def press(self, keys: str) -> None:
        os.write(self.controller, keys.encode())

    def until(self, pattern: str) -> str:
        """Wait until the terminal shows a text, and return its first group."""
        with self._news:
            assert self._news.wait_for(lambda: re.search(pattern, self.shown), PATIENCE), self.shown
            found = re.search(pattern, self.shown)
            assert found is not None
            return found[1] if found.groups() else found[0]

    def ready(self) -> str:
        """Wait until the program reads, and return the address to sign in at."""
        url = self.until(r"    (http\S+)\r\n")
        self.until("Ctrl-C cancels")
        while termios.tcgetattr(self.controller)[3] & termios.ECHO:
            assert self.process.poll() is None
        return url

    def end(self) -> str:
        """Wait for the end of the login, check that the terminal is usable again, and return the result."""
        result = self.until(r"END (.*)\r\n")
        self.press("a line\n")
        assert self.until(r"NEXT (.*)\r\n") == "a line"
        assert self.process.wait(PATIENCE) == 0
        return result

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join(PATIENCE)
        os.close(self.controller)


@pytest.fixture(scope="module")
def idp() -> Iterator[IdentityProvider]:
    with IdentityProvider(signing_algorithm="ES256") as idp:
        yield idp


@pytest.fixture
def terminal(idp: IdentityProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    terminal = Terminal(idp.issuer, str(tmp_path_factory.mktemp("log") / "log"))
    yield terminal
    terminal.close()


def test_a_long_paste_wins_after_wrong_ones_and_is_never_shown(
    terminal: Terminal, idp: IdentityProvider
) -> None:
    """A terminal cuts a line after 4,096 bytes in its usual mode."""
    person = Person()
    url = terminal.ready()
    terminal.press(f"{url}\n")
    terminal.until("Sign in there first")
    address = person.authorize(url)
    terminal.press(f"{address.replace('state=', 'state=x')}\n")
    terminal.until("the state of another login")
    faults = Faults(idp)
    faults.before = lambda path: terminal.press("again\n") if path == "/token" else None
    half = len(address) // 2
    terminal.press(f"\x1b[200~'{address[:half]}\r\n  {address[half:]}&more={'x' * 6000}'\x1b[201~\r")
    assert terminal.end() == "user-alice True []"
    assert "again" not in terminal.shown
    faults.before = lambda path: None
    with open(terminal.log) as log:
        seen = terminal.shown.replace(url, "") + log.read()
    for secret in re.findall(r"(?:code|state)=([^&]+)", address):
        assert secret not in seen


def test_the_listener_wins_while_the_user_types(terminal: Terminal) -> None:
    """The rest of the input is discarded, because a shell would execute it. [L4]"""
    person = Person()
    url = terminal.ready()
    terminal.press("http://127.0.0.1/half")
    person.sign_in(url)
    assert "Authentication Complete" in person.last_page
    assert terminal.end() == "user-alice True []"


def test_ctrl_d_ends_the_reading_only(terminal: Terminal) -> None:
    url = terminal.ready()
    terminal.press("\x04")
    terminal.until("No text is read any more")
    Person().sign_in(url)
    assert terminal.end() == "user-alice True []"


def test_ctrl_c_cancels(terminal: Terminal) -> None:
    """The terminal is as it was before. [N11]"""
    terminal.ready()
    terminal.press("\x03")
    assert terminal.end() == "KeyboardInterrupt  True []"
