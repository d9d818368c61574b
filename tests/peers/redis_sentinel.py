"""Redis servers under three sentinels, with failovers that take about two seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType

from redis.exceptions import RedisError

from tests.peers.redis_server import RedisServer
from tests.peers.tls import TLSFiles
from tests.waiting import eventually

SERVICE = "site"
"""The name under which the sentinels know the primary."""

_SENTINELS = 3
_QUORUM = 2
_PATIENCE = 30.0
_QUICK = (
    *("info-period", "100", "publish-period", "200", "ask-period", "100"),
    *("slave-reconf-timeout", "500", "min-link-reconnect-period", "500"),
    *("tilt-trigger", "20000", "tilt-period", "1000"),  # a busy machine delays the sentinels too
)
"""Milliseconds. Sentinels otherwise look at the servers every 10 s.

The ping period stays, because a replica that was silent for five periods is not promoted.
"""


class SentinelSetUp:
    """A primary, its replicas and three sentinels.

    ``url`` names the sentinels. The servers keep nothing on disk, unless ``options`` says so.

    Args:
        folder: An empty folder with a short path.
        replicas: The number of replicas.
        options: More options of the primary and the replicas, in the form of the command line.
        tls: The files of servers and sentinels that speak only TLS; None without TLS.
        sentinel_lines: More lines for the settings of each sentinel.
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
        sentinel_lines: Sequence[str] = (),
        credentials: str = "",
        query: str = "",
    ) -> None:
        self._options = ("--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1", *options)
        self._lines = sentinel_lines
        self._stack = ExitStack()
        self.servers = [_server(folder / f"server{number}", tls) for number in range(replicas + 1)]
        self.sentinels = [_server(folder / f"sentinel{number}", tls) for number in range(_SENTINELS)]
        self._primary = self.servers[0]
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        trust = f"ssl_ca_certs={tls.ca}" if tls else ""
        scheme = "rediss" if tls else "redis"
        self.url = f"{scheme}+sentinel://{credentials}{hosts}/{SERVICE}/0"
        self.url += "?" + "&".join(filter(None, (trust, query))) if trust or query else ""

    @property
    def primary(self) -> RedisServer:
        """The primary; after a failover, the one that :meth:`wait_until_failed_over` found."""
        return self._primary

    @property
    def replicas(self) -> list[RedisServer]:
        """The other servers."""
        return [server for server in self.servers if server is not self._primary]

    def kill_primary(self) -> RedisServer:
        """Kill the primary and return it."""
        self._primary.stop()
        return self._primary

    def stop_primary(self) -> RedisServer:
        """Stop the primary with SIGSTOP and return it: its sockets stay open and silent."""
        self._primary.pause()
        return self._primary

    def continue_primary(self, old: RedisServer) -> None:
        """Let a server continue that :meth:`stop_primary` returned.

        Args:
            old: The server, which is still a primary for a moment if there was a failover.
        """
        old.resume()

    def restart(self, old: RedisServer) -> None:
        """Start a killed server: a primary without records, until the sentinels make it a replica.

        Args:
            old: The server that :meth:`kill_primary` returned.
        """
        old.start(*self._options)

    def wait_until_failed_over(self) -> RedisServer:
        """Wait until another server is the primary for all sentinels, and return it."""
        old = self._primary
        assert eventually(lambda: self._agreed(other_than=old), _PATIENCE), "there was no failover"
        return self._primary

    def fail_over(self) -> RedisServer:
        """Exchange the roles as an operator does, while all servers run, and return the new primary."""
        self.wait_until_whole()
        old = self._primary
        assert eventually(lambda: self._asked(other_than=old), _PATIENCE), "there was no failover"
        return self._primary

    def wait_until_whole(self) -> None:
        """Wait until every other server is a replica that is in step with the primary."""
        assert eventually(self._is_whole, _PATIENCE), "the replicas are not in step"

    def __enter__(self) -> SentinelSetUp:
        for server in (*self.servers, *self.sentinels):
            self._stack.callback(server.stop)
            self._stack.callback(server.client.close)
        self._primary.start(*self._options)
        for replica in self.replicas:
            replica.start(*self._options, "--replicaof", "127.0.0.1", str(self._primary.port))
        for sentinel in self.sentinels:
            self._start_sentinel(sentinel)
        self.wait_until_whole()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _start_sentinel(self, sentinel: RedisServer) -> None:
        lines = [
            f"sentinel monitor {SERVICE} 127.0.0.1 {self._primary.port} {_QUORUM}",
            f"sentinel down-after-milliseconds {SERVICE} 1000",
            f"sentinel failover-timeout {SERVICE} 1000",
            *self._lines,
        ]
        settings = sentinel.folder / "sentinel.conf"
        settings.write_text("\n".join(lines) + "\n")
        sentinel.start(str(settings), "--sentinel")
        sentinel.ask("SENTINEL", "DEBUG", *_QUICK)

    def _asked(self, *, other_than: RedisServer) -> bool:
        """Ask again until the exchange succeeds: on a busy machine, a sentinel may give up."""
        with suppress(RedisError):  # an exchange is in progress, or the replica was silent for a moment
            self.sentinels[0].ask("SENTINEL", "FAILOVER", SERVICE)
        return eventually(lambda: self._agreed(other_than=other_than), 5)

    def _agreed(self, *, other_than: RedisServer | None = None) -> bool:
        """Note the new primary if all running sentinels name the same one."""
        names = {_named(sentinel) for sentinel in self.sentinels if sentinel.runs}
        for server in self.servers:
            if server is not other_than and {server.port} == names and _role(server) == b"master":
                self._primary = server
                return True
        return False

    def _is_whole(self) -> bool:
        if not self._agreed():  # a busy machine may cause another failover
            return False
        running = [server for server in self.replicas if server.runs]
        with suppress(RedisError):
            known = all(self._knows(sentinel, len(running)) for sentinel in self.sentinels if sentinel.runs)
            return known and online_replicas(self._primary) == len(running)
        return False

    def _knows(self, sentinel: RedisServer, replicas: int) -> bool:
        state = sentinel.client.sentinel_master(SERVICE)
        assert isinstance(state, dict)
        good = [each for each in sentinel.client.sentinel_slaves(SERVICE) if _is_in_step(each)]
        others = sum(other.runs for other in self.sentinels) - 1
        down = state["is_sdown"] or state["is_odown"]
        return not down and len(good) >= replicas and state["num-other-sentinels"] >= others


def _server(folder: Path, tls: TLSFiles | None) -> RedisServer:
    folder.mkdir()
    return RedisServer(folder, tls=tls)


def _named(sentinel: RedisServer) -> int:
    """Return the port of the primary according to a sentinel, or 0."""
    with suppress(RedisError):
        _, port = sentinel.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
        return int(port)
    return 0


def _role(server: RedisServer) -> object:
    with suppress(RedisError):
        return server.ask("ROLE")[0]
    return None


def _is_in_step(replica: Mapping[str, object]) -> bool:
    return replica["flags"] == "slave" and replica["master-link-status"] == "ok"


def online_replicas(server: RedisServer) -> int:
    """Return the number of replicas that receive what a server writes."""
    found = server.client.info("replication").items()
    return sum(
        isinstance(value, dict) and value.get("state") == "online"
        for name, value in found
        if name.startswith("slave")
    )
