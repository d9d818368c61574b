"""ProviderHooks: the RFCs' rules, which a provider may override."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from typing import ClassVar, Self

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError
from pywry_auth.models import Claims, OAuthTokenSet
from pywry_auth.protocol.discovery import ProviderMetadata
from pywry_auth.protocol.reach import EVERYWHERE, Reach
from pywry_auth.protocol.urls import HTTPOptions, name_of_endpoint
from pywry_auth.providers.google_addresses import (
    ISSUER,
    LEGACY_ISSUER,
    is_hosted_by_google,
    is_hosted_elsewhere,
    names_google,
)
from pywry_auth.providers.options import ENDPOINTS, ProviderOptions, assertion_faults, scope_list

_RENAMED = {"vouched_email": "verified_email", "issued": "issued_to_this_client"}


class ProviderHooks:
    """The members that a provider's class may override.

    ``OAuthProvider`` lists them.
    """

    name: str = "custom"
    default_scopes: ClassVar[tuple[str, ...]] = ()
    authorize_params: ClassVar[Mapping[str, str]] = {}
    endpoints: ProviderMetadata = ProviderMetadata()
    accepts_assertions: ClassVar[bool] = True
    other_account_prompt: ClassVar[str] = "login"

    options: ProviderOptions
    client_id: str
    scopes: tuple[str, ...]

    def __init_subclass__(cls) -> None:
        """Refuse an override under a name of version 0.1.0, which would have no effect.

        Raises:
            TypeError: The class has such a method; the text names the new one.
        """
        super().__init_subclass__()
        for old, new in _RENAMED.items():
            if old in vars(cls):
                raise TypeError(f"{cls.__name__}.{old}() has no effect any more: rename it to {new}()")

    @property
    def http_options(self) -> HTTPOptions:
        """The options of calls to the provider."""
        return self.options.http

    def check_assertion_file(self, client_secret: str, method: str) -> None:
        """Check that ``client_assertion_file`` is the only proof of this client.

        Args:
            client_secret: The client's secret, or an empty text.
            method: The authentication method of the settings.

        Raises:
            AuthenticationError: It is a directory, another option excludes it, or this provider accepts no
                assertions; the text names the options.
        """
        path = self.options.client_assertion_file
        if faults := assertion_faults(path, client_secret, self.options.client_key_file, method):
            raise self.configuration_error("; ".join(faults))
        if path and not self.accepts_assertions:
            raise self.configuration_error(
                "it accepts no client assertions: use CLIENT_SECRET instead of CLIENT_ASSERTION_FILE"
            )

    def with_scopes(self, scopes: Sequence[str]) -> Self:
        """Return a copy of this provider that requests other scopes."""
        twin = copy(self)
        twin.scopes = scope_list(scopes)
        return twin

    def with_timeout(self, seconds: float) -> Self:
        """Return a copy of this provider with a shorter time limit.

        Args:
            seconds: The time limit of each call; one that is longer than before has no effect.
        """
        twin = copy(self)
        limit = min(seconds, self.options.http_timeout_seconds)
        twin.options = replace(self.options, http_timeout_seconds=limit)
        return twin

    @property
    def metadata(self) -> ProviderMetadata:
        """The provider's endpoints and capabilities.

        Endpoints in ``options`` replace the usual ones.
        """
        return self.options.applied_to(self.endpoints)

    @property
    def known_metadata(self) -> ProviderMetadata | None:
        """The metadata, as far as they need no call to the provider.

        They are None until the first call has loaded them. They are for pages that must not wait for the
        provider.
        """
        return self.metadata

    @property
    def configured_urls(self) -> Sequence[str]:
        """The addresses by which the provider is configured."""
        options = self.options
        return (options.authorize_url, options.token_url, options.userinfo_url)

    def authorization_parameters(self, extra: Mapping[str, str]) -> Mapping[str, str]:
        """Return the additional parameters of an authorization request.

        Those of the class come first. The options replace them, and the caller replaces both.

        Args:
            extra: The caller's ``extra_params``.
        """
        return {**self.authorize_params, **self.options.authorize_params, **extra}

    def expected_issuer(self, claims: Claims) -> str:
        """Return the issuer that a token must name, byte for byte.

        Args:
            claims: The token's claims. The signature is verified, the claims are not yet validated.

        Raises:
            TokenError: The token is refused.
        """
        return self.metadata.issuer

    def is_same_issuer(self, name: str) -> bool:
        """Return whether a response's ``iss`` names this issuer (RFC 9207 §2.4)."""
        return name == self.metadata.issuer

    def is_recorded_issuer(self, name: str) -> bool:
        """Return whether a stored token set names this issuer.

        A provider without an issuer is known by its token endpoint. Records of earlier versions have no name
        for it.
        """
        metadata = self.metadata
        return (
            name == metadata.issuer
            if metadata.issuer
            else name in ("", name_of_endpoint(metadata.token_endpoint))
        )

    def issued_to_this_client(self, tokens: OAuthTokenSet) -> bool:
        """Return whether this issuer issued a token set to this client.

        This makes no call. A set that names neither was stored by the application itself, and is accepted.
        """
        if not tokens.client_id and not tokens.issuer:
            return True
        return tokens.client_id == self.client_id and self.is_recorded_issuer(tokens.issuer)

    def grants(self, tokens: OAuthTokenSet, scope: str) -> bool:
        """Return whether a token set has a scope.

        A response that names no scopes grants those of the request (RFC 6749 §5.1). The set has their names
        then.

        Args:
            tokens: The token set.
            scope: The name of the scope, as an authorization request has it.
        """
        return scope in tokens.scope.split()

    def normalize_tokens(self, tokens: OAuthTokenSet) -> OAuthTokenSet:
        """Return a token set in the form that the RFCs require.

        The ID token is validated afterwards.
        """
        return tokens

    def profile_suffices(self, claims: Claims) -> bool:
        """Return whether ID token claims make the UserInfo call unnecessary.

        They do without a UserInfo endpoint. They also do if ``userinfo_from_id_token`` is set and they
        contain all claims that the scopes request.

        Args:
            claims: The claims of a validated ID token.
        """
        if not self.metadata.offers("userinfo_endpoint"):
            return bool(claims)
        wanted = {"email": "email", "profile": "name"}
        complete = all(claims.get(wanted.get(scope, "sub")) for scope in self.scopes)
        return self.options.userinfo_from_id_token and complete

    def verified_email(self, profile: Claims, access_token: str) -> str | None:
        """Return the user's verified e-mail address, or None (OIDC Core §5.1).

        An address of a Google account counts only if Google provides its mailbox. This also applies if Google
        is configured with the class for another provider.

        Args:
            profile: The user's profile, with the claims of the ID token that it lacks. Some providers send
                ``email_verified`` as a string.
            access_token: The user's access token, for a provider with a separate endpoint for addresses.

        Raises:
            AuthenticationError: That endpoint did not answer.
        """
        email, verified = profile.get("email"), profile.get("email_verified")
        if not isinstance(email, str) or not (verified is True or verified == "true"):
            return None
        return None if self._is_google() and not is_hosted_by_google(email, profile) else email

    def denies_email(self, profile: Claims) -> bool:
        """Return whether a claim says that the user's e-mail address is not verified.

        If :meth:`verified_email` returns None and no claim says so, the claim that decides is missing. After
        a refresh, a missing claim changes neither the user's roles nor access.

        Args:
            profile: As for :meth:`verified_email`.
        """
        denied = profile.get("email_verified") not in (None, True, "true")
        return denied or (self._is_google() and is_hosted_elsewhere(profile))

    def _is_google(self) -> bool:
        at_google = any(map(self.is_recorded_issuer, (ISSUER, LEGACY_ISSUER)))
        return at_google or names_google(self.configured_urls)

    def require_endpoint(self, member: str) -> str:
        """Return a required member of the metadata.

        Args:
            member: The member's name, such as ``userinfo_endpoint``.

        Raises:
            AuthenticationError: The member is empty, or its value is not safe to use; the text names the
                option that sets it.
        """
        value = self.metadata.usable(member)
        if not value:
            option = next((name for name, endpoint in ENDPOINTS.items() if endpoint == member), member)
            raise self.configuration_error(f"there is no {option}: set {option.upper()}")
        return value

    def reach(self, endpoint: str) -> Reach:
        """Return the networks that calls to an endpoint may reach.

        A discovered endpoint may be at a public address, or at an address of the issuer's own kind: in a
        private network or on this machine. An endpoint that the options or the class name may be anywhere.
        A session of ``api_session`` keeps to it with ``within``.

        Args:
            endpoint: The endpoint's name in the metadata.
        """
        network = self.metadata.issuer_network
        if network is None or endpoint in self.options.chosen_endpoints:
            return EVERYWHERE
        return Reach.from_issuer(network, endpoint)

    def configuration_error(self, text: str) -> AuthenticationError:
        """Return the error for a provider with an invalid configuration."""
        message = f"Provider {self.name}: {text}."
        return AuthenticationError(message, error=ErrorCode.INVALID_CONFIGURATION, provider=self.name)
