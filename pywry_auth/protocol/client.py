"""A client's calls to its provider, and the validation of the responses.

This file imports the HTTP and the signature libraries, so ``OAuthProvider`` imports it at the first call.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError, TokenError, as_token_error
from pywry_auth.models import Claims, OAuthTokenSet
from pywry_auth.protocol.authorization_response import AuthorizationCode
from pywry_auth.protocol.client_authentication import ClientAuthentication
from pywry_auth.protocol.device import ENDPOINT, DeviceAuthorization, authorize_device, without_user_code
from pywry_auth.protocol.discovery import ProviderMetadata
from pywry_auth.protocol.gate import CallGate
from pywry_auth.protocol.http import ProviderSession, close_idle_connections
from pywry_auth.protocol.id_token import (
    ExpectedClaims,
    check_claims,
    check_claims_except_times,
    check_issuer_and_audience,
    check_times,
    wrong_times,
)
from pywry_auth.protocol.jws import PLAIN_TYPES, VerifiedToken, verify_signature
from pywry_auth.protocol.key_set import KeySet
from pywry_auth.protocol.logout_token import (
    LOGOUT_TYPES,
    LogoutToken,
    as_logout_refusal,
    check_logout_token,
)
from pywry_auth.protocol.provider_errors import CLIENT_CREDENTIALS, DEVICE_CODE, TOKEN_EXCHANGE
from pywry_auth.protocol.reach import Reach
from pywry_auth.protocol.sign_out_url import sign_out_url
from pywry_auth.protocol.token_endpoint import TokenEndpoint
from pywry_auth.protocol.urls import HTTPOptions, name_of_endpoint

_logger = logging.getLogger("pywry_auth.protocol")


class Hooks(Protocol):
    """The provider's part in its calls; ``OAuthProvider`` documents each member."""

    @property
    def uses_openid(self) -> bool:
        """Whether an ID token is required."""

    @property
    def http_options(self) -> HTTPOptions:
        """The options of calls to the provider."""

    @property
    def gate(self) -> CallGate:
        """The bound on the threads that call the provider."""

    def require_endpoint(self, member: str) -> str:
        """Return a required member of the metadata."""

    def reach(self, endpoint: str) -> Reach:
        """Return the networks that calls to an endpoint may reach."""

    def expected_issuer(self, claims: Claims) -> str:
        """Return the issuer that a token must name."""

    def normalize_tokens(self, tokens: OAuthTokenSet) -> OAuthTokenSet:
        """Return a token set in the form that the RFCs require."""


