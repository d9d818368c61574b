"""A client assertion in a file that the platform keeps fresh (RFC 7521 §4.2, RFC 7523 §2.2)."""

from __future__ import annotations

import logging
import re
import time
from base64 import urlsafe_b64decode
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import TokenError, printable
from pywry_auth.plain_text import trimmed
from pywry_auth.private_files import change_fault, read_fault, read_regular
from pywry_auth.strict_json import read_json

_logger = logging.getLogger("pywry_auth.protocol")

_LARGEST = 1 << 16  # bytes
_LONGEST = 4096  # characters in a log line with a path
_PART = re.compile("[A-Za-z0-9_-]+")  # base64url without padding (RFC 7515 §2)


@dataclass(frozen=True)
class AssertionFile:
    """A file with a signed assertion, such as a projected token of Kubernetes.

    The platform replaces its content before it expires. Therefore each call reads it again, and nothing is
    kept.

    Args:
        path: The whole path of the file, or of a link to it.
        leeway: Seconds by which the clock of the assertion's issuer may differ.
    """

    path: str
    leeway: float = 0.0

    def read(self, now: float) -> str:
        """Return the assertion that the file contains at this moment.

        Its signature is not checked, because only the provider has the issuer's keys.

        Args:
            now: Unix time in seconds.

        Raises:
            TokenError: The file cannot be read, or contains no assertion that the provider could accept. The
                provider has refused nothing: a later call can succeed. The text quotes neither the path nor
                the content.
        """
        assertion = _compact(self._content())
        expires = _expiry(assertion)
        if expires is not None and expires + self.leeway <= now:
            moment = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(max(expires, 0)))
            raise _unusable(
                f"the assertion expired at {moment}",
                "check that the platform still renews it, and the clock of this machine",
            )
        return assertion

    def _content(self) -> bytes:
        try:
            data, found = read_regular(Path(self.path), _LARGEST)
        except FileNotFoundError:
            fault = _unusable("the file does not exist", "correct the path, or let the platform write it")
        except PermissionError:
            fault = _unusable(
                "this process may not read the file", "give its user or its group the right to read it"
            )
        except OSError as error:
            # Without a number, the text is the reader's own: it is not a regular file, or it is too large.
            why = error.strerror if error.errno else error
            fault = _unusable(
                f"the file cannot be used ({why})", "name a file with nothing but the assertion"
            )
        else:
            for access in filter(
                None, [change_fault(Path(self.path), found), read_fault(Path(self.path), found)]
            ):
                _warn(printable(access, _LONGEST))
            return data
        raise fault


@lru_cache(maxsize=100)
def _warn(access: str) -> None:
    """Log once in a process that other users can reach a file, which is read at each call."""
    _logger.warning("CLIENT_ASSERTION_FILE is not private: %s", access)


def _compact(data: bytes) -> str:
    """Return a JWS in its compact form (RFC 7515 §3.1)."""
    if not data.isascii():
        raise _unusable("the content is not ASCII text", "write only the assertion to the file")
    text = trimmed(data.decode("ascii"))
    if not text:
        raise _unusable("the file is empty", "let the platform write an assertion to it")
    parts = text.split(".")
    if len(parts) != 3 or not all(_PART.fullmatch(part) and len(part) % 4 != 1 for part in parts):
        raise _unusable(
            "the content is not a signed assertion of three base64url parts with dots between them",
            "write only the token to the file, without JSON or quotes around it",
        )
    return text


def _expiry(assertion: str) -> float | None:
    """Return the claim ``exp`` of an assertion; None without a usable one."""
    payload = assertion.split(".")[1]
    try:
        claims = read_json(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except ValueError:
        claims = None
    if not isinstance(claims, dict):
        raise _unusable("the content is not a JWT", "write the token for this client to the file")
    expires = claims.get("exp")
    return expires if isinstance(expires, (int, float)) and type(expires) is not bool else None


def _unusable(why: str, remedy: str) -> TokenError:
    return TokenError(f"CLIENT_ASSERTION_FILE: {why}: {remedy}.", error=ErrorCode.INVALID_CONFIGURATION)
