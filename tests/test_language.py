"""The language of docstrings, comments, error texts and prose stays within its limits (CONTRIBUTING.md)."""

from __future__ import annotations

import ast
import re
import statistics
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[1]
_CODE = sorted((_ROOT / "pywry_auth").rglob("*.py"))
_PROSE = [
    *(_ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted(path for path in (_ROOT / "docs").rglob("*.md") if "_build" not in path.parts),
]

# The words, and how often they may occur in 1,000 words.
_LIMITS = {
    "what": 2.0,
    "who|whoever|whom|whose": 1.0,
    "nobody|somebody|everybody": 0.5,
    "else": 0.5,
    "anew|alone|meanwhile": 0.3,
    r"be had|is none|a package more": 0.0,
}
_FIRST_LINE = 10  # words, in the median
_NEVER_IN_ERRORS = re.compile(
    r"\b(be had|is none|a package more|whoever|nobody|somebody|everybody|anew|alone|meanwhile|else)\b", re.I
)


@dataclass(frozen=True)
class _Text:
    """A piece of text with its place."""

    place: str
    text: str


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _place(path: Path, line: int) -> str:
    return f"{path.relative_to(_ROOT).as_posix()}:{line}"


def _docstrings() -> Iterator[_Text]:
    for path in _CODE:
        for node in ast.walk(_tree(path)):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                text = ast.get_docstring(node)
                if text:
                    yield _Text(_place(path, getattr(node, "lineno", 1)), text)


def _comments() -> Iterator[_Text]:
    for path in _CODE:
        with path.open("rb") as file:
            for token in tokenize.tokenize(file.readline):
                if token.type == tokenize.COMMENT:
                    yield _Text(_place(path, token.start[0]), token.string)


def _prose(path: Path) -> _Text:
    # Fenced blocks and words in backticks are code.
    text = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return _Text(path.relative_to(_ROOT).as_posix(), re.sub(r"`[^`]+`", "x", text))


def _error_texts() -> Iterator[_Text]:
    """Yield the string constants in the first argument of each error that is raised."""
    for path in _CODE:
        for node in ast.walk(_tree(path)):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args:
                for part in ast.walk(node.exc.args[0]):
                    if isinstance(part, ast.Constant) and isinstance(part.value, str):
                        yield _Text(_place(path, part.lineno), part.value)


def _too_often(texts: list[_Text], words: str, allowed: int) -> str:
    """Return the places of the words if they occur more often than their limit and than ``allowed``."""
    total = max(1, sum(len(piece.text.split()) for piece in texts))  # a page may only include another
    pattern = re.compile(rf"\b({words})\b", re.IGNORECASE)
    found = [piece.place for piece in texts for _ in pattern.findall(piece.text)]
    rate = 1000 * len(found) / total
    if len(found) <= allowed or rate <= _LIMITS[words]:
        return ""
    return f"{rate:.1f} in 1,000 words, at {', '.join(found)}"


def test_words_of_the_dialect_are_rare_in_docstrings_and_comments() -> None:
    texts = [*_docstrings(), *_comments()]
    assert {words: found for words in _LIMITS if (found := _too_often(texts, words, 0))} == {}


@pytest.mark.parametrize("page", _PROSE, ids=lambda path: path.relative_to(_ROOT).as_posix())
def test_words_of_the_dialect_are_rare_on_a_page(page: Path) -> None:
    text = _prose(page)
    once = {words: 1 if limit else 0 for words, limit in _LIMITS.items()}  # a short page may have a word once
    assert {words: found for words in _LIMITS if (found := _too_often([text], words, once[words]))} == {}


def test_the_first_line_of_a_docstring_is_short() -> None:
    lengths = [len(piece.text.splitlines()[0].split()) for piece in _docstrings()]
    assert statistics.median(lengths) <= _FIRST_LINE


def test_no_error_text_has_a_phrase_of_the_dialect() -> None:
    texts = list(_error_texts())
    assert len(texts) > 50
    bad = [f"{piece.place}: {piece.text}" for piece in texts if _NEVER_IN_ERRORS.search(piece.text)]
    assert bad == []
