"""UserTokens: the tokens of a site's users, for jobs without a request."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pywry_auth.digests import digest_of, same_secret
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import (
    AuthenticationError,
    TokenError,
    TokenExpiredError,
    TokenRefreshError,
    naming_provider,
    printable,
)
from pywry_auth.flow.events import TokensRefreshed, emit
from pywry_auth.flow.refresh import has_expired, is_due, recent_failure, refresh_stored
from pywry_auth.flow.revocation import revoke, revoked_on_failure
from pywry_auth.flow.service_parts import ServiceParts, is_young, resources
from pywry_auth.flow.sign_out import revoke_taken, take
from pywry_auth.flow.token_exchange import ExchangedTokens, ExchangeKey
from pywry_auth.models import Claims, OAuthTokenSet
from pywry_auth.providers.options import scope_list, texts

if TYPE_CHECKING:
    from pywry_auth.flow.request_session import RequestSession
    from pywry_auth.providers.base import OAuthProvider
    from pywry_auth.state.token_record import StoredTokens
    from pywry_auth.state.tokens import TokenStore

# RFC 8693 §2.2.2 requires the first code for a subject token that is not valid; many providers send another.
_SUBJECT_REFUSED = ("invalid_request", "invalid_grant", "invalid_token")


class _LeftToTheSite:
    """The review of access rules, which only the site can do."""

    def is_due(self) -> bool:
        """Return that the refresh makes a review due."""
        return True

    def finish(self, tokens: OAuthTokenSet, claims: Claims) -> bool:
        """Return that the review is not done, so that the site's next refresh does it."""
        return False


@dataclass(frozen=True)
class _Held:
    """The stored tokens of a user, with the provider that issued them."""

    user_id: str
    account: str
    provider: OAuthProvider
    tokens: OAuthTokenSet

    @property
    def grant(self) -> str:
        """A name of the grant; without a known grant, of the tokens."""
        grant, tokens = self.tokens.grant, self.tokens
        return grant.grant_id if grant else digest_of(tokens.refresh_token or tokens.access_token)


