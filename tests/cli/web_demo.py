"""``pywry-auth demo`` as a process of its own."""

from __future__ import annotations

import os
import re
import select
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import requests

from tests.cli.program import COMMAND, Program, started
from tests.peers.web_server import Visitor, children_of
from tests.person import Person


class WebDemo:
    """A running demo.

    Args:
        program: The command.
        folder: The parent of its temporary folder.
    """

    def __init__(self, program: Program, folder: Path) -> None:
        self.program = program
        self._folder = folder
        assert program.process.stdout is not None
        self.text = "".join(iter(program.process.stdout.readline, _LAST_LINE))
        self.site = re.findall(r"^ +(http://\S+)/$", self.text, re.MULTILINE)[0]

    def visitor(self, username: str, password: str) -> Visitor:
        """Return the browser of a user who can sign in."""
        return Visitor(self.site, Person(username, password))

    @property
    def server(self) -> int:
        """The process of gunicorn's master."""
        (master,) = children_of(self.program.process.pid)
        return master

    def files(self) -> list[Path]:
        """The files that it has written."""
        return [path for path in self._folder.rglob("*") if path.is_file()]

    @contextmanager
    def seen_to_end(self) -> Iterator[None]:
        """Assert that processes, folder and both ports are gone after the block."""
        provider = self.visitor("alice", "wonderland").begin().headers["Location"]
        addresses = [urlsplit(url).netloc for url in (self.site, provider)]
        processes = [os.pidfd_open(pid) for pid in (self.server, *children_of(self.server))]
        assert len(processes) > 1
        yield
        for process in processes:
            # Another process reaps those whose parent died first, which may take a moment.
            assert select.select([process], [], [], 20)[0]
            os.close(process)
        assert not [address for address in addresses if _answers(address)]
        assert not list(self._folder.iterdir())


_LAST_LINE = (
    "Several workers share one SQLite file. Sign-ins and sign-outs are listed below. Ctrl-C stops the demo.\n"
)


def _answers(address: str) -> bool:
    try:
        requests.get(f"http://{address}/", timeout=10)
    except requests.ConnectionError:
        return False
    return True


@contextmanager
def web_demo(folder: Path, **variables: str) -> Iterator[WebDemo]:
    """Start ``pywry-auth demo`` and wait until it is ready; at the end it is stopped.

    Args:
        folder: The parent of its temporary folder; it must not exist.
        variables: Its environment, in addition to that of this process.
    """
    folder.mkdir()
    with started(COMMAND, "demo", TMPDIR=str(folder), **{"BROWSER": ""} | variables) as program:
        try:
            yield WebDemo(program, folder)
        finally:
            program.process.terminate()
            program.end()
