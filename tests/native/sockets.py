"""A browser from the callback server's point of view: bytes on a socket."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPResponse
from pathlib import Path
from typing import Generic, TypeVar
from urllib.parse import urlsplit

PATIENCE = 10.0
"""Seconds after which a test gives up; a working test takes far less."""

T = TypeVar("T")


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Message
    text: str


class Client:
    """One connection to the server of a redirect URI."""

    def __init__(self, redirect_uri: str) -> None:
        parts = urlsplit(redirect_uri)
        self.authority = parts.netloc
        self.socket = socket.create_connection((parts.hostname, parts.port), timeout=PATIENCE)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> Client:
        self.socket.sendall(data)
        return self

    def get(self, target: str, method: str = "GET") -> Client:
        return self.send(f"{method} {target} HTTP/1.1\r\nHost: {self.authority}\r\n\r\n".encode())

    def answer(self, method: str = "GET") -> Answer:
        response = HTTPResponse(self.socket, method=method)
        response.begin()
        return Answer(response.status, response.headers, response.read().decode())

    def everything(self) -> bytes:
        """Return all bytes until the server ends the connection."""
        data = bytearray()
        while chunk := self.socket.recv(65536):
            data += chunk
        return bytes(data)

    def has_input(self, seconds: float = 0.0) -> bool:
        return bool(select.select([self.socket], [], [], seconds)[0])


def fetch(redirect_uri: str, target: str, method: str = "GET") -> Answer:
    with Client(redirect_uri) as client:
        return client.get(target, method).answer(method)


def is_listening(redirect_uri: str) -> bool:
    """Tell whether this process listens on the port, which another process may have taken by now."""
    port = f":{urlsplit(redirect_uri).port:04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    listening = {f"socket:[{row[9]}]" for row in rows if row[1].endswith(port) and row[3] == "0A"}
    return not listening.isdisjoint(name.partition(" ")[2] for name in open_descriptors())


class Running(Generic[T]):
    """A call in a thread of its own, and its result or exception."""

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self._result: list[T] = []
        self._error: list[BaseException] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._result.append(self._call())
        except BaseException as error:  # noqa: BLE001 - result() raises it again
            self._error.append(error)

    @property
    def is_over(self) -> bool:
        return not self._thread.is_alive()

    def result(self) -> T:
        self._thread.join(PATIENCE)
        assert self.is_over, "the call did not end"
        if self._error:
            raise self._error[0]
        return self._result[0]


def open_descriptors() -> set[str]:
    """Return the open descriptors of this process, on Linux."""
    found = set()
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the descriptor of the listing is closed by now
            found.add(f"{number} {os.readlink(f'/proc/self/fd/{number}')}")
    return found
