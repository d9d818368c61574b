"""Everything the provider has issued and must remember: sessions, codes and tokens, each with a lifetime."""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

from pywry_auth.testing.identity_provider.parties import User

Kind = Literal["session", "code", "access", "refresh"]

LIMIT = 20_000
"""Records kept at most: beyond it the oldest goes, so that memory stays bounded whatever comes."""

SWEEP_SECONDS = 60.0
"""Expired records are dropped this often, when new ones come."""


@dataclass(frozen=True)
class Grant:
    """What one sign-in allowed: every code and token that came of it carries it, and all end with it.

    Args:
        client_id: Whom it was given to; empty for the provider's own session.
        user: Who signed in.
        scope: What was granted, space separated.
        auth_time: When the password was typed, Unix time in seconds.
        nonce: The client's, for the ID token (OIDC Core §3.1.2.1).
        ended: Set once, when it is over.
    """

    client_id: str
    user: User
    scope: str
    auth_time: int
    nonce: str = field(default="", repr=False)
    ended: threading.Event = field(default_factory=threading.Event, repr=False, compare=False)


@dataclass(frozen=True)
class Record:
    """One issued secret, without the secret.

    Args:
        grant: What it came of.
        scope: What it is good for.
        issued_at: Unix time in seconds.
        expires_at: Unix time in seconds.
        redirect_uri: For a code: where it was sent.
        code_challenge: For a code: what its verifier must hash to (RFC 7636 §4.6).
        used: Whether it was redeemed already.
    """

    grant: Grant
    scope: str
    issued_at: float
    expires_at: float
    redirect_uri: str = ""
    code_challenge: str = field(default="", repr=False)
    used: bool = False


class Vault:
    """Keeps records by the hash of their secret. Its lock guards the records and the time of the next sweep.

    Args:
        clock: Tells Unix time in seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._records: dict[tuple[Kind, bytes], Record] = {}
        self._next_sweep = 0.0

    def issue(
        self,
        kind: Kind,
        grant: Grant,
        lifetime: float,
        *,
        scope: str | None = None,
        redirect_uri: str = "",
        code_challenge: str = "",
    ) -> str:
        """Return a new secret that is good for ``lifetime`` seconds and the scope (else the grant's)."""
        now = self._clock()
        secret = secrets.token_urlsafe(32)
        record = Record(
            grant, grant.scope if scope is None else scope, now, now + lifetime, redirect_uri, code_challenge
        )
        with self._lock:
            self._sweep(now)
            self._records[_key(kind, secret)] = record
        return secret

    def find(self, kind: Kind, secret: str) -> Record | None:
        """Return the record of a secret that is still good, else None."""
        with self._lock:
            record = self._records.get(_key(kind, secret))
        return record if record and not record.used and self._is_alive(record) else None

    def redeem(self, kind: Kind, secret: str, client_id: str) -> Record | None:
        """Return the record of a secret that this client redeems for the first time, else None.

        A second time means that somebody else has it: the grant ends (RFC 6749 §4.1.2, RFC 9700 §4.14.2).
        """
        key = _key(kind, secret)
        with self._lock:
            record = self._records.get(key)
            if record is None or record.grant.client_id != client_id:
                return None
            self._records[key] = replace(record, used=True)
        if record.used:
            record.grant.ended.set()
        return record if self._is_alive(record) else None

    def drop(self, kind: Kind, secret: str) -> None:
        """Forget one secret; that it is unknown is no matter."""
        with self._lock:
            self._records.pop(_key(kind, secret), None)

    def _is_alive(self, record: Record) -> bool:
        return not record.grant.ended.is_set() and self._clock() < record.expires_at

    def _sweep(self, now: float) -> None:
        if now >= self._next_sweep:
            self._next_sweep = now + SWEEP_SECONDS
            self._records = {key: record for key, record in self._records.items() if self._is_alive(record)}
        if len(self._records) >= LIMIT:
            del self._records[next(iter(self._records))]


def _key(kind: Kind, secret: str) -> tuple[Kind, bytes]:
    return kind, hashlib.sha256(secret.encode("utf-8", "replace")).digest()
