"""A redis-server of the tests, on a loopback port and a Unix socket."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import threading
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from redis import Redis

from tests.peers.tls import TLSFiles

_HIGHEST = 55_000  # a node of a cluster also listens at a port that is higher by 10,000


class RedisServer:
    """A running server, which can be stopped and started again at its address.

    Args:
        folder: The folder for its socket; its path must be short.
        tls: The files of a server that speaks only TLS; None for one without TLS.
    """

    def __init__(self, folder: Path, *, tls: TLSFiles | None = None) -> None:
        self.folder = folder
        self._tls = tls
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self.port = _free_port()
        scheme, query = ("rediss", f"?ssl_ca_certs={tls.ca}") if tls else ("redis", "")
        self.url = f"{scheme}://127.0.0.1:{self.port}/0{query}"
        self.socket_url = f"unix://{folder}/redis.sock?db=0"
        self.client = Redis.from_url(self.url, socket_timeout=5)

    def start(self, *options: str) -> None:
        """Start the server and wait until it accepts connections.

        Args:
            options: More options in the form of the command line. A file of settings comes first.
        """
        program = shutil.which("redis-server")
        assert program, "redis-server is missing: apt-get install redis-server"
        file, rest = ([options[0]], options[1:]) if options and options[0][:1] != "-" else ([], options)
        port = ["--port", str(self.port)]
        if self._tls:
            port = ["--port", "0", "--tls-port", str(self.port), *_tls_options(self._tls)]
        own = ["--bind", "127.0.0.1", *port, "--unixsocket", "redis.sock", "--dir", str(self.folder)]
        save = [] if "--sentinel" in rest else ["--save", ""]
        self._process = subprocess.Popen(
            [program, *file, *own, *save, *rest], cwd=self.folder, stdout=subprocess.PIPE, text=True
        )
        output = self._process.stdout
        assert output
        for line in output:
            if "Ready to accept connections" in line or "Sentinel ID is" in line:
                # A full pipe would stop the server.
                self._reader = threading.Thread(target=_drain, args=(output,), daemon=True)
                self._reader.start()
                return
        raise AssertionError("redis-server did not start")

    def ask(self, *command: str) -> Any:
        """Return the response to a command.

        Args:
            command: The command and its arguments.
        """
        return self.client.execute_command(*command)  # type: ignore[no-untyped-call]

    def contents(self) -> dict[bytes, list[bytes]]:
        """Return each key with its string, or with the members of its sorted set."""
        contents: dict[bytes, list[bytes]] = {}
        for key in self.client.scan_iter():
            is_string = self.client.type(key) == b"string"
            parts = [self.client.get(key) or b""] if is_string else self.client.zrange(key, 0, -1)
            contents[_bytes(key)] = [_bytes(part) for part in parts]
        return contents

    @property
    def pid(self) -> int:
        """The server's process."""
        assert self._process
        return self._process.pid

    @property
    def runs(self) -> bool:
        """Whether the server was started and not stopped; it may be paused."""
        return self._process is not None

    def pause(self) -> None:
        """Stop the process with SIGSTOP: its sockets stay open and silent."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused process continue."""
        os.kill(self.pid, signal.SIGCONT)

    def stop(self) -> None:
        """Kill the process; a paused one too."""
        if self._process:
            self._process.kill()
            self._process.wait()
            if self._reader:
                self._reader.join()
            self._process = None

    def __enter__(self) -> RedisServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.client.close()
        self.stop()


def _free_port() -> int:
    while True:
        with socket.socket() as free, socket.socket() as bus:
            free.bind(("127.0.0.1", 0))
            port: int = free.getsockname()[1]
            if port > _HIGHEST:
                continue
            try:
                bus.bind(("127.0.0.1", port + 10_000))
            except OSError:
                continue
            return port


def _tls_options(files: TLSFiles) -> list[str]:
    names = ["--tls-cert-file", str(files.cert), "--tls-key-file", str(files.key)]
    peers = ["--tls-ca-cert-file", str(files.ca), "--tls-replication", "yes"]
    return [*names, *peers, "--tls-auth-clients", "no"]


def _drain(output: IO[str]) -> None:
    with output:
        for _ in output:
            pass


def _bytes(reply: object) -> bytes:
    assert isinstance(reply, bytes), "the client decodes nothing"
    return reply
