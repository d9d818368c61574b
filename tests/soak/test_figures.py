"""The figures of a run, the table that readers see, and the page with the last runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.soak.figures import Figures, figures_of, read_figures
from tests.soak.journal import MUST_BE_ZERO, Fault, Journal
from tests.soak.page import write_page
from tests.soak.table import table


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    """A journal that began at second 0."""
    return Journal(tmp_path / "log", started=0.0)


def _figures(journal: Journal, store: str) -> Figures:
    return figures_of(journal, store, 600.0, 7, (100.0, 101.0, 2.5, 80.0), "a store 1.0")


def _rows(text: str) -> dict[str, list[str]]:
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    return {name: cells for name, *cells in rows}


def test_the_table_has_a_column_for_each_store_in_one_order(journal: Journal) -> None:
    journal.count("requests", 7)
    rows = _rows(table([_figures(Journal(journal.path), "sqlite"), _figures(journal, "redis")]))
    assert rows[""] == ["Redis", "SQLite"]
    assert rows["requests"] == ["7", "0"]
    assert rows["largest growth of one worker, MiB"] == ["2.5 in 80 s"] * 2


def test_the_table_is_markdown_with_figures_at_the_right(journal: Journal) -> None:
    _, ruler, *_ = table([_figures(journal, "redis"), _figures(journal, "sqlite")]).splitlines()
    assert re.fullmatch(r"\|-+\|-+:\|-+:\|", ruler)


def test_the_table_names_each_fault_and_each_explanation(journal: Journal) -> None:
    journal.begin("redis: slow")
    journal.count("burned families, explained: a worker died")
    rows = _rows(table([_figures(journal, "redis")]))
    assert rows["faults"] == rows["- redis: slow"] == rows["- explained: a worker died"] == ["1"]
    assert rows["burned token families (must be 0)"] == ["0"]


def test_the_calls_per_expired_token_are_a_mean(journal: Journal) -> None:
    journal.count("provider: expired tokens sent", 8)
    journal.count("provider: calls with an expired token that was sent before", 2)
    assert _rows(table([_figures(journal, "redis")]))["provider calls per expired token"] == ["1.250"]


def test_latencies_in_and_out_of_faults_are_separate_rows(journal: Journal) -> None:
    journal.faults.append(Fault("redis: slow", 100, 200))
    journal.took("/account", 50, 50.010)
    journal.took("/account", 150, 150.250)
    rows = _rows(table([_figures(journal, "redis")]))
    assert rows["guarded page, p50 / p99 out of faults, ms"] == ["10 / 10"]
    assert rows["guarded page, p50 / p99 in faults, ms"] == ["250 / 250"]


@pytest.mark.parametrize("name", MUST_BE_ZERO)
def test_figures_that_must_be_zero_survive_a_file(journal: Journal, tmp_path: Path, name: str) -> None:
    journal.violation(name, "user0")
    figures = _figures(journal, "postgres")
    figures.save(tmp_path / "figures.json")
    assert read_figures(tmp_path / "figures.json") == figures
    assert figures.failed() == [name]
    assert [row for row, cells in _rows(table([figures])).items() if "must be 0" in row and cells == ["1"]]


def test_a_page_gets_command_date_machine_and_table(journal: Journal, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- soak begins -->\nold\n<!-- soak ends -->\nafter\n")
    figures = _figures(journal, "redis")
    write_page(page, [figures])
    text = page.read_text()
    assert text.startswith("before\n<!-- soak begins -->\n")
    assert text.endswith("<!-- soak ends -->\nafter\n")
    assert "old" not in text
    assert f"`python -m tests.soak --store redis --seconds 600 --seed 7` on {figures.date}" in text
    assert "a store 1.0" in text
    assert table([figures]) in text


def test_a_page_without_marks_is_refused(journal: Journal, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("text")
    with pytest.raises(ValueError, match="soak begins"):
        write_page(page, [_figures(journal, "redis")])
