"""OAuthProvider: one authorization server for one client."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Unpack

from pywry_auth.exceptions import AuthenticationError
from pywry_auth.models import OAuthTokenSet
from pywry_auth.protocol.gate import CallGate
from pywry_auth.protocol.key_set import KeySet
from pywry_auth.protocol.urls import with_query
from pywry_auth.providers.device_grant import DeviceGrant
from pywry_auth.providers.options import ProviderKeywords, ProviderOptions, require_client, scope_list
from pywry_auth.request_parameters import names_fault

if TYPE_CHECKING:
    from typing import Any

    from pywry_auth.protocol.authorization_response import AuthorizationCode
    from pywry_auth.protocol.client import ProtocolClient
    from pywry_auth.protocol.http import ProviderSession
    from pywry_auth.protocol.pkce import PKCEChallenge

__all__ = ["OAuthProvider", "ProviderOptions"]

_logger = logging.getLogger("pywry_auth.providers")


class OAuthProvider(DeviceGrant):
    """An OAuth 2 authorization server with known endpoints.

    An object holds no data of users, so any number of threads may share it.

    A subclass for a provider with differences sets ``name``, ``default_scopes``, ``endpoints`` and
    ``authorize_params`` (added to each authorization request). With the ``prompt`` in
    ``other_account_prompt``, the provider lets a signed-in user choose another account (OIDC Core §3.1.2.1).
    The subclass overrides the hooks ``metadata``, ``authorization_parameters``, ``expected_issuer``,
    ``is_same_issuer``, ``is_recorded_issuer``, ``normalize_tokens``, ``grants``, ``verified_email``,
    ``denies_email``, ``profile_suffices`` and ``request_revocation``, or any other public method. Its own
    calls can use ``options``, ``client``, ``api_session``, ``require_endpoint`` and ``configuration_error``.

    Args:
        client_id: The client's identifier at the provider.
        client_secret: The client's secret; empty for a public client.
        scopes: Scopes to request; None means the default scopes of the class.
        token_endpoint_auth_method: ``private_key_jwt``, ``client_secret_basic``, ``client_secret_post`` or
            ``none``; ``auto`` takes the first of these that the provider offers and the client can use.
        options: The fields of ``ProviderOptions``.

    Raises:
        AuthenticationError: An argument is not valid; the text names it.
        TypeError: An option is unknown.
    """

    def __init__(
        self,
        client_id: str,
        client_secret: str = "",
        scopes: Sequence[str] | None = None,
        token_endpoint_auth_method: str = "auto",
        **options: Unpack[ProviderKeywords],
    ) -> None:
        self.options = ProviderOptions(**options)
        require_client(client_id, client_secret, self.name)
        self.check_assertion_file(client_secret, token_endpoint_auth_method)
        self.client_id = client_id
        self.scopes = scope_list(self.default_scopes if scopes is None else scopes)
        self.options.report(self.name, self.uses_openid)
        self._client_secret = client_secret
        self._auth_method = token_endpoint_auth_method
        self._key = self.options.load_client_key()
        self.gate = CallGate(self.name)  # the copies with other scopes share it
        jwks_url = partial(self.require_endpoint, "jwks_uri")
        self._signing_keys = KeySet(
            jwks_url, lambda: self.api_session().within(self.reach("jwks_uri")), gate=self.gate
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}(client_id={self.client_id!r})"

    @property
    def client(self) -> ProtocolClient:
        """The object that makes the calls to the provider."""
        # Import at the first call, so that a program with valid tokens starts without the HTTP libraries.
        from pywry_auth.protocol.client import ProtocolClient
        from pywry_auth.protocol.client_authentication import ClientAuthentication

        options = self.options
        method = (self._auth_method, self._key, options.assertion_file, options.clock)
        audience = options.client_assertion_audience
        identity = ClientAuthentication(self.client_id, self._client_secret, *method, audience)
        keys, leeway = self._signing_keys, options.clock_skew_seconds
        return ProtocolClient(identity, lambda: self.metadata, self, keys, leeway, options.resource)

    @property
    def uses_openid(self) -> bool:
        """Whether the scopes request an ID token (OIDC Core §3.1.2.1).

        If they do, a token response without one is an error.
        """
        return "openid" in self.scopes

    def build_authorize_url(
        self,
        redirect_uri: str,
        state: str,
        pkce: PKCEChallenge | None = None,
        nonce: str | None = None,
        extra_params: Mapping[str, str] | None = None,
    ) -> str:
        """Return the URL of an authorization request.

        See RFC 6749 §4.1.1, RFC 7636 §4.3, RFC 8707 §2.1 and OIDC Core §3.1.2.1.

        Args:
            redirect_uri: The redirect URI, as registered at the provider.
            state: Ties the response to this request.
            pkce: The code challenge to send; None for a login without PKCE.
            nonce: Ties the ID token to this request.
            extra_params: Further parameters such as ``prompt``; they replace ``authorize_params``.

        Raises:
            AuthenticationError: The endpoint is not known, or ``extra_params`` contains a parameter that
                another argument or setting sets, such as ``state`` or ``scope``.
        """
        own = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": redirect_uri,
            "scope": " ".join(self.scopes) or None,
            "state": state,
            "nonce": nonce,
            "code_challenge": pkce.challenge if pkce else None,
            "code_challenge_method": pkce.method if pkce else None,
        }
        extra = extra_params or {}
        if fault := names_fault(extra, self.options.resource):
            raise self.configuration_error(f"extra_params: {fault}")
        endpoint = self.require_endpoint("authorization_endpoint")
        parameters = {**own, **self.authorization_parameters(extra)}
        if self.options.resource:
            parameters["resource"] = self.options.resource
        return with_query(endpoint, parameters)

    def exchange_code(
        self,
        code: AuthorizationCode | str,
        redirect_uri: str,
        pkce_verifier: str | None = None,
        nonce: str | None = None,
    ) -> OAuthTokenSet:
        """Exchange a code for tokens and validate the ID token.

        Args:
            code: The code of a validated response. A caller that passes a string must have validated the
                response itself.
            redirect_uri: The redirect URI of the request.
            pkce_verifier: The code verifier of the request.
            nonce: The nonce of the request.

        Raises:
            TokenError: The provider refused, or its response is not valid.
        """
        return self.client.exchange(code, redirect_uri, pkce_verifier, nonce, " ".join(self.scopes))

    def refresh_tokens(self, refresh_token: str) -> OAuthTokenSet:
        """Return new tokens for a refresh token.

        If the response has no new refresh token, the old one is kept. If only the times of its ID token are
        wrong, a warning is logged, and the new set has the claims, but not the ID token.

        Raises:
            TokenRefreshError: The refresh token is no longer valid: the user must sign in again.
            TokenError: The provider refused for another reason, or did not answer. The token may be valid.
            AuthenticationError: The key set cannot be fetched; nothing was sent.
        """
        return self.client.refresh(refresh_token)

    def validate_id_token(
        self, id_token: str, nonce: str | None = None, access_token: str | None = None
    ) -> dict[str, Any]:
        """Return the claims of an ID token for this client (OIDC Core §3.1.3.7).

        Args:
            id_token: The token as the provider sent it.
            nonce: The nonce of the request; None if none was sent.
            access_token: The access token of the same response, compared with ``at_hash``.

        Raises:
            TokenError: The token is forged, expired, or for another client or login.
        """
        return self.client.validate_id_token(id_token, nonce, access_token)

    def get_userinfo(self, access_token: str) -> dict[str, Any]:
        """Return the user's profile as the provider sent it (OIDC Core §5.3).

        Raises:
            AuthenticationError: There is no UserInfo endpoint, or it refused or sent no valid profile.
        """
        return self.client.userinfo(access_token)

    def revoke_token(self, token: str) -> bool:
        """Revoke a token and return whether the provider confirms it.

        If the provider refuses or does not answer, a warning is logged and the sign-out continues.

        Args:
            token: An access or refresh token.
        """
        try:
            revoked = self.request_revocation(token)
        except AuthenticationError as error:
            _logger.warning("%s: a token could not be revoked: %s", self.name, error)
            return False
        if revoked is False:
            _logger.warning("%s: the provider did not revoke a token", self.name)
        return revoked is True

    def request_revocation(self, token: str) -> bool | None:
        """Send one revocation request and return whether it succeeded (RFC 7009).

        None means that the request cannot be sent.

        Raises:
            AuthenticationError: There was no answer.
        """
        return self.client.revoke(token)

    def end_session_url(
        self,
        id_token_hint: str | None = None,
        post_logout_redirect_uri: str | None = None,
        state: str | None = None,
    ) -> str | None:
        """Return the provider's sign-out URL, or None (OIDC RP-Initiated Logout §2).

        Args:
            id_token_hint: The ID token of the sign-in.
            post_logout_redirect_uri: The address for the browser afterwards, as registered at the provider.
            state: A value that the provider adds to that redirect.
        """
        return self.client.end_session_url(id_token_hint, post_logout_redirect_uri, state)

    def close(self) -> None:
        """Close the idle connections of this process to all providers.

        The provider stays usable.
        """
        self.client.close()

    def api_session(self) -> ProviderSession:
        """Return an HTTP session for a call to the provider's API."""
        return self.client.session()
