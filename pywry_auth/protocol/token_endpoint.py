"""Requests to the token and revocation endpoints (RFC 6749 §4.1.3, §6; RFC 7009), and their answers."""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, quote_plus, urlencode

from oauthlib.oauth2 import WebApplicationClient

from pywry_auth.exceptions import AuthenticationError, ErrorCode, TokenError, TokenRefreshError, printable
from pywry_auth.models import OAuthTokenSet
from pywry_auth.protocol.authorization import AuthorizationCode
from pywry_auth.protocol.http import ProviderAnswer, ProviderSession

_JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_LONGEST_LIFETIME = 10 * 365 * 86400


@dataclass(frozen=True)
class ClientAuthentication:
    """Who we are to the token endpoint (RFC 6749 §2.3.1).

    Args:
        client_id: The client's identifier.
        client_secret: Its secret; empty for a public client.
        method: ``private_key_jwt``, ``client_secret_basic``, ``client_secret_post`` or ``none``.
        assertion: Makes what proves the client's key, anew for each request (RFC 7523 §2.2).
    """

    client_id: str
    client_secret: str = field(repr=False)
    method: str
    assertion: Callable[[], str] | None = field(default=None, repr=False)

    @property
    def headers(self) -> dict[str, str]:
        """The Authorization header for Basic, both parts form-urlencoded as RFC 6749 §2.3.1 wants."""
        if self.method != "client_secret_basic":
            return {}
        pair = f"{quote_plus(self.client_id)}:{quote_plus(self.client_secret)}"
        return {"Authorization": "Basic " + b64encode(pair.encode("ascii")).decode("ascii")}

    @property
    def parameters(self) -> dict[str, str]:
        """What goes into the request's body instead of the header."""
        if self.method == "client_secret_basic":
            return {}
        proof = {}
        if self.method == "client_secret_post":
            proof = {"client_secret": self.client_secret}
        elif self.method == "private_key_jwt" and self.assertion is not None:
            proof = {"client_assertion_type": _JWT_BEARER, "client_assertion": self.assertion()}
        return {"client_id": self.client_id, **proof}


def choose_authentication(
    client_id: str,
    client_secret: str,
    configured: str,
    offered: Sequence[str],
    assertion: Callable[[], str] | None = None,
) -> ClientAuthentication:
    """Return how the client authenticates; there is never a second try with another method.

    Args:
        client_id: The client's identifier.
        client_secret: Its secret; empty for a public client.
        configured: A method, or ``auto`` for what the provider offers.
        offered: ``token_endpoint_auth_methods_supported``; empty when the provider is silent, which
            means Basic (OIDC Discovery §3).
        assertion: Proves the client's key; None when it has none.

    Raises:
        AuthenticationError: The secret, the key and the methods do not fit together.
    """
    method = configured
    if configured == "auto":
        method = _best_method(bool(client_secret), assertion is not None, offered)
    if method not in ("private_key_jwt", "client_secret_basic", "client_secret_post", "none"):
        raise AuthenticationError(
            f"TOKEN_ENDPOINT_AUTH_METHOD is {method or configured!r} and the provider offers "
            f"{printable(', '.join(offered)) or 'nothing in particular'}: set it to auto, "
            "private_key_jwt, client_secret_basic, client_secret_post or none.",
            error=ErrorCode.INVALID_CONFIGURATION,
        )
    if method == "private_key_jwt" and assertion is None:
        raise AuthenticationError(
            "TOKEN_ENDPOINT_AUTH_METHOD private_key_jwt needs CLIENT_KEY_FILE: set it, or take another.",
            error=ErrorCode.INVALID_CONFIGURATION,
        )
    if method.startswith("client_secret_") and not client_secret:
        raise AuthenticationError(
            f"TOKEN_ENDPOINT_AUTH_METHOD {method} needs CLIENT_SECRET: set it, or use none.",
            error=ErrorCode.INVALID_CONFIGURATION,
        )
    return ClientAuthentication(client_id, client_secret, method, assertion)


