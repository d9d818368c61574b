"""gunicorn as the site under load, and the faults of its processes."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Mapping
from contextlib import suppress

from tests.peers.web_server import TOKEN_SECRET, WebServer, children_of, settings_for
from tests.soak.journal import Journal
from tests.soak.places import Inject, Place, stopped

WORKERS = 4
THREADS = 8
DOMAIN = "example.com"
"""Users with addresses of this domain may sign in."""

IDLE_SECONDS = 120
"""No user is idle for so long, but requests have to record that a session is in use."""

TIMEOUT_SECONDS = 3
"""Seconds for each call to the provider."""


class SoakServer(WebServer):
    """A gunicorn for which the modes of files count, even if it runs as root.

    Args:
        workers: The number of worker processes.
    """

    def __init__(self, workers: int = WORKERS) -> None:
        super().__init__("--workers", str(workers), "--threads", str(THREADS))
        if os.geteuid() == 0:  # root may write everything; this takes the right away, and keeps the user
            self._command = [
                "setpriv",
                "--inh-caps=-dac_override",
                "--bounding-set=-dac_override",
                *self._command,
            ]

    @property
    def workers(self) -> list[int]:
        """The IDs of its workers."""
        return children_of(self.process.pid)


class Site:
    """The site's processes, and their faults.

    Args:
        server: The site.
        journal: Gets to know the killed and the reloaded workers.
        choice: Selects the workers.
    """

    def __init__(self, server: SoakServer, journal: Journal, choice: random.Random) -> None:
        self._server = server
        self._journal = journal
        self._choice = choice
        self.faults: Mapping[str, Inject] = {
            "a worker killed": self._killed,
            "a worker stopped": self._stopped,
            "reloads": self._reloads,
        }

    def _killed(self, over: threading.Event) -> None:
        """Kill one worker at the beginning, and one for each second."""
        while True:
            worker = self._any()
            if worker:
                self._journal.killed(worker)
                with suppress(ProcessLookupError):
                    os.kill(worker, signal.SIGKILL)
            if over.wait(1):
                return

    def _stopped(self, over: threading.Event) -> None:
        worker = self._any()
        if not worker:
            return
        self._journal.stopped(worker)
        with suppress(ProcessLookupError), stopped(worker):
            over.wait()

    def _reloads(self, over: threading.Event) -> None:
        before = set(self._server.workers)
        self._journal.reloads(before)
        self._server.process.send_signal(signal.SIGHUP)
        over.wait()
        deadline = time.monotonic() + 20
        while before & set(self._server.workers) and time.monotonic() < deadline:
            time.sleep(0.1)  # they finish their requests

    def _any(self) -> int:
        workers = sorted(self._server.workers)
        return self._choice.choice(workers) if workers else 0


def settings(issuer: str, place: Place) -> dict[str, str]:
    """Return the settings of the site."""
    chosen = {
        **place.settings,
        "TOKEN_SECRET": TOKEN_SECRET,
        "ALLOWED_EMAIL_DOMAINS": DOMAIN,
        "REFRESH_RATE_LIMIT": "1000000/minute",
        "SESSION_IDLE_TTL": str(IDLE_SECONDS),
    }
    return settings_for(issuer, **chosen) | {"PYWRY_OAUTH2__HTTP_TIMEOUT_SECONDS": str(TIMEOUT_SECONDS)}
