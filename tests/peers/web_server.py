"""gunicorn with the application of ``wsgi.py``, as a process, and visitors of the site."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import requests
from requests.adapters import HTTPAdapter

from pywry_auth.testing.identity_provider import Client
from tests.person import Person

ROOT = Path(__file__).parents[2]
TOKEN_SECRET = "a long secret that all workers of the tests share"
CLIENT_ID, CLIENT_SECRET = "web-client", "s3cret-of-the-web-client"
HTML = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
_SECONDS = 30


class WebServer:
    """A gunicorn whose address is bound and known from the start.

    Args:
        options: Options of gunicorn's command line.
        app: The application; the default one names the worker of each answer in the header ``X-Worker``.
        prefix: A program that starts gunicorn, with its options.
    """

    def __init__(
        self, *options: str, app: str = "tests.peers.traced_wsgi:app", prefix: Sequence[str] = ()
    ) -> None:
        self._command = [*prefix, sys.executable, "-m", "gunicorn", *options, app]
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self._listening.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._heard = threading.Condition()  # guards the two members below
        self._lines: list[str] = []
        self._silent = False

    def client(self, url: str = "") -> Client:
        """Return the site's registration at a provider.

        Args:
            url: The site's address for browsers; empty for its own address.
        """
        site = url or self.url
        return Client(CLIENT_ID, CLIENT_SECRET, (f"{site}/auth/callback",), (f"{site}/",))

    def close(self) -> None:
        """Close the socket of a server that was not started."""
        self._listening.close()

    @contextmanager
    def running(self, settings: Mapping[str, str]) -> Iterator[WebServer]:
        """Start it and wait until it answers; stop it with its processes at the end of the block.

        Args:
            settings: The ``PYWRY_*`` variables; those of this process are not inherited.
        """
        with self.launched(settings):
            self._await_answer()
            yield self

    @contextmanager
    def launched(self, settings: Mapping[str, str]) -> Iterator[WebServer]:
        """Start it without waiting, for settings with which it should soon exit."""
        self.process = self._start(settings)
        listener = threading.Thread(target=self._listen, name="web-server-output")
        listener.start()
        try:
            yield self
        finally:
            self._stop()
            listener.join()

    def _start(self, settings: Mapping[str, str]) -> subprocess.Popen[str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PYWRY_")}
        with (
            self._listening as listening
        ):  # close this process's socket, so that connections fail when the server has ended
            return subprocess.Popen(
                [*self._command, *self._bound_to(listening.fileno())],
                cwd=ROOT,
                env=kept | dict(settings),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                pass_fds=[listening.fileno()],
                start_new_session=True,
            )

    def _bound_to(self, descriptor: int) -> tuple[str, str]:
        return "--bind", f"fd://{descriptor}"

    def _stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def output(self) -> str:
        """Return its output so far; after its end, the whole output."""
        with self._heard:
            if self.process.poll() is not None:
                self._heard.wait_for(lambda: self._silent, _SECONDS)
            return "".join(self._lines)

    def wait_for(self, text: str, times: int = 1) -> None:
        """Wait until a number of lines with a text were written."""
        with self._heard:
            said = self._heard.wait_for(lambda: sum(text in line for line in self._lines) >= times, _SECONDS)
            assert said, f"{text!r} did not come:\n{''.join(self._lines)}"

    def _listen(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                with self._heard:
                    self._lines.append(line)
                    self._heard.notify_all()
        with self._heard:
            self._silent = True
            self._heard.notify_all()

    def _await_answer(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_SECONDS)
        try:
            connection.request("GET", "/auth/status")
            connection.getresponse().read()
        except OSError as error:
            self.process.wait(_SECONDS)
            raise AssertionError(f"the server did not start:\n{self.output()}") from error
        finally:
            connection.close()


class ASGIServer(WebServer):
    """A uvicorn whose address is bound and known from the start.

    Args:
        options: Options of uvicorn's command line.
        app: The application.
    """

    def __init__(self, *options: str, app: str) -> None:
        super().__init__(app=app)
        self._command = [sys.executable, "-m", "uvicorn", *options, app]

    def _bound_to(self, descriptor: int) -> tuple[str, str]:
        return "--fd", str(descriptor)


class Visitor:
    """A browser with cookies, without scripts, and with a new connection for each request.

    Args:
        url: The site.
        person: The user of the browser.
        ca: The certificate authority (PEM file) to trust.
        address: The visitor's own address; empty lets the system choose.
    """

    def __init__(self, url: str, person: Person | None = None, ca: str = "", address: str = "") -> None:
        self._url = url
        self._person = person or Person()
        self._ca = ca
        self._address = address
        self.cookies = requests.cookies.RequestsCookieJar()

    def get(self, path: str, **headers: str) -> requests.Response:
        """Open a path or URL of the site without following redirects.

        Underscores in names of headers become dashes.
        """
        return self._request("GET", path, headers)

    def post(self, path: str, **headers: str) -> requests.Response:
        """Send an empty POST."""
        return self._request("POST", path, headers)

    def begin(self, path: str = "/auth/login") -> requests.Response:
        """Start a login: the answer redirects to the provider."""
        answer = self.get(path)
        assert answer.status_code == 302, (answer.status_code, answer.text)
        return answer

    def authorize(self, begun: requests.Response) -> str:
        """Sign in at the provider, and return the URL of the callback."""
        return self._person.authorize(begun.headers["Location"])

    def sign_in(self, path: str = "/auth/login") -> requests.Response:
        """Sign in, and return the site's answer to the callback."""
        answer = self.get(self.authorize(self.begin(path)))
        assert answer.status_code == 303, (answer.status_code, answer.text)
        return answer

    @property
    def user(self) -> str | None:
        """The signed-in user, according to the site."""
        answer = self.get("/auth/status", Accept="application/json")
        assert answer.status_code == 200, (answer.status_code, answer.text)
        user: str | None = answer.json()["user_id"]
        return user

    def _request(self, method: str, path: str, headers: Mapping[str, str]) -> requests.Response:
        sent = {"Accept": HTML, "Connection": "close"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        url = path if path.startswith("http") else self._url + path
        with requests.Session() as session:
            session.trust_env = False
            session.verify = self._ca or True
            session.cookies = self.cookies
            if self._address:
                adapter = HTTPAdapter()
                adapter.init_poolmanager(1, 1, source_address=(self._address, 0))
                session.mount(url, adapter)
            return session.request(method, url, headers=sent, allow_redirects=False, timeout=_SECONDS)


def settings_for(issuer: str, **deploy: str) -> dict[str, str]:
    """Return the settings of a site with an issuer; ``deploy`` names ``PYWRY_DEPLOY__*``."""
    oauth2 = {
        "PROVIDER": "oidc",
        "ISSUER_URL": issuer,
        "CLIENT_ID": CLIENT_ID,
        "CLIENT_SECRET": CLIENT_SECRET,
    }
    chosen = {"AUTH_ENABLED": "true", "LOGIN_RATE_LIMIT": "1000000/minute", **deploy}
    return {f"PYWRY_OAUTH2__{name}": value for name, value in oauth2.items()} | {
        f"PYWRY_DEPLOY__{name}": value for name, value in chosen.items()
    }


def children_of(pid: int) -> list[int]:
    """Return the running child processes of a process."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
        except OSError:  # the process has just ended
            continue
        if int(parent) == pid and state != "Z":
            found.append(int(stat.parent.name))
    return found
