"""Redis: warnings about a server that can lose records."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import cast

import pytest
from redis import Redis

from pywry_auth.backends.redis import RedisBackend
from pywry_auth.backends.redis_checks import ServerCheck, risks
from pywry_auth.exceptions import StoreUnavailable
from tests.backends.threads import together
from tests.peers.redis_server import RedisServer
from tests.waiting import await_threads

_HIGHEST = 55_000  # a node of a cluster also listens at a port that is higher by 10,000

Start = Callable[..., RedisServer]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with ExitStack() as stack:

        def begin(*options: str) -> RedisServer:
            folder = tmp_path / str(time.monotonic_ns())
            folder.mkdir()
            while (server := RedisServer(folder)).port > _HIGHEST:
                server.client.close()
            stack.callback(server.stop)
            stack.callback(server.client.close)
            server.start(*options)
            return server

        yield begin


def _checked(url: str, caplog: pytest.LogCaptureFixture) -> list[str]:
    """Use a server, wait for the check, and return the warnings."""
    backend = RedisBackend(url)
    with caplog.at_level(logging.DEBUG, "pywry_auth.backends"):
        with suppress(StoreUnavailable):
            backend.get("k:1")
        _await_check()
    backend.close()
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def _await_check() -> None:
    await_threads("pywry-auth-redis-check")


def test_a_server_without_a_risk_is_not_warned_about(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """A limit of memory is no risk by itself: writes then fail. [T72]"""
    assert _checked(redis_server.url, caplog) == []
    redis_server.client.config_set("maxmemory", "100mb")
    try:
        assert _checked(redis_server.url, caplog) == []
    finally:
        redis_server.client.config_set("maxmemory", "0")


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl", "volatile-lru", "allkeys-random"])
def test_a_server_that_evicts_records_is_warned_about(
    policy: str, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """The records have lifetimes, so that ``volatile`` policies evict them too. [T72]"""
    redis_server.client.config_set("maxmemory-policy", policy)
    try:
        assert _checked(redis_server.url, caplog) == []
        redis_server.client.config_set("maxmemory", "100mb")
        (warning,) = _checked(redis_server.url, caplog)
    finally:
        redis_server.client.config_set("maxmemory", "0")
        redis_server.client.config_set("maxmemory-policy", "noeviction")
    assert policy in warning
    assert "Set maxmemory-policy noeviction" in warning


def test_a_replica_is_warned_about(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    """It takes no writes. [T72]"""
    primary = start()
    replica = start("--replicaof", "127.0.0.1", str(primary.port))
    (warning,) = _checked(replica.url, caplog)
    assert "is a replica" in warning
    assert "PYWRY_DEPLOY__REDIS_URL" in warning


def test_a_server_that_became_a_replica_is_noticed_by_a_write(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    """The write fails, and the warning explains it. [T72]"""
    primary = start()
    replica = start("--replicaof", "127.0.0.1", str(primary.port))
    backend = RedisBackend(replica.url)
    with pytest.raises(StoreUnavailable):
        backend.put("k:1", b"v")
    _await_check()
    backend.close()
    assert "is a replica" in caplog.text


def test_a_node_of_a_cluster_is_warned_about(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    """Its keys are spread over other nodes. [T72]"""
    (warning,) = _checked(start("--cluster-enabled", "yes").url, caplog)
    assert "node of a cluster" in warning


def test_each_risk_has_a_warning_of_its_own() -> None:
    """None hides another. [T72]"""
    info = {"role": "slave", "cluster_enabled": 1, "maxmemory": 1, "maxmemory_policy": "allkeys-lfu"}
    assert len(risks(info)) == 3
    assert risks({}) == []
    assert risks({"role": "master", "cluster_enabled": 0, "maxmemory": 0, "maxmemory_policy": "x"}) == []


def test_a_user_without_the_right_to_ask_is_no_error(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    """The store works as before. [T72]"""
    server = start()
    server.client.acl_setuser(
        "site", enabled=True, passwords=["+canary"], keys=["pywry:*"], categories=["+@all", "-@dangerous"]
    )
    assert _checked(f"redis://site:canary@127.0.0.1:{server.port}/0", caplog) == []
    assert "was not checked (NoPermissionError)" in caplog.text
    assert "canary" not in caplog.text


def test_each_process_looks_once(redis_server: RedisServer) -> None:
    """Neither more threads nor more operations repeat it. [T72]"""
    redis_server.client.config_resetstat()
    backend = RedisBackend(redis_server.url)
    together(16, lambda number: backend.get(f"k:{number}"))
    child = os.fork()
    if child == 0:
        try:
            backend.get("k:1")
            backend.get("k:2")
            _await_check()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    backend.get("k:1")
    _await_check()
    backend.close()
    # This question is counted only afterwards.
    assert redis_server.client.info("commandstats")["cmdstat_info"]["calls"] == 2


class SlowClient:
    """A client whose question is not answered for a while."""

    def __init__(self) -> None:
        self.asked, self.answer = threading.Event(), threading.Event()

    def info(self) -> dict[str, object]:
        self.asked.set()
        self.answer.wait(20)
        return {"role": "slave"}


def test_no_operation_waits_for_the_check(caplog: pytest.LogCaptureFixture) -> None:
    """A server that answers slowly to the check delays no request. [T72]"""
    client = SlowClient()
    check = ServerCheck(cast("Redis", client))
    check.begin()
    assert client.asked.wait(20)
    check.begin()
    assert caplog.text == ""
    client.answer.set()
    _await_check()
    assert len(caplog.records) == 1
