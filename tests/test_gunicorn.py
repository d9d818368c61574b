"""The site under gunicorn: many workers, killed processes and a store outage."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests
from gunicorn.config import Config

from pywry_auth.testing.identity_provider import IdentityProvider, User
from tests.backends.threads import together
from tests.peers.postgres_server import PostgresServer
from tests.peers.redis_server import RedisServer
from tests.peers.web_server import CLIENT_SECRET, Visitor, WebServer, children_of, settings_for
from tests.person import Person, parameters_of

_LOGINS = 1000 if os.environ.get("SOAK") else 32
_STORES = ["sqlite", "redis", "postgres"] if os.environ.get("SOAK") else ["sqlite", "redis"]
_AT_ONCE = 32
_WORKERS = 4
_SECRET = "the secret that all workers share"


@dataclass
class Site:
    """A site under test and its provider."""

    server: WebServer
    idp: IdentityProvider

    def visitor(self, number: int = 0) -> Visitor:
        """Return a browser for one of the site's users."""
        return Visitor(self.server.url, Person(f"user{number}", "password"))


@pytest.fixture(scope="module", params=_STORES)
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The site with 4 workers of 8 threads, on each shared store."""
    # All threads may call the provider, because it is slow on a busy machine and no subject here.
    choice = {"STATE_BACKEND": request.param, "TOKEN_SECRET": _SECRET, "PROVIDER_CALLS_AT_ONCE": "8"}
    if request.param == "sqlite":
        choice["SQLITE_PATH"] = str(tmp_path_factory.mktemp("state") / "state.sqlite3")
    else:
        choice[f"{request.param.upper()}_URL"] = request.getfixturevalue(f"{request.param}_server").url
    server = WebServer("--workers", str(_WORKERS), "--threads", "8")
    users = [User(f"user{number}", "password", {"sub": f"id-{number}"}) for number in range(_LOGINS)]
    with (
        IdentityProvider(clients=[server.client()], users=users, signing_algorithm="ES256") as idp,
        server.running(settings_for(idp.issuer, **choice)),
    ):
        yield Site(server, idp)


def test_a_login_can_begin_in_one_worker_and_end_in_another(site: Site) -> None:
    """Each login has another user and fresh connections. [P8]"""

    def sign_in(number: int) -> tuple[str, str]:
        visitor = site.visitor(number)
        begun = visitor.begin("/auth/login?next=/account")
        ended = visitor.get(visitor.authorize(begun))
        assert ended.status_code == 303, ended.text
        assert ended.headers["Location"] == f"{site.server.url}/account"
        assert visitor.user == f"id-{number}"
        return begun.headers["X-Worker"], ended.headers["X-Worker"]

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        workers = list(pool.map(sign_in, range(_LOGINS)))
    crossed = sum(first != last for first, last in workers)
    print(f"{len(workers)} logins, {crossed} over two workers: {Counter(last for _, last in workers)}")
    assert crossed > _LOGINS / 4
    assert len({worker for pair in workers for worker in pair}) == _WORKERS


def test_a_visitor_returns_to_a_page_with_a_long_address(site: Site) -> None:
    """gunicorn's own limit of a request line is 4,094 characters."""
    visitor = site.visitor()
    page = f"/account?state={7800 * 'x'}"
    guarded = visitor.get(page, Accept="text/html").headers["Location"]
    assert visitor.sign_in(guarded).headers["Location"] == site.server.url + page


def test_a_killed_worker_loses_no_session_and_no_login(site: Site) -> None:
    """Users stay signed in, and other workers finish the logins that it began. [S11]"""
    signed_in = [site.visitor(number) for number in range(8)]
    for visitor in signed_in:
        visitor.sign_in()
    began = [
        (visitor, visitor.begin("/auth/login?next=/account")) for visitor in map(site.visitor, range(8, 16))
    ]
    killed = {begun.headers["X-Worker"] for _, begun in began}
    for worker in killed:
        os.kill(int(worker), signal.SIGKILL)
    for visitor, begun in began:
        ended = visitor.get(visitor.authorize(begun))
        assert ended.status_code == 303
        assert ended.headers["X-Worker"] not in killed
    assert [visitor.user for visitor in signed_in] == [f"id-{number}" for number in range(8)]
    assert [visitor.user for visitor, _ in began] == [f"id-{number}" for number in range(8, 16)]


