"""Sentinels and nodes of a cluster with old views, malformed answers and addresses of other networks."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pywry_auth.backends.redis import RedisBackend
from pywry_auth.backends.redis_codes import TopologyFault
from pywry_auth.backends.redis_topology import PrimaryFinder
from pywry_auth.exceptions import StoreUnavailable
from pywry_auth.redis_places import redis_place
from tests.peers.mistaken_redis import MistakenRedis, listed
from tests.peers.redis_sentinel import SentinelSetUp
from tests.peers.redis_server import RedisServer
from tests.protocol.servers import free_port
from tests.waiting import await_threads, eventually

_LONG = 11.0  # seconds after which an answer counts no more
_PROMPT = 4.0  # seconds


def _sentinels(*servers: MistakenRedis) -> str:
    return f"redis+sentinel://{','.join(f'127.0.0.1:{server.port}' for server in servers)}/site/0"


def _forms(server: MistakenRedis) -> dict[str, str]:
    return {"sentinel": _sentinels(server), "cluster": f"redis+cluster://127.0.0.1:{server.port}"}


@contextmanager
def _opened(url: str, *, wait_replicas: int = 0) -> Iterator[RedisBackend]:
    backend = RedisBackend(url, wait_replicas=wait_replicas)
    try:
        yield backend
    finally:
        await_threads("pywry-auth-redis-check")
        backend.close()


def _refusal(url: str) -> str:
    with _opened(url) as backend, pytest.raises(StoreUnavailable) as caught:
        backend.get("k:1")
    return str(caught.value)


@pytest.mark.parametrize("epochs", [(1, 2), (9, 10)])
def test_a_sentinel_with_an_old_view_loses(
    epochs: tuple[int, int], redis_server: RedisServer, sentinel_set_up: SentinelSetUp
) -> None:
    """The highest epoch decides, also for a worker that follows the old view already. [T63]"""
    old, new = redis_server, sentinel_set_up.primary
    old.client.set("pywry:k:1", b"old")
    new.client.set("pywry:k:1", b"new")
    named = listed("127.0.0.1", old.port)
    with (
        MistakenRedis(named, epochs[0]) as stale,
        MistakenRedis(named, epochs[0]) as other,
        _opened(_sentinels(stale, other)) as first,
        _opened(_sentinels(other, stale)) as second,
    ):
        assert first.get("k:1") == second.get("k:1") == b"old"
        other.primary, other.epoch = listed("127.0.0.1", new.port), epochs[1]
        assert eventually(lambda: first.get("k:1") == second.get("k:1") == b"new", _PROMPT)
        first._client.connection_pool.disconnect()
        assert first.get("k:1") == b"new"


def test_most_sentinels_decide_if_they_do_not_say_the_epoch(
    redis_server: RedisServer, sentinel_set_up: SentinelSetUp
) -> None:
    """Their user may have no right to read it. [T63]"""
    redis_server.client.set("pywry:k:1", b"old")
    sentinel_set_up.primary.client.set("pywry:k:1", b"new")
    new = listed("127.0.0.1", sentinel_set_up.primary.port)
    with (
        MistakenRedis(listed("127.0.0.1", redis_server.port)) as stale,
        MistakenRedis(new) as second,
        MistakenRedis(new) as third,
        _opened(_sentinels(stale, second, third)) as backend,
    ):
        assert backend.get("k:1") == b"new"


@pytest.mark.parametrize("must_be_known", [False, True])
@pytest.mark.parametrize("form", ["sentinel", "cluster"])
def test_an_unconfirmed_primary_is_used_with_a_warning_or_refused(
    form: str, must_be_known: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """A site that waits for replicas refuses it: a failover may have taken place. [T63, T72]"""
    answer = {"sentinel": listed("10.1.1.1", 6379), "cluster": b"-MOVED 1 10.1.1.1:6379\r\n"}[form]
    ahead = [0.0]
    with MistakenRedis(answer, 1) as server:
        finder = PrimaryFinder(
            redis_place(_forms(server)[form]),
            {"socket_connect_timeout": 1},
            b"pywry:",
            must_be_known=must_be_known,
            clock=lambda: time.monotonic() + ahead[0],
        )
        primary = finder.primary(1)
        assert primary == ("10.1.1.1", 6379)
        server.primary, server.epoch = b"-ERR canary\r\n", None
        ahead[0] += _LONG / 2
        assert finder.is_current(primary)
        assert not caplog.records
        for _ in range(3):
            ahead[0] += _LONG
            if must_be_known:
                with pytest.raises(TopologyFault, match="older than 10 seconds"):
                    finder.is_current(primary)
                with pytest.raises(TopologyFault, match="older than 10 seconds"):
                    finder.primary(1)
            else:
                assert finder.is_current(primary)
                assert finder.primary(1) == primary
        server.primary = answer
        ahead[0] += _LONG
        assert finder.is_current(primary)
        finder.close()
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(told) == 2
    assert ("operations fail" if must_be_known else "stays in use") in told[0]
    assert "again" in told[1]
    assert "canary" not in caplog.text


def test_a_site_that_waits_for_replicas_stops_without_sentinels_and_goes_on_with_them(
    sentinel_set_up: SentinelSetUp,
) -> None:
    """Open connections are refused too. A sign-out there could be undone. [T63, P15]"""
    with _opened(sentinel_set_up.url, wait_replicas=1) as backend:
        with backend.replicated():
            backend.put("k:1", b"v")
        finder = backend._servers.finder
        assert finder
        finder._clock = lambda: time.monotonic() + _LONG
        try:
            for server in sentinel_set_up.sentinels:
                server.pause()
            for _ in range(2):
                begun = time.monotonic()
                with pytest.raises(StoreUnavailable, match="older than 10 seconds"), backend.replicated():
                    backend.pop("k:1")
                assert time.monotonic() - begun < _PROMPT
        finally:
            for server in sentinel_set_up.sentinels:
                server.resume()
        assert eventually(lambda: _read(backend) == b"v", _PROMPT)


def _read(backend: RedisBackend) -> bytes | None:
    try:
        return backend.get("k:1")
    except StoreUnavailable:
        return None


_MALFORMED_ONLY = [listed("127.0.0.1", f"1{'0' * 30}"), b"*1\r\n" * 20_000 + b":1\r\n", b"-ERR canary\r\n"]
_MALFORMED = [
    *_MALFORMED_ONLY,
    *(listed("127.0.0.1", port) for port in ("0", "-1", "99999", f"1{'0' * 5000}", "²", "")),
    *(listed(host, 6379) for host in ("", "?", "a b", "a\0b", "a\nb", "é", "a" * 300)),
    *(listed("127.0.0.1"), b"*0\r\n", b":5\r\n", b"+OK\r\n", b"*2\r\n:1\r\n:2\r\n", b"$-1\r\n"),
    *(b"HTTP/1.1 400 Bad Request\r\n\r\n", b"-\xff\r\n"),
    *(
        b"-NOAUTH canary\r\n",
        b"-MOVED 1 127.0.0.1:1%s\r\n" % (b"0" * 30),
        b"-MOVED\r\n",
        b"-MOVED 1 ?:6379\r\n",
    ),
]


@pytest.mark.parametrize("form", ["sentinel", "cluster"])
def test_a_malformed_answer_counts_as_no_answer(form: str, redis_server: RedisServer) -> None:
    """The next server is asked, and without one the store is unavailable. [S11, T63]"""
    redis_server.client.set("pywry:k:1", b"v")
    redis_server.client.set("{pywry}:k:1", b"v")
    good = {
        "sentinel": listed("127.0.0.1", redis_server.port),
        "cluster": b"-MOVED 1 127.0.0.1:%d\r\n" % redis_server.port,
    }[form]
    with MistakenRedis(b"") as broken, MistakenRedis(good) as right:
        only = _forms(broken)[form]
        for answer in _MALFORMED:
            if form == "cluster" and answer == b":5\r\n":
                continue  # a valid answer of a node: it owns the slot
            broken.primary = answer
            if answer in _MALFORMED_ONLY:
                assert "canary" not in _refusal(only)
            with _opened(only.replace(str(broken.port), f"{broken.port},127.0.0.1:{right.port}")) as backend:
                assert backend.get("k:1") == b"v", answer[:40]


def test_an_address_that_cannot_be_reached_is_named_with_the_settings_that_correct_it() -> None:
    """It is often one of another network, and the URL is right. [S11]"""
    port = free_port()
    with MistakenRedis(listed("127.0.0.1", port), 1) as server:
        told = _refusal(_sentinels(server))
        assert f"127.0.0.1:{port} according to the sentinels" in told
        assert "set replica-announce-ip" in told
        server.primary = b"-MOVED 1 127.0.0.1:%d\r\n" % port
        told = _refusal(_forms(server)["cluster"])
        assert f"127.0.0.1:{port} according to the nodes" in told
        assert "set cluster-announce-ip" in told
        server.primary = b"-MOVED 1 ?:6379\r\n"
        assert "set cluster-announce-hostname" in _refusal(_forms(server)["cluster"])
        server.primary = listed("host.invalid", 6379)
        told = _refusal(_sentinels(server))
        assert "host.invalid:6379 according to the sentinels) is not known" in told
        with MistakenRedis(b"") as other:
            other.answer = lambda words: b"HTTP/1.1 400 Bad Request\r\n\r\n"  # type: ignore[method-assign]
            server.primary = listed("127.0.0.1", other.port)
            told = _refusal(_sentinels(server))
            assert f"127.0.0.1:{other.port} according to the sentinels) is not Redis" in told
            assert "PYWRY_DEPLOY__REDIS_URL" not in told
