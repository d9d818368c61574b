"""An operator changes every secret of a live site, and no user notices."""

from __future__ import annotations

import base64
import os
import secrets
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import requests

from pywry_auth.testing.identity_provider import IdentityProvider, User
from tests.documents import DOCS, block
from tests.peers.redis_server import RedisServer
from tests.peers.web_server import Visitor, WebServer, children_of, settings_for
from tests.person import Person

_SOAK = bool(os.environ.get("SOAK"))
_USERS = 8 if _SOAK else 2
_PAUSE = 0.0 if _SOAK else 0.05  # seconds between two turns of a user
_OLD, _NEW = "an old secret that all workers of the tests share", secrets.token_urlsafe(32)
_FIRST, _SECOND = (base64.urlsafe_b64encode(os.urandom(32)).decode("ascii") for _ in range(2))
_TOKENS = [secrets.token_urlsafe(32) for _ in range(2)]
_NEW_CLIENT_SECRET = "another-s3cret-of-the-web-client"
_CONFIGURATION = block(DOCS / "operating" / "secrets.md", "python", "preload_app = False")

Settings = dict[str, str]


@dataclass
class Traffic:
    """Users who work with the site all the time, each in a thread of its own.

    Args:
        url: The site.
        faults: The faults that users have noticed.
        done: How often each kind of request has succeeded.
        refused: How often each kind of request got 503 with ``Retry-After``.
    """

    url: str
    faults: list[str] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._ends = threading.Event()
        self._changed = threading.Condition()  # guards the three members above

    @contextmanager
    def going_on(self) -> Iterator[None]:
        """Let the users work while the block runs; each is signed in before it begins."""
        ready = threading.Barrier(_USERS + 2)
        works = [*((lambda n=n: self._member(n, ready)) for n in range(_USERS)), lambda: self._guest(ready)]
        threads = [threading.Thread(target=self._watched, args=(work, ready)) for work in works]
        for thread in threads:
            thread.start()
        try:
            with suppress(threading.BrokenBarrierError):  # the faults have the cause
                ready.wait(60)
            assert self.faults == []
            yield
        finally:
            self._ends.set()
            for thread in threads:
                thread.join()

    def rounds(self, kind: str, more: int) -> None:
        """Wait until a kind of request has succeeded several times more."""
        with self._changed:
            goal = self.done[kind] + more
            assert self._changed.wait_for(lambda: self.done[kind] >= goal or bool(self.faults), 60)

    def _watched(self, work: Callable[[], None], ready: threading.Barrier) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - the test shows it
            self._note("faults", f"{type(error).__name__}: {error}")
            ready.abort()

    def _member(self, number: int, ready: threading.Barrier) -> None:
        """Look at pages and refresh tokens, in one session from the start to the end."""
        visitor = Visitor(self.url, Person(f"user{number}", "password"))
        visitor.sign_in()
        ready.wait(60)
        turn = 0
        while not self._ends.wait(_PAUSE):
            self._expect("status", visitor.get, "/auth/status", f'"id-{number}"')
            self._expect("page", visitor.get, "/account", f"id-{number}")
            if turn % 2 == number % 2:
                self._expect("refresh", visitor.post, "/auth/refresh", '"refreshed"')
            turn += 1

    def _guest(self, ready: threading.Barrier) -> None:
        """Sign in and out, each time with a new browser."""
        ready.wait(60)
        while not self._ends.wait(_PAUSE):
            visitor = Visitor(self.url, Person("guest", "password"))
            begun = self._expect("login", visitor.get, "/auth/login", "", 302)
            self._expect("callback", visitor.get, visitor.authorize(begun), "", 303)
            self._expect("status", visitor.get, "/auth/status", '"id-guest"')
            self._expect("logout", visitor.post, "/auth/logout", "", 303)

    def _expect(
        self, kind: str, send: Callable[..., requests.Response], path: str, text: str, status: int = 200
    ) -> requests.Response:
        """Send a request, again after 503, and note an answer that a signed-in user does not expect."""
        accept = "application/json" if path in ("/auth/status", "/auth/refresh") else "text/html"
        for _ in range(100):
            answer = send(path, Accept=accept)
            if answer.status_code != 503 or "Retry-After" not in answer.headers:
                break
            self._note("refused", kind)
            if "Set-Cookie" in answer.headers:
                self._note("faults", f"{kind}: 503 with a cookie")
        if answer.status_code != status or text not in answer.text:
            self._note("faults", f"{kind}: {answer.status_code} {answer.headers} {answer.text[:400]}")
        self._note("done", kind)
        return answer

    def _note(self, place: str, entry: str) -> None:
        with self._changed:
            if place == "faults":
                self.faults.append(entry)
                self._ends.set()
            else:
                getattr(self, place)[entry] += 1
            self._changed.notify_all()


@dataclass
class Operator:
    """The operator of a live site, with its settings in a file.

    Args:
        server: The site.
        file: The file that ``PYWRY_ENV_FILE`` names.
        settings: The settings.
    """

    server: WebServer
    file: Path
    settings: Settings

    def write(self, **changes: str) -> None:
        """Change settings of the section ``PYWRY_DEPLOY__``, or others by their full name."""
        full = {
            name if name.startswith("PYWRY_") else f"PYWRY_DEPLOY__{name}": changes[name] for name in changes
        }
        self.settings |= full
        self.file.write_text("".join(f"{name}={value}\n" for name, value in self.settings.items()))

    def reload(self, **changes: str) -> None:
        """Change settings, and replace the workers gracefully."""
        self.write(**changes)
        before = children_of(self.server.process.pid)
        self.server.process.send_signal(signal.SIGHUP)
        for worker in before:
            self.server.wait_for(f"Worker exiting (pid: {worker})")


