"""The table of one run on each store."""

from __future__ import annotations

from collections.abc import Mapping

from tests.soak.journal import MUST_BE_ZERO, Journal

_ROUTES = ("/auth/status", "/account", "/auth/refresh")


def table(journals: Mapping[str, Journal], title: str) -> str:
    """Return the figures as a Markdown table.

    Args:
        journals: The figures of each store.
        title: The title of the first column.
    """
    columns = [_figures(journal) for journal in journals.values()]
    counted = sorted({name for journal in journals.values() for name in journal.counts} - set(MUST_BE_ZERO))
    measured = [name for name in columns[0] if name not in counted and name not in MUST_BE_ZERO]
    names = [*MUST_BE_ZERO, *measured, *counted]
    rows = [[name, *(column.get(name, "0") for column in columns)] for name in names]
    rows = [[title, *journals], *rows]
    width = max(len(name) for name, *_ in rows)
    lines = [" | ".join([f"| {name:<{width}}", *(f"{figure:>8}" for figure in rest)]) for name, *rest in rows]
    ruler = "|".join(["|" + "-" * (width + 2), *("-" * 10 for _ in columns)])
    return "\n".join(f"{line} |" for line in lines).replace(" |\n", f" |\n{ruler}|\n", 1) + "\n"


def _figures(journal: Journal) -> dict[str, str]:
    return {name: str(journal.counts[name]) for name in MUST_BE_ZERO} | _latencies(journal) | _counts(journal)


def _counts(journal: Journal) -> dict[str, str]:
    return {name: str(number) for name, number in journal.counts.items()}


def _latencies(journal: Journal) -> dict[str, str]:
    found = {}
    for route in _ROUTES:
        for disturbed, when in ((False, "without faults"), (True, "during faults")):
            for share in (0.5, 0.99):
                milliseconds, _ = journal.percentile(route, share, disturbed)
                found[f"{route} p{100 * share:g} {when}, ms"] = f"{milliseconds:.0f}"
    return found
