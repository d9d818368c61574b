"""The list of threats names tests that exist, and has a row for every code that a test cites."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[1]
_PAGE = _ROOT / "docs" / "security" / "threats.md"

_ROW = re.compile(r"^### ([TPNLRS]\d+)\. (.+)$", re.MULTILINE)
_NOT_HELD = re.compile(r"^- \*\*([TPNLR]\d+)\*\*: .+$", re.MULTILINE)
_TEST = re.compile(r"^- `((?:tests|pywry_auth/testing)/[\w/]+\.py)::(\w+)`$", re.MULTILINE)
# At most two digits: S256 is a method of PKCE.
_CODE = re.compile(r"\b[TPNLRS]\d{1,2}\b")


def _rows(text: str) -> dict[str, str]:
    """Return the rows by their code: everything below one heading and above the next."""
    parts = re.split(r"^(?=#+ )", text, flags=re.MULTILINE)
    return {row[1]: part for part in parts if (row := _ROW.match(part))}


_TEXT = _PAGE.read_text(encoding="utf-8")
_ROWS = _rows(_TEXT)


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _docstrings(path: Path) -> Iterator[str]:
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(_tree(path)):
        if isinstance(node, documented):
            yield ast.get_docstring(node) or ""


@cache
def _tests_in(path: Path) -> set[str]:
    functions = [node for node in ast.walk(_tree(path)) if isinstance(node, ast.FunctionDef)]
    return {function.name for function in functions if function.name.startswith("test_")}


def _files() -> list[Path]:
    return [path for path in sorted((_ROOT / "tests").rglob("*.py")) if "node_modules" not in path.parts]


def test_the_page_has_all_parts() -> None:
    assert {code[0] for code in _ROWS} == set("TPNLRS")
    assert len(_ROWS) > 100
    assert _NOT_HELD.findall(_TEXT)


def test_each_code_stands_for_one_row() -> None:
    codes = _ROW.findall(_TEXT)
    all_codes = [code for code, _ in codes] + _NOT_HELD.findall(_TEXT)
    assert len(all_codes) == len(set(all_codes))


@pytest.mark.parametrize("code", _ROWS)
def test_a_row_tells_the_behaviour_and_names_existing_tests(code: str) -> None:
    row = _ROWS[code]
    assert "\n**Behaviour:** " in row
    named = _TEST.findall(row)
    assert named, f"{code} names no test"
    assert len(named) == row.count("\n- "), "a line of the list names no test"
    missing = [f"{path}::{name}" for path, name in named if not _exists(path, name)]
    assert missing == []


def _exists(path: str, name: str) -> bool:
    file = _ROOT / path
    return file.is_file() and name in _tests_in(file)


def test_every_code_in_a_docstring_has_a_row() -> None:
    cited = {(path, code) for path in _files() for text in _docstrings(path) for code in _CODE.findall(text)}
    assert [(path, code) for path, code in cited if code not in _ROWS] == []


def test_a_code_is_found_in_every_form_of_citation() -> None:
    text = "The listener (T31, S5.3; N8-N11 and P2). RFC 7636 asks for S256, and P-256 is a curve."
    assert _CODE.findall(text) == ["T31", "S5", "N8", "N11", "P2"]