class ProtocolClient:
    """Makes the calls of one client to one provider.

    ``OAuthProvider`` documents their arguments and errors.

    Args:
        identity: The client.
        metadata: Returns the provider's metadata; called by each call that needs it.
        hooks: The provider's differences.
        keys: The provider's signing keys.
        leeway: Seconds by which the provider's clock may differ.
        resource: The API that access tokens are for (RFC 8707 §2.2); empty for none.
    """

    def __init__(
        self,
        identity: ClientAuthentication,
        metadata: Callable[[], ProviderMetadata],
        hooks: Hooks,
        keys: KeySet,
        leeway: float,
        resource: str = "",
    ) -> None:
        self._identity = identity
        self._metadata = metadata
        self._hooks = hooks
        self._keys = keys
        self._leeway = leeway
        self._resource = resource or None

    def session(self) -> ProviderSession:
        """Return an HTTP session for one call."""
        return ProviderSession(self._hooks.http_options, self._hooks.gate, (self._identity.client_secret,))

    def close(self) -> None:
        """Close the idle connections of this process to providers."""
        close_idle_connections()

    def exchange(
        self,
        code: AuthorizationCode | str,
        redirect_uri: str,
        verifier: str | None,
        nonce: str | None,
        scope: str,
    ) -> OAuthTokenSet:
        """Exchange a code for tokens and validate the ID token.

        See RFC 6749 §4.1.3, RFC 8707 §2.2 and OIDC Core §3.1.3.
        """
        value = code.value if isinstance(code, AuthorizationCode) else code
        grant = {"grant_type": "authorization_code", "code": value, "redirect_uri": redirect_uri}
        return self.obtain({**grant, "code_verifier": verifier, "resource": self._resource}, nonce, scope)

    def obtain(self, grant: Mapping[str, str | None], nonce: str | None, scope: str) -> OAuthTokenSet:
        """Request the tokens for any grant and validate the ID token.

        Args:
            grant: ``grant_type`` and its parameters.
            nonce: The nonce of the request; None if none was sent.
            scope: The scopes of the request.

        Raises:
            TokenError: The provider refused, or its response is not valid.
        """
        self._check_openid()
        tokens = self.token_endpoint().request(grant, self._revoke_unusable)
        if self._hooks.uses_openid and tokens.id_token is None:
            self._revoke_unusable([tokens.refresh_token, tokens.access_token])
            raise TokenError(
                "The provider sent no ID token although openid was requested: check the client there.",
                error=ErrorCode.INVALID_ID_TOKEN,
            )
        # A response without a scope means the requested one (RFC 6749 §5.1).
        return self._validated(
            replace(tokens, scope=tokens.scope or scope),
            lambda tokens, id_token: self._with_claims(tokens, id_token, nonce),
        )

    def client_credentials(
        self, scope: str, resource: Sequence[str], params: Mapping[str, str]
    ) -> OAuthTokenSet:
        """Return a token of the client itself (RFC 6749 §4.4)."""
        grant = {**params, "scope": scope or None, "resource": resource}
        return self._without_user({**grant, "grant_type": CLIENT_CREDENTIALS}, scope)

    def exchange_token(
        self, subject_token: str, audience: Sequence[str], resource: Sequence[str], scope: str
    ) -> OAuthTokenSet:
        """Return a token for another service in exchange for an access token (RFC 8693 §2.1)."""
        grant = {
            "grant_type": TOKEN_EXCHANGE,
            "subject_token": subject_token,
            "subject_token_type": "urn:ietf:params:oauth:token-type:access_token",
            "audience": audience,
            "resource": resource,
            "scope": scope or None,
        }
        return self._without_user(grant, scope)

    def authorize_device(self, parameters: Mapping[str, str]) -> DeviceAuthorization:
        """Request the codes for a sign-in on another device (RFC 8628 §3.1)."""
        url = self._hooks.require_endpoint(ENDPOINT)
        self._check_openid()
        resource = (self._resource,) if self._resource else ()
        return authorize_device(
            self.token_endpoint(), url, {name: value for name, value in parameters.items() if value}, resource
        )

    def redeem_device_code(self, authorization: DeviceAuthorization, scope: str) -> OAuthTokenSet:
        """Ask once for the tokens of a sign-in on another device (RFC 8628 §3.4)."""
        grant = {"grant_type": DEVICE_CODE, "device_code": authorization.device_code}
        try:
            with as_token_error():  # nothing was sent, so a failure may pass
                self.token_endpoint()
                if self._hooks.uses_openid:
                    # As for a refresh: a code can be used only once.
                    self._signing_keys().keys()
            return self.obtain({**grant, "resource": self._resource}, None, scope)
        except TokenError as error:
            raise without_user_code(error, authorization.user_code) from error.__cause__

    def _without_user(self, grant: Mapping[str, str | Sequence[str] | None], scope: str) -> OAuthTokenSet:
        """Return the access token for a grant that needs no user.

        A refresh token (RFC 6749 §4.4.3) and an ID token are dropped: nothing needs them.
        """
        with as_token_error():  # discovery may fail
            answer = self.token_endpoint().request(grant, self._revoke_unusable)
        found = self._hooks.normalize_tokens(answer)
        raw = {name: value for name, value in found.raw.items() if name not in ("refresh_token", "id_token")}
        return replace(found, scope=found.scope or scope, refresh_token=None, id_token=None, raw=raw)

    @property
    def is_confidential(self) -> bool:
        """Whether the client authenticates at the provider (RFC 6749 §2.1)."""
        return self._identity.is_confidential

    def refresh(self, refresh_token: str) -> OAuthTokenSet:
        """Return new tokens (RFC 6749 §6).

        If the response has no new refresh token, the old one is kept. If only the times of its ID token are
        wrong, the new set has the claims, but not the ID token.
        """
        self._check_openid()
        if self._hooks.uses_openid:
            # Fetch the keys first: without them, the refresh token would be spent for tokens that cannot be
            # validated.
            self._signing_keys().keys()
        # Send no scope: the scope stays the same, and some servers refuse the parameter.
        grant = {
            "grant_type": "refresh_token",
            "refresh_token": refresh_token,
            "resource": self._resource,
        }
        return self._validated(
            self.token_endpoint().request(grant, self._revoke_unusable), self._with_refreshed_claims
        )

    def revoke(self, token: str) -> bool | None:
        """Revoke a token and return whether the provider confirms it (RFC 7009).

        None means that the provider has no revocation endpoint.
        """
        url = self._metadata().usable("revocation_endpoint")
        return self.token_endpoint().revoke(url, token) if url else None

    def userinfo(self, access_token: str) -> dict[str, Any]:
        """Return the user's profile as the provider sent it (OIDC Core §5.3)."""
        url = self._hooks.require_endpoint("userinfo_endpoint")
        with self.session().within(self._hooks.reach("userinfo_endpoint")) as session:
            headers = {"Authorization": f"Bearer {access_token}"}
            answer = session.call("GET", url, headers=headers, operation="userinfo")
        if answer.status != 200:
            raise answer.fault("a profile")
        if answer.media_type != "application/jwt":
            return answer.json_object()
        text = answer.body.strip().decode("ascii", errors="replace")
        metadata = self._metadata()
        metadata.require_usable("userinfo_signing_alg_values_supported")
        token, expected = self.verify(text, metadata.userinfo_signing_alg_values_supported)
        check_issuer_and_audience(token.claims, expected)
        check_times(token.claims, expected)
        return dict(token.claims)

    def validate_id_token(self, id_token: str, nonce: str | None, access_token: str | None) -> dict[str, Any]:
        """Return the claims of an ID token for this client (OIDC Core §3.1.3.7)."""
        token, expected = self._verified(id_token)
        return dict(check_claims(token, expected, nonce=nonce, access_token=access_token))

    def validate_logout_token(self, token: str) -> LogoutToken:
        """Return the content of a logout token for this client.

        See OIDC Back-Channel Logout §2.6. The caller refuses a token that it has received before.

        Args:
            token: The token as the provider sent it.

        Raises:
            TokenError: The token is not valid (``invalid_request``). The text names the check, without a
                value.
            AuthenticationError: The metadata or the key set cannot be fetched.
        """
        metadata = self._metadata()
        metadata.require_usable("id_token_signing_alg_values_supported")
        algorithms = metadata.id_token_signing_alg_values_supported
        with as_logout_refusal():
            verified, expected = self.verify(token, algorithms, LOGOUT_TYPES)
            return check_logout_token(verified.claims, expected)

    def verify(
        self, token: str, algorithms: Sequence[str], types: Collection[str] = PLAIN_TYPES
    ) -> tuple[VerifiedToken, ExpectedClaims]:
        """Return a token that the provider signed, and the claims that it must have.

        The caller checks the claims with the functions of :mod:`pywry_auth.protocol.id_token`.

        Args:
            token: The token in compact form.
            algorithms: The provider's signature algorithms for such tokens; empty for any that is secure.
            types: The values of ``typ`` to accept.

        Raises:
            TokenError: The provider did not sign the token, or its type is another one.
            AuthenticationError: The key set cannot be fetched.
        """
        verified = verify_signature(token, self._signing_keys(), algorithms, types)
        issuer = self._hooks.expected_issuer(verified.claims)
        now = self._identity.clock()
        return verified, ExpectedClaims(issuer, self._identity.client_id, now, self._leeway)

    def end_session_url(
        self, id_token_hint: str | None, post_logout_redirect_uri: str | None, state: str | None
    ) -> str | None:
        """Return the provider's sign-out URL, or None (OIDC RP-Initiated Logout §2)."""
        endpoint = self._metadata().usable("end_session_endpoint")
        parameters = {
            "id_token_hint": id_token_hint,
            "client_id": self._identity.client_id,
            "post_logout_redirect_uri": post_logout_redirect_uri,
            "state": state,
        }
        return sign_out_url(endpoint, parameters) if endpoint else None

    def token_endpoint(self) -> TokenEndpoint:
        """Return the provider's token endpoint.

        Raises:
            AuthenticationError: The provider has no token endpoint.
        """
        metadata = self._metadata()
        url = self._hooks.require_endpoint("token_endpoint")
        if self._identity.follows_offer:
            metadata.require_usable("token_endpoint_auth_methods_supported")
        authentication = replace(
            self._identity,
            offered=metadata.token_endpoint_auth_methods_supported,
            audience=url if self._identity.audience_kind == "token_endpoint" else metadata.issuer,
        )
        issuer = metadata.issuer or name_of_endpoint(url)
        return TokenEndpoint(url, authentication, self.session, issuer, self._hooks.reach)

    def _verified(self, id_token: str) -> tuple[VerifiedToken, ExpectedClaims]:
        metadata = self._metadata()
        metadata.require_usable("id_token_signing_alg_values_supported")
        return self.verify(id_token, metadata.id_token_signing_alg_values_supported)

    def _validated(
        self, tokens: OAuthTokenSet, with_claims: Callable[[OAuthTokenSet, str], OAuthTokenSet]
    ) -> OAuthTokenSet:
        tokens = self._hooks.normalize_tokens(tokens)
        if tokens.id_token is None or not self._hooks.uses_openid:
            return replace(tokens, id_token=None)  # drop an ID token that was not requested
        try:
            return with_claims(tokens, tokens.id_token)
        except TokenError:
            self._revoke_unusable([tokens.refresh_token, tokens.access_token])
            raise

    def _with_claims(self, tokens: OAuthTokenSet, id_token: str, nonce: str | None) -> OAuthTokenSet:
        claims = self.validate_id_token(id_token, nonce, tokens.access_token)
        return replace(tokens, id_token_claims=claims)

    def _with_refreshed_claims(self, tokens: OAuthTokenSet, id_token: str) -> OAuthTokenSet:
        """Return refreshed tokens with the claims of their ID token.

        The ID token proves nothing new about the user. A clock that is wrong for a moment must not cost the
        grant, whose earlier refresh token may be invalid by now.
        """
        token, expected = self._verified(id_token)
        claims = check_claims_except_times(token, expected, access_token=tokens.access_token)
        wrong = wrong_times(claims, expected)
        if wrong is not None:
            _logger.warning(
                "the ID token of a refresh is not used, because %s: the clock of this machine seems to be "
                "%.0f s %s; the other tokens are kept",
                wrong.reason,
                abs(wrong.lag),
                "slow" if wrong.lag > 0 else "fast (or the token is old)",
            )
            tokens = replace(tokens, id_token=None)
        return replace(tokens, id_token_claims=dict(claims))

    def _revoke_unusable(self, tokens: Sequence[str | None]) -> None:
        """Revoke tokens that cannot be used; the login fails however this ends."""
        for token in filter(None, tokens):
            try:
                self.revoke(token)
            except AuthenticationError as error:
                _logger.warning("a token that cannot be used could not be revoked: %s", error)
                if error.timeout is not None:
                    return  # the other token would probably take its whole time limit too

    def _check_openid(self) -> None:
        """Check the metadata that ID tokens need, because a code or a refresh token can be used only once."""
        if self._hooks.uses_openid:
            self._signing_keys()
            self._metadata().require_usable("id_token_signing_alg_values_supported")

    def _signing_keys(self) -> KeySet:
        self._hooks.require_endpoint("jwks_uri")
        self._hooks.require_endpoint("issuer")
        return self._keys
