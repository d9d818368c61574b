"""A provider without a network: it refreshes as a test requires, and counts."""

from __future__ import annotations

import threading
from collections.abc import Callable

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import TokenError, TokenRefreshError
from pywry_auth.models import OAuthTokenSet
from pywry_auth.providers.base import OAuthProvider

CLIENT_ID = "stub-client"


class StubProvider(OAuthProvider):
    """Rotates refresh tokens, and ends the grant when a token is used twice.

    Args:
        clock: Unix time in seconds.
        lifetime: Lifetime of an access token in seconds; None if the provider does not state it.
    """

    name = "stub"

    def __init__(self, clock: Callable[[], float], lifetime: int | None = 3600) -> None:
        super().__init__(CLIENT_ID, clock=clock)
        self.now = clock
        self.lifetime = lifetime
        self.spent: list[str] = []
        self.revoked: list[str] = []
        self.fault: Exception | None = None
        self.before: Callable[[], object] = lambda: None
        self._counting = threading.Lock()

    @property
    def calls(self) -> int:
        """The number of refreshes that reached the provider."""
        return len(self.spent)

    def grant(self, user: str = "alice") -> OAuthTokenSet:
        """Return the tokens of a new sign-in."""
        return self._issue(f"{user}.0")

    def refresh_tokens(self, refresh_token: str) -> OAuthTokenSet:
        self.before()
        with self._counting:
            reused = refresh_token in self.spent
            self.spent.append(refresh_token)
        if self.fault is not None:
            raise self.fault
        if reused:
            raise refused()
        user, _, number = refresh_token.removeprefix("refresh.").rpartition(".")
        return self._issue(f"{user}.{int(number) + 1}")

    def request_revocation(self, token: str) -> bool | None:
        self.revoked.append(token)
        return True

    def _issue(self, name: str) -> OAuthTokenSet:
        return OAuthTokenSet(
            f"access.{name}",
            refresh_token=f"refresh.{name}",
            expires_in=self.lifetime,
            issued_at=self.now(),
            client_id=self.client_id,
        )


def refused() -> TokenRefreshError:
    """Return the error of a grant that the provider has ended."""
    return TokenRefreshError("The grant has ended. Sign in again.", error="invalid_grant")


def unreachable() -> TokenError:
    """Return the error of a provider that does not answer."""
    return TokenError("The provider could not be reached.", error=ErrorCode.PROVIDER_UNREACHABLE)
