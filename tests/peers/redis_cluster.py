"""A Redis Cluster of three primaries, one of which has a replica, with failovers that take seconds."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from types import TracebackType

from redis.exceptions import RedisError

from tests.peers.redis_sentinel import online_replicas
from tests.peers.redis_server import RedisServer
from tests.peers.tls import TLSFiles
from tests.waiting import eventually

_PRIMARIES = 3
_SLOTS = ((200, 16383), (0, 99), (100, 199))
"""The first primary has nearly all slots, so that nearly every prefix is at the primary with a replica."""

_PATIENCE = 30.0


class ClusterSetUp:
    """Three primaries; the first has nearly all slots and the replicas.

    ``url`` names the primaries. The nodes keep no records on disk, unless ``options`` says so.

    Args:
        folder: An empty folder with a short path.
        replicas: The number of replicas of the first primary.
        options: More options of each node, in the form of the command line.
        tls: The files of nodes that speak only TLS; None without TLS.
        credentials: The user and the password of the URL, as ``user:password@``.
        query: The options of the URL, as ``name=value``.
    """

    def __init__(
        self,
        folder: Path,
        *,
        replicas: int = 1,
        options: Sequence[str] = (),
        tls: TLSFiles | None = None,
        credentials: str = "",
        query: str = "",
    ) -> None:
        cluster = ["--cluster-enabled", "yes", "--cluster-node-timeout", "1000"]
        cluster += ["--cluster-replica-validity-factor", "0", "--cluster-allow-replica-migration", "no"]
        cluster += ["--cluster-require-full-coverage", "no"] + ["--tls-cluster", "yes"] * bool(tls)
        quick = ("--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1")
        self._options = (*cluster, *quick, *options)
        self._stack = ExitStack()
        self.nodes: list[RedisServer] = []
        for number in range(_PRIMARIES + replicas):
            (folder / f"node{number}").mkdir()
            self.nodes.append(RedisServer(folder / f"node{number}", tls=tls))
        self._primary = self.nodes[0]
        self._group = [self._primary, *self.nodes[_PRIMARIES:]]
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in self.nodes[:_PRIMARIES])
        trust = f"ssl_ca_certs={tls.ca}" if tls else ""
        self.url = f"{'rediss' if tls else 'redis'}+cluster://{credentials}{hosts}"
        self.url += "?" + "&".join(filter(None, (trust, query))) if trust or query else ""

    @property
    def primary(self) -> RedisServer:
        """The primary of nearly all slots; after a failover, the one that was waited for."""
        return self._primary

    @property
    def replicas(self) -> list[RedisServer]:
        """The replicas of :attr:`primary`."""
        return [node for node in self._group if node is not self._primary]

    @property
    def others(self) -> list[RedisServer]:
        """The primaries of the slots 0 to 99 and 100 to 199, which have no replica."""
        return self.nodes[1:_PRIMARIES]

    def kill_primary(self) -> RedisServer:
        """Kill the primary and return it."""
        self._primary.stop()
        return self._primary

    def stop_primary(self) -> RedisServer:
        """Stop the primary with SIGSTOP and return it: its sockets stay open and silent."""
        self._primary.pause()
        return self._primary

    def continue_primary(self, old: RedisServer) -> None:
        """Let a node continue that :meth:`stop_primary` returned.

        Args:
            old: The node, which is still a primary for a moment if there was a failover.
        """
        old.resume()

    def restart(self, old: RedisServer) -> None:
        """Start a killed node, which becomes a replica if there was a failover.

        Args:
            old: The node that :meth:`kill_primary` returned.
        """
        old.start(*self._options)

    def wait_until_failed_over(self) -> RedisServer:
        """Wait until another node is the primary for all nodes, and return it."""
        old = self._primary
        assert eventually(lambda: self._agreed(other_than=old), _PATIENCE), "there was no failover"
        return self._primary

    def fail_over(self) -> RedisServer:
        """Exchange the roles as an operator does, while all nodes run, and return the new primary."""
        self.wait_until_whole()
        old, replica = self._primary, self.replicas[0]

        def is_done() -> bool:
            with suppress(RedisError):  # the primaries do not vote twice within two of their time-outs
                replica.ask("CLUSTER", "FAILOVER")
            return eventually(lambda: self._agreed(other_than=old), 1)

        assert eventually(is_done, _PATIENCE), "there was no failover"
        return self._primary

    def wait_until_whole(self) -> None:
        """Wait until the cluster serves all slots and the running replicas are in step."""
        assert eventually(self._is_whole, _PATIENCE), "the cluster is not complete"

    def __enter__(self) -> ClusterSetUp:
        for node in self.nodes:
            self._stack.callback(node.stop)
            self._stack.callback(node.client.close)
            node.start(*self._options)
        for number, node in enumerate(self.nodes):
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", str(number + 1))
        for node, (first, last) in zip(self.nodes, _SLOTS, strict=False):
            node.ask("CLUSTER", "ADDSLOTSRANGE", str(first), str(last))
        for node in self.nodes[1:]:
            self._primary.ask("CLUSTER", "MEET", "127.0.0.1", str(node.port))
        name = self._primary.ask("CLUSTER", "MYID").decode()
        follow = [partial(_follows, replica, name) for replica in self.replicas]
        assert all(eventually(each, _PATIENCE) for each in follow), "the nodes did not meet"
        self.wait_until_whole()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _agreed(self, *, other_than: RedisServer | None = None) -> bool:
        """Note the new primary if all running nodes name the same one."""
        observers = [node for node in self.nodes if node.runs and node is not other_than]
        owners = {_owner(node) for node in observers}
        for node in self._group:
            if node is not other_than and {node.port} == owners:
                self._primary = node
                return True
        return False

    def _is_whole(self) -> bool:
        if not self._agreed():  # a busy machine may cause another failover
            return False
        running = [node for node in self.nodes if node.runs]
        with suppress(RedisError):
            ready = all(_state(node) == ("ok", len(self.nodes), _PRIMARIES) for node in running)
            expected = sum(node.runs for node in self.replicas)
            return ready and online_replicas(self._primary) == expected
        return False


def _follows(node: RedisServer, primary: str) -> bool:
    """Make a node the replica of another one; return False while it does not know that one."""
    with suppress(RedisError):
        node.ask("CLUSTER", "REPLICATE", primary)
        return True
    return False


def _owner(node: RedisServer) -> int:
    """Return the port of the primary of the last slot according to a node, or 0."""
    with suppress(RedisError):
        for _, last, primary, *_ in node.ask("CLUSTER SLOTS"):
            if last == _SLOTS[0][1]:
                return int(primary[1])
    return 0


def _state(node: RedisServer) -> tuple[str, int, int]:
    found = node.ask("CLUSTER INFO")
    return found["cluster_state"], int(found["cluster_known_nodes"]), int(found["cluster_size"])
