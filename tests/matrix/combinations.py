"""The combinations of server, workers, backend and proxy that are tried."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import combinations, product

WSGI_SERVERS = ("gunicorn", "gunicorn gevent", "gunicorn without settings", "uWSGI", "mod_wsgi")
ASGI_SERVERS = ("uvicorn", "hypercorn")
ONE_PROCESS = {
    "waitress": "waitress is one process",
    "flask run": "Flask's development server is one process",
}
"""Servers that cannot have several workers, with the reason."""

VALUES: dict[str, tuple[str, ...]] = {
    "server": (*WSGI_SERVERS, *ASGI_SERVERS, *ONE_PROCESS),
    "workers": ("1", "2", "4"),
    "backend": ("memory", "sqlite", "redis"),
    "proxy": ("none", "nginx", "Caddy"),
}
"""The values of each column."""

Pair = tuple[tuple[str, str], tuple[str, str]]


@dataclass(frozen=True)
class Combination:
    """One trial.

    Args:
        server: The server.
        workers: The number of its processes.
        backend: The store of sessions and tokens.
        proxy: The server in front, which adds https.
        below_path: Whether the site is below a path of the proxy.
    """

    server: str
    workers: str
    backend: str
    proxy: str
    below_path: bool = False

    @property
    def refused(self) -> bool:
        """Whether the package must refuse it: the workers share no store."""
        return self.backend == "memory" and self.workers != "1"

    @property
    def refuses_to_start(self) -> bool:
        """Whether this package's settings for gunicorn see the mistake."""
        return self.refused and self.server in ("gunicorn", "gunicorn gevent")

    @property
    def pairs(self) -> set[Pair]:
        """The pairs of values that it tries."""
        values = ((column, str(getattr(self, column))) for column in VALUES)
        return set(combinations(values, 2))

    def __str__(self) -> str:
        path = " below a path" if self.below_path else ""
        return f"{self.server}, {self.workers} workers, {self.backend}, {self.proxy}{path}"


def impossible(pair: Pair) -> str:
    """Return why a pair cannot be tried; empty if it can."""
    (_, first), (column, second) = pair
    return ONE_PROCESS.get(first, "") if column == "workers" and second != "1" else ""


def all_pairs() -> Iterator[Pair]:
    """Yield each pair of values from two columns."""
    for one, other in combinations(VALUES, 2):
        for first, second in product(VALUES[one], VALUES[other]):
            yield (one, first), (other, second)


def _rows() -> Iterator[Combination]:
    proxies = VALUES["proxy"]
    for number, server in enumerate((*WSGI_SERVERS, *ASGI_SERVERS)):
        shared = ("sqlite", "redis") if number % 2 else ("redis", "sqlite")
        for place, (workers, backend) in enumerate(zip(("1", "2", "4"), ("memory", *shared), strict=True)):
            yield Combination(server, workers, backend, proxies[(number + place) % 3])
        yield Combination(server, "4" if number % 2 else "2", "memory", "none")
    for number, server in enumerate(ONE_PROCESS):
        for place, backend in enumerate(VALUES["backend"]):
            yield Combination(server, "1", backend, proxies[(number + place) % 3])


def _with_paths(rows: list[Combination]) -> Iterator[Combination]:
    """Yield the rows; one for each proxy and each kind of application is below a path."""
    waiting = set(product(("nginx", "Caddy"), (False, True)))
    for row in rows:
        kind = (row.proxy, row.server in ASGI_SERVERS)
        chosen = kind in waiting and not row.refused
        waiting -= {kind} if chosen else set()
        yield replace(row, below_path=chosen)


COMBINATIONS = list(_with_paths(list(_rows())))
"""All trials, in the order of the table."""
