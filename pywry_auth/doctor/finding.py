"""One finding of a check, and findings in the words of the start-up."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from pywry_auth.config import DeploySettings, OAuth2Settings
from pywry_auth.exceptions import printable

Level = Literal["ok", "warning", "error", "skipped"]
"""``skipped``: not looked at, because an earlier check failed or an option excludes it."""

_LONGEST = 600  # characters
_STEPS = (
    "set|remove|use|check|name|correct|install|create|write|add|allow|choose|give|move|make|pip|pass|leave|"
    "omit|let|end|find|run|start|stop|put|list|replace|try|do|only set|did you mean|for example|chmod|chown"
)
_REMEDY = re.compile(rf"(?:[:;.] |, and )((?:{_STEPS})\b.*)", re.IGNORECASE)
_COMMAND = re.compile(r"(?:^|: )(?:pip install|chmod|chown|mv|find) ")
_NAME = re.compile(r"(?<![\w.])[A-Z][A-Z0-9_]{3,}\b")
_VARIABLE = re.compile(r"PYWRY_[A-Z0-9_]+")
_NAMED = re.compile(r"[A-Z0-9]+_[A-Z0-9_]+|PROVIDER|\b(?:pip|chmod|chown|mv|find|openssl|pywry-auth)\b")


@dataclass(frozen=True)
class Finding:
    """One result of a check.

    Args:
        check: The name of the check.
        level: ``ok``, ``warning``, ``error`` or ``skipped``.
        text: A sentence with the condition, without control characters.
        remedy: The next step, with the variable or the command; empty if there is nothing to do.
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


def warning(text: str, remedy: str) -> Finding:
    """Return a finding of a risk.

    Args:
        text: The sentence.
        remedy: The next step.
    """
    return Finding("", "warning", text, remedy)


def error(text: str, remedy: str) -> Finding:
    """Return a finding of a fault that prevents sign-ins.

    Args:
        text: The sentence.
        remedy: The next step.
    """
    return Finding("", "error", text, remedy)


def from_words(words: str, level: Level, fallback: str = "") -> Iterator[Finding]:
    """Yield a finding for each line of a text of the start-up.

    These texts contain the condition and then the remedy. Both are shown unchanged, on lines of their own.

    Args:
        words: The text of an error, a warning or a log line.
        level: The level of the findings.
        fallback: The remedy for a text that contains none.
    """
    for line in words.splitlines():
        if line.strip() not in ("", "Settings:"):
            yield _split(line.strip(), level, fallback)


def _split(line: str, level: Level, fallback: str) -> Finding:
    found, names = _REMEDY.search(line), _VARIABLE.search(line)
    name = names[0] if names else ""
    usual = f"Correct {name}" if name else fallback or "Correct it"
    text, remedy = (line[: found.start()], found[1]) if found else (line, usual)
    if name and remedy.startswith("for example"):
        remedy = f"Set {name}, {remedy}"
    elif name and not _NAMED.search(remedy):
        remedy = f"{name}: {remedy}"
    elif not name and fallback and not _NAMED.search(remedy):
        remedy = f"{remedy.removesuffix('.')}. {fallback}"
    if text == name:
        text, remedy = f"{name} is not valid", f"{name}: {remedy.removeprefix(f'{name}: ')}"
    return Finding("", level, _sentence(text), _sentence(_NAME.sub(_whole_name, remedy)))


def _whole_name(name: re.Match[str]) -> str:
    """Return a setting's name as a variable."""
    for kind in (OAuth2Settings, DeploySettings):
        if name[0].lower() in kind.model_fields:
            return f"{kind.model_config['env_prefix']}{name[0]}"
    return name[0]


def _sentence(text: str) -> str:
    """Return a text with a capital letter and a full stop, except around commands and URLs."""
    if _COMMAND.search(text):
        return text.removesuffix(".")
    if "://" in text.partition(" ")[0]:
        return text if text.endswith(".") else f"{text}."
    end = "" if text.endswith((".", "?", "…")) else "."
    return text[:1].upper() + text[1:] + end
