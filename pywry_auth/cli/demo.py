"""``pywry-auth demo``: a login without an account at a provider."""

from __future__ import annotations

import argparse
import http.client
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from tempfile import TemporaryDirectory
from types import FrameType

from pywry_auth.app import PyWry
from pywry_auth.cli.output import show
from pywry_auth.cli.summary import describe
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError
from pywry_auth.native.browser import open_browser
from pywry_auth.native.surroundings import has_browser
from pywry_auth.private_files import cause_of
from pywry_auth.providers.oidc import GenericOIDCProvider
from pywry_auth.testing.identity_provider import DEFAULT_CLIENTS, DEFAULT_USERS, Client, IdentityProvider

_LOOPBACK = "127.0.0.1"
_START_SECONDS = 60.0
_END_SECONDS = 5.0
_ADMIN, _USER = DEFAULT_USERS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments.

    Args:
        parser: The command's parser.
    """
    parser.add_argument("--native", action="store_true", help="sign in once, as a desktop program does")


def run(options: argparse.Namespace) -> None:
    """Run the demo of a web application or desktop program.

    Args:
        options: The command line.

    Raises:
        AuthenticationError: The login failed, or gunicorn is missing or did not start.
    """
    if options.native:
        _native()
    else:
        _web()


def _native() -> None:
    """Sign in at a local provider, as desktop programs do."""
    with IdentityProvider() as identity_provider:
        provider = GenericOIDCProvider(DEFAULT_CLIENTS[0].client_id, issuer_url=identity_provider.issuer)
        result = PyWry().login(provider, mode="browser")
    show(describe(result))


def _web() -> None:
    """Serve a web application and a provider until Ctrl-C."""
    _require_gunicorn()
    with (
        suppress(KeyboardInterrupt),  # how the user ends the demo
        _hearing_signals() as wait_for_signal,
        socket.create_server((_LOOPBACK, 0), backlog=128) as listening,
        _temporary_folder() as folder,
    ):
        site = f"http://{_LOOPBACK}:{listening.getsockname()[1]}"
        secret = secrets.token_urlsafe(32)
        client = Client("pywry-web", secret, (f"{site}/auth/callback",), (f"{site}/",))
        with (
            IdentityProvider(clients=[client]) as provider,
            _gunicorn(listening, folder, _environment(provider.issuer, client, folder)) as server,
        ):
            _await_answer(site)
            show(_instructions(site))
            if has_browser(os.environ, sys.platform):
                open_browser(f"{site}/")
            while server.poll() is None:
                wait_for_signal()
            raise _not_serving("The web server stopped")


def _require_gunicorn() -> None:
    if sys.platform == "win32":
        raise AuthenticationError(
            "The demo's web server does not run on Windows: use WSL, or try pywry-auth demo --native.",
            error=ErrorCode.INVALID_CONFIGURATION,
        )
    if getattr(sys, "frozen", False):
        raise AuthenticationError(
            "The demo's web server needs a Python interpreter, and this program is a bundle without one: "
            "install pywry-auth with pip, or try pywry-auth demo --native.",
            error=ErrorCode.INVALID_CONFIGURATION,
        )
    if find_spec("gunicorn") is None:
        raise AuthenticationError(
            "The demo needs an additional package: pip install 'pywry-auth[deploy]'",
            error=ErrorCode.INVALID_CONFIGURATION,
        )


def _temporary_folder() -> TemporaryDirectory[str]:
    try:
        return TemporaryDirectory(prefix="pywry-auth-demo-")
    except OSError as error:
        raise AuthenticationError(
            f"There is no usable folder for temporary files: {cause_of(error)}. Set TMPDIR to a folder that"
            " you can write.",
            error=ErrorCode.INVALID_CONFIGURATION,
        ) from None


def _environment(issuer: str, client: Client, folder: str) -> dict[str, str]:
    """Return the environment of the server.

    It is that of this process, with the demo's settings instead of those for other servers.
    """
    others = ("PYWRY_", "GUNICORN_", "WEB_CONCURRENCY", "LISTEN_")
    ours = {
        "PYWRY_OAUTH2__PROVIDER": "oidc",
        "PYWRY_OAUTH2__ISSUER_URL": issuer,
        "PYWRY_OAUTH2__CLIENT_ID": client.client_id,
        "PYWRY_OAUTH2__CLIENT_SECRET": client.client_secret,
        "PYWRY_DEPLOY__AUTH_ENABLED": "true",
        "PYWRY_DEPLOY__ADMIN_USERS": str(_ADMIN.claims["email"]),
        "PYWRY_DEPLOY__STATE_BACKEND": "sqlite",
        "PYWRY_DEPLOY__SQLITE_PATH": os.path.join(folder, "state.sqlite3"),
        "PYWRY_DEPLOY__TOKEN_SECRET": secrets.token_urlsafe(32),
    }
    return {name: value for name, value in os.environ.items() if not name.startswith(others)} | ours


@contextmanager
def _gunicorn(
    listening: socket.socket, folder: str, environment: dict[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """Run gunicorn on a listening socket during the block.

    All its processes are stopped at the end.
    """
    process = subprocess.Popen(  # noqa: S603 - our own interpreter; no argument comes from outside
        [
            *(sys.executable, "-m", "gunicorn", "--config", "python:pywry_auth.cli.demo_server"),
            *("--bind", f"fd://{listening.fileno()}"),
        ],
        env=environment,
        cwd=folder,  # gunicorn imports from its working directory
        stdin=subprocess.PIPE,  # stays open as long as this process runs: see demo_server
        stdout=subprocess.DEVNULL,
        pass_fds=[listening.fileno()],
        start_new_session=True,  # Ctrl-C is for this process, which then stops the server
    )
    listening.close()  # otherwise a browser would wait forever once the server has ended
    try:
        yield process
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
            process.wait(_END_SECONDS)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def _await_answer(site: str) -> None:
    """Wait until the application answers.

    If its server ends instead, the connection breaks.
    """
    connection = http.client.HTTPConnection(site.removeprefix("http://"), timeout=_START_SECONDS)
    try:
        connection.request("GET", "/auth/status")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        raise _not_serving("The web server did not start") from error
    finally:
        connection.close()
    if status != 200:
        raise _not_serving(f"The web application answers with status {status}")


def _not_serving(problem: str) -> AuthenticationError:
    return AuthenticationError(f"{problem}: see its output above.", error=ErrorCode.INVALID_CONFIGURATION)


def _instructions(site: str) -> str:
    return f"""A web application and its identity provider are running. Open:

    {site}/

Sign in as {_ADMIN.username} (password {_ADMIN.password}), an administrator,
or as {_USER.username} (password {_USER.password}), who is not.

Several workers share one SQLite file. Sign-ins and sign-outs are listed below. Ctrl-C stops the demo.
"""


@contextmanager
def _hearing_signals() -> Iterator[Callable[[], object]]:
    """Treat a termination signal and a closed terminal as Ctrl-C.

    Yields:
        A function that waits for a signal. It also returns when a child process ends. It waits at a socket to
        which each signal writes a byte. Otherwise it would miss a signal that arrives just before the wait.
    """

    def end(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    handlers = {signal.SIGTERM: end, signal.SIGHUP: end, signal.SIGCHLD: lambda number, frame: None}
    reader, writer = socket.socketpair()
    with reader, writer:
        writer.setblocking(False)
        fd_before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            yield lambda: reader.recv(4096)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(fd_before)
