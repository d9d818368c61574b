"""The soak test itself runs on each store, for a few seconds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.soak.run import Plan, Run
from tests.soak.table import STORES, details


@pytest.mark.parametrize("store", list(STORES))
def test_a_short_run_finds_no_violation(store: str, tmp_path: Path) -> None:
    """It has requests and faults; on a busy machine these few seconds suffice for no more."""
    plan = Plan(
        store,
        seconds=2.0,
        seed=4,
        log=tmp_path / "log",
        places=3,
        pause=(0.7, 0.9),
        longest=0.5,
        settle=0.0,
        grace=2.0,
        warm=0.0,
        calm_end=0.0,
        workers=2,
    )
    figures = Run(plan).run()
    assert figures.failed() == [], f"{details([figures])}{plan.log.read_text(encoding='utf-8')}"
    assert figures.counts["requests"] > 0
    assert any(name.startswith("fault ") for name in figures.counts)
