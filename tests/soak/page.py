"""Writes the last run into ``docs/operating/soak.md``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from tests.soak.figures import Figures
from tests.soak.table import STORES, table

_PLACE = re.compile(r"(?<=<!-- soak begins -->\n).*(?=<!-- soak ends -->)", re.DOTALL)


def write_page(page: Path, figures: Sequence[Figures]) -> None:
    """Replace the text between the page's marks.

    Args:
        page: The page.
        figures: The figures of each run.

    Raises:
        ValueError: The page has no marks.
    """
    text = page.read_text(encoding="utf-8")
    if not _PLACE.search(text):
        raise ValueError(f"{page} has no line <!-- soak begins --> before <!-- soak ends -->")
    runs = sorted(figures, key=lambda each: list(STORES).index(each.store))
    written = "\n".join(["", *map(_described, runs), "", table(runs), ""])
    page.write_text(_PLACE.sub(lambda _: written, text), encoding="utf-8")


def _described(figures: Figures) -> str:
    command = (
        f"python -m tests.soak --store {figures.store} --seconds {figures.seconds:g} --seed {figures.seed}"
    )
    return f"- {STORES[figures.store]}: `{command}` on {figures.date}. {figures.machine}."