def test_a_reload_replaces_the_workers_and_keeps_sessions(site: Site) -> None:
    visitor = site.visitor()
    visitor.sign_in()
    before = children_of(site.server.process.pid)
    site.server.process.send_signal(signal.SIGHUP)
    for worker in before:
        site.server.wait_for(f"Worker exiting (pid: {worker})")
    answer = visitor.get("/account")
    assert (answer.status_code, int(answer.headers["X-Worker"]) in before) == (200, False)


def test_stores_and_connections_are_opened_after_the_fork(site: Site) -> None:
    """A connection shared by parent and children would mix up their responses."""
    visitor = site.visitor()
    visitor.sign_in()
    worker = int(visitor.get("/account").headers["X-Worker"])
    assert [name for name in _open_files(worker) if "sqlite" in name] or len(_sockets(worker)) > 1
    assert not [name for name in _open_files(site.server.process.pid) if "sqlite" in name]
    assert len(_sockets(site.server.process.pid)) == 1  # the listening socket


def _open_files(pid: int) -> list[str]:
    found = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed just now
            found.append(os.readlink(link))
    return found


def _sockets(pid: int) -> list[str]:
    return [name for name in _open_files(pid) if name.startswith("socket:")]


def test_logs_contain_no_secret_and_no_line_forged_by_a_visitor(site: Site) -> None:
    """Access, error and audit log, after a login and a malformed request. [T31]"""
    visitor = site.visitor(3)
    begun = visitor.begin("/auth/login?next=/account%3Fcanary")
    callback = visitor.authorize(begun)
    visitor.get(callback)
    visitor.get(callback)
    visitor.get("/%0AFAKE%20LINE?canary=1", Referer=callback, User_Agent="canary")
    visitor.post("/auth/refresh")
    for line in ('"GET /auth/callback" 303', "login user='id-3'", "FAKE", '"POST /auth/refresh"'):
        site.server.wait_for(line)
    out = site.server.output()
    secret = [value for _, value in parameters_of(callback) if not value.startswith("http")]
    secret += [value for name, value in parameters_of(begun.headers["Location"]) if name in _CODES]
    secret += [cookie.value for cookie in visitor.cookies if cookie.value]
    assert len(secret) == 2 + 3 + 2
    for text in (*secret, _SECRET, CLIENT_SECRET, "canary", "Traceback"):
        assert text not in out
    assert "FAKE LINE" not in out, "the line break stays escaped"


_CODES = ("state", "nonce", "code_challenge")


def test_forwarded_headers_from_a_visitor_are_ignored(site: Site) -> None:
    """Without TRUSTED_PROXY_HOPS they change nothing, in any spelling. [T25]"""
    forwarded = {
        "X_Forwarded_Host": "evil.example.com",
        "X_Forwarded_Proto": "https",
        "X_Forwarded_Prefix": "/evil",
        "X_Forwarded_For": "203.0.113.7",
        "Forwarded": "host=evil.example.com;proto=https;for=203.0.113.7",
    }
    plain, forged = site.visitor().begin(), site.visitor().get("/auth/login", **forwarded)
    respelled = requests.get(
        f"{site.server.url}/auth/login",
        headers={
            "X_Forwarded_Host": "evil.example.com",
            "X_Forwarded_Proto": "https",
            "SCRIPT_NAME": "/evil",
        },
        allow_redirects=False,
        timeout=30,
    )
    for answer in (forged, respelled):
        assert answer.status_code == 302
        forged_uri, plain_uri = (
            dict(parameters_of(each.headers["Location"]))["redirect_uri"] for each in (answer, plain)
        )
        assert forged_uri == plain_uri
        assert "secure" not in answer.headers["Set-Cookie"].lower()
    assert "203.0.113.7" not in site.server.output()


def test_sessions_survive_a_redis_outage(tmp_path: Path) -> None:
    """Requests get 503 with Retry-After, and the cookie stays. [P15, S8]"""
    server, redis = WebServer("--workers", "2"), RedisServer(tmp_path)
    durable = ("--appendonly", "yes", "--appendfsync", "always")
    with redis, IdentityProvider(clients=[server.client()], signing_algorithm="ES256") as idp:
        redis.stop()
        redis.start(*durable)
        choice = {"STATE_BACKEND": "redis", "REDIS_URL": redis.url, "TOKEN_SECRET": _SECRET}
        with server.running(settings_for(idp.issuer, **choice)):
            _check_outage(server, redis.stop, lambda: redis.start(*durable))


