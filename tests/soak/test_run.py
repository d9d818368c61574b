"""The soak test itself runs, for a few seconds."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.soak.run import Plan, Run
from tests.soak.table import table


@pytest.mark.parametrize("store", ["redis", "sqlite"] if os.environ.get("SOAK") else ["redis"])
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
    )
    journal = Run(plan).run()
    text = table({store: journal}, "seconds")
    assert journal.failed() == [], f"{text}{plan.log.read_text(encoding='utf-8')}"
    assert journal.counts["requests"] > 0
    assert journal.faults
    assert "| let in" in text
