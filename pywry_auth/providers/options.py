"""ProviderOptions: the options that all providers share."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Self, TypedDict

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError, printable
from pywry_auth.plain_text import require_plain
from pywry_auth.private_files import whole_path
from pywry_auth.protocol.discovery import ProviderMetadata, named_issuer
from pywry_auth.protocol.sign_out_url import require_sign_out_url
from pywry_auth.protocol.urls import HTTPOptions, require_endpoint, require_proxy
from pywry_auth.request_parameters import parameters_fault, resource_fault

if TYPE_CHECKING:
    from pywry_auth.config import OAuth2Settings
    from pywry_auth.protocol.assertion_file import AssertionFile
    from pywry_auth.protocol.client_authentication import ClientKey


_logger = logging.getLogger("pywry_auth.providers")


def _endpoint(member: str) -> Any:
    return field(default="", metadata={"member": member})


@dataclass(frozen=True)
class ProviderOptions:
    """The options that all providers share, named like the settings.

    Args:
        authorize_url, token_url, userinfo_url, revocation_url, jwks_url, end_session_url,
            device_authorization_url: An endpoint that replaces the provider's usual one. The query of
            ``end_session_url`` may have the placeholders ``{client_id}``, ``{post_logout_redirect_uri}``,
            ``{id_token_hint}`` and ``{state}``.
        issuer: The issuer, byte for byte as its ID tokens name it.
        client_key_file: A PEM or JWK file with the private key for ``private_key_jwt`` (RFC 7523).
        client_assertion_file: A file with a signed assertion, which the platform renews. Each call to the
            token and revocation endpoints reads it and sends its content (RFC 7523 §2.2).
        client_assertion_audience: ``issuer``, or ``token_endpoint`` for a server that accepts only the URL of
            its token endpoint as the audience of an assertion (RFC 7523 §3).
        authorize_params: Parameters to add to every authorization request. They replace those of the
            provider's class, and a call's own parameters replace them.
        resource: The API that access tokens are for, as an absolute URI (RFC 8707 §2); empty for none.
        clock_skew_seconds: Seconds by which the provider's clock may differ, for ID tokens.
        http_timeout_seconds: The time limit for each call as a whole, in seconds.
        proxy_url: Proxy for all but loopback addresses. Empty means ``HTTPS_PROXY`` and ``NO_PROXY``.
        ca_bundle: File of trusted certificates. Empty means ``REQUESTS_CA_BUNDLE`` and ``SSL_CERT_FILE``.
        userinfo_from_id_token: Skip the UserInfo call if the ID token has all claims that the scopes request.
        use_nonce: Tie the ID token to the login (OIDC Core §3.1.2.1). False is only for a provider that never
            returns the nonce: logins then require PKCE, and the profile comes from the UserInfo endpoint.
        clock: Unix time in seconds.

    Raises:
        AuthenticationError: An option is not valid, it is not safe to send secrets to an endpoint, or two
            options exclude each other; the text names them.
    """

    authorize_url: str = _endpoint("authorization_endpoint")
    token_url: str = _endpoint("token_endpoint")
    userinfo_url: str = _endpoint("userinfo_endpoint")
    revocation_url: str = _endpoint("revocation_endpoint")
    jwks_url: str = _endpoint("jwks_uri")
    end_session_url: str = _endpoint("end_session_endpoint")
    device_authorization_url: str = _endpoint("device_authorization_endpoint")
    issuer: str = ""
    client_key_file: str = ""
    client_assertion_file: str = ""
    client_assertion_audience: str = "issuer"
    authorize_params: Mapping[str, str] = field(default_factory=dict, hash=False)
    resource: str = ""
    clock_skew_seconds: float = 60.0
    http_timeout_seconds: float = 10.0
    proxy_url: str = field(default="", repr=False)
    ca_bundle: str = ""
    userinfo_from_id_token: bool = False
    use_nonce: bool = True
    clock: Callable[[], float] = time.time

    def __post_init__(self) -> None:
        if self.userinfo_from_id_token and not self.use_nonce:
            raise AuthenticationError(
                "USERINFO_FROM_ID_TOKEN cannot be set together with USE_NONCE=false: an ID token without a "
                "nonce does not replace the profile. Leave out one of them.",
                error=ErrorCode.INVALID_CONFIGURATION,
            )
        for name in ENDPOINTS:
            url = getattr(self, name)
            if url:
                require_address(name, str(url), name.upper())
        if self.client_assertion_audience not in ("issuer", "token_endpoint"):
            raise AuthenticationError(
                f"CLIENT_ASSERTION_AUDIENCE is {printable(str(self.client_assertion_audience))!r}: "
                "set it to issuer or token_endpoint.",
                error=ErrorCode.INVALID_CONFIGURATION,
            )
        if self.resource and (fault := resource_fault(self.resource)):
            raise _unusable("RESOURCE", fault)
        if fault := parameters_fault(self.authorize_params, self.resource):
            raise _unusable("AUTHORIZE_PARAMS", fault)
        object.__setattr__(self, "authorize_params", dict(self.authorize_params))
        require_plain(issuer=self.issuer, proxy_url=self.proxy_url)
        if self.proxy_url:
            require_proxy(self.proxy_url, "PROXY_URL")
        for name in ("client_key_file", "client_assertion_file", "ca_bundle"):
            object.__setattr__(self, name, _file(name, getattr(self, name), name == "client_assertion_file"))

    @classmethod
    def from_settings(cls, settings: OAuth2Settings) -> Self:
        """Return the options that the settings name.

        Args:
            settings: ``get_settings().oauth2``.
        """
        values = {name: getattr(settings, name) for name in _NAMES if hasattr(settings, name)}
        values["proxy_url"] = settings.proxy_url.get_secret_value()
        # A custom provider has no discovery, so its issuer URL is only another name of the issuer.
        usual = named_issuer(settings.issuer_url) if settings.provider == "custom" else ""
        values["issuer"] = settings.issuer or usual
        return cls(**values)

    @property
    def http(self) -> HTTPOptions:
        """The options of calls to the provider."""
        return HTTPOptions(self.http_timeout_seconds, self.proxy_url, self.ca_bundle)

    @property
    def chosen_endpoints(self) -> frozenset[str]:
        """The endpoints that the options name, by their names in the metadata."""
        return frozenset(member for name, member in ENDPOINTS.items() if getattr(self, name))

    @property
    def chosen_members(self) -> frozenset[str]:
        """The members of the metadata that the options replace: the endpoints, and the issuer."""
        return self.chosen_endpoints | ({"issuer"} if self.issuer else set())

    def report(self, name: str, uses_openid: bool) -> None:
        """Log the options that weaken a check of the provider.

        Args:
            name: The provider's name.
            uses_openid: Whether the provider sends ID tokens.
        """
        if uses_openid and not self.use_nonce:
            _logger.warning(
                "%s: USE_NONCE is false, so that only PKCE ties a login to its browser: leave it out unless "
                "the provider never returns the nonce",
                name,
            )

    @property
    def assertion_file(self) -> AssertionFile | None:
        """The file of ``client_assertion_file``, or None without one."""
        if not self.client_assertion_file:
            return None
        from pywry_auth.protocol.assertion_file import AssertionFile

        return AssertionFile(self.client_assertion_file, self.clock_skew_seconds)

    def load_client_key(self) -> ClientKey | None:
        """Return the private key of ``client_key_file``, or None without such a file.

        Raises:
            AuthenticationError: The file has no usable key; the text says why.
        """
        if not self.client_key_file:
            return None
        from pywry_auth.protocol.client_authentication import load_client_key

        return load_client_key(self.client_key_file)

    def applied_to(self, metadata: ProviderMetadata) -> ProviderMetadata:
        """Return a provider's metadata, with these options in their place.

        Args:
            metadata: The provider's usual metadata.
        """
        chosen = {member: getattr(self, name) for name, member in ENDPOINTS.items()} | {"issuer": self.issuer}
        return replace(metadata, **{member: value for member, value in chosen.items() if value})


_NAMES = [option.name for option in fields(ProviderOptions)]
ENDPOINTS: Mapping[str, str] = {
    option.name: option.metadata["member"] for option in fields(ProviderOptions) if option.metadata
}
"""The options that name an endpoint, each with its name in the metadata."""


def require_address(option: str, url: str, name: str) -> str:
    """Return the URL if an option can have it.

    Args:
        option: The option, one of ``ENDPOINTS`` or another one with an endpoint.
        url: The URL.
        name: The option's name in the error.

    Raises:
        AuthenticationError: It is not safe to send secrets to the URL, or it is a malformed template.
    """
    return (require_sign_out_url if option == "end_session_url" else require_endpoint)(url, name)


def require_client(client_id: str, client_secret: str, provider: str) -> None:
    """Refuse a client that no provider can have issued.

    Args:
        client_id: The client's identifier.
        client_secret: Its secret, or an empty text.
        provider: The provider's name, for the error.

    Raises:
        AuthenticationError: The identifier is empty, or one of them was copied with blanks or control
            characters; the text names the argument.
    """
    if not client_id:
        raise AuthenticationError(
            "CLIENT_ID is empty: set it to the client's identifier at the provider.",
            error=ErrorCode.INVALID_CONFIGURATION,
            provider=provider,
        )
    require_plain(client_id=client_id, client_secret=client_secret)


def assertion_faults(
    path: str, client_secret: str, client_key_file: str, method: str, prefix: str = ""
) -> list[str]:
    """Return the reasons why a file with an assertion cannot be used, without full stops.

    The file itself may appear later.

    Args:
        path: The file; empty for none, which has no faults.
        client_secret: The client's secret, or an empty text.
        client_key_file: The file with the client's private key, or an empty text.
        method: The authentication method of the settings.
        prefix: The first part of the names of variables.
    """
    name, faults = f"{prefix}CLIENT_ASSERTION_FILE", []
    for other, value in (("CLIENT_SECRET", client_secret), ("CLIENT_KEY_FILE", client_key_file)):
        if value:
            faults.append(f"{name} and {prefix}{other} are both set: remove one of them")
    if method not in ("auto", "private_key_jwt"):
        faults.append(
            f"{prefix}TOKEN_ENDPOINT_AUTH_METHOD is {printable(method)}, but {name} is set: set the method "
            f"to auto or private_key_jwt, or remove {name}"
        )
    if os.path.isdir(path):
        faults.append(f"{name} is a directory: name the file in it")
    return faults if path else []


def scope_list(scopes: Sequence[str]) -> tuple[str, ...]:
    """Return scopes as a tuple of words."""
    # A plain string is a sequence of characters, too, but its caller means a list of words.
    words = tuple(scopes.split() if isinstance(scopes, str) else scopes)
    require_plain(scopes=" ".join(words))
    return words


def texts(given: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return one value or several as a tuple.

    Args:
        given: One text, several, or None for none. An empty text counts as none.
    """
    # A plain string is a sequence of characters, too.
    return tuple(filter(None, (given,) if isinstance(given, str) else given or ()))


def _unusable(name: str, fault: str) -> AuthenticationError:
    return AuthenticationError(f"{name} cannot be used: {fault}.", error=ErrorCode.INVALID_CONFIGURATION)


def _file(name: str, path: str, complete: bool = False) -> str:
    try:
        whole = str(whole_path(path)) if path else ""
        if complete and path and not (path.startswith("~") or os.path.isabs(path)):
            raise ValueError("write the whole path of the file, from the root or from ~ on")
        return whole
    except ValueError as error:
        raise AuthenticationError(
            f"The argument {name} cannot be used: {error}.", error=ErrorCode.INVALID_CONFIGURATION
        ) from None


class ProviderKeywords(TypedDict, total=False):
    """The same options as keyword arguments, for type checkers."""

    authorize_url: str
    token_url: str
    userinfo_url: str
    revocation_url: str
    jwks_url: str
    end_session_url: str
    device_authorization_url: str
    issuer: str
    client_key_file: str
    client_assertion_file: str
    client_assertion_audience: str
    authorize_params: Mapping[str, str]
    resource: str
    clock_skew_seconds: float
    http_timeout_seconds: float
    proxy_url: str
    ca_bundle: str
    userinfo_from_id_token: bool
    use_nonce: bool
    clock: Callable[[], float]
