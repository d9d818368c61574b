"""``pywry-auth demo``: the whole login on this machine alone, no account anywhere."""

from __future__ import annotations

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
from pywry_auth.exceptions import AuthenticationError, ErrorCode
from pywry_auth.models import AuthFlowResult
from pywry_auth.native.browser import has_browser, open_browser
from pywry_auth.providers.oidc import GenericOIDCProvider
from pywry_auth.testing.identity_provider import DEFAULT_CLIENTS, DEFAULT_USERS, Client, IdentityProvider

_LOOPBACK = "127.0.0.1"
_START_SECONDS = 60.0
_END_SECONDS = 5.0
_ADMIN, _USER = DEFAULT_USERS


def native() -> AuthFlowResult:
    """Sign in at a local identity provider as a desktop program does, and return the result."""
    with IdentityProvider() as identity_provider:
        provider = GenericOIDCProvider(DEFAULT_CLIENTS[0].client_id, issuer_url=identity_provider.issuer)
        return PyWry().login(provider)


def web() -> None:
    """Serve a web application with several workers and a local identity provider, until Ctrl-C.

    Raises:
        AuthenticationError: gunicorn is missing or did not start.
    """
    _require_gunicorn()
    with (
        suppress(KeyboardInterrupt),  # the way out
        _hearing_signals() as wait_for_signal,
        socket.create_server((_LOOPBACK, 0), backlog=128) as listening,
        TemporaryDirectory(prefix="pywry-auth-demo-") as folder,
    ):
        site = f"http://{_LOOPBACK}:{listening.getsockname()[1]}"
        secret = secrets.token_urlsafe(32)
        client = Client("pywry-web", secret, (f"{site}/auth/callback",), (f"{site}/",))
        with (
            IdentityProvider(clients=[client]) as provider,
            _gunicorn(listening, folder, _environment(provider.issuer, client, folder)) as server,
        ):
            _await_answer(site)
            print(_instructions(site), flush=True)
            if has_browser(os.environ, sys.platform):
                open_browser(f"{site}/")
            while server.poll() is None:
                wait_for_signal()
            raise _not_serving("The web server ended")


def _require_gunicorn() -> None:
    if sys.platform == "win32":
        raise AuthenticationError(
            "The demo's web server does not run on Windows: use WSL, or try pywry-auth demo --native.",
            error=ErrorCode.INVALID_CONFIGURATION,
        )
    if find_spec("gunicorn") is None:
        raise AuthenticationError(
            "The demo needs a package more: pip install 'pywry-auth[deploy]'",
            error=ErrorCode.INVALID_CONFIGURATION,
        )


def _environment(issuer: str, client: Client, folder: str) -> dict[str, str]:
    """Return the server's environment: this process's, without settings that are meant for another server."""
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
    """Start gunicorn on a socket that listens already; at the end none of its processes is left."""
    process = subprocess.Popen(  # noqa: S603 - our own interpreter, and no word of it from outside
        [
            *(sys.executable, "-m", "gunicorn", "--config", "python:pywry_auth.cli.demo_server"),
            *("--bind", f"fd://{listening.fileno()}"),
        ],
        env=environment,
        cwd=folder,  # gunicorn imports from where it stands
        stdin=subprocess.PIPE,  # open for as long as this process lives: see demo_server
        stdout=subprocess.DEVNULL,
        pass_fds=[listening.fileno()],
        start_new_session=True,  # Ctrl-C is for this process, which then ends the other
    )
    listening.close()  # else a browser would wait for ever at the socket of a server that has ended
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
    """Wait until the application answers; the connection breaks when its server ends instead."""
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


def _not_serving(what: str) -> AuthenticationError:
    return AuthenticationError(
        f"{what}: what it wrote above says why.", error=ErrorCode.INVALID_CONFIGURATION
    )


def _instructions(site: str) -> str:
    return f"""A web application runs here, and an identity provider for it to sign in at. Open:

    {site}/

    {_ADMIN.username:<6} {_ADMIN.password:<11} is an administrator
    {_USER.username:<6} {_USER.password:<11} is not

Several workers share one SQLite file. Who signs in and out is told below. Ctrl-C ends it all.
"""


@contextmanager
def _hearing_signals() -> Iterator[Callable[[], object]]:
    """Take a termination signal, or a closed terminal, for Ctrl-C; give what waits for that or a child's end.

    A signal that comes just before Python falls asleep would only be seen when it wakes up; but it has left a
    byte in the socket that this waits at.
    """

    def end(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    handlers = {signal.SIGTERM: end, signal.SIGHUP: end, signal.SIGCHLD: lambda number, frame: None}
    heard, told = socket.socketpair()
    with heard, told:
        told.setblocking(False)
        fd_before = signal.set_wakeup_fd(told.fileno(), warn_on_full_buffer=False)
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            yield lambda: heard.recv(4096)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(fd_before)
