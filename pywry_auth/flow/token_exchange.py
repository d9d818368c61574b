"""Exchanged tokens (RFC 8693), kept in the process until they expire."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from pywry_auth.exceptions import TokenError
from pywry_auth.flow.refresh import refresh_margin
from pywry_auth.models import OAuthTokenSet
from pywry_auth.per_process import PerProcess
from pywry_auth.single_flight import SingleFlight

MOST_EXCHANGED = 1000
"""How many exchanged tokens one object keeps; the oldest makes room."""

WITHOUT_LIFETIME = 60.0
"""Seconds for which an exchanged token is kept if the provider does not say how long it lasts."""


@dataclass(frozen=True)
class ExchangeKey:
    """The user and the arguments of an exchange.

    Args:
        user_id: The user.
        account: The ID under which the user's tokens are stored.
        client: The client and the issuer of the tokens.
        audience: See ``UserTokens.exchange``.
        resource: See there.
        scopes: See there.
    """

    user_id: str
    account: str
    client: tuple[str, str]
    audience: tuple[str, ...]
    resource: tuple[str, ...]
    scopes: tuple[str, ...]


class ExchangedTokens:
    """Exchanged tokens by user and arguments.

    The lock guards the dictionary. A token belongs to one grant, and is not used for another one.

    Args:
        buffer: Seconds before its expiry at which a token is replaced, at most half of its lifetime.
        clock: Unix time in seconds.
    """

    def __init__(self, buffer: float, clock: Callable[[], float]) -> None:
        self._buffer = buffer
        self._clock = clock
        self._lock = PerProcess(threading.Lock)
        self._kept: dict[ExchangeKey, tuple[str, OAuthTokenSet]] = {}
        self._flights = SingleFlight[OAuthTokenSet | None](TokenError)

    def get(
        self, key: ExchangeKey, grant: str, exchange: Callable[[], OAuthTokenSet | None]
    ) -> OAuthTokenSet | None:
        """Return the kept token, or the result of one exchange for all callers.

        Args:
            key: The user and the arguments.
            grant: Names the grant of the user's tokens.
            exchange: Makes the exchange. It returns None if the grant has changed in the meantime.
        """

        def kept() -> OAuthTokenSet | None:
            return self._find(key, grant)

        def work() -> OAuthTokenSet | None:
            issued = exchange()
            if issued is not None:
                self._keep(key, grant, issued)
            return issued

        return kept() or self._flights.run(work, kept, key=(key, grant))

    def forget(self, user_id: str) -> None:
        """Drop the tokens of a user that is not signed in."""
        with self._lock():
            for key in [key for key in self._kept if key.user_id == user_id]:
                del self._kept[key]

    def _find(self, key: ExchangeKey, grant: str) -> OAuthTokenSet | None:
        with self._lock():
            of, issued = self._kept.get(key, ("", None))
            if issued is None or (of == grant and self._is_usable(issued)):
                return issued
            del self._kept[key]
        return None

    def _keep(self, key: ExchangeKey, grant: str, issued: OAuthTokenSet) -> None:
        if not self._is_usable(issued):
            return
        with self._lock():
            self._kept.pop(key, None)
            if len(self._kept) >= MOST_EXCHANGED:
                del self._kept[next(iter(self._kept))]
            self._kept[key] = grant, issued

    def _is_usable(self, issued: OAuthTokenSet) -> bool:
        age = self._clock() - issued.issued_at
        lifetime = WITHOUT_LIFETIME if issued.expires_in is None else issued.expires_in
        return -WITHOUT_LIFETIME <= age < lifetime - refresh_margin(issued, self._buffer)
