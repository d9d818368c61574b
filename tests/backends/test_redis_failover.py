"""Redis under Sentinel and in a cluster: the primary dies, is cut off, or changes."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import pytest

from pywry_auth.backends.base import Terms
from pywry_auth.backends.lease import StillHeld
from pywry_auth.backends.redis import RedisBackend
from pywry_auth.exceptions import StoreUnavailable
from tests.peers.redis_cluster import ClusterSetUp
from tests.peers.redis_sentinel import SentinelSetUp
from tests.peers.redis_server import RedisServer
from tests.waiting import eventually

SetUp = SentinelSetUp | ClusterSetUp

PROMPT = 5.0
"""Seconds; generous for a busy machine. Each operation should fail within 2 s."""
_SOAK = bool(os.environ.get("SOAK"))
_FAULTS = [("sentinel_set_up", "stop"), ("cluster_set_up", "kill")]
_MORE_FAULTS = [("sentinel_set_up", "kill"), ("cluster_set_up", "stop")]
_THREADS = 8


@pytest.fixture
def set_up(request: pytest.FixtureRequest) -> Iterator[SetUp]:
    found: SetUp = request.getfixturevalue(request.param)
    found.primary.client.flushall()
    yield found
    found.wait_until_whole()


@pytest.fixture
def backend(set_up: SetUp) -> Iterator[RedisBackend]:
    backend = RedisBackend(set_up.url)
    yield backend
    backend.close()


class Traffic:
    """Threads that use a backend during a fault.

    The threads append to lists, which is atomic.
    """

    def __init__(self, backend: RedisBackend) -> None:
        self._backend = backend
        self._over = threading.Event()
        self._served: list[float] = []
        self.failures: list[str] = []
        self.taken: list[str] = []
        self.slowest = 0.0

    @contextmanager
    def flowing(self) -> Iterator[Traffic]:
        """Run the threads during the ``with`` block, and raise their first error other than an outage."""
        with ThreadPoolExecutor(_THREADS) as pool:
            users = [pool.submit(self._act, number) for number in range(_THREADS)]
            try:
                yield self
            finally:
                self._over.set()
        for user in users:
            user.result()

    def await_service(self) -> None:
        """Wait until operations succeed that begin from now on."""
        begun = time.monotonic()
        assert eventually(lambda: sum(at > begun for at in self._served[-20:]) > 10, PROMPT), "no service"

    def _act(self, number: int) -> None:
        count = 0
        while not self._over.is_set():
            count += 1
            begun = time.monotonic()
            try:
                assert self._backend.get("k:kept") == b"v"
                self._backend.put(f"w:{number}:{count}", b"w", Terms(ttl=60, group="w:all"))
                if self._backend.pop(f"once:{count}") is not None:
                    self.taken.append(f"once:{count}")
            except StoreUnavailable as error:
                self.failures.append(str(error))
                self._over.wait(0.05)
            else:
                self._served.append(begun)
            self.slowest = max(self.slowest, time.monotonic() - begun)


def _keep(set_up: SetUp, backend: RedisBackend, number: int) -> None:
    """Store records, and wait until the replicas have them."""
    for count in range(number):
        backend.put(f"once:{count}", b"o", Terms(ttl=600))
    backend.put("k:kept", b"v", Terms(ttl=600, group="k:all"))
    assert eventually(lambda: set_up.replicas[0].client.dbsize() == set_up.primary.client.dbsize())


def _fail(set_up: SetUp, fault: str) -> Callable[[], None]:
    """Kill or stop the primary, and return the function that brings it back."""
    if fault == "kill":
        old = set_up.kill_primary()
        return lambda: set_up.restart(old)
    old = set_up.stop_primary()
    return lambda: set_up.continue_primary(old)


@pytest.mark.parametrize(
    ("set_up", "fault"), _FAULTS + _MORE_FAULTS * _SOAK, indirect=["set_up"], ids=lambda value: str(value)
)
def test_a_failover_costs_only_the_operations_in_flight(
    set_up: SetUp, fault: str, backend: RedisBackend
) -> None:
    """No answer is wrong, the service returns soon, and a lock stays held. [T63, T65, P15]

    Each thread may lose its last removal, which the old primary had not sent to the replica.
    """
    _keep(set_up, backend, 50)
    other = RedisBackend(set_up.url)
    with backend.lock("lock:1", 0) as held:
        with Traffic(backend).flowing() as traffic:
            traffic.await_service()
            bring_back = _fail(set_up, fault)
            set_up.wait_until_failed_over()
            traffic.await_service()
            bring_back()
            set_up.wait_until_whole()
            traffic.await_service()
        assert held.left() > 0
        with pytest.raises(StillHeld), other.lock("lock:1", 0):
            pass
    assert traffic.failures, "the fault was not noticed"
    assert traffic.slowest < PROMPT
    assert len(traffic.taken) - len(set(traffic.taken)) <= _THREADS
    other.close()


@pytest.mark.parametrize("set_up", ["sentinel_set_up"], indirect=True)
def test_a_primary_that_sentinels_replaced_is_left_although_it_takes_writes(
    set_up: SentinelSetUp, backend: RedisBackend
) -> None:
    """A list that began at the old one is not completed at the new one. [T63]"""
    old = set_up.primary
    with old.client.pipeline(transaction=False) as pipeline:
        for number in range(1200):
            pipeline.set(f"pywry:k:{number}", b"v")
        pipeline.execute()
    listed = backend.keys("k:")
    next(listed)
    old.ask("ACL", "SETUSER", "default", "-slaveof", "-replicaof")
    try:
        new = set_up.fail_over()
        assert old.ask("ROLE")[0] == b"master"
        assert eventually(lambda: _is_written(backend, new), PROMPT)
        assert old.client.get("pywry:k:new") != b"2"
    finally:
        old.ask("ACL", "SETUSER", "default", "+slaveof", "+replicaof")
    with pytest.raises(StoreUnavailable, match="while records were listed"):
        list(listed)
    set_up.wait_until_whole()
    assert len(list(backend.keys("k:"))) == 1201


def _is_written(backend: RedisBackend, server: RedisServer) -> bool:
    """Return whether a write is now at a server."""
    backend.put("k:new", b"1")
    if server.client.get("pywry:k:new") != b"1":
        return False
    return backend.put("k:new", b"2")


def _use_in_child(backend: RedisBackend) -> int:
    """Return the exit status of a forked process that uses the backend."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = 0 if backend.put("k:child", b"c") and backend.get("k:1") == b"p" else 2
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("set_up", ["sentinel_set_up", "cluster_set_up"], indirect=True)
def test_processes_after_a_fork_do_not_share_connections(set_up: SetUp, backend: RedisBackend) -> None:
    """Neither those to the primary nor the one to a sentinel or a node. [T63]"""
    backend.put("k:1", b"p")
    assert _use_in_child(backend) == 0
    assert backend.get("k:child") == b"c"
    assert eventually(lambda: backend.get("k:1") == b"p" and backend._servers.changes == 0, 2)


