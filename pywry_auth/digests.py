"""Digests of texts, and comparison of secrets in constant time."""

from __future__ import annotations

import hashlib


def digest_of(text: str) -> str:
    """Return the SHA-256 of a text, whatever its characters, in hexadecimal."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def handle_of(session_id: str) -> str:
    """Return the public name of a session, which opens nothing.

    Args:
        session_id: The session's ID; any text.

    Returns:
        The first 16 bytes of the SHA-256 of ``handle:`` and the ID, in base64url: 22 characters.
    """
    from base64 import urlsafe_b64encode  # a program that only reads stored tokens does not need it

    digest = hashlib.sha256(f"handle:{session_id}".encode("utf-8", "surrogatepass")).digest()
    return urlsafe_b64encode(digest[:16]).rstrip(b"=").decode()


def same_secret(expected: str, received: object) -> bool:
    """Compare in constant time, for any characters; a value that is no string is not the same."""
    from hmac import compare_digest  # a program that only reads stored tokens does not need it

    return isinstance(received, str) and compare_digest(expected.encode(), received.encode(errors="replace"))