def test_sessions_survive_a_postgres_outage() -> None:
    """All processes of the server are killed, as by a loss of power. [P15, S8, T63]"""
    server = WebServer("--workers", "2")
    with (
        PostgresServer() as postgres,
        IdentityProvider(clients=[server.client()], signing_algorithm="ES256") as idp,
    ):
        choice = {"STATE_BACKEND": "postgres", "POSTGRES_URL": postgres.url, "TOKEN_SECRET": _SECRET}
        with server.running(settings_for(idp.issuer, **choice)):
            _check_outage(server, postgres.kill, postgres.start)
            _check_outage(server, postgres.shut_down, postgres.start)


def _check_outage(server: WebServer, stop: Callable[[], None], start: Callable[[], None]) -> None:
    """Sign in, and check that the user stays signed in over an outage of the store."""
    visitor = Visitor(server.url)
    visitor.sign_in()
    stop()
    for path in ("/", "/account", "/auth/status", "/auth/userinfo", "/auth/login"):
        answer = visitor.get(path)
        assert (answer.status_code, int(answer.headers["Retry-After"])) == (503, 5)
        assert "Set-Cookie" not in answer.headers
        assert "user-alice" not in answer.text
    refused = visitor.post("/auth/logout")
    assert (refused.status_code, "Set-Cookie" in refused.headers) == (503, False)
    start()
    assert visitor.user == "user-alice"
    assert visitor.get("/account").status_code == 200


def test_two_workers_share_slow_requests_evenly(tmp_path: Path) -> None:
    """Of 16 requests at once, each worker gets as many as it has threads, also after a reload. [T71]"""
    server = WebServer("--workers", "2", "--threads", "8", app="tests.peers.slow_wsgi:app")
    choice = {"STATE_BACKEND": "sqlite", "SQLITE_PATH": str(tmp_path / "state"), "TOKEN_SECRET": _SECRET}

    def share() -> dict[str, int]:
        """Return how many of 16 requests at once each worker answered."""
        return Counter(together(16, lambda _: requests.get(f"{server.url}/slow", timeout=30).text))

    def check(earlier: list[int]) -> None:
        _await(lambda: len(children_of(server.process.pid)) == 2 == len(share()))
        assert not set(earlier) & set(children_of(server.process.pid))
        assert [sorted(share().values()) for _ in range(2)] == [[8, 8]] * 2

    with server.running(settings_for("http://127.0.0.1:1", **choice)):
        check(earlier=[])
        before = children_of(server.process.pid)
        server.process.send_signal(signal.SIGHUP)
        for worker in before:
            server.wait_for(f"Worker exiting (pid: {worker})")
        check(before)
        assert "No keepalived connections" not in server.output()


