"""A store that cannot be used is reported when the site starts, and the site serves."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from pywry_auth.backends.base import Backend, Terms
from pywry_auth.backends.encrypted import EncryptedBackend
from pywry_auth.backends.memory import MemoryBackend
from pywry_auth.backends.redis import RedisBackend
from pywry_auth.backends.sqlite import SQLiteBackend
from pywry_auth.config import DeploySettings
from pywry_auth.deploy.start_probe import probe_stores
from pywry_auth.deploy_routes import create_auth_blueprint, create_auth_router
from pywry_auth.exceptions import StoreUnavailable
from pywry_auth.state.auth import AuthConfig
from pywry_auth.state.sessions import SessionStore
from pywry_auth.state.tokens import TokenStore
from tests.backends.fixtures import ENCRYPTION_KEY
from tests.deploy.web import SECRET, Web
from tests.peers.redis_server import RedisServer
from tests.protocol.servers import free_port

Create = Callable[..., Any]


class SharedBackend(MemoryBackend):
    """A backend of another package, equal to others of its kind, which a test lets fail."""

    shared = True
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, fail: Callable[[], object] = lambda: None) -> None:
        super().__init__()
        self.fail, self.kept, self.closed = fail, dict[str, str | None](), 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SharedBackend)

    def put(self, key: str, value: bytes, terms: Terms = Terms()) -> bool:
        self.kept[key] = terms.group
        self.fail()
        return super().put(key, value, terms)

    def close(self) -> None:
        self.closed += 1
        raise OSError("canary")


def _raise(error: Exception) -> Callable[[], object]:
    def fail() -> None:
        raise error

    return fail


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """The errors in the log until now."""
    caplog.set_level(logging.ERROR)
    return lambda: [record.getMessage() for record in caplog.records]


@pytest.fixture
def begin(make_web: Callable[..., Web]) -> Create:
    """Creates the routes of a site whose sessions and tokens are in the given backends."""
    provider = make_web().provider

    def begin(
        sessions: Backend, tokens: Backend, create: Create = create_auth_blueprint, *, enabled: bool = True
    ) -> Any:
        config = AuthConfig(enabled=enabled, token_secret=SECRET)
        return create(provider, SessionStore(sessions), TokenStore(tokens), DeploySettings(), config)

    return begin


@pytest.mark.parametrize("create", [create_auth_blueprint, create_auth_router])
def test_a_stopped_server_is_one_error_at_the_start_and_none_after_it_started(
    create: Create, begin: Create, log: Callable[[], list[str]]
) -> None:
    """The line names the store and the remedy. [S11]"""
    backend = EncryptedBackend(RedisBackend(f"redis://:canary@127.0.0.1:{free_port()}/0"), [ENCRYPTION_KEY])
    begin(backend, backend, create)
    begin(backend, backend, create)
    (line,) = log()
    assert line.startswith(
        "the session and token store cannot be used, and requests that it refuses get 503 until it can: "
    )
    assert "PYWRY_DEPLOY__REDIS_URL" in line
    assert "canary" not in line


def test_the_site_answers_503_until_the_store_works(begin: Create, log: Callable[[], list[str]]) -> None:
    """A store may start later than the site. [P15]"""
    store = SharedBackend(_raise(StoreUnavailable("The disk is full: free it.")))
    site = Flask("site")
    site.register_blueprint(begin(store, store))
    assert [line.rpartition("can: ")[2] for line in log()] == ["The disk is full: free it."]
    browser = site.test_client()
    assert browser.get("/auth/login", base_url="https://app.example.com").status_code == 503
    store.fail = lambda: None
    assert browser.get("/auth/login", base_url="https://app.example.com").status_code == 302


def test_only_the_store_that_fails_is_named(begin: Create, log: Callable[[], list[str]]) -> None:
    """An error of another package's backend is named by its class only. [T31]"""
    begin(SharedBackend(), SharedBackend(_raise(KeyError("canary"))))
    (line,) = log()
    assert line.startswith("the token store cannot be used")
    assert "KeyError" in line
    assert "canary" not in line


def test_each_shared_backend_is_tested_once_and_only_where_users_sign_in(begin: Create) -> None:
    """A backend in memory costs nothing. [S8]"""
    store, local, off = SharedBackend(), MemoryBackend(), SharedBackend()
    local.probe = _raise(AssertionError("it was tested"))  # type: ignore[method-assign,assignment]
    for _ in range(3):
        begin(store, store)
        begin(store, local)
        begin(off, off, enabled=False)
    ((key, group),) = store.kept.items()
    assert store.closed == 1
    assert store.get(key) is None
    assert group, "a node of a cluster may refuse a record only because of its group"
    assert not off.kept


def test_silent_stores_delay_the_start_for_a_bounded_time(log: Callable[[], list[str]]) -> None:
    """Both are tested at the same time, whatever time limits their backends have. [T57]"""
    over = threading.Event()
    sessions, tokens = (SharedBackend(lambda: over.wait(20)) for _ in range(2))
    began = time.monotonic()
    probe_stores(sessions, tokens, seconds=0.2)
    assert time.monotonic() - began < 10
    over.set()
    lines = log()
    assert [line.partition(" cannot")[0] for line in lines] == ["the session store", "the token store"]
    assert all("does not answer within 0.2 seconds" in line for line in lines)


def test_nothing_is_left_open_that_a_fork_would_share(
    begin: Create, redis_server: RedisServer, tmp_path: Path, log: Callable[[], list[str]]
) -> None:
    """A server may load the site before it starts its workers. [T72]"""
    redis, sqlite = RedisBackend(redis_server.url), SQLiteBackend(tmp_path / "state.db")
    sqlite.put("k:1", b"v")  # as root, a probe creates no file
    sqlite.close()
    before = redis_server.client.info("clients")["connected_clients"]
    begin(redis, sqlite)
    threads = {thread.name for thread in threading.enumerate()}
    assert not threads & {"pywry-auth-store-probe", "pywry-auth-redis-check"}
    opened = [os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")]
    assert not [path for path in opened if path.startswith(str(tmp_path))]
    deadline = time.monotonic() + 10
    while redis_server.client.info("clients")["connected_clients"] > before:
        assert time.monotonic() < deadline
    assert sqlite.get("k:1") == b"v"
    assert not redis_server.client.keys("pywry:*probe*")
    assert not log()
    sqlite.close()
    redis.close()


def test_a_process_of_root_creates_no_file_for_another_user(
    begin: Create, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: Callable[[], list[str]]
) -> None:
    """gunicorn may load the site as root, and its workers become another user. [T47]"""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    (tmp_path / "file").write_text("")
    good, bad = SQLiteBackend(tmp_path / "new" / "state.db"), SQLiteBackend(tmp_path / "file" / "state.db")
    begin(good, bad)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    (line,) = log()
    assert line.startswith("the token store cannot be used")
    assert "a file has the name of one of its folders" in line
