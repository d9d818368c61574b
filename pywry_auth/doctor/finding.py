"""One finding of a check, and findings in the words of the start-up."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from pywry_auth.config import DeploySettings, OAuth2Settings
from pywry_auth.exceptions import printable

Level = Literal["ok", "warning", "error", "skipped"]
"""``skipped``: not tested. It is not possible, an earlier check failed, or an option excludes it."""

_LONGEST = 900  # characters
_NAME = re.compile(r"“[^”]*”|(?<![\w./])[A-Z][A-Z0-9_]{3,}\b")


@dataclass(frozen=True)
class Finding:
    """One result of a check.

    Args:
        check: The name of the check.
        level: ``ok``, ``warning``, ``error`` or ``skipped``.
        text: A sentence with the condition, without control characters.
        remedy: The next step, with the variable or the command. Empty if there is nothing to do, or if
            ``text`` contains the step already.
    """

    check: str
    level: Level
    text: str
    remedy: str = ""

    def of(self, check: str) -> Finding:
        """Return this finding for a check, with texts that a terminal can show.

        Args:
            check: The name of the check.
        """
        text, remedy = printable(self.text, _LONGEST), printable(self.remedy, _LONGEST)
        return replace(self, check=check, text=text, remedy=remedy)


def ok(text: str) -> Finding:
    """Return a finding that needs no remedy.

    Args:
        text: The sentence.
    """
    return Finding("", "ok", text)


def untested(text: str) -> Finding:
    """Return a finding of something that cannot be tested.

    Args:
        text: The sentence with the reason.
    """
    return Finding("", "skipped", text)


def warning(text: str, remedy: str) -> Finding:
    """Return a finding of a risk.

    Args:
        text: The sentence.
        remedy: The next step.
    """
    return Finding("", "warning", text, remedy)


def error(text: str, remedy: str = "") -> Finding:
    """Return a finding of a fault that prevents sign-ins.

    Args:
        text: The sentence.
        remedy: The next step; empty if the sentence contains it.
    """
    return Finding("", "error", text, remedy)


def from_words(words: str, level: Level) -> Iterator[Finding]:
    """Yield a finding for each line of a text of the start-up.

    These texts contain the condition and the next step, so the finding has no other remedy. Names of settings
    become those of variables.

    Args:
        words: The text of an error, a warning or a log line.
        level: The level of the findings.
    """
    for line in words.splitlines():
        if line.strip() not in ("", "Settings:"):
            yield Finding("", level, _NAME.sub(_whole_name, line.strip()))


def _whole_name(name: re.Match[str]) -> str:
    """Return a setting's name as a variable. The provider's own words, in quotes, stay as they are."""
    for kind in (OAuth2Settings, DeploySettings):
        if name[0].isupper() and name[0].lower() in kind.model_fields:
            return f"{kind.model_config['env_prefix']}{name[0]}"
    return name[0]
