"""Token sets of a scripted provider, and a store that fails."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

from pywry_auth.backends.lease import Lease
from pywry_auth.exceptions import StoreUnavailable
from pywry_auth.models import OAuthTokenSet
from pywry_auth.state.token_stores import MemoryTokenStore
from tests.protocol.issuer import CLIENT_ID, NOW, ScriptedIssuer, claims_of
from tests.protocol.servers import Answer


def always(tokens: OAuthTokenSet) -> bool:
    """Treat every token as due."""
    return True


def first(issuer: ScriptedIssuer, **members: Any) -> OAuthTokenSet:
    """Return the tokens of a sign-in."""
    tokens = OAuthTokenSet(
        "canary-first",
        refresh_token="canary-refresh-1",
        expires_in=60,
        id_token=issuer.id_token(),
        scope="openid email",
        issued_at=NOW - 3600,
        issuer=issuer.url,
        client_id=CLIENT_ID,
        id_token_claims=claims_of(issuer.url),
    )
    return replace(tokens, **members)


def answering(issuer: ScriptedIssuer, **members: object) -> None:
    issuer.answers["/token"] = Answer(issuer.tokens(**{"access_token": "canary-next", **members}))


def revoked(issuer: ScriptedIssuer) -> list[str]:
    return [request.form["token"] for request in issuer.requests("/revoke")]


class Away(MemoryTokenStore):
    """A store that fails for this number of attempts, and may have written all the same.

    Args:
        tries: The number of attempts.
        wrote: Whether it wrote.
        lease: The length of its locks in seconds; 0 means that each lock is lost at once.
    """

    def __init__(self, tries: int, wrote: bool, lease: float = 10) -> None:
        super().__init__()
        self.left, self._wrote, self._lease = tries, wrote, lease

    def lock(self, key: str, wait: float) -> AbstractContextManager[Lease]:
        return self.backend.lock("oauth:lock:" + key, wait, self._lease)

    def replace(
        self, key: str, tokens: OAuthTokenSet, instead_of: OAuthTokenSet, *, review: str = ""
    ) -> bool:
        stored = (self._wrote or not self.left) and super().replace(key, tokens, instead_of, review=review)
        if self.left:
            self.left -= 1
            raise StoreUnavailable("The store is away.")
        return stored
