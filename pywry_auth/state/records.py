"""Records to bytes and back: versioned JSON, read strictly, and what cannot be read counts as missing."""

from __future__ import annotations

import base64
import json
import logging
import math
import zlib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pywry_auth.models import OAuthTokenSet

_logger = logging.getLogger("pywry_auth.state")

_T = TypeVar("_T")

VERSION = 1
"""Of all records; one written by another version is a missing one."""

_TOKENS = ("access_token", "refresh_token", "id_token")


class Members:
    """The members of a record: each getter returns a value of its type, or raises ``ValueError``.

    Args:
        values: What the JSON object held.
    """

    def __init__(self, values: Mapping[str, object]) -> None:
        self._values = values

    def text(self, name: str) -> str:
        """Return a string."""
        value = self._values.get(name)
        if not isinstance(value, str):
            raise ValueError(f"{name} is not a string")
        return value

    def optional_text(self, name: str) -> str | None:
        """Return a string, or None where there is none."""
        return None if self._values.get(name) is None else self.text(name)

    def optional_number(self, name: str) -> float | None:
        """Return a finite number, or None where there is none."""
        return None if self._values.get(name) is None else self.number(name)

    def number(self, name: str) -> float:
        """Return a finite number."""
        value = self._values.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"{name} is not a number")
        return value

    def flag(self, name: str) -> bool:
        """Return a truth value; false where there is none."""
        return self._values.get(name) is True

    def texts(self, name: str) -> list[str]:
        """Return a list of strings."""
        value = self._values.get(name)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise ValueError(f"{name} is not a list of strings")
        return value

    def mapping(self, name: str) -> dict[str, Any]:
        """Return an object."""
        value = self._values.get(name)
        if not isinstance(value, dict):
            raise ValueError(f"{name} is not an object")
        return value


def pack(record: Mapping[str, object], *, compress: bool = False) -> bytes:
    """Return a record as bytes.

    Args:
        record: JSON values under string names; members that are None are left out.
        compress: Whether room matters more than that people can read what is stored.

    Raises:
        TypeError: A value is none that JSON knows.
    """
    members = {name: value for name, value in record.items() if value is not None}
    data = json.dumps({"v": VERSION, **members}, separators=(",", ":")).encode()
    return zlib.compress(data) if compress else data


def unpack(data: bytes, build: Callable[[Members], _T], kind: str) -> _T | None:
    """Return the value that bytes from a store stand for, or None, logged, where they cannot be read.

    Args:
        data: What the store held.
        build: Makes the value of the members, and raises ``ValueError`` if they are not fit for one.
        kind: Names the record in the log; nothing of its content is logged.
    """
    try:
        values = json.loads(data if data.startswith(b"{") else zlib.decompress(data))
        if not isinstance(values, dict) or values.get("v") != VERSION:
            raise ValueError("not a record of this version")
        return build(Members(values))
    except (ValueError, OverflowError, RecursionError, zlib.error):
        _logger.warning("a stored %s cannot be read and counts as missing", kind)
        return None


def pack_tokens(tokens: OAuthTokenSet) -> bytes:
    """Return a token set as bytes, each token once, however often the provider's answer repeats it.

    Args:
        tokens: The set; the claims of its ID token are not written, they are in the ID token.
    """
    repeated = [name for name in _TOKENS if name in tokens.raw and tokens.raw[name] == getattr(tokens, name)]
    return pack(
        {
            "access_token": tokens.access_token,
            "token_type": tokens.token_type,
            "refresh_token": tokens.refresh_token,
            "expires_in": tokens.expires_in,
            "id_token": tokens.id_token,
            "scope": tokens.scope,
            "raw": {name: value for name, value in tokens.raw.items() if name not in repeated},
            "repeated": repeated,
            "issued_at": tokens.issued_at,
            "issuer": tokens.issuer,
            "client_id": tokens.client_id,
        }
    )


def unpack_tokens(data: bytes) -> OAuthTokenSet | None:
    """Return the token set that :func:`pack_tokens` wrote, or None where the bytes cannot be read."""
    return unpack(data, _tokens, "token set")


def _tokens(members: Members) -> OAuthTokenSet:
    tokens = {name: members.optional_text(name) for name in _TOKENS}
    id_token, expires_in = tokens["id_token"], members.optional_number("expires_in")
    return OAuthTokenSet(
        access_token=members.text("access_token"),
        token_type=members.text("token_type"),
        refresh_token=tokens["refresh_token"],
        expires_in=None if expires_in is None else int(expires_in),
        id_token=id_token,
        scope=members.text("scope"),
        raw=members.mapping("raw")
        | {name: tokens[name] for name in members.texts("repeated") if name in tokens},
        issued_at=members.number("issued_at"),
        issuer=members.text("issuer"),
        client_id=members.text("client_id"),
        id_token_claims={} if id_token is None else _claims(id_token),
    )


def _claims(id_token: str) -> dict[str, Any]:
    """Return the claims of an ID token that was verified before it was stored (RFC 7519 §3)."""
    try:
        payload = id_token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (IndexError, ValueError, RecursionError):
        return {}
    return claims if isinstance(claims, dict) else {}
