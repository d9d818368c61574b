"""Logins as processes: without a terminal, as a service, in a pseudo-terminal, and in a notebook.

The processes start together, and each test waits for its own.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

from pywry_auth.testing.identity_provider import IdentityProvider
from tests.cli.program import COMMAND, environment
from tests.person import Person, is_listening

_SECONDS = 30
_BROWSER = {"BROWSER": "true"}  # a command that opens nothing


@pytest.fixture(scope="module")
def idp() -> Iterator[IdentityProvider]:
    with IdentityProvider(signing_algorithm="ES256") as idp:
        yield idp


@pytest.fixture(scope="module")
def settings(idp: IdentityProvider, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return {
        "PYWRY_OAUTH2__PROVIDER": "oidc",
        "PYWRY_OAUTH2__CLIENT_ID": "pywry-demo",
        "PYWRY_OAUTH2__ISSUER_URL": idp.issuer,
        "XDG_STATE_HOME": str(tmp_path_factory.mktemp("state")),
    }


class Terminal:
    """A command in a pseudo-terminal of its own, whose window a test holds."""

    def __init__(self, variables: dict[str, str]) -> None:
        self._window, inside = os.openpty()
        self.process = subprocess.Popen(
            [COMMAND, "login"],
            env=environment(variables),
            stdin=inside,
            stdout=inside,
            stderr=inside,
            start_new_session=True,
            preexec_fn=_become_foreground,
        )
        os.close(inside)
        self.shown = ""

    def see(self, text: str) -> str:
        """Wait until the window shows a text, and return all that it shows."""
        while text not in self.shown:
            self.shown += os.read(self._window, 4096).decode()
        return self.shown

    def press(self, key: bytes) -> None:
        os.write(self._window, key)

    def end(self) -> tuple[int, float]:
        """Wait for the command's end, and return its exit status and the seconds."""
        began = time.monotonic()
        status = self.process.wait(_SECONDS)
        with suppress(OSError):  # its end of the terminal is closed
            while True:
                self.shown += os.read(self._window, 4096).decode()
        return status, time.monotonic() - began

    def close(self) -> None:
        """Close the window."""
        if self._window >= 0:
            os.close(self._window)
            self._window = -1

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        self.process.kill()
        self.process.wait()


def _become_foreground() -> None:
    """Take standard input as the controlling terminal, so that Ctrl-C and the window's end are signals."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@contextmanager
def _detached(code: str, variables: dict[str, str], without: str = "") -> Iterator[subprocess.Popen[bytes]]:
    """Start a program without a terminal and without any stream, as a service manager may."""
    with subprocess.Popen(
        [sys.executable, "-c", code],
        env={name: value for name, value in environment(variables).items() if name != without},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


_LOGIN = """
import pathlib
from pywry_auth import PyWry
try:
    PyWry().login()
except Exception as error:
    pathlib.Path({report!r}).write_text(f"{{type(error).__name__}}: {{error}}")
