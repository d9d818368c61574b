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
    r"|(?:the (?:output|value) of|openssl rand|python3? -c) .*",
    re.DOTALL,
)
_WHOLE = re.compile(
    "(?:insert|add|put|paste|enter)?your(?:client|app|oauth)?secret(?:goes)?(?:here)?"
    "|change(?:me|this|it)|replace(?:me|this)|placeholder|todo|fixme"
)
# Only words of eight letters or more: a random secret contains a shorter one by chance.
_WORDS = re.compile(
    "change(?:me|this|it)|replace(?:me|this)|placeholder|(?:your|super|long|top|my|app|site|flask)secret(?:key|token)"
    "|(?:your|my|super|top)secret|secretkey|secrettoken|notasecret|donotuse|insecure|password"
    "|tokenurlsafe|tokenhex|opensslrand"
)
_GUESSED = frozenset({"secret", "token", "tokensecret", "key", "test", "testing", "example", "none"})
_SENTENCE = re.compile(r"(?:[A-Z]*[^\W\dA-Z_]{0,20}[0-9]*[\W_])*[A-Z]*[^\W\dA-Z_]{0,20}[0-9]*")


def is_placeholder(secret: str) -> bool:
    """Return whether the whole of a text is a placeholder, such as ``changeme`` or ``<client secret>``.

    A text that only contains such a word may be a secret that a provider knows.

    Args:
        secret: The text.
    """
    return bool(_PLACEHOLDER.fullmatch(secret) or _WHOLE.fullmatch(_letters_and_digits(secret)))


def weakness(secret: str) -> str:
    """Return the reason why a secret can be guessed.

    Args:
        secret: The secret. The reason does not quote it.

    Returns:
        A part of a sentence about the secret; an empty text if it cannot be guessed.
    """
    if is_placeholder(secret) or _is_guessed(secret):
        return "is a placeholder"
    if len(secret) < SHORTEST:
        return f"has fewer than {SHORTEST} characters"
    return "is repetitive" if is_repetitive(secret) else ""


def _is_guessed(secret: str) -> bool:
    """Return whether a text with the word of a placeholder has no random part that is long enough."""
    text = _letters_and_digits(secret)
    rest = _WORDS.sub("", text)
    without_random_part = len(rest) < SHORTEST or _SENTENCE.fullmatch(secret)
    return text in _GUESSED or bool(rest != text and without_random_part)


def _letters_and_digits(text: str) -> str:
    return re.sub(r"[\W_]", "", text.lower())


def is_repetitive(secret: Sequence[object]) -> bool:
    """Return whether a secret has few different characters, or repeats a pattern.

    Args:
        secret: Characters or bytes.
    """
    size = len(secret)
    return len(set(secret)) < _FEWEST or any(
        secret[step:] == secret[: size - step] for step in range(1, size // 2 + 1)
    )
