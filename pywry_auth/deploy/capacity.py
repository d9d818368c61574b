"""How many threads of a process serve requests.

This decides how many of them may call a provider or wait for it.
"""

from __future__ import annotations

import sys
import threading
from dataclasses import dataclass

_LEAST_CALLS = 2
_SERVERS = {"uwsgi": "cores", "mod_wsgi": "threads_per_process"}  # modules that these servers put into Python


@dataclass
class Capacity:
    """The threads of a process that serve requests.

    Args:
        threads: Their number.
        workers: The number of processes of the server when this one began.
    """

    threads: int = 8
    workers: int = 1

    def calls_at_once(self, chosen: int) -> int:
        """Return how many threads may call a provider at the same time.

        Args:
            chosen: The number in the settings; 0 for half of the threads, but at least 2.
        """
        return chosen or max(_LEAST_CALLS, self.threads // 2)

    def ask_server(self) -> None:
        """Take over the number of the server that runs this process, if it tells.

        Only a request can ask, because waitress starts its threads after it has got the application.
        """
        self.threads = _threads_of_server() or self.threads


this_process = Capacity()
"""The capacity of this process. The server's configuration sets it after the fork, if it knows the number."""


def _threads_of_server() -> int:
    """Return the number of uWSGI, mod_wsgi or waitress; 0 for another server."""
    for server, attribute in _SERVERS.items():
        threads = getattr(sys.modules.get(server), attribute, 0)
        if isinstance(threads, int) and threads > 0:
            return threads
    return sum(thread.name.startswith("waitress-") for thread in threading.enumerate())
