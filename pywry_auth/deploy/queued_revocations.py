"""Revokes queued tokens of some accounts within a time limit."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pywry_auth.exceptions import StoreUnavailable
from pywry_auth.flow.revocation import retry_revocation

if TYPE_CHECKING:
    from pywry_auth.deploy.providers import Providers
    from pywry_auth.models import OAuthTokenSet
    from pywry_auth.providers.base import OAuthProvider
    from pywry_auth.state.revocations import Revocation
    from pywry_auth.state.tokens import TokenStore

_logger = logging.getLogger("pywry_auth.deploy")

_THREADS = 4
_SECONDS = 12.0
"""Seconds after which no further revocation begins."""

_CALL_SECONDS = 4.0
"""The time limit of one call. A revocation makes two, so that all work ends within 20 s."""


@dataclass
class QueuedRevocations:
    """Revokes queued tokens with a few threads.

    Args:
        providers: The providers whose tokens are revoked.
        tokens: The store with the queue.
        clock: Monotonic time in seconds.
        confirmed: How many revocations the provider has confirmed.
    """

    providers: Providers
    tokens: TokenStore
    clock: Callable[[], float] = time.monotonic
    confirmed: int = 0
    _ends_at: float = -math.inf
    _lock: threading.Lock = field(default_factory=threading.Lock)  # guards the count and the iterator

    def revoke(self, accounts: Collection[str]) -> int:
        """Revoke the queued tokens of some accounts, and return how many revocations are left in the queue.

        The workers of the site make those. A failure of the store ends the work early.

        Args:
            accounts: The accounts.

        Raises:
            StoreUnavailable: The store is down, so that the number is unknown.
        """
        queue, self._ends_at = self.tokens.revocations, self.clock() + _SECONDS
        found = queue.of_users(accounts, lambda tokens: self.providers.issuer_of(tokens) is not None)
        with ThreadPoolExecutor(_THREADS) as pool:
            try:
                for each in [pool.submit(self._work, found) for _ in range(_THREADS)]:
                    each.result()
            finally:
                self._ends_at = -math.inf  # an interrupt ends the other threads too
        return queue.count_of(accounts)

    def _work(self, found: Iterator[Revocation]) -> None:
        try:
            while self.clock() < self._ends_at and (entry := self._next(found)) is not None:
                confirmed = retry_revocation(self.tokens, self._quick, entry) is True
                with self._lock:
                    self.confirmed += confirmed
        except StoreUnavailable as error:
            _logger.warning("the workers of the site revoke the tokens that are left: %s", error)

    def _next(self, found: Iterator[Revocation]) -> Revocation | None:
        with self._lock:
            return next(found, None)

    def _quick(self, tokens: OAuthTokenSet) -> OAuthProvider | None:
        provider = self.providers.issuer_of(tokens)
        return None if provider is None else provider.with_timeout(_CALL_SECONDS)
