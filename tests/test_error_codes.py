"""Error codes come from one table, and every code of the table is used."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from pywry_auth.error_codes import ErrorCode
from tests.house import files, source_of

CODES = {str(member) for member in ErrorCode}
ONLY_OF_PROVIDERS = {"SERVER_ERROR"}
"""Codes that only providers send (RFC 6749 §4.1.2.1); ``status_of`` finds their status."""


def bare_codes(source: str) -> list[str]:
    """Return the error codes that a file writes as text instead of ``ErrorCode``."""
    found = []
    for node in ast.walk(ast.parse(source)):
        for place in _places(node):
            texts = [part.value for part in ast.walk(place) if isinstance(part, ast.Constant)]
            found += [text for text in texts if isinstance(text, str) and text in CODES]
    return found


def _places(node: ast.AST) -> Iterator[ast.expr]:
    """Yield the expressions in which a string is an error code."""
    if isinstance(node, ast.Call):
        yield from (keyword.value for keyword in node.keywords if keyword.arg == "error")
        if ast.unparse(node.func).rpartition(".")[2] == "refusal":
            yield from node.args
    elif isinstance(node, ast.Compare):
        sides = [node.left, *node.comparators]
        if any(isinstance(side, ast.Attribute) and side.attr == "error" for side in sides):
            yield from sides


def test_no_code_is_written_as_text() -> None:
    assert {path: found for path in files() if (found := bare_codes(source_of(path)))} == {}


@pytest.mark.parametrize(
    "source",
    [
        "raise AuthenticationError('No.', error='cancelled')",
        "if caught.error == 'cancelled': pass",
        "if 'cancelled' != self.problem.error: pass",
        "if caught.error in ('timeout!', 'cancelled'): pass",
        "_ = refusal('cancelled', request)",
        "_ = self.answers.refusal('cancelled')",
        "_ = dict(error='cancelled' if late else code)",
    ],
)
def test_every_kind_of_bare_code_is_found(source: str) -> None:
    """This tests the checker, with example sources."""
    assert bare_codes(source) == ["cancelled"]


@pytest.mark.parametrize(
    "source",
    [
        "raise AuthenticationError('cancelled', error=ErrorCode.CANCELLED)",
        "raise AuthenticationError('No.', error='our_own')",
        "if kind == 'cancelled': pass",
        "_ = word('cancelled')",
    ],
)
def test_other_text_is_not_reported(source: str) -> None:
    assert bare_codes(source) == []


def test_each_code_is_used() -> None:
    used = {
        node.attr
        for path in files()
        for node in ast.walk(ast.parse(source_of(path)))
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "ErrorCode"
    }
    assert {member.name for member in ErrorCode} - used == ONLY_OF_PROVIDERS
