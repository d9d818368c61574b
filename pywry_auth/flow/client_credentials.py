"""ClientCredentials: the token of a service that acts for itself."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from pywry_auth.backends.lease import StillHeld
from pywry_auth.digests import digest_of, same_secret
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError, StoreUnavailable, TokenError, naming_provider
from pywry_auth.flow.refresh import has_expired, is_due
from pywry_auth.flow.service_parts import ServiceParts, is_young, resources
from pywry_auth.flow.shared_failure import failure_text, shared_error
from pywry_auth.models import OAuthTokenSet
from pywry_auth.providers.options import scope_list
from pywry_auth.single_flight import SingleFlight
from pywry_auth.state.client_tokens import ClientTokenRecord

if TYPE_CHECKING:
    from pywry_auth.flow.request_session import RequestSession
    from pywry_auth.providers.base import OAuthProvider
    from pywry_auth.state.tokens import TokenStore

_logger = logging.getLogger("pywry_auth.flow")
_CALLS = 2  # of one request at most: discovery and the token endpoint
_SLACK = 5.0  # seconds for the store
_PAUSE = 5.0  # seconds between two attempts while the present token can be used
_LONGEST_PAUSE = 3600.0  # seconds for which other processes do not try again while it can be used
_ADVICE = "the error of that request says more; check the settings and the registration of this client"
_RESERVED = (
    "grant_type",
    "scope",
    "resource",
    "client_id",
    "client_secret",
    "client_assertion",
    "client_assertion_type",
)


class ClientCredentials:
    """The access token of a service without users (RFC 6749 §4.4).

    Any number of threads may share an object, and any number of processes and machines on the token store
    share its token: they request a new one once for all. If the store is down, each process requests a token
    of its own.

    Args:
        provider: The provider, with a client that authenticates; None for the one of ``PYWRY_OAUTH2__*``.
        scopes: The scopes to request; None leaves the choice to the provider. The scopes of the provider
            object are for users, and are not sent.
        token_store: The store that keeps the token; None for the one of the settings.
        resource: The APIs where the token will be used, as URLs (RFC 8707 §2); None for ``RESOURCE`` of the
            provider, and empty for none.
        params: Further parameters that the provider requires, such as ``audience``.
        refresh_buffer_seconds: Seconds before its expiry at which the token is replaced, at most half of its
            lifetime; None for the setting, by default 60.
        clock: Unix time in seconds.

    Raises:
        AuthenticationError: The client is public, ``openid`` is requested, or an argument or a setting is
            wrong; the text names it.
    """

    def __init__(
        self,
        provider: OAuthProvider | None = None,
        scopes: Sequence[str] | None = None,
        *,
        token_store: TokenStore | None = None,
        resource: str | Sequence[str] | None = None,
        params: Mapping[str, str] | None = None,
        refresh_buffer_seconds: float | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if isinstance(provider, Mapping):
            raise AuthenticationError(
                "provider= is a mapping: pass the one provider of this service.",
                error=ErrorCode.INVALID_CONFIGURATION,
            )
        parts = ServiceParts.of(provider, token_store, refresh_buffer_seconds)
        self._provider = parts.providers[0]
        self._scopes = scope_list(scopes or ())
        self._resource = resources(self._provider.options.resource if resource is None else resource)
        self._params = dict(params or {})
        self._check()
        self._record = ClientTokenRecord(parts.store.backend, self._name())
        self._buffer = parts.refresh_buffer
        self._clock = clock
        self._flights = SingleFlight[OAuthTokenSet](TokenError)
        self._tokens: OAuthTokenSet | None = None
        self._next_attempt = 0.0

    def __repr__(self) -> str:
        return f"ClientCredentials({self._provider!r}, {list(self._scopes)!r})"

    def get_access_token(self) -> str:
        """Return a valid access token, requested if necessary.

        A token that is about to expire is replaced. Until it has expired, no caller waits for the request of
        another one, and it is returned unchanged if the provider cannot be reached.

        Raises:
            TokenError: The provider refused (``refused``) or cannot be reached, and there is no valid token.
            ProviderBusy: There is no valid token, and the site in the same process has too many requests
                that wait for the provider.
        """
        tokens = self._tokens
        if tokens is None or (self._is_due(tokens) and not self._waits(tokens)):
            tokens = self._current()
        return tokens.access_token

    def refresh(self, instead_of: str | None = None) -> OAuthTokenSet:
        """Request a new token now.

        Args:
            instead_of: An access token that an API refused. If it was replaced in the meantime, or issued
                less than 60 s ago, the present token is returned without a call to the provider.

        Raises:
            TokenError: The provider refused (``refused``) or cannot be reached.
            ProviderBusy: See :meth:`get_access_token`.
        """
        tokens = self._newest()
        if tokens is not None and instead_of is not None:
            replaced = not same_secret(tokens.access_token, instead_of) and not self._is_due(tokens)
            if replaced or is_young(tokens, self._clock(), self._buffer):
                self._tokens = tokens
                return tokens
        refused = instead_of or (tokens.access_token if tokens else "")
        return self._flights.run(lambda: self._requested(refused, None), key=(refused, None))

    def request_session(self, *origins: str) -> RequestSession:
        """Return a ``requests`` session that sends the token to the origins only.

        It requests a new token once when an API responds with 401, unless the token was issued less than 60 s
        ago. Make one session for each thread.

        Args:
            origins: For example ``https://api.example.com``.

        Raises:
            AuthenticationError: An origin is not valid, or none was given.
        """
        from pywry_auth.flow.request_session import RequestSession

        return RequestSession(self._provider.http_options, origins, self)

    def _check(self) -> None:
        provider = self._provider
        if "openid" in self._scopes:
            raise provider.configuration_error(
                "openid asks for the identity of a user, and client credentials have none: leave it out"
            )
        # Some providers ignore the case of names.
        if reserved := sorted(name for name in self._params if name.lower() in _RESERVED):
            raise provider.configuration_error(f"params may not set {', '.join(reserved)}: leave them out")
        if not provider.is_confidential:
            raise provider.configuration_error(
                "client credentials need a client that authenticates: set CLIENT_SECRET, CLIENT_KEY_FILE or "
                "CLIENT_ASSERTION_FILE, and do not set TOKEN_ENDPOINT_AUTH_METHOD to none"
            )

    def _name(self) -> str:
        """Return the name under which processes with the same client and arguments find the token."""
        provider = self._provider
        # The issuer is known only after discovery, so these addresses stand for it.
        at = (type(provider).__name__, *provider.configured_urls, provider.endpoints.token_endpoint)
        asked = (sorted(self._scopes), sorted(self._resource), sorted(self._params.items()))
        return digest_of(repr((provider.client_id, at, asked)))

    def _current(self) -> OAuthTokenSet:
        """Return a token that is not due, or at least has not expired."""
        tokens = self._newest()
        if tokens is not None and (not self._is_due(tokens) or self._waits(tokens)):
            self._tokens = tokens
            return tokens
        usable = tokens if tokens is not None and not has_expired(tokens, self._clock()) else None
        wait = None if usable is None else 0.0
        try:
            return self._flights.run(lambda: self._requested("", wait), key=("", wait), wait=wait)
        except AuthenticationError as error:
            if usable is None:
                raise
            self._tokens = self._tokens or usable
            self._pause(error.retry_after)
            return usable

    def _requested(self, refused: str, wait: float | None) -> OAuthTokenSet:
        """Return a new token, requested in turn with other processes.

        Args:
            refused: The access token that must be replaced although it is not due; empty for none.
            wait: Seconds to wait for another process; None for as long as two requests can take.
        """
        try:
            earlier = self._record.last_failure()
            if earlier is not None and wait is not None:
                raise self._shared(earlier)  # the present token lasts for a while
            with self._record.lock(self._patience() if wait is None else wait):
                tokens = self._requested_in_turn(refused, earlier)
        except StillHeld as error:
            raise TokenError(
                "Another process requests this token and takes too long: try again in a moment.",
                error=ErrorCode.TEMPORARILY_UNAVAILABLE,
                provider=self._provider.name,
                retry_after=_PAUSE,
            ) from error
        except StoreUnavailable as error:
            if wait is not None:
                raise
            _logger.warning("%s: a token is requested without the store: %s", self._provider.name, error)
            tokens = self._ask()
        self._tokens = tokens
        return tokens

    def _requested_in_turn(self, refused: str, earlier: str | None) -> OAuthTokenSet:
        """Return the token of the last holder of the lock, or a new one.

        Args:
            refused: See :meth:`_requested`.
            earlier: The last failure before this caller waited for the lock. A new one concerns this caller
                too. Otherwise the last of many callers would sit through every time-out in turn.

        Raises:
            StoreUnavailable: The store is down, and nothing was requested.
        """
        tokens = self._stored()
        if tokens is not None and not same_secret(tokens.access_token, refused) and not self._is_due(tokens):
            return tokens
        failure = self._record.last_failure()
        if failure is not None and failure != earlier:
            raise self._shared(failure)
        try:
            tokens = self._ask()
        except TokenError as error:
            self._share(error)
            raise
        self._save(tokens)
        return tokens

    def _ask(self) -> OAuthTokenSet:
        with naming_provider(self._provider.name), self._provider.gate.slot():
            return self._provider.client_credentials(self._scopes, self._resource, self._params)

    def _patience(self) -> float:
        return 2 * (_CALLS * self._provider.http_options.timeout + _SLACK)

    def _stored(self) -> OAuthTokenSet | None:
        tokens = self._record.load()
        return tokens if tokens is not None and tokens.client_id == self._provider.client_id else None

    def _newest(self) -> OAuthTokenSet | None:
        """Return the token of this process or of the store, whichever is newer."""
        try:
            stored = self._stored()
        except StoreUnavailable as error:
            _logger.warning("%s: the token of this client cannot be read: %s", self._provider.name, error)
            self._pause()
            stored = None
        found = [tokens for tokens in (self._tokens, stored) if tokens is not None]
        return max(found, key=lambda tokens: tokens.issued_at, default=None)

    def _save(self, tokens: OAuthTokenSet) -> None:
        try:
            self._record.save(tokens)
        except StoreUnavailable as error:
            _logger.warning("%s: only this process has the new token: %s", self._provider.name, error)

    def _shared(self, failure: str) -> TokenError:
        return shared_error(failure, "obtain this token", self._provider.name, _ADVICE)

    def _share(self, failure: TokenError) -> None:
        lifetime = max(self._patience(), min(failure.retry_after or 0.0, _LONGEST_PAUSE))
        try:
            self._record.record_failure(failure_text(failure), lifetime)
        except StoreUnavailable as error:
            _logger.warning("%s: other processes do not learn of a failure: %s", self._provider.name, error)

    def _pause(self, retry_after: float | None = None) -> None:
        self._next_attempt = self._clock() + max(_PAUSE, retry_after or 0.0)

    def _waits(self, tokens: OAuthTokenSet) -> bool:
        """Return whether a token that can be used is not replaced yet, after a failure."""
        now = self._clock()
        return now < self._next_attempt and not has_expired(tokens, now)

    def _is_due(self, tokens: OAuthTokenSet) -> bool:
        return is_due(tokens, self._clock(), self._buffer)