@pytest.fixture(params=["redis", "sqlite"] if _SOAK else ["redis"])
def operator(request: pytest.FixtureRequest, tmp_path: Path, idp: IdentityProvider) -> Iterator[Operator]:
    """A site of two workers without encryption."""
    configuration, file = tmp_path / "gunicorn.conf.py", tmp_path / "site.env"
    configuration.write_text(_CONFIGURATION.replace("/run/site-pid/", f"{tmp_path}/"))
    server = WebServer("--config", str(configuration), "--workers", "2")
    idp.register(replace(server.client(), further_secrets=(_NEW_CLIENT_SECRET,)))
    choice = {"STATE_BACKEND": request.param, "TOKEN_SECRET": _OLD, "REFRESH_RATE_LIMIT": "1000000/minute"}
    choice |= {"SESSIONS_PER_USER": "1000", "METRICS_TOKEN": _TOKENS[0]}
    choice["PROVIDER_CALLS_AT_ONCE"] = "8"  # the provider is slow on a busy machine, and no subject here
    if request.param == "redis":
        redis: RedisServer = request.getfixturevalue("redis_server")
        redis.client.flushall()
        redis.client.acl_setuser("site", enabled=True, passwords=["+old"], keys=["*"], categories=["+@all"])
        choice["REDIS_URL"] = redis.url.replace("redis://", "redis://site:old@")
    else:
        choice["SQLITE_PATH"] = str(tmp_path / "state" / "state.sqlite3")
    site = Operator(server, file, settings_for(idp.issuer, **choice))
    site.write()
    (tmp_path / "metrics").mkdir()
    folder = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "metrics")}
    with server.running({"PYWRY_ENV_FILE": str(file), **folder}):
        yield site


@pytest.fixture
def idp() -> Iterator[IdentityProvider]:
    users = [User(f"user{n}", "password", {"sub": f"id-{n}"}) for n in range(_USERS)]
    users.append(User("guest", "password", {"sub": "id-guest"}))
    with IdentityProvider(clients=[], users=users, signing_algorithm="ES256") as provider:
        yield provider


@pytest.mark.timeout(600)
def test_all_secrets_change_while_users_work(
    request: pytest.FixtureRequest, operator: Operator, idp: IdentityProvider
) -> None:
    """No user is signed out, no login fails, and only the switch to encryption may answer 503. [S3, S10]"""
    traffic = Traffic(operator.server.url)
    more = 15 if _SOAK else 2

    def settled() -> None:
        for kind in ("page", "refresh", "logout"):
            traffic.rounds(kind, more)
        assert traffic.faults == []

    with traffic.going_on():
        settled()
        operator.reload(
            ENCRYPTION_KEYS=_FIRST if _SOAK else f"{_FIRST},{_SECOND}",
            ENCRYPTION_READ_PLAINTEXT="true",
            TOKEN_SECRET=f"{_OLD},{_NEW}",
            METRICS_TOKEN=",".join(_TOKENS),
            PYWRY_OAUTH2__CLIENT_SECRET=_NEW_CLIENT_SECRET,
            **_with_new_password(request, operator),
        )
        assert [_metrics(operator, token) for token in _TOKENS] == [200, 200]
        refused_by_switch = traffic.refused.copy()
        idp.register(replace(operator.server.client(), client_secret=_NEW_CLIENT_SECRET))
        settled()
        if _SOAK:
            operator.reload(ENCRYPTION_KEYS=f"{_FIRST},{_SECOND}")
            settled()
        operator.reload(
            ENCRYPTION_KEYS=f"{_SECOND},{_FIRST}",
            ENCRYPTION_READ_PLAINTEXT="false",
            TOKEN_SECRET=f"{_NEW},{_OLD}",
            METRICS_TOKEN=_TOKENS[1],
        )
        settled()
        assert [_metrics(operator, token) for token in _TOKENS] == [401, 200]
    print(f"done: {dict(traffic.done)}; 503: {dict(traffic.refused)}")
    reasons = [line for line in operator.server.output().splitlines() if " refused " in line]
    assert traffic.faults == [], reasons
    assert traffic.refused == refused_by_switch, reasons


def _metrics(operator: Operator, token: str) -> int:
    """Return the status for a monitoring system with a token."""
    headers = {"Authorization": f"Bearer {token}"}
    return requests.get(f"{operator.server.url}/auth/metrics", headers=headers, timeout=30).status_code


def _with_new_password(request: pytest.FixtureRequest, operator: Operator) -> Settings:
    """Give the user of Redis a second password, and return the setting with it."""
    url = operator.settings.get("PYWRY_DEPLOY__REDIS_URL", "")
    if not url:
        return {}
    redis: RedisServer = request.getfixturevalue("redis_server")
    redis.client.acl_setuser("site", enabled=True, passwords=["+new"])
    return {"REDIS_URL": url.replace("site:old@", "site:new@")}