class UserTokens:
    """The tokens of a site's users, for background jobs.

    Any number of threads, processes and machines may share the site's token store. A token is refreshed if it
    is about to expire, by one call for all callers, in the site too. A job ends no session: if the provider
    has ended a grant, its tokens stay until the user's next request, which ends the sessions. The access
    rules, too, are evaluated again at the site's next refresh.

    Without arguments, the settings of the site configure everything.

    Args:
        provider: The provider, or the mapping of several, as for ``create_auth_blueprint``; None for the one
            of ``PYWRY_OAUTH2__*``. The provider that issued a user's tokens refreshes them.
        token_store: The store of the site; None for the one of the settings.
        refresh_buffer_seconds: Seconds before its expiry at which an access token is refreshed, at most half
            of its lifetime; None for the setting, by default 60.
        clock: Unix time in seconds.

    Raises:
        AuthenticationError: There is no provider, or a setting is wrong; the text names it.
    """

    def __init__(
        self,
        provider: OAuthProvider | Mapping[str, OAuthProvider] | None = None,
        token_store: TokenStore | None = None,
        *,
        refresh_buffer_seconds: float | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        parts = ServiceParts.of(provider, token_store, refresh_buffer_seconds)
        self._providers = parts.providers
        self._store = parts.store.for_jobs()
        self._buffer = parts.refresh_buffer
        self._clock = clock
        self._exchanged = ExchangedTokens(self._buffer, clock)

    def get_access_token(self, user_id: str, *, account: str = "") -> str:
        """Return a user's valid access token, refreshed if necessary.

        While the token has not expired, no caller waits for the refresh of another one, and it is returned
        unchanged if the provider cannot be reached.

        Args:
            user_id: The user's ID, as in ``session.user_id``.
            account: One of the user's accounts (``session.account``), if several have tokens.

        Raises:
            TokenExpiredError: The user is not signed in, or the token has expired and there is no refresh
                token.
            TokenRefreshError: The provider has ended the grant: the user must sign in again.
            TokenError: The token has expired, and the provider cannot be reached, or refused for a reason
                that can be corrected. Or the user may have several accounts.
            ProviderBusy: The token has expired, and the site in the same process has too many requests that
                wait for the provider.
            StoreUnavailable: The store is down.
        """
        return self._fresh(self._held_by(user_id, account)).access_token

    def request_session(self, user_id: str, *origins: str, account: str = "") -> RequestSession:
        """Return a ``requests`` session that sends a user's fresh access token to the origins only.

        It refreshes once when an API responds with 401, unless the token was issued less than 60 s ago. Make
        one session for each thread.

        Args:
            user_id: The user's ID.
            origins: For example ``https://api.example.com``.
            account: See :meth:`get_access_token`.

        Raises:
            AuthenticationError: An origin is not valid, or none was given.
            TokenExpiredError: The user is not signed in; only a site with several providers finds this out
                now, any other with the first request.
        """
        from pywry_auth.flow.request_session import RequestSession

        one = len(self._providers) == 1
        provider = self._providers[0] if one else self._held_by(user_id, account).provider
        return RequestSession(provider.http_options, origins, _UserSource(self, user_id, account))

    def exchange(
        self,
        user_id: str,
        *,
        audience: str | Sequence[str] | None = None,
        resource: str | Sequence[str] | None = None,
        scopes: Sequence[str] | None = None,
        account: str = "",
    ) -> OAuthTokenSet:
        """Return a token for another service in exchange for the user's access token (RFC 8693).

        The same arguments return the same token until it is about to expire, without a lifetime for 60 s. It
        is dropped when the user signs out or in. A refresh token in the response is dropped. If the provider
        does not accept the access token although it has not expired, it is refreshed, and the exchange is
        tried once more.

        Args:
            user_id: The user's ID.
            audience: The services where the token will be used, by their names at the provider.
            resource: The same services as URLs. ``RESOURCE`` of the provider is not sent.
            scopes: The scopes of the token; None leaves the choice to the provider.
            account: See :meth:`get_access_token`.

        Returns:
            The token set. Its ``token_type`` may be ``N_A`` for a token that is not sent as a bearer token.

        Raises:
            TokenError: The provider refused; ``error`` has its code, such as ``invalid_target``. Or it cannot
                be reached.
            TokenExpiredError: See :meth:`get_access_token`, as for the other errors.
            AuthenticationError: A resource is not valid (``invalid_configuration``).
        """
        asked = (texts(audience), resources(resource), scope_list(scopes or ()))
        while True:
            try:
                held = self._held_by(user_id, account)
            except TokenExpiredError:
                self._exchanged.forget(user_id)
                raise
            client = (held.tokens.client_id, held.tokens.issuer)
            key = ExchangeKey(user_id, held.account, client, *asked)
            issued = self._exchanged.get(key, held.grant, lambda: self._exchange(held, key))  # noqa: B023
            if issued is not None:
                return issued

    def refresh(self, user_id: str, instead_of: str | None = None, *, account: str = "") -> OAuthTokenSet:
        """Refresh a user's tokens now, due or not, and return the new ones.

        Args:
            user_id: The user's ID.
            instead_of: An access token that an API refused. If it was replaced in the meantime, or issued
                less than 60 s ago, the stored tokens are returned without a call to the provider.
            account: See :meth:`get_access_token`.

        Raises:
            TokenExpiredError: The user is not signed in, or there is no refresh token.
            TokenRefreshError: The provider has ended the grant: the user must sign in again.
            TokenError: The provider cannot be reached, or refused for a reason that can be corrected.
            StoreUnavailable: The store is down.
        """
        held = self._held_by(user_id, account)
        if instead_of is not None:
            replaced = not same_secret(held.tokens.access_token, instead_of)
            if replaced or self._is_young(held.tokens):
                return held.tokens
        return self._replaced(held)

    def revoke(self, user_id: str) -> bool:
        """Remove the tokens of all accounts of a user from the store, then revoke them.

        A site that blocks a user ends the sessions first, then calls this. If the provider cannot be reached,
        the revocation stays in the store, and the site tries it again for 24 hours.

        Args:
            user_id: The user's ID.

        Returns:
            Whether the provider confirmed all revocations; False without tokens.

        Raises:
            StoreUnavailable: The store is down: call this again later.
        """
        self._exchanged.forget(user_id)
        own = [user_id] if self._store.owner_of(user_id) == user_id else []
        accounts = (*own, *self._store.accounts_of(user_id))
        results = [self._signed_out(held) for account in accounts if (held := self._held(user_id, account))]
        return bool(results) and all(results)

    def _signed_out(self, held: _Held) -> bool:
        """Remove and revoke the tokens of an account, unless another user has the account by now."""
        provider, account = held.provider, held.account

        def is_own(stored: StoredTokens) -> bool:
            return (stored.owner or account) == held.user_id

        taken = take(provider, self._store, account, is_last=is_own)
        return revoke_taken(provider, self._store, account, taken)

    def _held_by(self, user_id: str, account: str) -> _Held:
        """Return the tokens of a user, and never those of another one.

        A site may give its users IDs of its own, and such an ID may be equal to the account of another user.

        Raises:
            TokenExpiredError: The user is not signed in.
            TokenError: Several accounts of the user have tokens.
        """
        linked = [] if account else self._store.accounts_of(user_id)
        named = self._held(user_id, account or user_id)
        is_own = named is not None and self._store.owner_of(named.account) == user_id
        found = [held for each in linked if (held := self._held(user_id, each))]
        if named is not None and is_own:
            found.append(named)
        if len(found) > 1:
            # An account without an owner may be of another user, from before the site gave IDs of its own.
            accounts = printable(", ".join(sorted(held.account for held in found)), 1000)
            raise TokenError(
                "This user may have several accounts: pass account= with session.account, one of "
                f"{accounts}.",
                error=ErrorCode.INVALID_CONFIGURATION,
            )
        if not found:
            raise self._not_signed_in(other=named is not None)
        return found[0]

    def _held(self, user_id: str, account: str) -> _Held | None:
        tokens = self._store.load(account)
        if tokens is None:
            return None
        issuers = (each for each in self._providers if each.issued_to_this_client(tokens))
        provider = next(issuers, None)
        return None if provider is None else _Held(user_id, account, provider, tokens)

    def _not_signed_in(self, *, other: bool) -> TokenExpiredError:
        if other:
            text = "The tokens under this ID belong to another user: pass session.user_id of that user."
        elif not self._store.backend.shared:
            text = (
                "No user with this ID is signed in: the tokens are in the memory of the process in which the "
                "user signed in. If this is another process, set PYWRY_DEPLOY__STATE_BACKEND to "
                "sqlite, redis or postgres for both, and leave PYWRY_OAUTH2__TOKEN_STORE_BACKEND out."
            )
        else:
            text = "No user with this ID is signed in: the user must sign in to the site first."
        return TokenExpiredError(text, error=ErrorCode.NOT_SIGNED_IN)

    def _fresh(self, held: _Held) -> OAuthTokenSet:
        """Return the tokens, refreshed if they are due."""
        tokens = held.tokens
        if not self._is_due(tokens):
            return tokens
        usable = not has_expired(tokens, self._clock())
        if usable and not tokens.refresh_token:
            return tokens
        failure: AuthenticationError | None = self._known_failure(held)
        if failure is None or not (usable or isinstance(failure, TokenRefreshError)):
            try:
                return self._refreshed(held, self._is_due, wait=0.0 if usable else None)
            except AuthenticationError as error:
                failure = error
        if not usable or isinstance(failure, TokenRefreshError | TokenExpiredError):
            raise failure
        return tokens

    def _replaced(self, held: _Held) -> OAuthTokenSet:
        """Return tokens that replace those of ``held``."""
        failure = self._known_failure(held)
        if isinstance(failure, TokenRefreshError):
            raise failure
        return self._refreshed(held, lambda stored: stored == held.tokens)

    def _known_failure(self, held: _Held) -> TokenError | None:
        return recent_failure(held.provider, self._store, held.account, held.tokens)

    def _refreshed(
        self, held: _Held, due: Callable[[OAuthTokenSet], bool], wait: float | None = None
    ) -> OAuthTokenSet:
        name = held.provider.name
        return refresh_stored(
            held.provider,
            self._store,
            held.account,
            due,
            lambda _: emit(self, TokensRefreshed(mode="job", user_id=held.user_id, provider=name)),
            wait=wait,
            keep_refused=True,
            review=_LeftToTheSite(),
        )

    def _is_due(self, tokens: OAuthTokenSet) -> bool:
        return is_due(tokens, self._clock(), self._buffer)

    def _is_young(self, tokens: OAuthTokenSet) -> bool:
        return is_young(tokens, self._clock(), self._buffer)

    def _exchange(self, held: _Held, key: ExchangeKey) -> OAuthTokenSet | None:
        """Make one exchange; None if the user's grant changed in the meantime."""
        with naming_provider(held.provider.name):
            issued = self._issued(held, key)
        queue = self._store.revocations
        with revoked_on_failure(held.provider, issued, queue, held.account):
            now = self._held(held.user_id, held.account)
        if now is not None and now.provider is held.provider and self._is_same_grant(held, now):
            return issued
        revoke(held.provider, issued, queue, held.account)
        return None

    def _is_same_grant(self, held: _Held, now: _Held) -> bool:
        # Without a known grant, the name changes with each refresh, perhaps with that of this exchange.
        return now.grant == held.grant if held.tokens.grant else now.tokens.grant is None

    def _issued(self, held: _Held, key: ExchangeKey) -> OAuthTokenSet:
        tokens = self._fresh(held)
        try:
            return self._ask(held, tokens, key)
        except TokenError as error:
            refused = error.refused and error.error in _SUBJECT_REFUSED
            if not refused or not tokens.refresh_token or self._is_young(tokens):
                raise
        # The token may have been revoked early.
        return self._ask(held, self._replaced(replace(held, tokens=tokens)), key)

    def _ask(self, held: _Held, tokens: OAuthTokenSet, key: ExchangeKey) -> OAuthTokenSet:
        with held.provider.gate.slot():
            return held.provider.exchange_token(tokens.access_token, key.audience, key.resource, key.scopes)


@dataclass(frozen=True)
class _UserSource:
    """The tokens of one user, for a request session."""

    tokens: UserTokens
    user_id: str
    account: str

    def get_access_token(self) -> str:
        """Return the user's valid access token."""
        return self.tokens.get_access_token(self.user_id, account=self.account)

    def refresh(self, instead_of: str | None = None) -> OAuthTokenSet:
        """Return tokens that replace the one that an API refused."""
        return self.tokens.refresh(self.user_id, instead_of, account=self.account)
