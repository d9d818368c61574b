"""The table of the runs, with one column for each store."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from tests.soak.figures import ROUTES, Figures
from tests.soak.memory import MOST_GROWTH

STORES: Mapping[str, str] = {"redis": "Redis", "sqlite": "SQLite", "postgres": "PostgreSQL"}
"""The stores in the order of the table, with their names."""

_MUST = " (must be 0)"
_LOAD = {
    "requests": "requests",
    "sign-ins": "sign-ins",
    "refreshes": "refreshes that the site answered",
    "provider: refreshes": "refreshes at the provider",
}
_OUTCOMES = {
    "status 503": "503 with Retry-After",
    "503 without Retry-After": f"503 without Retry-After{_MUST}",
    "502 in a provider fault": "502 in a fault of the provider",
    "503 on a busy machine": "503 while other answers took more than two seconds",
    "503 without a fault": f"503 without a fault{_MUST}",
    "other 5xx": f"other 5xx{_MUST}",
    "no answer without a cause": f"no answer without a cause{_MUST}",
    "unexpected answers": f"unexpected answers{_MUST}",
    "let in": f"let in wrongly{_MUST}",
    "lost": f"sessions lost{_MUST}",
    "signed out wrongly": f"signed out wrongly{_MUST}",
    "tokens kept after everywhere": f"tokens kept after a sign-out everywhere{_MUST}",
    "grants without owner": f"grants without owner{_MUST}",
    "burned families": f"burned token families{_MUST}",
    "workers ended without a fault": f"workers that ended without a fault{_MUST}",
    "workers that grew too much": f"workers that grew by more than {MOST_GROWTH:g} MiB{_MUST}",
    "driver: errors": f"errors of the test itself{_MUST}",
}
_EXPLAINED = ("unexpected answers", "lost", "grants without owner", "burned families")
_CALLS, _AGAIN = "provider: expired tokens sent", "provider: calls with an expired token that was sent before"

Row = tuple[str, Callable[[Figures], str]]


def table(figures: Sequence[Figures]) -> str:
    """Return the figures as a Markdown table.

    Args:
        figures: The figures of each run.
    """
    columns = sorted(figures, key=lambda each: list(STORES).index(each.store))
    rows = [[name, *(show(column) for column in columns)] for name, show in _rows(columns)]
    return _drawn([["", *(STORES[each.store] for each in columns)], *rows])


def details(figures: Sequence[Figures]) -> str:
    """Return all counters as a Markdown table, for the authors of the test."""
    names = sorted({name for each in figures for name in each.counts})
    rows = [[name, *(str(each.counts.get(name, 0)) for each in figures)] for name in names]
    return _drawn([["counter", *(each.store for each in figures)], *rows])


def _rows(columns: Sequence[Figures]) -> Iterator[Row]:
    yield "seconds with load and faults", lambda each: f"{each.seconds:g}"
    yield from (_counted(name, text) for name, text in _LOAD.items())
    yield "provider calls per expired token", _calls_per_token
    yield "faults", lambda each: str(sum(each.counts[name] for name in each.counts if _is_fault(name)))
    for name in sorted({name for each in columns for name in each.counts if _is_fault(name)}):
        yield _counted(name, f"- {name.removeprefix('fault ')}", absent="")
    for name, text in _OUTCOMES.items():
        yield _counted(name, text)
        if name in _EXPLAINED:
            causes = {each for column in columns for each in column.counts if each.startswith(f"{name}, ")}
            yield from (_counted(cause, f"- {cause.partition(', ')[2]}") for cause in sorted(causes))
    for position, when in enumerate(("out of faults", "in faults")):
        for route, text in ROUTES.items():
            yield f"{text}, p50 / p99 {when}, ms", _latency(route, 2 * position)
    yield "memory of the workers at the start, MiB", lambda each: f"{each.memory[0]:.0f}"
    yield "memory of the workers at the end, MiB", lambda each: f"{each.memory[1]:.0f}"
    yield "largest growth of one worker, MiB", lambda each: f"{each.memory[2]:.1f} in {each.memory[3]:.0f} s"


def _counted(name: str, text: str, absent: str = "0") -> Row:
    return text, lambda each: str(each.counts.get(name, absent))


def _is_fault(name: str) -> bool:
    return name.startswith("fault ")


def _calls_per_token(figures: Figures) -> str:
    tokens, again = figures.counts.get(_CALLS, 0), figures.counts.get(_AGAIN, 0)
    return f"{(tokens + again) / tokens:.3f}" if tokens else "0"


def _latency(route: str, position: int) -> Callable[[Figures], str]:
    return lambda each: " / ".join(
        f"{number:.0f}" for number in each.latencies[route][position : position + 2]
    )


def _drawn(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = [
        " | ".join(
            [f"{row[0]:<{widths[0]}}", *(f"{cell:>{w}}" for cell, w in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    ]
    ruler = "|".join(["-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:])])
    first, *others = [f"| {line} |" for line in lines]
    return "\n".join([first, f"|{ruler}|", *others]) + "\n"
