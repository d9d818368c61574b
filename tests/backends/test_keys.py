"""The keys of a kind, on each backend that can list them."""

from __future__ import annotations

import pytest

from pywry_auth.backends.base import Backend, Terms
from pywry_auth.backends.encrypted import EncryptedBackend
from pywry_auth.backends.redis import RedisBackend
from pywry_auth.exceptions import StoreUnavailable
from pywry_auth.testing.backend_contract import HOSTILE_KEYS
from tests.backends.fixtures import ENCRYPTION_KEY, Clock
from tests.deploy.web import WatchedBackend
from tests.peers.redis_server import RedisServer

_LISTING = pytest.mark.parametrize("backend", ["memory", "sqlite", "redis", "postgres"], indirect=True)


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


@_LISTING
def test_more_values_than_one_round_trip_holds_are_returned(backend: Backend) -> None:
    keys = [f"k:{number}" for number in range(1010)] + HOSTILE_KEYS
    for key in keys[::2]:
        backend.put(key, key.encode("utf-8", "surrogatepass"))
    expected = {key: key.encode("utf-8", "surrogatepass") for key in keys[::2]}
    assert backend.get_many(keys) == expected


@_LISTING
def test_large_values_are_returned_with_small_ones(backend: Backend) -> None:
    """An answer of Redis is bounded; the other values take a call each."""
    values = {f"k:{number}": bytes([number]) * 600_000 for number in range(5)} | {"k:small": b"v"}
    for key, value in values.items():
        backend.put(key, value)
    assert backend.get_many(list(values)) == values


def test_the_records_of_other_keys_are_told_from_missing_ones(sqlite: Backend) -> None:
    EncryptedBackend(sqlite, [ENCRYPTION_KEY]).put("k:1", b"v")
    other = EncryptedBackend(sqlite, ["B" * 43])
    other.put("k:2", b"w")
    assert other.get_many(["k:1", "k:2", "k:3"]) == {"k:1": None, "k:2": b"w"}
    assert WatchedBackend(other).get_many(["k:2", "k:3"]) == {"k:2": b"w"}
