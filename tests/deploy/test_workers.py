"""Several workers that do not share a secret or a store, and what their server tells."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from pywry_auth.backends.memory import MemoryBackend
from pywry_auth.deploy.capacity import Capacity, this_process
from pywry_auth.deploy.cookies import TokenSigner
from pywry_auth.deploy.workers import WorkerCheck
from pywry_auth.error_codes import ErrorCode
from pywry_auth.state.auth import AuthConfig
from tests.deploy.binding import BINDING, binding_of
from tests.deploy.hosts import HOSTS, Host
from tests.deploy.web import SECRET, Web

SEVERAL = {"wsgi.multiprocess": True}
NO_SECRET = AuthConfig(enabled=True)


class Shared(MemoryBackend):
    """A backend that other processes could read."""

    shared = True


@pytest.fixture(autouse=True)
def _capacity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(this_process, "threads", 8)


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "pywry_auth.deploy")
    return caplog


def said(log: pytest.LogCaptureFixture, level: int = logging.WARNING) -> list[str]:
    """Return the messages of a level."""
    return [record.getMessage() for record in log.records if record.levelno == level]


@pytest.mark.parametrize("host", HOSTS[:2], ids=lambda host: host.name)
def test_a_cookie_of_another_workers_secret_has_an_error_of_its_own(
    make_web: Callable[..., Web], host: Host, log: pytest.LogCaptureFixture
) -> None:
    """The visitor reads no variable's name, and the log has them once. [P8, S8]"""
    one, other = make_web(config=NO_SECRET, host=host), make_web(config=NO_SECRET, host=host)
    begun, browser = one.browser(), other.browser()
    callback = begun.authorize()
    browser.plant(f"{BINDING}_12345678", binding_of(begun))
    for html in (False, True, False):
        answer = browser.get(callback, html=html)
        assert answer.status_code == 400
        assert "cookie_unknown" in answer.text
        assert "PYWRY" not in answer.text
        assert "allow cookies" not in answer.text
    (line,) = said(log)
    assert "PYWRY_DEPLOY__TOKEN_SECRET is not set" in line
    assert "PYWRY_DEPLOY__STATE_BACKEND" in line
    assert "worker" in line
    assert browser.sign_in().status_code == 303, "the old cookie does not disturb a new sign-in"


def test_a_cookie_of_a_removed_secret_names_the_list(web: Web, log: pytest.LogCaptureFixture) -> None:
    """After a rotation in one step, or if two machines differ. [S8]"""
    browser = web.browser()
    browser.plant(BINDING, TokenSigner(["an older secret"], "login").new())
    for _ in range(2):
        assert browser.get("/auth/callback?code=x&state=y").json["error"] == ErrorCode.COOKIE_UNKNOWN
    (line,) = said(log)
    assert "no secret of PYWRY_DEPLOY__TOKEN_SECRET has signed it" in line
    assert "made up" in line
    assert "STATE_BACKEND" not in line, "another store does not help"


@pytest.mark.parametrize("value", ["", "x", "a.b", "%", "x" * 5000, f"{'x' * 43}.{'y' * 42}"])
def test_a_made_up_cookie_is_not_logged(web: Web, log: pytest.LogCaptureFixture, value: str) -> None:
    """A stranger sends it as often as they want. [T29]"""
    client = web.client(use_cookies=False)
    headers = {"Cookie": f"{BINDING}={value}; pywry_session={value}", "Accept": "application/json"}
    answer = client.get("/auth/callback?code=x&state=y", headers=headers)
    assert answer.json["error"] == ErrorCode.COOKIE_UNKNOWN
    assert client.get("/auth/status", headers=headers).json["user_id"] is None
    assert not said(log)


@pytest.mark.parametrize(
    ("config", "level"),
    [(NO_SECRET, logging.INFO), (AuthConfig(enabled=True, token_secret=SECRET), logging.WARNING)],
    ids=["generated", "listed"],
)
def test_a_session_cookie_of_another_secret_is_logged_once(
    make_web: Callable[..., Web], log: pytest.LogCaptureFixture, config: AuthConfig, level: int
) -> None:
    """Its user seems to be signed out at random. With a generated secret, each restart is a reason. [S8]"""
    browser = make_web(config=config).browser()
    browser.plant("pywry_session", TokenSigner(["another worker's secret"], "session").new())
    assert [browser.user, browser.user] == [None, None]
    (line,) = said(log, level)
    assert "cookie of a session" in line
    assert "PYWRY_DEPLOY__TOKEN_SECRET" in line
    if level != logging.WARNING:
        assert not said(log)


@pytest.mark.parametrize("shared", [False, True])
def test_an_unknown_state_in_memory_is_logged_once(
    make_web: Callable[..., Web], log: pytest.LogCaptureFixture, shared: bool
) -> None:
    """Workers that share the secret may still have pending logins of their own. [P8]"""
    browser = make_web(Shared() if shared else MemoryBackend()).browser()
    browser.begin()
    for _ in range(2):
        answer = browser.get("/auth/callback?code=x&state=unknown").json
        assert answer["error"] == "state_unknown"
        assert "STATE_BACKEND" not in answer["error_description"]
    assert ["PYWRY_DEPLOY__STATE_BACKEND is memory" in line for line in said(log)] == [True] * (not shared)