@pytest.mark.parametrize("set_up", ["cluster_set_up"], indirect=True)
def test_records_of_a_slot_that_is_being_moved_are_unavailable_and_never_missing(
    set_up: ClusterSetUp,
) -> None:
    """Afterwards, the other node serves them. [T63, S11]"""
    backend, keys = RedisBackend(set_up.url, prefix="moving"), [f"k:{number}" for number in range(20)]
    for key in keys:
        assert backend.put(key, b"v", Terms(ttl=600, group="k:all"))
    move = SlotMove(set_up.primary, set_up.others[0], "{moving}")
    move.begin(11)
    found = [_tried(partial(backend.get, key)) for key in keys]
    assert set(found) == {b"v", None}
    assert _tried(lambda: backend.members("k:all")) is None
    with pytest.raises(StoreUnavailable, match="slot of the cluster is being moved"):
        backend.pop("k:unknown")
    move.complete(set_up.nodes)
    assert eventually(lambda: _tried(lambda: backend.get("k:1")) == b"v", PROMPT)
    assert sorted(backend.members("k:all")) == sorted(backend.keys("k:")) == sorted(keys)
    assert [backend.pop(key, group="k:all") for key in keys] == [b"v"] * 20
    assert backend.prune("k:", 1000) == 0
    backend.close()


def _tried(use: Callable[[], object]) -> object:
    """Return the result of an operation, or None if the store is not available for now."""
    try:
        found = use()
    except StoreUnavailable:
        return None
    assert found is not None, "a record that exists is missing"
    return found


class SlotMove:
    """The move of a slot from one node to another one, as ``redis-cli --cluster reshard`` makes it.

    Args:
        source: The node that has the slot.
        target: The node that gets it.
        tag: A key of the slot.
    """

    def __init__(self, source: RedisServer, target: RedisServer, tag: str) -> None:
        self._source, self._target = source, target
        self._slot = str(source.ask("CLUSTER", "KEYSLOT", tag))

    def begin(self, number: int) -> None:
        """Move some of the records."""
        source, target = (node.ask("CLUSTER", "MYID").decode() for node in (self._source, self._target))
        self._target.ask("CLUSTER", "SETSLOT", self._slot, "IMPORTING", source)
        self._source.ask("CLUSTER", "SETSLOT", self._slot, "MIGRATING", target)
        self._move(number)

    def complete(self, nodes: Sequence[RedisServer]) -> None:
        """Move the others, and tell all nodes the new owner, the new one first."""
        self._move(1000)
        name = self._target.ask("CLUSTER", "MYID").decode()
        self._target.ask("CLUSTER", "SETSLOT", self._slot, "NODE", name)
        for node in nodes:
            if node.ask("ROLE")[0] == b"master":
                node.ask("CLUSTER", "SETSLOT", self._slot, "NODE", name)

    def _move(self, number: int) -> None:
        for key in self._source.ask("CLUSTER", "GETKEYSINSLOT", self._slot, str(number)):
            self._source.ask("MIGRATE", "127.0.0.1", str(self._target.port), key.decode(), "0", "5000")