def _best_method(secret: bool, key: bool, offered: Sequence[str]) -> str:
    secrets = ("client_secret_basic", "client_secret_post") if secret else ()
    ours = (("private_key_jwt",) if key else ()) + secrets
    if not ours:
        return "none"  # a public client has no choice: many providers take it without saying so
    if not offered:
        return (secrets or ours)[0]
    return next((method for method in ours if method in offered), "")


@dataclass(frozen=True)
class TokenEndpoint:
    """The token endpoint of one provider, as one client sees it.

    Args:
        url: Where it is.
        client: How the client authenticates.
        session: Makes each call's HTTP session.
        issuer: Who issues: recorded in each token set.
        clock: Unix time in seconds.
    """

    url: str
    client: ClientAuthentication
    session: Callable[[], ProviderSession]
    issuer: str
    clock: Callable[[], float]

    def exchange(self, code: AuthorizationCode, redirect_uri: str, verifier: str | None) -> OAuthTokenSet:
        """Return the tokens for a code (RFC 6749 §4.1.3, RFC 7636 §4.5).

        Raises:
            TokenError: The provider refused, did not answer, or answered what it may not.
        """
        encoder = WebApplicationClient(self.client.client_id)
        own = self.client.parameters
        body = encoder.prepare_request_body(
            code=code.value,
            redirect_uri=redirect_uri,
            code_verifier=verifier,
            include_client_id=own.pop("client_id", None) is not None,
            **own,
        )
        return self._ask(body, None, TokenError)

    def refresh(self, refresh_token: str) -> OAuthTokenSet:
        """Return new tokens for a refresh token (RFC 6749 §6); an answer without a new one keeps the old one.

        Raises:
            TokenRefreshError: The provider says that the grant has ended (``invalid_grant``).
            TokenError: No answer, or one that it may not give: the refresh token may still be good.
        """
        # No scope is sent: it would be the same, and some servers refuse to be told.
        encoder = WebApplicationClient(self.client.client_id)
        body = encoder.prepare_refresh_body(refresh_token=refresh_token, **self.client.parameters)
        return self._ask(body, refresh_token, TokenRefreshError)

    def revoke(self, url: str, token: str) -> bool:
        """Ask the revocation endpoint at ``url`` to end a token; True when it says so (RFC 7009 §2.2).

        Raises:
            AuthenticationError: There was no answer.
        """
        body = urlencode({"token": token, **self.client.parameters})
        with self.session() as session:
            answer = session.call("POST", url, data=body, headers=self.client.headers)
        # RFC 7009 §2.2 wants 200 for a token that has ended already; Google says this instead.
        gone = answer.status == 400 and answer.json_object().get("error") == "invalid_token"
        return answer.status == 200 or gone

    def _ask(self, body: str, refresh_token: str | None, refusal: type[TokenError]) -> OAuthTokenSet:
        asked_at = (
            self.clock()
        )  # the lifetime is counted from before the request: rather too early than too late
        try:
            with self.session() as session:
                answer = session.call("POST", self.url, data=body, headers=self.client.headers)
            members = answer.json_object()
            if "error" in members or not 200 <= answer.status < 300:
                raise _refused(answer, members, _secrets(body, self.client), refusal)
            return _token_set(members, asked_at, self.issuer, self.client.client_id, refresh_token)
        except TokenError:
            raise
        except AuthenticationError as error:
            raise TokenError(str(error), error=error.error) from error


def _secrets(body: str, client: ClientAuthentication) -> list[str]:
    names = ("code", "code_verifier", "refresh_token", "client_assertion")
    return [value for name, value in parse_qsl(body) if name in names] + [client.client_secret]


