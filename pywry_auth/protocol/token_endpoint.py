"""The token and revocation endpoints (RFC 6749 §3.2, RFC 7009)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode

from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError, TokenError, TokenRefreshError, as_token_error
from pywry_auth.models import OAuthTokenSet
from pywry_auth.protocol.client_authentication import ClientAuthentication
from pywry_auth.protocol.http import ProviderAnswer, ProviderSession
from pywry_auth.protocol.provider_errors import (
    CLIENT_CREDENTIALS,
    DEVICE_CODE,
    ENDED_GRANT,
    INVALID_TOKEN,
    SLOW_DOWN,
    TOKEN_EXCHANGE,
    explain,
)
from pywry_auth.protocol.reach import EVERYWHERE, Reach

_LONGEST_LIFETIME = 10 * 365 * 86400
_SOURCES = {
    "token_endpoint": "The token endpoint",
    "device_authorization_endpoint": "The device authorization endpoint",
}
_EXPECTED = {
    "token_endpoint": "a token response",
    "device_authorization_endpoint": "a device authorization response",
}
_OF_ENDPOINT = {
    "device_authorization_endpoint": "device_authorization",
    "revocation_endpoint": "revoke",
}
_OF_GRANT = {
    "authorization_code": "exchange",
    "refresh_token": "refresh",
    CLIENT_CREDENTIALS: "client_credentials",
    TOKEN_EXCHANGE: "token_exchange",
    DEVICE_CODE: "device_code",
}
"""The names of calls in measurements, by endpoint and by type of grant."""

_FORM = "application/x-www-form-urlencoded"
_MOST_FIELDS = 64


@dataclass(frozen=True)
class TokenEndpoint:
    """The token endpoint of one provider, for one client.

    Args:
        url: Its URL.
        authentication: How the client authenticates.
        session: Returns the HTTP session for one call.
        issuer: Recorded in each token set.
        reach: Returns the networks that calls to an endpoint may reach, by its name in the metadata.
    """

    url: str
    authentication: ClientAuthentication
    session: Callable[[], ProviderSession]
    issuer: str
    reach: Callable[[str], Reach] = lambda endpoint: EVERYWHERE

    def request(
        self,
        grant: Mapping[str, str | Sequence[str] | None],
        discard: Callable[[Sequence[str]], object] = lambda tokens: None,
    ) -> OAuthTokenSet:
        """Return the tokens for a grant of any type (RFC 6749 §4.1.3, §6; extensions: §4.5).

        Args:
            grant: ``grant_type`` and the parameters of that type; None leaves a parameter out. A parameter
                with a list of values is sent once for each (RFC 8693 §2.1, RFC 8707 §2).
            discard: Receives the tokens of a response that cannot be used.

        Raises:
            TokenRefreshError: The refresh token is expired, revoked or already used.
            TokenError: The provider refused (``refused``), did not answer, or sent an invalid response.
        """
        # Count the lifetime from before the request, so that it errs on the short side.
        asked_at = self.authentication.clock()
        given = {name: value for name, value in grant.items() if isinstance(value, str)}
        lists = {name: value for name, value in grant.items() if not isinstance(value, str | None)}
        members = self.call("token_endpoint", self.url, given, lists)
        try:
            return _token_set(members, asked_at, self, given)
        except TokenError as error:
            error.refused = not members.get("access_token")
            discard(_issued(members, given))
            raise

    def call(
        self,
        endpoint: str,
        url: str,
        given: Mapping[str, str],
        lists: Mapping[str, Sequence[str]],
        grant_type: str = "",
    ) -> dict[str, Any]:
        """Send one authenticated request, and return the members of a successful answer.

        Args:
            endpoint: The endpoint's name in the metadata.
            url: Its URL.
            given: The parameters.
            lists: The parameters that are sent once for each value.
            grant_type: The type of the grant in errors; empty for that of the parameters.

        Raises:
            TokenError: The provider refused (``refused``), did not answer, or sent no readable answer.
        """
        headers, body = self.authentication.apply(given)
        with as_token_error():
            answer = self._post(endpoint, url, headers, {**lists, **body})
            # Whatever the body says, nothing was refused. Auth0 sends slow_down with this status.
            members = _members(answer) if answer.status < 500 else {}
            slow = members.get("error") == SLOW_DOWN and given.get("grant_type") == DEVICE_CODE
            if answer.status >= 500 or (answer.status == 429 and not slow):
                raise answer.fault(_EXPECTED[endpoint])
            if members.get("error") not in (None, "") or not 200 <= answer.status < 300:
                raise self._refusal(
                    endpoint, answer, members, grant_type or given.get("grant_type", ""), body
                )
            return members

    def revoke(self, url: str, token: str) -> bool:
        """Revoke a token and return whether the provider confirms it (RFC 7009 §2).

        Args:
            url: The revocation endpoint.
            token: An access or refresh token.

        Raises:
            AuthenticationError: There was no answer, or the provider is not available at present.
        """
        answer = self._post("revocation_endpoint", url, *self.authentication.apply({"token": token}))
        if answer.status >= 500 or answer.status in (401, 403, 429):  # the cause can be corrected, or it ends
            raise answer.fault("a confirmation")
        # RFC 7009 §2.2 requires 200 for a token that has expired; Google sends an error.
        expired = answer.status == 400 and answer.json_object().get("error") == INVALID_TOKEN
        return 200 <= answer.status < 300 or expired

    def _post(
        self, endpoint: str, url: str, headers: Mapping[str, str], body: Mapping[str, str | Sequence[str]]
    ) -> ProviderAnswer:
        with self.session().within(self.reach(endpoint)) as session:
            data, operation = urlencode(body, doseq=True), _operation(endpoint, body)
            return session.call("POST", url, data=data, headers=headers, operation=operation)

    def _refusal(
        self,
        endpoint: str,
        answer: ProviderAnswer,
        members: Mapping[str, Any],
        grant_type: str,
        body: Mapping[str, str],
    ) -> TokenError:
        """Return the error for an error response (RFC 6749 §5.2).

        Some providers send error responses with status 200, or without a code.
        """
        # Google's device endpoint names its limit in error_code.
        code, description = members.get("error", members.get("error_code")), members.get("error_description")
        if isinstance(code, str) and code:
            description = description if isinstance(description, str) else ""  # the description is optional
            ended = "refresh_token" in body and code in ENDED_GRANT
            kind: type[TokenError] = TokenRefreshError if ended else TokenError
            secrets = (self.authentication.client_secret, *answer.secrets)
            remedy = self.authentication.remedy
            refusal = explain(_SOURCES[endpoint], code, description, kind, secrets, grant_type, remedy)
        else:
            fault = answer.fault(_EXPECTED[endpoint])
            refusal = TokenError(str(fault), error=fault.error)
        refusal.refused = True
        if refusal.error == SLOW_DOWN:  # GitHub sends the interval to keep from now on
            refusal.retry_after = seconds_in(members.get("interval"))
        return refusal


def _operation(endpoint: str, body: Mapping[str, str | Sequence[str]]) -> str:
    """Return the name of a call in measurements."""
    if endpoint in _OF_ENDPOINT:
        return _OF_ENDPOINT[endpoint]
    grant_type = body.get("grant_type")
    return _OF_GRANT.get(grant_type, "other") if isinstance(grant_type, str) else "other"


def _members(answer: ProviderAnswer) -> dict[str, Any]:
    """Return the members of an answer.

    A refusal counts in any form: one that cannot be read has no members.
    """
    try:
        return _form(answer) if answer.media_type == _FORM else answer.json_object()
    except AuthenticationError:
        if 200 <= answer.status < 300:
            raise
        return {}


def _form(answer: ProviderAnswer) -> dict[str, Any]:
    """Return the members of a form.

    GitHub sends a form unless the client accepts only JSON, as servers did before RFC 6749.
    """
    if answer.body.lstrip().startswith(b"{"):
        return answer.json_object()
    try:
        return dict(parse_qsl(answer.body.decode(), max_num_fields=_MOST_FIELDS))
    except ValueError:
        fault = answer.fault("a valid form")
    raise fault


def _issued(members: Mapping[str, Any], grant: Mapping[str, str]) -> list[str]:
    """Return the new tokens in a response; the refresh token of the request stays valid."""
    found = (members.get(name) for name in ("refresh_token", "access_token"))
    return [token for token in found if isinstance(token, str) and token not in ("", *grant.values())]


def _token_set(
    members: Mapping[str, Any], asked_at: float, endpoint: TokenEndpoint, grant: Mapping[str, str]
) -> OAuthTokenSet:
    """Validate a successful response and return its token set (RFC 6749 §5.1, RFC 8693 §2.2.1)."""
    access_token = _text(members, "access_token")
    token_type = _text(members, "token_type")
    if access_token is None:
        # Azure AD B2C: https://learn.microsoft.com/azure/active-directory-b2c/access-tokens
        if grant["grant_type"] in (CLIENT_CREDENTIALS, TOKEN_EXCHANGE):
            raise _not_allowed("it has no access token (access_token): check the requested scopes")
        raise _not_allowed(
            "it has no access token (access_token). Some providers, such as Azure AD B2C, send one only for "
            "the scope of an API: add such a scope to PYWRY_OAUTH2__SCOPES"
        )
    exchanged = grant["grant_type"] == TOKEN_EXCHANGE
    if exchanged and _text(members, "issued_token_type") is None:
        raise _not_allowed("its issued_token_type is missing, which a token exchange requires")
    # N_A is the type of an exchanged token that is not an access token.
    known = {"bearer": "Bearer", **({"n_a": "N_A"} if exchanged else {})}
    if token_type is None or token_type.lower() not in known:
        # Without the type, the client cannot know how to use the token (RFC 6749 §7.1).
        raise _not_allowed("its token_type is missing, or is not Bearer")
    return OAuthTokenSet(
        access_token=access_token,
        token_type=known[token_type.lower()],
        refresh_token=_text(members, "refresh_token") or grant.get("refresh_token"),
        expires_in=_lifetime(members.get("expires_in")),
        id_token=_text(members, "id_token"),
        scope=_scope(members),
        raw=dict(members),
        issued_at=asked_at,
        issuer=endpoint.issuer,
        client_id=endpoint.authentication.client_id,
    )


def _scope(members: Mapping[str, Any]) -> str:
    """Return ``scope`` as names with spaces between them (RFC 6749 §3.3).

    Some providers send a list, and some send commas.
    """
    scope = members.get("scope")
    if isinstance(scope, list) and all(isinstance(name, str) for name in scope):
        scope = " ".join(scope)
    text = _text({"scope": scope}, "scope") or ""
    # A comma may be part of a name, so it separates names only where no space does.
    return " ".join(text.split() if " " in text else text.replace(",", " ").split())


def _text(members: Mapping[str, Any], name: str) -> str | None:
    value = members.get(name)
    if value is None or value == "":
        return None
    # Printable ASCII only (RFC 6749 appendix A): any other character could break out of a header.
    if not isinstance(value, str) or not value.isascii() or not value.isprintable():
        raise _not_allowed(f"{name} is not a string of printable ASCII characters")
    return value


def _lifetime(value: object) -> int | None:
    """Return ``expires_in`` in seconds.

    Some providers send a string or a fraction.
    """
    if value is None or value == "":
        return None
    seconds = seconds_in(value)
    if seconds is None:
        raise _not_allowed("expires_in is not a number of seconds")
    return int(min(max(seconds, 0), _LONGEST_LIFETIME))


def seconds_in(value: object) -> float | None:
    """Return a number of seconds that some providers send as a string; None for any other value.

    Args:
        value: The member of an answer.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        seconds = float(value)
    except (ValueError, OverflowError):
        return None
    return seconds if math.isfinite(seconds) else None


def _not_allowed(condition: str) -> TokenError:
    return TokenError(
        f"The token endpoint's answer cannot be used: {condition}. Check the endpoint's URL.",
        error=ErrorCode.INVALID_RESPONSE,
    )
