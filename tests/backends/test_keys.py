"""The keys of a kind, on each backend that can list them."""

from __future__ import annotations

import pytest

from pywry_auth.backends.base import Backend, Terms
from pywry_auth.backends.redis import RedisBackend
from pywry_auth.exceptions import StoreUnavailable
from pywry_auth.testing.backend_contract import HOSTILE_KEYS
from tests.backends.fixtures import Clock
from tests.deploy.web import WatchedBackend
from tests.peers.redis_server import RedisServer

_LISTING = pytest.mark.parametrize("backend", ["memory", "sqlite", "redis"], indirect=True)


@_LISTING
def test_many_keys_are_each_listed_once_while_others_are_written(backend: Backend) -> None:
    keys = {f"session:{number}" for number in range(520)}
    for key in keys:
        backend.put(key, b"v", Terms(ttl=600))
    found, listing = [], backend.keys("session:")
    for number, key in enumerate(listing):
        found.append(key)
        if number < 100:
            backend.put(f"session:later:{number}", b"v", Terms(ttl=600))
            backend.put(f"other:{number}", b"v", Terms(ttl=600))
    assert len(found) == len(set(found))
    assert keys <= set(found)
    assert all(key.startswith("session:") for key in found)


@_LISTING
def test_a_kind_is_text_and_no_pattern(backend: Backend) -> None:
    for key in HOSTILE_KEYS:
        backend.put(key, b"v")
    for kind in HOSTILE_KEYS:
        assert sorted(backend.keys(kind)) == sorted(key for key in HOSTILE_KEYS if key.startswith(kind))


@pytest.mark.parametrize("clocked", ["memory", "sqlite", "encrypted"], indirect=True)
def test_expired_keys_are_not_listed(clocked: Backend, clock: Clock) -> None:
    clocked.put("k:1", b"v", Terms(ttl=10))
    clocked.put("k:2", b"v", Terms(ttl=20))
    clock.now += 10
    assert list(clocked.keys("k:")) == ["k:2"]


def test_the_keys_of_another_site_on_the_server_are_not_listed(redis_server: RedisServer) -> None:
    sites = [RedisBackend(redis_server.url, prefix=prefix) for prefix in ("si*", "site", "si[t]e", "si?")]
    for number, site in enumerate(sites):
        site.put(f"session:{number}", b"v", Terms(ttl=60))
    assert [list(site.keys("session:")) for site in sites] == [[f"session:{n}"] for n in range(4)]
    for site in sites:
        site.close()


def test_a_listing_fails_if_the_store_is_down() -> None:
    backend = RedisBackend("redis://127.0.0.1:1/0")
    with pytest.raises(StoreUnavailable):
        list(backend.keys("session:"))


def test_a_backend_of_another_package_needs_no_such_method(memory: Backend) -> None:
    with pytest.raises(StoreUnavailable, match=r"WatchedBackend cannot list .* name one user"):
        WatchedBackend(memory).keys("session:")
