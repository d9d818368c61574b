"""How many threads of a process serve requests.

This decides how many of them may call a provider or wait for it.
"""

from __future__ import annotations

from dataclasses import dataclass

_LEAST_CALLS = 2


@dataclass
class Capacity:
    """The threads of a process that serve requests.

    Args:
        threads: Their number.
    """

    threads: int = 8

    def calls_at_once(self, chosen: int) -> int:
        """Return how many threads may call a provider at the same time.

        Args:
            chosen: The number in the settings; 0 for half of the threads, but at least 2.
        """
        return chosen or max(_LEAST_CALLS, self.threads // 2)


this_process = Capacity()
"""The capacity of this process. The server's configuration sets it after the fork, if it knows the number."""
