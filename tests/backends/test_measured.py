"""Measured backends: each operation counts once, with the name of the storage system."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pywry_auth.backends.base import Backend
from pywry_auth.backends.encrypted import EncryptedBackend
from pywry_auth.backends.memory import MemoryBackend
from pywry_auth.exceptions import StoreUnavailable
from pywry_auth.measures import Finish, Measure, unwatch, watch

_KEY = "A" * 21 + "bcdefghijklmnopqrstuvw"


@pytest.fixture
def calls() -> Iterator[list[tuple[str, str, str]]]:
    """The operation, storage system and outcome of each call to a store."""
    found: list[tuple[str, str, str]] = []

    def look(measure: Measure) -> Finish:
        return lambda ended: found.append((ended.operation, ended.target, ended.outcome))

    watch(look)
    yield found
    unwatch(look)


def test_each_backend_is_measured_under_the_name_of_its_system(
    backend: Backend, calls: list[tuple[str, str, str]]
) -> None:
    backend.put("a:1", b"value")
    assert backend.get("a:1") == b"value"
    assert backend.read("a:1") == b"value"
    assert backend.get_many(["a:1"]) == {"a:1": b"value"}
    assert backend.pop("a:1") == b"value"
    found = {operation for operation, _, _ in calls}
    assert found <= {"put", "get", "get_many", "pop"}
    assert {"put", "get", "pop"} <= found
    (system,) = {system for _, system, _ in calls}
    assert system in ("memory", "sqlite", "redis", "keyring", "postgresql")
    assert [operation for operation, _, _ in calls].count("put") == 1


def test_an_encrypted_store_counts_each_call_once(calls: list[tuple[str, str, str]]) -> None:
    store = EncryptedBackend(MemoryBackend(), [_KEY], site="s")
    store.put("a:1", b"value")
    store.get("a:1")
    assert calls == [("put", "memory", "ok"), ("get", "memory", "ok")]


class _Down(MemoryBackend):
    def get(self, key: str) -> bytes | None:
        super().get(key)  # counts as a part of this call
        raise StoreUnavailable("The store is down: a simulated failure.")


def test_an_outage_is_an_outcome_and_the_error_reaches_the_caller(calls: list[tuple[str, str, str]]) -> None:
    with pytest.raises(StoreUnavailable):
        _Down().get("a:1")
    assert calls == [("get", "memory", "unavailable")]


def test_the_backend_of_another_package_has_no_name(calls: list[tuple[str, str, str]]) -> None:
    """No package can add values to the labels of metrics."""
    names = ("get", "put", "pop", "members", "count", "prune", "close")
    kind = type("Shelf", (Backend,), {name: lambda self, *arguments: None for name in names})
    kind().get("a:1")
    assert calls == [("get", "other", "ok")]
