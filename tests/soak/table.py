"""The table of one run."""

from __future__ import annotations

from collections.abc import Iterator

from tests.soak.journal import MUST_BE_ZERO, Journal

_ROUTES = ("/auth/status", "/account", "/auth/refresh")


def table(journal: Journal, title: str) -> str:
    """Return the figures as a Markdown table."""
    rows = [(name, str(journal.counts[name])) for name in MUST_BE_ZERO]
    rows += _latencies(journal)
    rest = sorted(name for name in journal.counts if name not in MUST_BE_ZERO)
    rows += [(name, str(journal.counts[name])) for name in rest]
    width = max(len(name) for name, _ in rows)
    lines = [f"| {title:<{width}} | figure |", f"|{'-' * (width + 2)}|--------|"]
    lines += [f"| {name:<{width}} | {figure:>6} |" for name, figure in rows]
    return "\n".join(lines) + "\n"


def _latencies(journal: Journal) -> Iterator[tuple[str, str]]:
    for route in _ROUTES:
        for disturbed, when in ((False, "without faults"), (True, "during faults")):
            for share in (0.5, 0.99):
                milliseconds, number = journal.percentile(route, share, disturbed)
                yield f"{route} p{100 * share:g} {when}, ms (of {number})", f"{milliseconds:.0f}"
