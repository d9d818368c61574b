"""Proof Key for Code Exchange (RFC 7636), method S256 only."""

from __future__ import annotations

import hashlib
import re
import secrets
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field

_VERIFIER = re.compile(r"[A-Za-z0-9\-._~]{43,128}\Z")


@dataclass(frozen=True)
class PKCEChallenge:
    """A code verifier and its challenge (RFC 7636 §4.1, §4.2).

    Args:
        verifier: 43 to 128 unreserved characters, sent with the code.

    Raises:
        ValueError: The verifier's length or a character is not allowed.
    """

    verifier: str = field(repr=False)

    def __post_init__(self) -> None:
        if not _VERIFIER.match(self.verifier):
            raise ValueError("a code verifier has 43 to 128 of the characters A-Z a-z 0-9 - . _ ~")

    @classmethod
    def generate(cls, length: int = 64) -> PKCEChallenge:
        """Return a new random challenge.

        Args:
            length: Characters of the verifier, 43 to 128.

        Raises:
            ValueError: ``length`` is outside that range.
        """
        if not 43 <= length <= 128:
            raise ValueError(f"a code verifier has 43 to 128 characters, not {length}")
        return cls(secrets.token_urlsafe(length)[:length])

    @property
    def challenge(self) -> str:
        """The verifier's base64url SHA-256, sent with the authorization request."""
        digest = hashlib.sha256(self.verifier.encode("ascii")).digest()
        return urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")

    @property
    def method(self) -> str:
        """Always ``S256`` (RFC 7636 §7.2).

        ``plain`` would reveal the verifier to a reader of the request.
        """
        return "S256"
