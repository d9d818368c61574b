"""An HTTP session that sends tokens to named origins only."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from pywry_auth.digests import same_secret
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError, TokenError, TokenExpiredError
from pywry_auth.protocol.http import ProviderSession
from pywry_auth.protocol.urls import HTTPOptions, require_endpoint

if TYPE_CHECKING:
    from requests import Response

    from pywry_auth.models import OAuthTokenSet

_EXAMPLE = "https://api.example.com"
_DEFAULT_PORTS = {"https": 443, "http": 80}


class TokenSource(Protocol):
    """Supplies a fresh access token, for example that of one user."""

    def get_access_token(self) -> str:
        """Return a valid access token, refreshed if necessary."""

    def refresh(self, instead_of: str | None = None) -> OAuthTokenSet:
        """Return fresh tokens.

        Args:
            instead_of: An access token that an API refused. If it was replaced in the meantime, the present
                tokens are returned.
        """


class RequestSession(ProviderSession):
    """A ``requests`` session with the access token (RFC 6750 §2.1).

    The token goes to the named origins only. Requests to other origins are refused, and redirects are not
    followed. After a 401 the session refreshes once and repeats the request. If there is no other token, the
    401 is returned. A body that was read from a file or a generator cannot be repeated: then the 401 is
    returned too, and the next request has the new token. Make one session for each thread.

    Args:
        options: Proxy, certificates, and seconds for each call without a ``timeout`` of its own.
        origins: For example ``https://api.example.com``; a path is ignored.
        source: Supplies the token.

    Raises:
        AuthenticationError: An origin is not a valid URL origin, or none was given.
    """

    def __init__(self, options: HTTPOptions, origins: Collection[str], source: TokenSource) -> None:
        super().__init__(options)
        if not origins:
            raise AuthenticationError(
                "No origin was given: name each origin that may receive the access token, "
                f"such as {_EXAMPLE}.",
                error=ErrorCode.INVALID_CONFIGURATION,
            )
        self._origins = {_origin(require_endpoint(origin, "The origin", _EXAMPLE)) for origin in origins}
        self._source = source

    def request(  # type: ignore[override]  # as in the base class
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, **arguments: Any
    ) -> Response:
        """Make one request with the user's token.

        Args:
            method: The HTTP method.
            url: A URL at one of the session's origins.
            headers: Further headers; the session sets ``Authorization``.
            arguments: As for ``requests``.

        Raises:
            AuthenticationError: The URL is not at one of the session's origins.
            TokenError: There is no usable token (see ``get_access_token`` of the source), or it could not be
                refreshed after a 401.
        """
        if _origin(require_endpoint(url, "The URL", _EXAMPLE)) not in self._origins:
            raise AuthenticationError(
                f"The access token may not be sent to {urlsplit(url).netloc}: name that origin first.",
                error=ErrorCode.INVALID_CONFIGURATION,
            )
        token = self._source.get_access_token()
        response = super().request(method, url, headers=_with(headers, token), **arguments)
        if response.status_code != 401:
            return response
        try:
            fresh = self._source.refresh(instead_of=token).access_token
        except TokenExpiredError:
            return response  # without a refresh token, the API's own error helps most
        if same_secret(token, fresh) or not _can_be_sent_again(arguments):
            return response
        response.close()
        return super().request(method, url, headers=_with(headers, fresh), **arguments)


def _with(headers: Mapping[str, str] | None, token: str) -> dict[str, str]:
    if not token.isascii() or not token.isprintable():
        # The HTTP library would quote such a header in its error.
        raise TokenError(
            "The access token cannot be sent: it contains characters that are invalid in a header."
        )
    return {**(headers or {}), "Authorization": f"Bearer {token}"}


def _can_be_sent_again(arguments: Mapping[str, Any]) -> bool:
    # A file or a generator can be read only once.
    data = arguments.get("data")
    return not arguments.get("files") and (
        data is None or isinstance(data, (str, bytes, Mapping, list, tuple))
    )


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or _DEFAULT_PORTS.get(parts.scheme)
