"""Pending logins, each redeemed at most once within its lifetime."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace

from pywry_auth.backends.base import Backend, Terms
from pywry_auth.digests import same_secret
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError
from pywry_auth.models import AuthorizationRequest
from pywry_auth.state.records import Members, pack, unpack
from pywry_auth.state.step_up import LONGEST_AGE, StepUp, packed_step_up, step_up_of

_KIND = "pending:"
_USED = "used:"
_LONG = "pending-long:"

PENDING_SECONDS = 600.0
"""The lifetime of a pending login in seconds."""

STALE_STATES = {ErrorCode.STATE_UNKNOWN, ErrorCode.STATE_USED, ErrorCode.STATE_EXPIRED}
"""The error codes after a reload, after the back button, or in the slower of two tabs."""

PER_CLIENT = 1000
"""The number of pending logins of one client. Another one removes the oldest login of the same client."""

PER_CLIENT_LONG = 200
"""The number of logins of one client that return to a long address, so that they do not fill the store."""

LONG = 1000
"""The number of characters above which an address is long."""


@dataclass(frozen=True)
class PendingAuthorization:
    """A login that waits for the authorization response.

    Args:
        request: The authorization request, which validates the response. Its URL is not kept.
        provider: The provider's name on this site; empty if there is only one provider.
        binding: The digest of the cookie that binds the login to the browser that started it.
        next_url: The address to which the browser goes after the login.
        restarted: Whether the login replaces an expired one, which happens only once.
        scopes: The scopes that the request has in addition to the provider's own.
        demanded: Those of them that a page of the site demanded. The visitor's browser may have chosen the
            others.
        step_up: How recent and how strong the sign-in must be for the page that demanded it; None for any.
        expired: Whether the login exceeded its lifetime; set only by :meth:`PendingStore.find` and
            :meth:`PendingStore.take`.
    """

    request: AuthorizationRequest
    provider: str
    binding: str = field(repr=False)
    next_url: str = ""
    restarted: bool = False
    scopes: tuple[str, ...] = ()
    demanded: tuple[str, ...] = ()
    step_up: StepUp | None = None
    expired: bool = False


@dataclass(frozen=True)
class FoundLogin:
    """A login that a response belongs to, and that is still stored.

    Args:
        login: The login.
        key: The key of the record.
        data: The stored bytes.
    """

    login: PendingAuthorization
    key: str
    data: bytes = field(repr=False)


class PendingStore:
    """Pending logins, stored under the digest of their state.

    Args:
        backend: The backend that keeps the records.
        lifetime: The lifetime of a login in seconds.
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
        """Store a pending login.

        Args:
            pending: The login.
            client: The name of the client, for example its network address. The number of its logins is
                bounded.

        Raises:
            StoreUnavailable: The store is down.
        """
        terms = Terms(ttl=self._kept, group=_KIND + client, limit=PER_CLIENT)
        with self._backend.replicated():  # a user should not sign in at the provider in vain
            self._backend.put(_key(pending.request.state), _pack(pending), terms)

    def is_of(self, state: str, client: str) -> bool:
        """Return whether a client began the login of a state.

        Args:
            state: The state of the authorization request.
            client: See :meth:`put`.

        Raises:
            StoreUnavailable: The store is down.
        """
        return _key(state) in self._backend.members(_KIND + client)

    def may_return_to(self, next_url: str, client: str) -> bool:
        """Return whether a new login of a client may return to an address.

        Long addresses are counted, in the time for which a login is kept. Many of them from one visitor cost
        others in the same network no login, but only the return to such an address.

        Args:
            next_url: The address.
            client: See :meth:`put`.

        Raises:
            StoreUnavailable: The store is down.
        """
        return len(next_url) <= LONG or self._backend.count(_LONG + client, self._kept) <= PER_CLIENT_LONG

    def find(self, state: str, bindings: Collection[str], provider: str) -> FoundLogin:
        """Return the login of a state without removing it.

        The login can still be redeemed later, also after a refusal.

        Args:
            state: The state from the response; any text.
            bindings: The digests of the cookies that the browser sent. A login of another browser is refused.
            provider: The provider whose callback received the response. A login at another provider is
                refused.

        Raises:
            AuthenticationError: There is no such login: ``state_unknown``, ``state_used``, ``other_browser``,
                ``other_provider``.
            StoreUnavailable: The store is down, or a newer version of this package wrote the login, which
                another process can still redeem.
        """
        key = _key(state)
        data = self._backend.get(key)
        pending = data and unpack(data, lambda members: _pending(members, state), "login")
        if not data or not pending:
            raise self._missing(_USED + key)
        if not any(same_secret(binding, pending.binding) for binding in bindings):
            raise AuthenticationError(
                "This sign-in was started in another browser: start again in this one.",
                error=ErrorCode.OTHER_BROWSER,
            )
        if pending.provider != provider:  # RFC 9700 §4.4: a mix-up
            raise AuthenticationError(
                "This sign-in was started at another provider: start again.", error=ErrorCode.OTHER_PROVIDER
            )
        return FoundLogin(self._aged(pending), key, data)

    def redeem(self, found: FoundLogin) -> PendingAuthorization:
        """Remove and return a login that :meth:`find` returned.

        If several callers redeem one login, one of them gets it.

        Args:
            found: The login.

        Raises:
            AuthenticationError: Another caller redeemed it in the meantime (``state_used``).
            StoreUnavailable: The store is down.
        """
        if self._backend.pop(found.key, found.data) is None:
            raise _used()
        self._backend.put(_USED + found.key, b"", Terms(ttl=self._lifetime))
        return self._aged(found.login)

    def take(self, state: str, bindings: Collection[str], provider: str) -> PendingAuthorization:
        """Remove and return the login of a state, in one call.

        Args:
            state: See :meth:`find`.
            bindings: See :meth:`find`. A login of another browser is not removed.
            provider: See :meth:`find`. A login at another provider is not removed.

        Raises:
            AuthenticationError: See :meth:`find` and :meth:`redeem`.
            StoreUnavailable: The store is down.
        """
        return self.redeem(self.find(state, bindings, provider))

    @property
    def _kept(self) -> float:
        """Lifetime of a record in seconds: a response to an expired login gets the right error."""
        return 2 * self._lifetime

    def _aged(self, pending: PendingAuthorization) -> PendingAuthorization:
        age = self._clock() - pending.request.created_at
        return replace(pending, expired=age > self._lifetime)

    def _missing(self, used: str) -> AuthenticationError:
        if self._backend.get(used) is not None:
            return _used()
        return AuthenticationError(
            "This sign-in is no longer known here: start again.", error=ErrorCode.STATE_UNKNOWN
        )

    def cleanup(self, max_age: float = 600.0) -> int:
        """Remove old logins and return their number.

        Args:
            max_age: Logins that are older than this number of seconds are removed.
        """
        return self._backend.prune(_KIND, max(0.0, self._kept - max_age))


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
            "max_age": request.max_age,
            "provider": pending.provider,
            "binding": pending.binding,
            "next_url": pending.next_url,
            "restarted": pending.restarted,
            "scopes": list(pending.scopes) or None,
            "demanded": list(pending.demanded) or None,
            "step_up": packed_step_up(pending.step_up),
        }
    )


def _pending(members: Members, state: str) -> PendingAuthorization:
    request = AuthorizationRequest(
        url="",
        state=state,
        redirect_uri=members.text("redirect_uri"),
        nonce=members.optional_text("nonce"),
        code_verifier=members.optional_text("code_verifier"),
        created_at=members.moment("created_at"),
        max_age=members.optional_count("max_age", LONGEST_AGE),
    )
    return PendingAuthorization(
        request,
        members.text("provider"),
        members.text("binding"),
        members.text("next_url"),
        members.flag("restarted"),
        tuple(members.optional_texts("scopes")),
        tuple(members.optional_texts("demanded")),
        step_up_of(members),
    )