def _await(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline


@pytest.mark.parametrize(
    ("options", "limits"),
    [
        ({"threads": 8}, (8, 0)),
        ({"threads": 3}, (3, 0)),
        ({"threads": 8, "worker_connections": 100}, (100, 2)),
        ({"threads": 8, "keepalive": 5}, (1000, 5)),
        ({"worker_class": "sync"}, (1000, 2)),
    ],
)
def test_the_limit_of_connections_follows_the_options(
    options: dict[str, Any], limits: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Options of the site take precedence. [T71]"""
    for name, value in settings_for("http://127.0.0.1:1").items():
        monkeypatch.setenv(name, value)
    from pywry_auth.site import gunicorn_settings

    for hook in (gunicorn_settings.on_starting, gunicorn_settings.on_reload):
        config = Config()
        config.set("worker_class", "gthread")
        for name, value in options.items():
            config.set(name, value)
        hook(SimpleNamespace(cfg=config))  # type: ignore[arg-type]
        assert (config.worker_connections, config.keepalive) == limits


def test_a_gevent_worker_loads_the_application_after_gevent() -> None:
    """gevent warns of libraries that were loaded before it. A reload changes nothing. [S8]"""
    server = WebServer("--worker-class", "gevent", app="tests.peers.requests_wsgi:app")
    with IdentityProvider(clients=[server.client()], signing_algorithm="ES256") as idp:
        with server.running(settings_for(idp.issuer)):
            (before,) = children_of(server.process.pid)
            server.process.send_signal(signal.SIGHUP)
            server.wait_for(f"Worker exiting (pid: {before})")
            Visitor(server.url).sign_in()
        assert "MonkeyPatchWarning" not in server.output()


def test_stopping_gunicorn_leaves_no_process(tmp_path: Path) -> None:
    server = WebServer("--workers", "2")
    choice = {"STATE_BACKEND": "sqlite", "SQLITE_PATH": str(tmp_path / "state"), "TOKEN_SECRET": _SECRET}
    with server.running(settings_for("http://127.0.0.1:1", **choice)):
        server.wait_for("Booting worker", 2)
        workers = children_of(server.process.pid)
        assert len(workers) == 2
        server.process.terminate()
        assert server.process.wait(20) == 0
        assert not [worker for worker in workers if Path(f"/proc/{worker}").exists()]


@pytest.mark.parametrize(
    ("options", "settings", "named"),
    [
        (
            ["--workers", "2"],
            {},
            "environment, PYWRY_DEPLOY__STATE_BACKEND is memory, which 2 workers",
        ),
        ([], {"WEB_CONCURRENCY": "2"}, "PYWRY_DEPLOY__STATE_BACKEND is memory, which 2 workers"),
        (
            ["--workers", "2"],
            {
                "PYWRY_DEPLOY__STATE_BACKEND": "sqlite",
                "PYWRY_DEPLOY__TOKEN_SECRET": _SECRET,
                "PYWRY_OAUTH2__TOKEN_STORE_BACKEND": "memory",
            },
            "PYWRY_OAUTH2__TOKEN_STORE_BACKEND is memory, which 2 workers",
        ),
        ([], {"PYWRY_DEPLOY__STATE_BACKEND": "sqlite"}, "PYWRY_DEPLOY__TOKEN_SECRET is not set"),
        ([], {"PYWRY_DEPLOY__STATE_BACKEND": "redis"}, "PYWRY_DEPLOY__TOKEN_SECRET is not set"),
        ([], {"PYWRY_DEPLOY__STATE_BACKEND": "etcd"}, "PYWRY_DEPLOY__STATE_BACKEND"),
        ([], {"PYWRY_DEPLOY__PUBLIC_BASE_URL": "http://example.com"}, "PYWRY_DEPLOY__PUBLIC_BASE_URL"),
        ([], {"PYWRY_OAUTH2__CLIENT_ID": ""}, "PYWRY_OAUTH2__CLIENT_ID"),
        ([], {"PYWRY_OAUTH2__ISSUER_URL": ""}, "PYWRY_OAUTH2__ISSUER_URL"),
        (
            [],
            {
                "PYWRY_DEPLOY__STATE_BACKEND": "redis",
                "PYWRY_DEPLOY__TOKEN_SECRET": _SECRET,
                "PYWRY_DEPLOY__REDIS_URL": "ftp://example.com",
            },
            "PYWRY_DEPLOY__REDIS_URL: the URL must begin with redis://",
        ),
    ],
)
def test_an_invalid_setting_prevents_the_start_with_one_sentence(
    options: list[str], settings: dict[str, str], named: str
) -> None:
    server = WebServer(*options)
    with server.launched({**settings_for("http://127.0.0.1:1"), **settings}):
        assert server.process.wait(30) == 1
        output = server.output()
    assert named in output
    assert "Traceback" not in output
    assert _SECRET not in output
    assert len(output.split()) < 60


def test_a_setting_that_only_the_workers_find_prevents_the_start_without_a_traceback(tmp_path: Path) -> None:
    """Without ``preload_app``, each worker finds the fault.

    With several workers, gunicorn may fail itself (HaltServer).
    """
    configuration = tmp_path / "gunicorn.conf.py"
    configuration.write_text(
        "from pywry_auth.site.gunicorn_settings import *\npreload_app = False\nworkers = 1\n"
    )
    server = WebServer("--config", str(configuration), app="wsgi:app")
    choice = {"STATE_BACKEND": "sqlite", "SQLITE_PATH": str(tmp_path / "s.sqlite3"), "TOKEN_SECRET": _SECRET}
    settings = settings_for("http://127.0.0.1:1", **choice)
    with server.launched(settings | {"PYWRY_OAUTH2__CLIENT_ID": ""}):
        assert server.process.wait(30) == 3
        output = server.output()
    assert "the worker cannot start: " in output
    assert "CLIENT_ID" in output
    assert "Traceback" not in output
    assert len(output.splitlines()) < 20


def test_with_memory_storage_gunicorn_runs_one_worker_and_adds_none() -> None:
    server = WebServer()
    with IdentityProvider(clients=[server.client()], signing_algorithm="ES256") as idp:
        settings = settings_for(idp.issuer)
        with server.running(settings):
            visitor = Visitor(server.url)
            visitor.sign_in()
            server.process.send_signal(signal.SIGTTIN)  # requests an additional worker
            server.wait_for("is memory, which 2 workers do not share")
            assert visitor.user == "user-alice"
            assert len(children_of(server.process.pid)) == 1
