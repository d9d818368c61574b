"""Pending authorizations: logins under way, each taken up once and only for a while."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace

from pywry_auth.backends.base import Backend, Terms
from pywry_auth.exceptions import AuthenticationError, ErrorCode
from pywry_auth.models import AuthorizationRequest
from pywry_auth.state.records import Members, pack, unpack

_KIND = "pending:"
_USED = "used:"

PENDING_SECONDS = 600.0
"""Seconds that a login may take."""

STALE_STATES = {ErrorCode.STATE_UNKNOWN, ErrorCode.STATE_USED, ErrorCode.STATE_EXPIRED}
"""Codes of a reload, the back button, or the slower of two tabs."""

PER_CLIENT = 1000
"""Logins that one client can have under way; one more ends its own oldest, never another client's."""


@dataclass(frozen=True)
class PendingAuthorization:
    """A login that was begun, and whose response is awaited.

    Args:
        request: What is needed to judge the response; its URL has been used and is not kept.
        provider: Name on this site of the provider that the browser was sent to; empty for the only one.
        binding: Digest of the cookie that ties the login to the browser that began it.
        next_url: Where to go when it has ended.
        restarted: Whether it stands in for one that had expired, which happens once.
        expired: Whether it took too long; only known of what was taken.
    """

    request: AuthorizationRequest
    provider: str
    binding: str = field(repr=False)
    next_url: str = ""
    restarted: bool = False
    expired: bool = False


class PendingStore:
    """Pending authorizations by their state, which the store itself knows only by its digest.

    Args:
        backend: Where the bytes are.
        lifetime: Seconds that a login may take.
        clock: Unix time in seconds.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        lifetime: float = PENDING_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._backend = backend
        self._lifetime = lifetime
        self._clock = clock

    def put(self, pending: PendingAuthorization, client: str) -> None:
        """Store a login that begins.

        Args:
            pending: The login.
            client: Whose it is, a network address for example: all its logins together are bounded.

        Raises:
            StoreUnavailable: The store is down.
        """
        # The record outlives the login, so that a late response gets the right error.
        terms = Terms(ttl=2 * self._lifetime, group=_KIND + client, limit=PER_CLIENT)
        self._backend.put(_key(pending.request.state), _pack(pending), terms)

    def take(self, state: str, bindings: Collection[str], provider: str) -> PendingAuthorization:
        """Return the login of a state and forget it; of many callers one gets it.

        Args:
            state: As it came with the response; any text.
            bindings: Digests of the cookies that came with it. Another browser's login stays where it is.
            provider: Name of the provider whose callback it came to. Another provider's login stays too.

        Raises:
            AuthenticationError: There is no such login: ``state_unknown``, ``state_used``, ``other_browser``,
                ``other_provider``.
            StoreUnavailable: The store is down.
        """
        key, used = _key(state), _USED + _key(state)
        data = self._backend.get(key)
        pending = data and unpack(data, lambda members: _pending(members, state), "login")
        if not data or not pending:
            raise self._missing(used)
        if not any(hmac.compare_digest(pending.binding, binding) for binding in bindings):
            raise AuthenticationError(
                "This sign-in was begun in another browser: start again in this one.",
                error=ErrorCode.OTHER_BROWSER,
            )
        if pending.provider != provider:  # RFC 9700 §4.4: a mix-up
            raise AuthenticationError(
                "This sign-in was begun at another provider: start again.", error=ErrorCode.OTHER_PROVIDER
            )
        if self._backend.pop(key, data) is None:
            raise _used()
        self._backend.put(used, b"", Terms(ttl=self._lifetime))
        age = self._clock() - pending.request.created_at
        return replace(pending, expired=age > self._lifetime)

    def _missing(self, used: str) -> AuthenticationError:
        if self._backend.get(used) is not None:
            return _used()
        cause = (
            ""
            if self._backend.shared
            else " If this happens often, the site runs several workers on STATE_BACKEND=memory, which they "
            "do not share: its administrator should set it to sqlite or redis."
        )
        return AuthenticationError(
            f"This sign-in is not known here any more: start again.{cause}", error=ErrorCode.STATE_UNKNOWN
        )

    def cleanup(self, max_age: float = 600.0) -> int:
        """Remove the logins that are older than ``max_age`` seconds, and return how many were removed."""
        return self._backend.prune(_KIND, max(0.0, 2 * self._lifetime - max_age))


def _used() -> AuthenticationError:
    return AuthenticationError("This sign-in was finished before: start again.", error=ErrorCode.STATE_USED)


def _key(state: str) -> str:
    digest = hashlib.sha256(state.encode("utf-8", "surrogatepass")).digest()
    return _KIND + base64.urlsafe_b64encode(digest).decode("ascii").rstrip("=")


def _pack(pending: PendingAuthorization) -> bytes:
    request = pending.request
    return pack(
        {
            "redirect_uri": request.redirect_uri,
            "nonce": request.nonce,
            "code_verifier": request.code_verifier,
            "created_at": request.created_at,
            "provider": pending.provider,
            "binding": pending.binding,
            "next_url": pending.next_url,
            "restarted": pending.restarted,
        }
    )


def _pending(members: Members, state: str) -> PendingAuthorization:
    request = AuthorizationRequest(
        url="",
        state=state,
        redirect_uri=members.text("redirect_uri"),
        nonce=members.optional_text("nonce"),
        code_verifier=members.optional_text("code_verifier"),
        created_at=members.number("created_at"),
    )
    return PendingAuthorization(
        request,
        members.text("provider"),
        members.text("binding"),
        members.text("next_url"),
        members.flag("restarted"),
    )
