"""Converts token sets to bytes and back."""

from __future__ import annotations

import base64
import time
from dataclasses import dataclass, field
from typing import Any

from pywry_auth.models import OAuthTokenSet
from pywry_auth.state.grant_record import grant_members, grant_of
from pywry_auth.state.records import Members, pack, unpack
from pywry_auth.strict_json import read_json, without_surrogates

_TOKENS = ("access_token", "refresh_token", "id_token")
_LONGEST_HOLD = 3600.0  # seconds


@dataclass(frozen=True)
class StoredTokens:
    """A token set as it is stored.

    Args:
        tokens: The token set.
        data: The stored bytes.
        held_until: Unix time in seconds until which the login that stored it is creating its session; 0 if
            there is no such login.
        kept_until: Unix time in seconds until which a session may need the set; 0 if unknown.
        review: The review of access rules that the refresh of this set has not finished; empty if there is
            none.
        owner: The site's ID of the user that the set belongs to; empty for the ID under which it is stored.
    """

    tokens: OAuthTokenSet
    data: bytes = field(repr=False)
    held_until: float = 0.0
    kept_until: float = 0.0
    review: str = ""
    owner: str = ""


def pack_tokens(
    tokens: OAuthTokenSet,
    held_until: float = 0.0,
    kept_until: float = 0.0,
    review: str = "",
    owner: str = "",
) -> bytes:
    """Return a token set as bytes.

    Args:
        tokens: The token set.
        held_until: See :class:`StoredTokens`.
        kept_until: See :class:`StoredTokens`.
        review: See :class:`StoredTokens`.
        owner: See :class:`StoredTokens`.
    """
    notes = {
        "held_until": held_until or None,
        "kept_until": kept_until or None,
        "review": review or None,
        "owner": owner or None,
    }
    return pack({**token_members(tokens), **notes})


def unpack_stored(data: bytes) -> StoredTokens | None:
    """Return a token set and its hold from :func:`pack_tokens`, or None if damaged.

    Raises:
        UnreadableRecord: See :func:`unpack`.
    """
    return unpack(data, lambda members: _stored(members, data), "token set")


def unpack_tokens(data: bytes) -> OAuthTokenSet | None:
    """Return a token set from :func:`pack_tokens`, or None if damaged.

    Raises:
        UnreadableRecord: See :func:`unpack`.
    """
    return unpack(data, tokens_of, "token set")


def token_members(tokens: OAuthTokenSet) -> dict[str, Any]:
    """Return a token set as the members of a record.

    Each token is written once, even if the provider's response repeats it. The claims of the ID token are not
    written, because the ID token contains them.
    """
    repeated = [name for name in _TOKENS if name in tokens.raw and tokens.raw[name] == getattr(tokens, name)]
    return {
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
        "grant": grant_members(tokens.grant),
        **({} if tokens.nonce is None else {"nonce": tokens.nonce}),
    }


def tokens_of(members: Members) -> OAuthTokenSet:
    """Return the token set of :func:`token_members`.

    Raises:
        ValueError: A member has another type.
    """
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
        grant=grant_of(members),
        nonce=members.optional_text("nonce"),
    )


def _stored(members: Members, data: bytes) -> StoredTokens:
    held_until = members.optional_moment("held_until") or 0.0
    # A damaged record must not keep its tokens from every later sign-out.
    return StoredTokens(
        tokens_of(members),
        data,
        held_until if held_until <= time.time() + _LONGEST_HOLD else 0.0,
        members.optional_moment("kept_until") or 0.0,
        members.optional_text("review") or "",
        members.optional_text("owner") or "",
    )


def _claims(id_token: str) -> dict[str, Any]:
    """Return the claims of a stored ID token.

    The token was verified before it was stored (RFC 7519 §3).
    """
    try:
        payload = id_token.split(".")[1]
        claims = without_surrogates(read_json(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))))
    except (IndexError, ValueError):
        return {}
    return claims if isinstance(claims, dict) else {}
