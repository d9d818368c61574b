"""The digests that stand for a site in stored records."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable

UNBOUND = ""
"""Stands in place of a digest in records that belong to no site."""


def sites_of(secrets: Iterable[str], prefix: str) -> tuple[str, ...]:
    """Return the digests of a site, one for each of its secrets.

    Args:
        secrets: The values of ``TOKEN_SECRET``, the current one first. Each may be a list with commas.
        prefix: The value of ``REDIS_PREFIX``.
    """
    return tuple(_digest(secret, prefix) for value in secrets for secret in split_secrets(value))


def split_secrets(value: str) -> list[str]:
    """Return the secrets in a value of ``TOKEN_SECRET``, which are separated by commas."""
    return [secret for part in value.split(",") if (secret := part.strip())]


def _digest(secret: str, prefix: str) -> str:
    name = f"pywry_auth.site:{prefix}".encode("utf-8", "surrogatepass")
    return hmac.new(secret.encode("utf-8", "surrogatepass"), name, hashlib.sha256).hexdigest()[:32]
