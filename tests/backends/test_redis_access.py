"""Redis with TLS only, and a user with exactly the documented rights."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pywry_auth.backends.base import Terms
from pywry_auth.backends.redis import RedisBackend
from pywry_auth.exceptions import StoreUnavailable
from tests.peers.redis_cluster import ClusterSetUp
from tests.peers.redis_sentinel import SentinelSetUp
from tests.peers.redis_server import RedisServer
from tests.peers.tls import TLSFiles

_PAGE = Path(__file__).parent.parent.parent / "docs" / "operating" / "redis.md"


def _rules(name: str, prefix: str) -> list[str]:
    """Return the rules that the documentation gives a user, for a prefix."""
    found = re.search(rf"^user {name} on >PASSWORD (.*)$", _PAGE.read_text(), re.MULTILINE)
    assert found, name
    return found[1].replace("~shop:*", f"~{prefix}:*").split()


def _user(name: str, prefix: str) -> str:
    return f"{name} on >canary {' '.join(_rules(name, prefix))}"


@contextmanager
def _plain(folder: Path, tls: TLSFiles) -> Iterator[str]:
    server = RedisServer(folder, tls=tls)
    server.start("--user", *_user("site", "pywry").split())
    try:
        yield server.url.replace("//", "//site:canary@", 1)
    finally:
        server.client.close()
        server.stop()


@contextmanager
def _sentinel(folder: Path, tls: TLSFiles) -> Iterator[str]:
    options = ("--user", *_user("site", "pywry").split())
    lines = [f"user {_user('watcher', 'pywry')}"]
    query = "sentinel_username=watcher&sentinel_password=canary"
    with SentinelSetUp(
        folder, options=options, tls=tls, sentinel_lines=lines, credentials="site:canary@", query=query
    ) as set_up:
        yield set_up.url


@contextmanager
def _cluster(folder: Path, tls: TLSFiles) -> Iterator[str]:
    options = ("--user", *_user("site", "{pywry}").split())
    with ClusterSetUp(folder, options=options, tls=tls, credentials="site:canary@") as set_up:
        yield set_up.url


@pytest.mark.parametrize("started", [_plain, _sentinel, _cluster])
def test_tls_and_the_documented_rights_are_enough(
    started: object, tmp_path: Path, tls_files: TLSFiles
) -> None:
    """Servers without the authority's certificate are not trusted. [T57, S11]"""
    assert callable(started)
    with started(tmp_path, tls_files) as url:
        backend, doubting = RedisBackend(url), RedisBackend(re.sub(r"ssl_ca_certs=[^&]*&?", "", url))
        backend.probe()
        assert backend.put("k:1", b"v", Terms(ttl=60, group="k:all", limit=9))
        assert backend.rewrite("k:1", b"v", b"w")
        assert (backend.members("k:all"), list(backend.keys("k:"))) == (["k:1"], ["k:1"])
        assert backend.get_many(["k:1"]) == {"k:1": b"w"}
        assert (backend.count("n:1", 60), backend.prune("k:", 99)) == (1, 1)
        with backend.lock("lock:1", 0) as held:
            assert held.left() > 0
        with pytest.raises(StoreUnavailable, match="ssl_ca_certs="):
            doubting.get("k:1")
        backend.close()
        doubting.close()
