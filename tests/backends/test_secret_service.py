"""The keyring backend on a real Secret Service.

The tests run the contract, several processes, killed processes and a locked keyring.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

import pytest
from keyring.backends.SecretService import Keyring

from pywry_auth.backends.base import Terms
from pywry_auth.backends.keyring import KeyringBackend
from pywry_auth.exceptions import StoreUnavailable
from pywry_auth.models import OAuthTokenSet
from pywry_auth.state.tokens import TokenStore
from pywry_auth.testing.record_contract import RecordContract
from tests.backends import keyring_worker as worker
from tests.backends.fixtures import Clock
from tests.backends.test_contract import (  # noqa: F401 - these run here too, with the backend of this file
    test_a_count_starts_again_after_its_window,
    test_a_later_put_sets_a_new_lifetime,
    test_an_expired_record_is_gone,
)
from tests.backends.threads import together
from tests.peers.secret_service import SecretService


@pytest.fixture(scope="module")
def bus() -> Iterator[SecretService]:
    with SecretService() as service:
        yield service


@pytest.fixture
def service(bus: SecretService, monkeypatch: pytest.MonkeyPatch) -> SecretService:
    """The service with an empty keyring, also for child processes."""
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", bus.address)
    if bus.has_ended():
        bus.restart()
        monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", bus.address)
    bus.empty()
    return bus


@pytest.fixture
def backend(service: SecretService, tmp_path: Path, clock: Clock) -> KeyringBackend:
    return KeyringBackend("desk", vault=Keyring(), folder=tmp_path, clock=clock)


@pytest.fixture
def clocked(backend: KeyringBackend) -> KeyringBackend:
    return backend


class TestContract(RecordContract):
    """The contract on the real keyring."""

    @pytest.fixture
    def elapse(self, clock: Clock) -> Callable[[float], None]:
        return clock.advance


def test_tokens_are_whole_for_the_next_program(backend: KeyringBackend, tmp_path: Path) -> None:
    """Another program loads the long tokens. [N4]"""
    tokens = OAuthTokenSet("a" * 1500, "Bearer", "r" * 1500, 3600, None, "openid", issued_at=1.0)
    TokenStore(backend).save("alice", tokens)
    again = TokenStore(KeyringBackend("desk", vault=Keyring(), folder=tmp_path))
    assert again.load("alice") == tokens
    assert again.list_keys() == ["alice"]
    assert again.delete("alice")
    assert TokenStore(backend).load("alice") is None


def test_processes_that_write_at_once_neither_mix_nor_lose_tokens(
    backend: KeyringBackend, service: SecretService, tmp_path: Path
) -> None:
    """Four processes save tokens for own and shared users. [T32]"""
    seen = worker.together("abcd", "save", tmp_path)
    assert {token for tokens in seen for token in tokens} <= {name * 2000 for name in "abcd"}
    store = TokenStore(backend)
    assert sorted(store.list_keys()) == ["shared", "user a", "user b", "user c", "user d"]
    for name in "abcd":
        tokens = store.load(f"user {name}")
        assert tokens is not None
        assert (tokens.access_token, tokens.refresh_token) == (name * 2000, "2")
    for key in store.list_keys():
        store.delete(key)
    assert len(service.names) == 1  # the index


def test_processes_count_and_take_turns_without_loss(backend: KeyringBackend, tmp_path: Path) -> None:
    assert sorted(chain.from_iterable(worker.together("abc", "count", tmp_path))) == list(range(1, 13))
    worker.together("abc", "add", tmp_path)
    assert backend.get("k:sum") == b"12"


def test_a_writer_killed_at_any_step_leaves_the_old_value_or_the_new(
    backend: KeyringBackend, service: SecretService, tmp_path: Path
) -> None:
    """The process is killed at each change to the keyring. [N4]

    Its lock does not delay other processes.
    """
    seen = []
    backend.put("k:1", worker.OLD, Terms(group="k:all"))
    entries = len(service.names)
    for steps in range(1, 20):
        writer = worker.start("replace", "", tmp_path)
        said = [worker.go_on(writer) for _ in range(steps)]
        assert writer.stdin
        writer.stdin.write("\n")
        writer.stdin.flush()
        writer.kill()
        writer.communicate()
        value = backend.get("k:1")
        assert value in (worker.OLD, worker.NEW)
        assert backend.members("k:all") == ["k:1"]
        seen.append(value)
        backend.put("k:1", worker.OLD, Terms(group="k:all"))
        assert len(service.names) - ("probe" in service.names) == entries
        if said[-1] == "true":
            break
    assert seen[0] == worker.OLD
    assert seen[-1] == worker.NEW
    assert len(seen) > 6


_TRY = """
import sys
from pathlib import Path
from pywry_auth.exceptions import StoreUnavailable
from pywry_auth.backends.keyring import KeyringBackend
backend = KeyringBackend("desk", folder=Path(sys.argv[1]))
for act in (backend.probe, lambda: backend.get("k:1"), lambda: backend.put("k:1", b"new")):
    try:
        act()
        print("done")
    except StoreUnavailable as error:
        print(error)
"""


def _try(folder: Path) -> list[str]:
    """Return the output of a program with the default keyring."""
    # Without -W error, because the package does not close a socket if a keyring is locked.
    command = [sys.executable, "-c", _TRY, str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()


def test_a_locked_keyring_is_reported_with_a_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each operation reports that the keyring is locked. [N5]"""
    with SecretService() as service:
        monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", service.address)
        assert _try(tmp_path) == ["done"] * 3
        service.lock()
        said = _try(tmp_path)
    assert len(said) == 3
    for line in said:
        assert "it is locked" in line
        assert "PYWRY_OAUTH2__TOKEN_STORE_BACKEND=sqlite" in line


def test_a_stopped_service_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with SecretService() as service:
        monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", service.address)
        backend = KeyringBackend("desk", vault=Keyring(), folder=tmp_path)
        backend.put("k:1", b"v")
    with pytest.raises(StoreUnavailable, match="cannot be used"):
        backend.get("k:1")


def test_any_user_id_is_a_key_of_its_own(backend: KeyringBackend, service: SecretService) -> None:
    keys = ["", "a", "A", "a\0b", "\ud800", "é", "x" * 100_000]
    for key in keys:
        assert backend.put(key, repr(key).encode(), Terms(group="k:all"))
    assert [backend.get(key) for key in keys] == [repr(key).encode() for key in keys]
    assert backend.members("k:all") == keys
    assert all(len(name) < 100 and name.isascii() for name in service.names)


def test_threads_share_one_backend(backend: KeyringBackend) -> None:
    """Eight threads save and load tokens of eight users. [T32]"""
    store = TokenStore(backend)

    def work(thread: int) -> None:
        store.save(f"user{thread}", OAuthTokenSet(f"token of {thread}" * 99))
        loaded = store.load(f"user{(thread + 1) % 8}")
        assert loaded is None or loaded.access_token == f"token of {(thread + 1) % 8}" * 99

    together(8, work)
    assert sorted(store.list_keys()) == sorted(f"user{thread}" for thread in range(8))
