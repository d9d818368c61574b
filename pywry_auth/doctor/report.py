"""The findings as text for a terminal, and as JSON."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict

from pywry_auth.doctor.finding import Finding
from pywry_auth.doctor.table import CHECKS, GROUPS
from pywry_auth.strict_json import write_json

_MARKS = {"ok": "✓", "warning": "!", "error": "✗", "skipped": "-"}
_ASCII = {"ok": "+", "warning": "!", "error": "x", "skipped": "-"}
_GROUP_OF = {check.name: check.group for check in CHECKS}


def count(findings: Sequence[Finding], level: str) -> int:
    """Return the number of findings of a level.

    Args:
        findings: The findings.
        level: The level.
    """
    return sum(finding.level == level for finding in findings)


def as_json(findings: Sequence[Finding]) -> str:
    """Return the findings as one JSON object.

    Args:
        findings: The findings.
    """
    return write_json(
        {
            "findings": [asdict(finding) for finding in findings],
            "errors": count(findings, "error"),
            "warnings": count(findings, "warning"),
        }
    )


def as_text(findings: Sequence[Finding], encoding: str, width: int) -> str:
    """Return the findings in groups, each remedy on a line of its own.

    Args:
        findings: The findings.
        encoding: The encoding of the output. One without the marks gets ASCII characters.
        width: The columns of the terminal.
    """
    try:
        "".join(_MARKS.values()).encode(encoding)
        marks = _MARKS
    except (UnicodeError, LookupError):
        marks = _ASCII
    lines: list[str] = []
    for group in GROUPS:
        members = [each for each in findings if _GROUP_OF[each.check] == group]
        if members:
            lines += [group, *(line for each in members for line in _lines(each, marks, width)), ""]
    errors, warnings = count(findings, "error"), count(findings, "warning")
    lines.append(f"{_number(errors, 'error')}, {_number(warnings, 'warning')}.".capitalize())
    return "\n".join(lines)


def _lines(finding: Finding, marks: dict[str, str], width: int) -> Iterator[str]:
    yield from _wrapped(f"{finding.check}: {finding.text}", f"  {marks[finding.level]} ", width)
    if finding.remedy:
        yield from _wrapped(finding.remedy, "    Remedy: ", width)


def _wrapped(text: str, first: str, width: int) -> list[str]:
    """Return a text in lines; no word is divided, so that URLs and commands can be copied."""
    return textwrap.wrap(
        text,
        max(width, 40),
        initial_indent=first,
        subsequent_indent=" " * (4 if len(first) < 6 else 6),
        break_long_words=False,
        break_on_hyphens=False,
    )


def _number(number: int, thing: str) -> str:
    return f"{number or 'no'} {thing}{'' if number == 1 else 's'}"
