"""Checks of the texts that users write in settings and arguments."""

from __future__ import annotations

import re

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError

# C0 and C1 controls, line and paragraph separators, and invisible characters that web pages contain.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u200b\u2060\ufeff]")
_MARK = "\ufeff"  # the byte order mark, with which some editors begin a file


def trimmed(text: str) -> str:
    """Return a text without the white space around it.

    A byte order mark at its beginning is removed too.
    """
    return text.strip().removeprefix(_MARK).strip()


def control_fault(text: str) -> str:
    """Return the reason why a text is not plain, or an empty text.

    Args:
        text: The text. It may be a secret: the reason does not quote it.
    """
    if _CONTROL.search(text):
        return "contains a line break or an invisible control character; write it again by hand"
    return ""


def argument_fault(text: object) -> str:
    """Return the reason why an argument is not usable as it is, or an empty text.

    Args:
        text: The argument. It may be a secret: the reason does not quote it. The settings hide their secrets
            in objects that are no texts.
    """
    if not isinstance(text, str):
        hidden = hasattr(text, "get_secret_value")
        remedy = "pass the result of its get_secret_value()" if hidden else "pass a text"
        return f"is not a text but a {type(text).__name__}; {remedy}"
    if text != trimmed(text):
        return "begins or ends with a blank or a line break; remove it, for example with .strip()"
    return control_fault(text)


def require_plain(**arguments: object) -> None:
    """Refuse arguments that are no texts, or were copied with blanks or invisible characters.

    Args:
        arguments: The arguments by their names. They may be secrets: the error does not quote them.

    Raises:
        AuthenticationError: An argument is not plain text; the text names it.
    """
    for name, text in arguments.items():
        if fault := argument_fault(text):
            raise AuthenticationError(f"The argument {name} {fault}.", error=ErrorCode.INVALID_CONFIGURATION)
