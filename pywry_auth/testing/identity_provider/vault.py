"""The state of the provider: users, clients and issued secrets."""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from pywry_auth.testing.identity_provider.book import GrantBook, IssuedGrant
from pywry_auth.testing.identity_provider.keys import SigningKeys
from pywry_auth.testing.identity_provider.parties import SCOPES, Client, User
from pywry_auth.testing.identity_provider.provider_sessions import ProviderSession, ProviderSessions
from pywry_auth.testing.identity_provider.quirks import Quirks

Kind = Literal["session", "code", "access", "refresh"]

LIMIT = 20_000
"""The maximum number of records. The oldest record then makes room, so that memory stays bounded."""

SWEEP_SECONDS = 60.0
"""The shortest time between two removals of expired records, in seconds. A new record starts a removal."""


@dataclass(frozen=True)
class Grant:
    """The permission from one sign-in.

    When it ends, its codes and tokens are no longer valid.

    Args:
        client_id: The client with the permission; empty for the provider's own session.
        user: The signed-in user.
        scope: The granted scopes, space separated.
        auth_time: When the password was entered, as Unix time in seconds.
        nonce: The client's nonce for the ID token (OIDC Core §3.1.2.1).
        resource: The API that access tokens may be for (RFC 8707); empty for none.
        acr: The level of the authentication (OIDC Core §2); empty without a sign-in.
        session: The user's session at the provider; None without one, as for a device.
        ended: Set once, at the end of the grant.
    """

    client_id: str
    user: User
    scope: str
    auth_time: int
    nonce: str = field(default="", repr=False)
    resource: str = ""
    acr: str = ""
    session: ProviderSession | None = None
    ended: threading.Event = field(default_factory=threading.Event, repr=False, compare=False)

    @property
    def is_over(self) -> bool:
        """Whether the grant has ended, or ended with the session.

        A grant with the scope ``offline_access`` outlives the session (OIDC Core §11).
        """
        if self.session is None or "offline_access" in self.scope.split():
            return self.ended.is_set()
        return self.ended.is_set() or self.session.ended.is_set()


@dataclass(frozen=True)
class Record:
    """One issued secret, without the secret.

    Args:
        grant: The grant of the secret.
        scope: The scopes of the secret, space separated.
        issued_at: Unix time in seconds.
        expires_at: Unix time in seconds.
        redirect_uri: The address that a code was sent to.
        code_challenge: The hash of a code's verifier (RFC 7636 §4.6).
        used: Whether the secret was redeemed before.
        audience: The services that an access token is for; empty for the client.
    """

    grant: Grant
    scope: str
    issued_at: float
    expires_at: float
    redirect_uri: str = ""
    code_challenge: str = field(default="", repr=False)
    used: bool = False
    audience: tuple[str, ...] = ()


class Vault:
    """Keeps records under the hashes of their secrets.

    The lock guards the records, the book of grants and the time of the next sweep.

    Args:
        clock: Returns Unix time in seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._records: dict[tuple[Kind, bytes], Record] = {}
        self._book = GrantBook(LIMIT)
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
        audience: tuple[str, ...] = (),
    ) -> str:
        """Return a new secret that is valid for ``lifetime`` seconds.

        The scope None means the grant's scope.
        """
        now = self._clock()
        secret = secrets.token_urlsafe(32)
        record = Record(
            grant,
            grant.scope if scope is None else scope,
            now,
            now + lifetime,
            redirect_uri,
            code_challenge,
            audience=audience,
        )
        with self._lock:
            self._sweep(now)
            self._records[_key(kind, secret)] = record
            if kind in ("access", "refresh"):
                self._book.add(grant, _key(kind, secret))
        return secret

    def grants(self, after: int) -> tuple[IssuedGrant, ...]:
        """Return the grants with a higher number than ``after``, in their order of issue."""
        with self._lock:
            return tuple(self._book.read(self._is_active, after))[::-1]

    def find(self, kind: Kind, secret: str) -> Record | None:
        """Return the record of a valid secret, or None."""
        with self._lock:
            key = _key(kind, secret)
            return self._records[key] if self._is_active(key) else None

    def redeem(self, kind: Kind, secret: str, client_id: str) -> Record | None:
        """Redeem a client's secret and return its record, or None.

        If a secret is redeemed twice, it may be stolen, so the grant ends (RFC 6749 §4.1.2, RFC 9700
        §4.14.2).
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
        """Remove a secret, if it exists."""
        with self._lock:
            self._records.pop(_key(kind, secret), None)

    def _is_active(self, key: tuple[Kind, bytes]) -> bool:
        record = self._records.get(key)
        return record is not None and not record.used and self._is_alive(record)

    def _is_alive(self, record: Record) -> bool:
        return not record.grant.is_over and self._clock() < record.expires_at

    def _sweep(self, now: float) -> None:
        if now >= self._next_sweep:
            self._next_sweep = now + SWEEP_SECONDS
            self._records = {key: record for key, record in self._records.items() if self._is_alive(record)}
        if len(self._records) >= LIMIT:
            del self._records[next(iter(self._records))]


@dataclass(frozen=True)
class Realm:
    """The data that the provider's endpoints share.

    Args:
        url: The base of the endpoints.
        issuer: The provider's issuer URL, which is usually the same.
        users: The users of the provider.
        clients: The known clients by ID.
        vault: The issued secrets.
        sessions: The users' sessions.
        keys: The signing keys.
        clock: Returns Unix time in seconds.
        access_token_lifetime: Seconds.
        refresh_token_lifetime: Seconds.
        code_lifetime: Seconds.
        device_lifetime: Seconds.
        device_interval: Seconds.
        quirks: The deviations of the provider.
        resources: The known APIs (RFC 8707).
    """

    url: str
    issuer: str
    users: Sequence[User]
    clients: dict[str, Client]
    vault: Vault
    sessions: ProviderSessions
    keys: SigningKeys
    clock: Callable[[], float]
    access_token_lifetime: float
    refresh_token_lifetime: float
    code_lifetime: float
    device_lifetime: float
    device_interval: float
    quirks: Quirks
    resources: Sequence[str] = ()

    @property
    def scopes(self) -> Mapping[str, str]:
        """The known scopes, each in words for the user."""
        api = self.quirks.access_token_scope
        return SCOPES | {api: "Call an API in your name"} if api else SCOPES


def _key(kind: Kind, secret: str) -> tuple[Kind, bytes]:
    return kind, hashlib.sha256(secret.encode("utf-8", "replace")).digest()