@pytest.mark.parametrize(
    ("check", "named", "unnamed"),
    [
        (
            WorkerCheck(True, False, False),
            ["they may sign with different secrets", "Set PYWRY_DEPLOY__TOKEN_SECRET to", "STATE_BACKEND to"],
            "OAUTH2",
        ),
        (
            WorkerCheck(False, False, False),
            ["STATE_BACKEND is memory", "Set PYWRY_DEPLOY__STATE_BACKEND to"],
            "SECRET",
        ),
        (
            WorkerCheck(False, True, False),
            ["TOKEN_STORE_BACKEND is memory", "Set PYWRY_OAUTH2__TOKEN_STORE_BACKEND to"],
            "__STATE_BACKEND",
        ),
        (WorkerCheck(True, True, True), ["TOKEN_SECRET is not set"], "BACKEND"),
    ],
)
def test_a_server_with_several_processes_is_told_what_they_do_not_share(
    log: pytest.LogCaptureFixture, check: WorkerCheck, named: list[str], unnamed: str
) -> None:
    """One error names each of them, and only the settings that end it. [P8]"""
    check.look_at({"wsgi.multiprocess": False, "wsgi.run_once": False})
    assert not said(log, logging.ERROR)
    for _ in range(2):
        check.look_at(SEVERAL)
    (line,) = said(log, logging.ERROR)
    for text in named:
        assert text in line
    assert unnamed not in line


def test_workers_that_share_everything_are_not_reported(log: pytest.LogCaptureFixture) -> None:
    WorkerCheck(False, True, True).look_at({**SEVERAL, "wsgi.run_once": True})
    assert not log.records


def test_a_process_for_each_request_is_reported(log: pytest.LogCaptureFixture) -> None:
    """CGI: the memory ends with the request."""
    WorkerCheck(True, False, False).look_at({"wsgi.run_once": True, "wsgi.multiprocess": True})
    (line,) = said(log, logging.ERROR)
    assert "a process for each request" in line


@pytest.mark.parametrize(("host", "lines"), [(HOSTS[0], 1), (HOSTS[1], 0)], ids=lambda value: str(value)[:20])
def test_the_routes_look_at_the_server(
    make_web: Callable[..., Web], log: pytest.LogCaptureFixture, host: Host, lines: int
) -> None:
    """The adapter from ASGI always claims that there are several processes."""
    client = make_web(host=host).client()
    for _ in range(2):
        client.get("/auth/status", environ_overrides=SEVERAL)
    assert len(said(log, logging.ERROR)) == lines


def test_uwsgi_without_threads_is_reported(
    log: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Older versions let no thread run unless they are told to."""
    monkeypatch.setitem(sys.modules, "uwsgi", SimpleNamespace(has_threads=0))
    check = WorkerCheck(False, True, True)
    for _ in range(2):
        check.look_at({})
    (line,) = said(log)
    assert "enable-threads = true" in line


@pytest.mark.parametrize(
    ("server", "module", "threads"),
    [
        ("uwsgi", SimpleNamespace(cores=6), 6),
        ("mod_wsgi", SimpleNamespace(threads_per_process=15), 15),
        ("mod_wsgi", SimpleNamespace(), 8),
        ("another", SimpleNamespace(cores=6), 8),
    ],
)
def test_the_server_tells_its_threads(
    monkeypatch: pytest.MonkeyPatch, server: str, module: Any, threads: int
) -> None:
    """Half of them may call a provider. [T44]"""
    monkeypatch.setitem(sys.modules, server, module)
    capacity = Capacity()
    capacity.ask_server()
    assert capacity.threads == threads


def test_the_threads_of_waitress_are_counted(make_web: Callable[..., Web]) -> None:
    """The first request asks, because the threads start after the application. [T44]"""
    web, end = make_web(), threading.Event()
    threads = [threading.Thread(target=end.wait, name=f"waitress-{number}") for number in range(3)]
    for thread in threads:
        thread.start()
    try:
        assert this_process.threads == 8
        web.browser().get("/auth/status")
        assert this_process.threads == 3
    finally:
        end.set()
        for thread in threads:
            thread.join()


@pytest.mark.parametrize("sent", [None, "http", "https, http", "canary"])
def test_a_forwarded_header_that_did_not_arrive_is_named(
    make_web: Callable[..., Web], caplog: pytest.LogCaptureFixture, sent: str | None
) -> None:
    """waitress removes the header unless told otherwise; an inner proxy may replace it by its own. [P6]"""
    client = make_web(settings={"trusted_proxy_hops": 1}).client()
    headers = {"X-Forwarded-Proto": sent} if sent else {}
    lost = client.get("/auth/login", base_url="http://app.example.com", headers=headers)
    assert (lost.status_code, lost.json["error"]) == (503, "invalid_configuration")
    for text in ("plain http", "X-Forwarded-Proto", "the inner proxies", "clear_untrusted_proxy_headers"):
        assert text in caplog.text
    assert "to the number" not in caplog.text, "the number is set"
    assert lost.json["reference"] in caplog.text
    assert "http" not in lost.json["error_description"]
    assert "canary" not in lost.text
