"""One run: the site, its store, the provider, the crowd and the conductor."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tests.peers.web_server import ROOT
from tests.soak.book import Reuse
from tests.soak.conductor import Conductor
from tests.soak.crowd import Crowd, users
from tests.soak.figures import Figures, figures_of
from tests.soak.journal import Journal
from tests.soak.life import Browser, Life, World
from tests.soak.memory import Memory
from tests.soak.places import Inject, Place
from tests.soak.postgres_place import PostgresPlace
from tests.soak.provider import FAULTS, Provider
from tests.soak.redis_place import RedisPlace
from tests.soak.site import WORKERS, Site, SoakServer, settings
from tests.soak.sqlite_place import SQLitePlace
from tests.soak.verdict import Ledger

_FAST = Path("/dev/shm")  # noqa: S108  # in memory: no fault concerns the disk, and a slow one would limit the load


@dataclass(frozen=True)
class Plan:
    """The size of a run.

    Args:
        store: ``redis``, ``sqlite`` or ``postgres``.
        seconds: The time with load and faults.
        seed: Selects the faults and the users' decisions.
        log: The log file.
        calm: Whether to inject no faults.
        places: The number of users at once.
        pause: The shortest and longest time in seconds between faults.
        longest: The longest time of a fault in seconds.
        settle: Seconds after the last request, before the last check.
        grace: The longest time in seconds for revocations that are tried again, after the last fault.
        warm: Seconds with load, before the memory is measured and the first fault may begin.
        calm_end: Seconds with load after the last fault, so that the last workers are warm, too.
        workers: The number of the site's worker processes.
    """

    store: str
    seconds: float
    seed: int
    log: Path
    calm: bool = False
    places: int = 12
    pause: tuple[float, float] = (2.0, 4.5)
    longest: float = 4.0
    settle: float = 3.0
    grace: float = 240.0
    warm: float = 20.0
    calm_end: float = 35.0
    workers: int = WORKERS


class Run:
    """One run of the soak test.

    Args:
        plan: The size of the run.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._journal = Journal(plan.log)
        self._server = SoakServer(plan.workers)
        self._memory = Memory(lambda: self._server.workers)
        self._warm = 0.0
        self._reuses: list[tuple[Reuse, list[str]]] = []
        self._lives: Mapping[str, Life] = {}

    def run(self) -> Figures:
        """Run it, and return the figures."""
        number = int(self._plan.seconds) + 100
        with ExitStack() as running:
            place = running.enter_context(self._place())
            provider = Provider(self._journal, self._server.client(), users(number), self._on_reuse)
            running.enter_context(provider.idp)
            running.enter_context(self._server.running(settings(provider.idp.issuer, place)))
            running.callback(self._keep_output)
            running.enter_context(self._memory)
            pool = running.enter_context(ThreadPoolExecutor(32))
            world = World(self._server.port, self._journal, provider.book, place.kind, pool)
            crowd = Crowd(world, self._plan.seed, self._plan.places)
            self._lives = crowd.lives
            self._load(crowd, self._conductor(place, provider))
            self._check(crowd, provider, place)
            self._memory.conclude(self._journal)
            self._journal.conclude()
            memory = [self._warm, self._memory.total(), *self._memory.growth()]
            plan = self._plan
            return figures_of(self._journal, plan.store, plan.seconds, plan.seed, memory, place.version)

    def _load(self, crowd: Crowd, conductor: Conductor) -> None:
        self._journal.loaded = time.monotonic()
        crowd.start()
        try:
            time.sleep(self._plan.warm)
            self._warm = self._memory.total()
            if self._plan.calm:
                time.sleep(self._plan.seconds)
            else:
                with conductor:
                    time.sleep(self._plan.seconds)
                self._journal.write("the last fault is over")
                time.sleep(self._plan.calm_end)
        finally:
            crowd.stop()

    def _conductor(self, place: Place, provider: Provider) -> Conductor:
        site = Site(self._server, self._journal, random.Random(f"{self._plan.seed} workers"))  # noqa: S311
        parts: Mapping[str, Sequence[tuple[str, Inject]]] = {
            "gunicorn": list(site.faults.items()),
            place.kind: list(place.faults.items()),
            "provider": [(fault, partial(_broken, provider, fault)) for fault in FAULTS],
        }
        return Conductor(self._journal, parts, self._plan.seed, self._plan.pause, self._plan.longest)

    @contextmanager
    def _place(self) -> Iterator[Place]:
        with tempfile.TemporaryDirectory(prefix="soak-", dir=_FAST if _FAST.is_dir() else None) as folder:
            processes: Callable[[], list[int]] = lambda: [self._server.process.pid, *self._server.workers]  # noqa: E731
            opened: Mapping[str, Callable[[], Any]] = {
                "redis": lambda: RedisPlace(Path(folder)),
                "sqlite": lambda: SQLitePlace(Path(folder), processes),
                "postgres": PostgresPlace,
            }
            with opened[self._plan.store]() as place:
                yield place

    def _on_reuse(self, reuse: Reuse) -> None:
        life = self._lives[reuse.grant.user]
        life.oracle.doubt(reuse.first.start, time.monotonic(), "the grant is burned")
        self._reuses.append((reuse, life.history()))

    def _check(self, crowd: Crowd, provider: Provider, place: Place) -> None:
        """Wait until revocations that failed were tried again, and check what is left."""
        time.sleep(self._plan.settle)
        deadline = time.monotonic() + self._plan.grace
        while True:
            ledger = Ledger(self._journal, provider.book, crowd.lives, stored_tokens(place))
            if all(cause for _, cause in ledger.without_owner()) or time.monotonic() > deadline:
                break
            _visit(crowd)
            time.sleep(1.0)
        ledger.conclude(self._reuses)
        self._count(provider, crowd.lives)

    def _count(self, provider: Provider, lives: Mapping[str, Life]) -> None:
        journal = self._journal
        for life in lives.values():
            journal.count(f"users: {life.closed}")
            for kind, number in life.oracle.certain.items():
                journal.count(f"answers checked: {kind}", number)
        calls = list(provider.book.sent.values())
        journal.count("provider: grants", len(provider.book.grants()))
        journal.count("provider: expired tokens sent", len(calls))
        journal.count("provider: calls with an expired token that was sent before", sum(calls) - len(calls))

    def _keep_output(self) -> None:
        self._plan.log.with_suffix(".gunicorn.log").write_text(self._server.output(), encoding="utf-8")


def _broken(provider: Provider, fault: str, over: threading.Event) -> None:
    provider.begin(fault)
    over.wait()
    provider.end()


def _visit(crowd: Crowd) -> None:
    """Sign a user in and out, which gives the site an occasion to try revocations again."""
    life = crowd.new_life("user")
    browser = Browser(life, "z", random.Random(0))  # noqa: S311  # not a secret
    browser.sign_in()
    life.closed = "each" if browser.log_out() else "not closed"


def stored_tokens(place: Place) -> dict[str, str]:
    """Return the digest of each user's stored refresh token."""
    command = [sys.executable, "-m", "tests.soak.stored", place.kind, place.where]
    environ = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=ROOT, env=environ, timeout=60
    )
    stored: dict[str, str] = json.loads(done.stdout)
    return stored