"""


class Notebook:
    """A kernel with the cells of a notebook."""

    def __init__(self, kernel: KernelManager, client: BlockingKernelClient) -> None:
        self.kernel = kernel
        self._client = client

    def run(self, cell: str, on_address: Callable[[str], object] = lambda address: None) -> str:
        """Run a cell, and return its whole output.

        Args:
            cell: The code.
            on_address: Receives each address that the cell prints.
        """
        sent, output = self._client.execute(cell), ""
        while True:
            message = self._client.get_iopub_msg(timeout=_SECONDS)
            content = message["content"]
            if message["parent_header"].get("msg_id") != sent:
                continue
            if content.get("execution_state") == "idle":
                return output
            if message["msg_type"] == "stream":
                output += content["text"]
                for address in _addresses(content["text"]):
                    on_address(address)
            elif message["msg_type"] == "execute_result":
                output += content["data"]["text/plain"]
            elif message["msg_type"] == "error":
                output += "\n".join([content["ename"], *content["traceback"]])


@contextmanager
def _notebook(variables: dict[str, str]) -> Iterator[Notebook]:
    # Pipes of the file system instead of ports, so that other users cannot reach the kernel.
    kernel = KernelManager(transport="ipc", ip=os.path.join(variables["XDG_STATE_HOME"], "kernel"))
    kernel.start_kernel(env=environment(variables))
    client = kernel.client()
    try:
        client.start_channels()
        yield Notebook(kernel, client)
    finally:
        client.stop_channels()
        kernel.shutdown_kernel(now=True)


class Started:
    """All processes of this file."""

    def __init__(self, stack: ExitStack, settings: dict[str, str], folder: Path) -> None:
        self.report, self.service_report = folder / "report", folder / "service"
        self.notebook = stack.enter_context(_notebook(settings | _BROWSER))
        self.terminals = [stack.enter_context(Terminal(settings | _BROWSER)) for _ in range(2)]
        self.program = stack.enter_context(_detached(_LOGIN.format(report=str(self.report)), settings))
        stored = settings | {"PYWRY_OAUTH2__TOKEN_STORE_BACKEND": "sqlite"}
        code = _LOGIN.format(report=str(self.service_report))
        self.service = stack.enter_context(_detached(code, stored, without="HOME"))
        command = "import sys; from pywry_auth.cli.main import main; sys.exit(main(['login']))"
        self.command = stack.enter_context(_detached(command, settings))


@pytest.fixture(scope="module")
def processes(settings: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    with ExitStack() as stack:
        yield Started(stack, settings, tmp_path_factory.mktemp("reports"))


def _addresses(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.startswith("    http")]


def test_a_program_without_a_terminal_ends_at_once(processes: Started) -> None:
    """It waits for no user. [N2]"""
    assert processes.command.wait(_SECONDS) == 4
    assert processes.program.wait(_SECONDS) == 0
    assert processes.report.read_text().startswith("LoginRequired: No user of this program is stored")


def test_a_service_without_a_home_ends_at_once(processes: Started) -> None:
    assert processes.service.wait(_SECONDS) == 0
    assert processes.service_report.read_text().startswith("LoginRequired: No user of this program is stored")


def test_ctrl_c_in_a_terminal_ends_the_command_and_closes_the_port(processes: Started) -> None:
    """The command writes no traceback. [N11]"""
    terminal = processes.terminals[0]
    shown = terminal.see("\r\n\r\n    http")
    address = _addresses(terminal.see("code_challenge_method=S256\r\n"))[0]
    assert shown.startswith("Sign in with the browser that is opening.")
    assert is_listening(address)
    terminal.press(b"\x03")
    status, seconds = terminal.end()
    assert (status, "Traceback" in terminal.shown) == (130, False)
    assert seconds < 2  # much less, unless this machine is busy
    assert not is_listening(address)


def test_a_closed_terminal_ends_the_command_and_closes_the_port(processes: Started) -> None:
    terminal = processes.terminals[1]
    address = _addresses(terminal.see("code_challenge_method=S256\r\n"))[0]
    terminal.close()
    assert terminal.process.wait(_SECONDS) == -signal.SIGHUP
    assert not is_listening(address)


def test_a_notebook_signs_in_and_an_interrupt_ends_the_wait(
    processes: Started, idp: IdentityProvider
) -> None:
    """No output contains a token. [L11]"""
    notebook, output = processes.notebook, ""

    def visit(address: str) -> None:
        threading.Thread(target=Person().sign_in, args=(address,)).start()

    def run(cell: str, on_address: Callable[[str], object] = visit) -> str:
        nonlocal output
        shown = notebook.run(cell, on_address)
        output += shown
        return shown

    assert "user_id='user-alice'" in run("from pywry_auth import PyWry\napp = PyWry()\napp.login()")
    run("app")
    run("app.session_manager, app.session_manager.tokens, app.accounts()")
    in_a_thread = "import asyncio\n(await asyncio.to_thread(app.login, force=True)).user_id"
    assert run(in_a_thread).endswith("'user-alice'")
    in_a_loop = "asyncio.get_running_loop()\napp.login(force=True).user_id"
    assert run(in_a_loop).endswith("'user-alice'")

    addresses: list[str] = []

    def interrupt(address: str) -> None:
        addresses.append(address)
        notebook.kernel.interrupt_kernel()

    assert "KeyboardInterrupt" in run("app.login(force=True)", interrupt)
    assert not is_listening(addresses[0])
    assert run("app.login().user_id").endswith("'user-alice'")  # still signed in, without a question
    tokens = notebook.run(
        "t = app.session_manager.tokens\nprint(t.access_token, t.refresh_token, t.id_token)"
    )
    assert len(tokens.split()) == 3
    assert not [token for token in tokens.split() if token in output]
