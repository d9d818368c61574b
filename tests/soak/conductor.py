"""Injects faults: a few at a time, with pauses in between."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Mapping, Sequence

from tests.soak.journal import Journal
from tests.soak.places import Inject

_SHORTEST_SECONDS = 0.3
_AT_ONCE = (1, 1, 2, 2, 3)


class Conductor:
    """A thread that injects faults of several parts at random.

    Args:
        journal: Logs the faults.
        parts: The faults of each part, with their names. One part has at most one fault at a time.
        seed: The same seed selects the same faults.
        pause: The shortest and longest time in seconds between faults.
        longest: The longest time of a fault in seconds.
        delay: The longest time in seconds between the begins of faults at once.
    """

    def __init__(
        self,
        journal: Journal,
        parts: Mapping[str, Sequence[tuple[str, Inject]]],
        seed: int,
        pause: tuple[float, float],
        longest: float,
        delay: float = 1.0,
    ) -> None:
        self._journal = journal
        self._parts = parts
        self._decks: dict[str, list[tuple[str, Inject]]] = {part: [] for part in parts}
        self._pause = pause
        self._longest = longest
        self._delay = delay
        self._choice = random.Random(f"{seed} faults")  # noqa: S311  # not a secret
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="conductor")

    def __enter__(self) -> Conductor:
        """Inject the first fault after a pause."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End with the current faults, and wait until they are over."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._choice.uniform(*self._pause)):
            parts = self._choice.sample(
                list(self._parts), min(len(self._parts), self._choice.choice(_AT_ONCE))
            )
            threads = [threading.Thread(target=self._inject, args=self._planned(part)) for part in parts]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

    def _planned(self, part: str) -> tuple[str, Inject, float, float]:
        name, inject = self._next(part)
        delay, seconds = (
            self._choice.uniform(0, self._delay),
            self._choice.uniform(_SHORTEST_SECONDS, self._longest),
        )
        return f"{part}: {name}", inject, delay, seconds

    def _next(self, part: str) -> tuple[str, Inject]:
        """Return the next fault of a part. Each fault occurs once before the first one occurs again."""
        deck = self._decks[part]
        if not deck:
            deck += self._choice.sample(list(self._parts[part]), len(self._parts[part]))
        return deck.pop()

    def _inject(self, name: str, inject: Inject, delay: float, seconds: float) -> None:
        time.sleep(delay)
        fault, over = self._journal.begin(name), threading.Event()
        timer = threading.Timer(seconds, over.set)
        timer.start()
        try:
            inject(over)
        except Exception as error:
            self._journal.count("driver: errors")
            self._journal.write(f"driver: {name} failed: {error!r}")
            raise
        finally:
            timer.cancel()
            timer.join()
            self._journal.end(fault)
