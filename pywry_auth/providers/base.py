"""OAuthProvider: an authorization server as one client sees it, every step with a default."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Self, TypedDict, Unpack

from pywry_auth.exceptions import AuthenticationError, ErrorCode, TokenError
from pywry_auth.models import Claims, OAuthTokenSet
from pywry_auth.protocol.discovery import KeySet, ProviderMetadata
from pywry_auth.protocol.urls import HTTPOptions, require_endpoint

if TYPE_CHECKING:
    from typing import Any

    from pywry_auth.protocol.authorization import AuthorizationCode
    from pywry_auth.protocol.client_assertion import ClientKey
    from pywry_auth.protocol.http import ProviderSession
    from pywry_auth.protocol.id_token import ExpectedClaims
    from pywry_auth.protocol.pkce import PKCEChallenge
    from pywry_auth.protocol.token_endpoint import TokenEndpoint

_logger = logging.getLogger("pywry_auth.providers")


class ProviderOptions(TypedDict, total=False):
    """Keyword arguments that every provider takes beside its own."""

    authorize_url: str
    token_url: str
    userinfo_url: str
    revocation_url: str
    jwks_url: str
    end_session_url: str
    device_authorization_url: str
    issuer: str
    client_key_file: str
    clock_skew_seconds: float
    http_timeout_seconds: float
    proxy_url: str
    ca_bundle: str
    userinfo_from_id_token: bool
    clock: Callable[[], float]


_ENDPOINTS: Mapping[str, str] = {
    "authorize_url": "authorization_endpoint",
    "token_url": "token_endpoint",
    "userinfo_url": "userinfo_endpoint",
    "revocation_url": "revocation_endpoint",
    "jwks_url": "jwks_uri",
    "end_session_url": "end_session_endpoint",
    "device_authorization_url": "device_authorization_endpoint",
}

_OWN_PARAMETERS = {"response_type", "client_id", "redirect_uri", "scope", "state", "nonce"} | {
    "code_challenge",
    "code_challenge_method",
}


class OAuthProvider:
    """An OAuth 2 authorization server whose endpoints are known, and what this client does there.

    One object serves any number of threads: it holds no user's data.

    Args:
        client_id: The client's identifier at the provider.
        client_secret: Its secret; empty for a public client.
        scopes: Scopes to ask for; None takes the class's own.
        token_endpoint_auth_method: ``auto``, ``private_key_jwt``, ``client_secret_basic``,
            ``client_secret_post`` or ``none``.
        options: Any endpoint to be used instead of the usual one (``authorize_url``, ``token_url``,
            ``userinfo_url``, ``revocation_url``, ``jwks_url``, ``end_session_url``); ``issuer``, byte for
            byte as its ID tokens say it; ``client_key_file``, a PEM or JWK file with the private key for
            ``private_key_jwt`` (RFC 7523), which ``auto`` takes where it is offered;
            ``clock_skew_seconds`` (60) of leeway for ID tokens; ``http_timeout_seconds`` (10) for each call
            in total; ``proxy_url``; ``ca_bundle``; ``userinfo_from_id_token`` to skip the UserInfo call when
            the ID token says enough; ``clock``.

    Raises:
        AuthenticationError: An argument cannot work; the text names it.
        TypeError: There is no such option.
    """

    name: str = "custom"
    default_scopes: ClassVar[tuple[str, ...]] = ()
    authorize_params: ClassVar[Mapping[str, str]] = {}
    endpoints: ProviderMetadata = ProviderMetadata()

    def __init__(
        self,
        client_id: str,
        client_secret: str = "",
        scopes: Sequence[str] | None = None,
        token_endpoint_auth_method: str = "auto",
        **options: Unpack[ProviderOptions],
    ) -> None:
        unknown = options.keys() - ProviderOptions.__annotations__.keys()
        if unknown:
            raise TypeError(f"{type(self).__name__} has no argument {', '.join(sorted(unknown))}")
        if not client_id:
            raise AuthenticationError(
                "CLIENT_ID is empty: set it to the client's identifier at the provider.",
                error=ErrorCode.INVALID_CONFIGURATION,
                provider=self.name,
            )
        self.client_id = client_id
        self._client_secret = client_secret
        self._auth_method = token_endpoint_auth_method
        self.scopes = _scope_list(self.default_scopes if scopes is None else scopes)
        self._explicit = _explicit_endpoints(options)
        self._skew = options.get("clock_skew_seconds", 60.0)
        self._from_id_token = options.get("userinfo_from_id_token", False)
        self._clock = options.get("clock", time.time)
        self._http = HTTPOptions(
            timeout=options.get("http_timeout_seconds", 10.0),
            proxy_url=options.get("proxy_url", ""),
            ca_bundle=options.get("ca_bundle", ""),
        )
        self._client_key = _client_key(options.get("client_key_file", ""))
        # Guards the making of what is made once, on first use: many threads may be first.
        self._lock = threading.Lock()
        self._keys: KeySet | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}(client_id={self.client_id!r})"

    @property
    def metadata(self) -> ProviderMetadata:
        """Where the provider's endpoints are."""
        return replace(self.endpoints, **self._explicit)

    @property
    def uses_openid(self) -> bool:
        """Whether an ID token is asked for, and so required (OIDC Core §3.1.2.1)."""
        return "openid" in self.scopes

    def with_scopes(self, scopes: Sequence[str]) -> Self:
        """Return this provider with other scopes to ask for."""
        twin = copy(self)
        twin.scopes = _scope_list(scopes)
        return twin

    def build_authorize_url(
        self,
        redirect_uri: str,
        state: str,
        pkce: PKCEChallenge | None = None,
        nonce: str | None = None,
        extra_params: Mapping[str, str] | None = None,
    ) -> str:
        """Return the URL to send the browser to (RFC 6749 §4.1.1, RFC 7636 §4.3, OIDC Core §3.1.2.1).

        Args:
            redirect_uri: Where the provider sends the browser back to, as registered there.
            state: Ties the response to this request.
            pkce: Its challenge goes along; None for a login without PKCE.
            nonce: Ties the ID token to this request.
            extra_params: Further parameters such as ``prompt`` or ``login_hint``.

        Raises:
            AuthenticationError: The provider's endpoints cannot be had or do not suffice, or an extra
                parameter is one that is set here.
        """
        from pywry_auth.protocol.authorization import build_authorization_url

        taken = _OWN_PARAMETERS & set(extra_params or ())
        if taken:
            raise self._misconfigured(f"extra_params may not set {', '.join(sorted(taken))}: leave them out")
        return build_authorization_url(
            self._endpoint("authorization_endpoint", "authorize_url"),
            {
                "response_type": "code",
                "client_id": self.client_id,
                "redirect_uri": redirect_uri,
                "scope": " ".join(self.scopes) or None,
                "state": state,
                "nonce": nonce,
                "code_challenge": pkce.challenge if pkce else None,
                "code_challenge_method": pkce.method if pkce else None,
                **self.authorize_params,
                **(extra_params or {}),
            },
        )

    def exchange_code(
        self,
        code: AuthorizationCode | str,
        redirect_uri: str,
        pkce_verifier: str | None = None,
        nonce: str | None = None,
    ) -> OAuthTokenSet:
        """Return the tokens for a code, the ID token validated (RFC 6749 §4.1.3, OIDC Core §3.1.3).

        Args:
            code: The code of a response that was judged. Whoever passes a bare string has judged it.
            redirect_uri: The one that the request was made with.
            pkce_verifier: The code verifier of the request.
            nonce: The nonce of the request.

        Raises:
            TokenError: The provider refused, or what it sent cannot be believed.
        """
        from pywry_auth.protocol.authorization import AuthorizationCode

        judged = code if isinstance(code, AuthorizationCode) else AuthorizationCode(code)
        tokens = self._token_endpoint().exchange(judged, redirect_uri, pkce_verifier)
        if self.uses_openid and tokens.id_token is None:
            raise TokenError(
                "The provider sent no ID token although openid was asked for: check the client there.",
                error=ErrorCode.INVALID_ID_TOKEN,
            )
        # Not said means: as asked (RFC 6749 §5.1).
        granted = tokens.scope or " ".join(self.scopes)
        return self._with_claims(replace(tokens, scope=granted), nonce)

    def refresh_tokens(self, refresh_token: str) -> OAuthTokenSet:
        """Return new tokens (RFC 6749 §6); an answer without a new refresh token keeps the old one.

        Args:
            refresh_token: The refresh token; after this call it may be worth nothing.

        Raises:
            TokenRefreshError: The provider refused: sign in again.
            TokenError: No answer, or an unusable one: the refresh token may still be good.
            AuthenticationError: The key set cannot be had; nothing was asked.
        """
        if self.uses_openid:
            # Else an ID token that cannot be checked could cost a refresh token that was already exchanged.
            self._key_set().keys()
        return self._with_claims(self._token_endpoint().refresh(refresh_token), None)

    def validate_id_token(
        self, id_token: str, nonce: str | None = None, access_token: str | None = None
    ) -> dict[str, Any]:
        """Return the claims of an ID token that this provider made for this client (OIDC Core §3.1.3.7).

        Args:
            id_token: The token as it came.
            nonce: The nonce of the request; None where none was sent.
            access_token: What came with it, held against ``at_hash``.

        Raises:
            TokenError: It is forged, stale, or for somebody else.
        """
        from pywry_auth.protocol.id_token import check_claims
        from pywry_auth.protocol.jws import verify_signature

        token = verify_signature(
            id_token, self._key_set(), self.metadata.id_token_signing_alg_values_supported
        )
        expected = self._expected(token.claims)
        return dict(check_claims(token, expected, nonce=nonce, access_token=access_token))

    def get_userinfo(self, access_token: str) -> dict[str, Any]:
        """Return the provider's profile of the user, as it sent it (OIDC Core §5.3).

        Args:
            access_token: The user's access token.

        Raises:
            AuthenticationError: The provider has no UserInfo endpoint, refused, or answered nonsense.
        """
        url = self._endpoint("userinfo_endpoint", "userinfo_url")
        with self._session() as session:
            answer = session.call("GET", url, headers={"Authorization": f"Bearer {access_token}"})
        if answer.status != 200:
            raise answer.fault("no profile")
        if answer.media_type == "application/jwt":
            return self._signed_userinfo(answer.body)
        return answer.json_object()

    def profile_suffices(self, claims: Claims) -> bool:
        """Tell whether verified ID token claims make the UserInfo call needless.

        They do when there is no such endpoint, or when the provider was made with
        ``userinfo_from_id_token`` and they have what the scopes ask for.
        """
        if not self.metadata.userinfo_endpoint:
            return bool(claims)
        wanted = {"email": "email", "profile": "name"}
        return self._from_id_token and all(claims.get(wanted.get(s, "sub")) for s in self.scopes)

    def issued_to_this_client(self, tokens: OAuthTokenSet) -> bool:
        """Tell, without a call, whether a token set is this issuer's and was made for this client.

        One that says neither was not made by a provider of ours: whoever stored it knows where it is from.
        """
        if not tokens.client_id and not tokens.issuer:
            return True
        return tokens.client_id == self.client_id and self._is_issuer(tokens.issuer)

    def verified_email(self, profile: Claims, access_token: str) -> str | None:
        """Return the address that the provider says is the user's (OIDC Core §5.1); None for none.

        Args:
            profile: What the provider says of the user. Some send ``email_verified`` as a string.
            access_token: The user's, for providers that tell it elsewhere.

        Raises:
            AuthenticationError: The provider would have to be asked, and did not answer.
        """
        email, verified = profile.get("email"), profile.get("email_verified")
        return email if isinstance(email, str) and (verified is True or verified == "true") else None

    def revoke_token(self, token: str) -> bool:
        """Ask the provider to end a token (RFC 7009).

        Args:
            token: An access or refresh token.

        Returns:
            True when the provider says that it is done; False when it cannot, or did not answer.
        """
        try:
            url = self.metadata.revocation_endpoint
            revoked = bool(url) and self._token_endpoint().revoke(url, token)
        except AuthenticationError as error:
            _logger.warning("%s: a token could not be revoked: %s", self.name, error)
            return False
        if url and not revoked:
            _logger.warning("%s: the provider did not revoke a token", self.name)
        return revoked

    def end_session_url(
        self,
        id_token_hint: str | None = None,
        post_logout_redirect_uri: str | None = None,
        state: str | None = None,
    ) -> str | None:
        """Return where to send the browser to sign out at the provider too (OIDC RP-Initiated Logout §2).

        Args:
            id_token_hint: The ID token of the sign-in.
            post_logout_redirect_uri: Where to go afterwards, as registered at the provider.
            state: Comes back with that redirect.

        Returns:
            The URL, or None when the provider has no such endpoint.
        """
        from pywry_auth.protocol.authorization import build_authorization_url

        endpoint = self.metadata.end_session_endpoint
        if not endpoint:
            return None
        return build_authorization_url(
            endpoint,
            {
                "id_token_hint": id_token_hint,
                "client_id": self.client_id,
                "post_logout_redirect_uri": post_logout_redirect_uri,
                "state": state,
            },
        )

    @property
    def http_options(self) -> HTTPOptions:
        """How calls to the provider are made."""
        return self._http

    def close(self) -> None:
        """Close the idle connections of this process to its providers; the provider stays usable."""
        from pywry_auth.protocol.http import close_idle_connections

        close_idle_connections()

    def _is_issuer(self, name: str) -> bool:
        return name == self.metadata.issuer

    def _with_claims(self, tokens: OAuthTokenSet, nonce: str | None) -> OAuthTokenSet:
        if tokens.id_token is None or not self.uses_openid:
            return replace(tokens, id_token=None)  # one that nobody asked for has not been validated
        claims = self.validate_id_token(tokens.id_token, nonce, tokens.access_token)
        return replace(tokens, id_token_claims=claims)

    def _signed_userinfo(self, body: bytes) -> dict[str, Any]:
        from pywry_auth.protocol.id_token import check_issuer_and_audience, check_times
        from pywry_auth.protocol.jws import verify_signature

        text = body.decode("ascii", errors="replace")
        token = verify_signature(text, self._key_set(), self.metadata.userinfo_signing_alg_values_supported)
        expected = self._expected(token.claims)
        check_issuer_and_audience(token.claims, expected)
        check_times(token.claims, expected)
        return dict(token.claims)

    def _expected(self, claims: Claims) -> ExpectedClaims:
        from pywry_auth.protocol.id_token import ExpectedClaims

        return ExpectedClaims(self.metadata.issuer, self.client_id, self._clock(), self._skew)

    def _key_set(self) -> KeySet:
        url = self._endpoint("jwks_uri", "jwks_url")
        self._endpoint("issuer", "issuer")
        with self._lock:
            if self._keys is None:
                self._keys = KeySet(url, self._session)
            return self._keys

    def _token_endpoint(self) -> TokenEndpoint:
        from pywry_auth.protocol.token_endpoint import TokenEndpoint, choose_authentication

        client = choose_authentication(
            self.client_id,
            self._client_secret,
            self._auth_method,
            self.metadata.token_endpoint_auth_methods_supported,
            self._assertion(self._client_key) if self._client_key else None,
        )
        url = self._endpoint("token_endpoint", "token_url")
        return TokenEndpoint(url, client, self._session, self.metadata.issuer, self._clock)

    def _assertion(self, key: ClientKey) -> Callable[[], str]:
        # An audience that anybody could name in a mix-up would let them use the assertion elsewhere: the
        # issuer, unless there is none (draft-ietf-oauth-rfc7523bis).
        audience = self.metadata.issuer or self._endpoint("token_endpoint", "token_url")
        return lambda: key.assertion(self.client_id, audience, self._clock())

    def _session(self) -> ProviderSession:
        from pywry_auth.protocol.http import ProviderSession

        return ProviderSession(self._http)

    def _endpoint(self, member: str, argument: str) -> str:
        value: str = getattr(self.metadata, member)
        if not value:
            raise self._misconfigured(f"there is no {argument}: set {argument.upper()}")
        return value

    def _misconfigured(self, what: str) -> AuthenticationError:
        return AuthenticationError(
            f"Provider {self.name}: {what}.", error=ErrorCode.INVALID_CONFIGURATION, provider=self.name
        )


def _scope_list(scopes: Sequence[str]) -> tuple[str, ...]:
    # A plain string is a sequence too, of characters: surely not what was meant.
    return tuple(scopes.split() if isinstance(scopes, str) else scopes)


def _client_key(path: str) -> ClientKey | None:
    if not path:
        return None
    from pywry_auth.protocol.client_assertion import load_client_key

    return load_client_key(path)


def _explicit_endpoints(options: ProviderOptions) -> dict[str, Any]:
    explicit = {
        member: require_endpoint(str(options.get(name)), name.upper())
        for name, member in _ENDPOINTS.items()
        if options.get(name)
    }
    return explicit | ({"issuer": options["issuer"]} if options.get("issuer") else {})