def _refused(
    answer: ProviderAnswer, members: Mapping[str, Any], secrets: Iterable[str], refusal: type[TokenError]
) -> AuthenticationError:
    """Return the error for an error answer (RFC 6749 §5.2); some providers send it with status 200."""
    error, description = members.get("error"), members.get("error_description")
    if not isinstance(error, str) or not error or answer.status >= 500:
        return answer.fault("no token")
    description = description if isinstance(description, str) else ""  # a grant is dead without words too
    for secret in filter(None, secrets):  # some servers quote the code or token that they refuse
        error, description = error.replace(secret, "…"), description.replace(secret, "…")
    told = f"{printable(error)}: {printable(description)}" if description else printable(error)
    kind = refusal if error in _DEAD_GRANT else TokenError
    return kind(
        f"The token endpoint answered {told}. {_NEXT_STEP.get(error, 'Sign in again.')}",
        error=error,
        error_description=description,
    )


# Only these say that the grant itself is dead; a wrong client secret, say, can be mended (RFC 6749 §5.2).
_DEAD_GRANT = ("invalid_grant", "bad_refresh_token")  # the second is GitHub's word for it

_NEXT_STEP = {
    "invalid_client": "Check CLIENT_ID, CLIENT_SECRET and TOKEN_ENDPOINT_AUTH_METHOD.",
    "incorrect_client_credentials": "Check CLIENT_ID and CLIENT_SECRET.",
    "redirect_uri_mismatch": "Check the redirect URI in the client's registration at the provider.",
    "unauthorized_client": "Check the client's registration at the provider.",
    "invalid_request": "Check the client's registration and redirect URI at the provider.",
    "unsupported_grant_type": "Check the client's registration at the provider.",
    "invalid_scope": "Check the scopes that are asked for.",
}


def _token_set(
    members: Mapping[str, Any], asked_at: float, issuer: str, client_id: str, refresh_token: str | None
) -> OAuthTokenSet:
    """Return the token set of a success answer (RFC 6749 §5.1), every member judged."""
    access_token = _text(members, "access_token")
    token_type = _text(members, "token_type")
    if access_token is None or token_type is None or token_type.lower() != "bearer":
        raise _not_allowed("access_token is missing, or token_type is not Bearer")
    return OAuthTokenSet(
        access_token=access_token,
        token_type="Bearer",
        refresh_token=_text(members, "refresh_token") or refresh_token,
        expires_in=_lifetime(members.get("expires_in")),
        id_token=_text(members, "id_token"),
        scope=_scope(members),
        raw=dict(members),
        issued_at=asked_at,
        issuer=issuer,
        client_id=client_id,
    )


def _scope(members: Mapping[str, Any]) -> str:
    """Read ``scope`` kindly: some providers send a list where RFC 6749 §3.3 wants one string."""
    scope = members.get("scope")
    if isinstance(scope, list) and all(isinstance(name, str) for name in scope):
        scope = " ".join(scope)
    return _text({"scope": scope}, "scope") or ""


def _text(members: Mapping[str, Any], name: str) -> str | None:
    value = members.get(name)
    if value is None or value == "":
        return None
    # Visible ASCII only (RFC 6749 appendix A): anything else could break out of a header.
    if not isinstance(value, str) or not value.isascii() or not value.isprintable():
        raise _not_allowed(f"{name} is not a string of visible characters")
    return value


def _lifetime(value: object) -> int | None:
    """Read ``expires_in`` kindly: some providers send a string or a fraction; none may send anything else."""
    if value is None or value == "":
        return None
    try:
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise ValueError
        seconds = float(value)
        if not math.isfinite(seconds):
            raise ValueError
    except (ValueError, OverflowError):
        raise _not_allowed("expires_in is not a number of seconds") from None
    return int(min(max(seconds, 0), _LONGEST_LIFETIME))


def _not_allowed(what: str) -> TokenError:
    return TokenError(
        f"The token endpoint's answer cannot be used: {what}. Check the endpoint's URL.",
        error=ErrorCode.INVALID_RESPONSE,
    )
