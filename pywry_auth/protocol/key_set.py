"""An issuer's signing keys (RFC 7517), fetched as rarely as possible."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from pywry_auth.exceptions import AuthenticationError, ProviderBusy
from pywry_auth.protocol.gate import CallGate
from pywry_auth.protocol.shared_fetch import SharedFetch

if TYPE_CHECKING:
    from pywry_auth.protocol.http import ProviderSession

Keys = tuple[Mapping[str, Any], ...]
"""The members of each key, without those that are null or empty."""

_logger = logging.getLogger("pywry_auth.protocol")
_REFETCH_SECONDS = 30.0
_MAX_AGE_SECONDS = 3600.0
_ACCEPT = "application/jwk-set+json, application/json, */*;q=0.1"


class KeySet:
    """An issuer's signing keys, fetched once and kept for an hour.

    A token with an unknown key causes a new fetch, at most every 30 s: a rotated key works at once, and
    forged key IDs cannot flood the issuer. Keys expire after an hour, so that a withdrawn key is no longer
    trusted. While the issuer is unreachable, the old keys stay in use.

    Args:
        url: Returns the issuer's ``jwks_uri``; called for each fetch.
        session: Returns the HTTP session for one call.
        clock: A monotonic clock, in seconds.
        gate: Bounds the calls to the issuer; None for no bound.
    """

    def __init__(
        self,
        url: Callable[[], str],
        session: Callable[[], ProviderSession],
        clock: Callable[[], float] = time.monotonic,
        gate: CallGate | None = None,
    ) -> None:
        self._url = url
        self._session = session
        self._clock = clock
        # Only the thread that fetches writes the members below.
        self._shared = SharedFetch[Keys](gate or CallGate(), clock)
        self._keys: Keys = ()
        self._fetched_at: float | None = None
        self._refetched_at: float | None = None

    def keys(self) -> Keys:
        """Return the keys; fetch them if they are missing or expired.

        Raises:
            AuthenticationError: There are no old keys, and the keys cannot be fetched now.
        """
        try:
            return self._shared.get(self._update, lambda: self._keys if self._is_fresh() else None)
        except ProviderBusy:
            if self._fetched_at is None:
                raise
            return self._keys

    def newer(self, than: Keys) -> Keys | None:
        """Return keys that followed ``than``, or None.

        Args:
            than: Keys of this set, among which one was missing. Returns None if the last such fetch was
                less than 30 s ago or failed.
        """
        keys = self._shared.get(
            self._update, lambda: self._keys if self._keys is not than or self._asked_recently() else None
        )
        return None if keys is than else keys

    def _is_fresh(self) -> bool:
        if self._fetched_at is None:
            return False
        return self._clock() - self._fetched_at < _MAX_AGE_SECONDS or self._asked_recently()

    def _asked_recently(self) -> bool:
        return self._refetched_at is not None and self._clock() - self._refetched_at < _REFETCH_SECONDS

    def _update(self) -> Keys:
        if self._fetched_at is None:
            self._keys = self._fetch()
        else:
            try:
                self._keys = self._fetch()
            except AuthenticationError as error:
                _logger.warning("the key set could not be fetched again; the old keys stay in use: %s", error)
                return self._keys
            finally:
                self._refetched_at = self._clock()  # not before: callers in the meantime wait for this fetch
        self._fetched_at = self._clock()
        return self._keys

    def _fetch(self) -> Keys:
        with self._session() as session:
            answer = session.call("GET", self._url(), headers={"Accept": _ACCEPT}, operation="key_set")
        keys = answer.json_object().get("keys") if answer.status == 200 else None
        if not isinstance(keys, list):
            raise answer.fault("a key set (check PYWRY_OAUTH2__JWKS_URL)")
        return tuple(_without_empty(key) for key in keys if isinstance(key, dict))


def _without_empty(key: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the members with a value: some issuers write null or nothing for a member that is not used."""
    return {name: value for name, value in key.items() if value not in (None, "", [], [""])}
