"""Checks that a secret cannot be guessed."""

from __future__ import annotations

import re
from collections.abc import Sequence

SHORTEST = 32  # characters; 32 hexadecimal digits are 128 bits
_FEWEST = 8  # different characters or bytes
# Only words between brackets: a random secret begins and ends with brackets by chance.
_TEXT = r"(?:[A-Z]*[^\W\dA-Z_]*[0-9]*[\s_.,:…'/-])*[A-Z]*[^\W\dA-Z_]*[0-9]*"
_PLACEHOLDER = re.compile(
    rf"[.…*_xX-]+|<{_TEXT}>|\[{_TEXT}\]|\$?\{{{_TEXT}\}}|%{_TEXT}%"
    # A command or a variable that no program has replaced.
    r"|\$\(\w+ .*\)|`\w+ .*`|\$?\{\{(?: .* |[\w\s.-]*)\}\}|\$[A-Z_]+"
    r"|.*(?:\bthe (?:output|value) of\b|token_urlsafe|token_hex|urandom|openssl rand).*",
    re.DOTALL,
)
# Only words of eight letters or more: a random secret contains a shorter one by chance.
_WORDS = re.compile(
    "change(?:me|this|it)|replace(?:me|this)|placeholder|(?:your|super|long|top|my|app|site|flask)secret(?:key|token)"
    "|(?:your|my|super|top)secret|secretkey|secrettoken|notasecret|donotuse|insecure|password"
)
_WHOLE = frozenset({"secret", "token", "tokensecret", "key", "test", "testing", "example", "todo", "none"})


def weakness(secret: str) -> str:
    """Return the reason why a secret can be guessed.

    Args:
        secret: The secret. The reason does not quote it.

    Returns:
        A part of a sentence about the secret; an empty text if it cannot be guessed.
    """
    letters = re.sub("[^a-z]", "", secret.lower())
    if _PLACEHOLDER.fullmatch(secret) or letters in _WHOLE or _WORDS.search(letters):
        return "is a placeholder"
    if len(secret) < SHORTEST:
        return f"has fewer than {SHORTEST} characters"
    return "is repetitive" if is_repetitive(secret) else ""


def is_repetitive(secret: Sequence[object]) -> bool:
    """Return whether a secret has few different characters, or repeats a pattern.

    Args:
        secret: Characters or bytes.
    """
    size = len(secret)
    return len(set(secret)) < _FEWEST or any(
        secret[step:] == secret[: size - step] for step in range(1, size // 2 + 1)
    )
