"""A redis-server of the tests, on a loopback port and a Unix socket, without files."""

from __future__ import annotations

import shutil
import socket
import subprocess
from pathlib import Path
from types import TracebackType

from redis import Redis


class RedisServer:
    """A running server, which can be stopped and started again at its address.

    Args:
        folder: The folder for its socket; its path must be short.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[str] | None = None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.socket_url = f"unix://{folder}/redis.sock?db=0"
        self.client = Redis(port=self.port)

    def start(self, *options: str) -> None:
        program = shutil.which("redis-server")
        assert program, "redis-server is missing: apt-get install redis-server"
        address = ["--bind", "127.0.0.1", "--port", str(self.port), "--unixsocket", "redis.sock"]
        self._process = subprocess.Popen(
            [program, *address, "--save", "", "--dir", str(self._folder), *options],
            cwd=self._folder,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout
        for line in self._process.stdout:
            if "Ready to accept connections" in line:
                return
        raise AssertionError("redis-server did not start")

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

    def stop(self) -> None:
        if self._process:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def __enter__(self) -> RedisServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.client.close()
        self.stop()


def _bytes(reply: object) -> bytes:
    assert isinstance(reply, bytes), "the client decodes nothing"
    return reply
