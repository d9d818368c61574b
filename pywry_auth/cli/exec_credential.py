"""Prints credentials for kubectl (Kubernetes client authentication API)."""

from __future__ import annotations

import argparse
import os
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pywry_auth.cli.origin import Origin, origin_of, require_origin
from pywry_auth.cli.output import show_json
from pywry_auth.cli.stored import Program, asking_to_sign_in, fresh_tokens, sign_in_first
from pywry_auth.error_codes import ErrorCode
from pywry_auth.exceptions import AuthenticationError
from pywry_auth.strict_json import read_json

if TYPE_CHECKING:
    from pywry_auth.models import OAuthTokenSet
    from pywry_auth.native.stored_users import StoredUser

_GROUP = "client.authentication.k8s.io"
_VERSIONS = (f"{_GROUP}/v1", f"{_GROUP}/v1beta1")
_REQUEST = "KUBERNETES_EXEC_INFO"
_LAST = 253402300799.0  # the last second of the year 9999; a later one has no form with four digits


def run(options: argparse.Namespace) -> None:
    """Print an ``ExecCredential`` in the version that kubectl uses.

    Args:
        options: The command line.

    Raises:
        LoginRequired: The user is not signed in, the provider has ended the grant, or a refresh brings no new
            ID token.
        AuthenticationError: kubectl's request cannot be answered, or there is no token for another reason.
    """
    version = _require_request(None if options.origin is None else require_origin(options.origin))
    program = Program(options)
    user = program.user(options.account)
    if options.id_token:
        token, expires_at = _id_token(user, program.oauth2.refresh_buffer_seconds)
    else:
        tokens = fresh_tokens(user)
        token, expires_at = tokens.access_token, tokens.expires_at
    status = {"token": token}
    if expires_at is not None:
        moment = datetime.fromtimestamp(min(expires_at, _LAST), UTC)
        status["expirationTimestamp"] = moment.strftime("%Y-%m-%dT%H:%M:%SZ")
    show_json({"apiVersion": version, "kind": "ExecCredential", "status": status})


def _require_request(origin: Origin | None) -> str:
    """Return the API version of kubectl's request, and refuse a token for another API server."""
    text = os.environ.get(_REQUEST)
    request = _request(text) if text else {}
    version = request.get("apiVersion", _VERSIONS[0])
    if version not in _VERSIONS:
        raise _unusable(
            f"{_REQUEST} has another version than {' and '.join(_VERSIONS)}: set one in apiVersion"
        )
    if origin is not None and origin_of(_server(request)) != origin:
        raise _unusable(
            "kubectl does not name the API server of --origin: set provideClusterInfo to true in the user's "
            "exec section, and use that user only with this server"
        )
    return str(version)


def _request(text: str) -> dict[str, Any]:
    try:
        request = read_json(text)
    except ValueError:
        request = None
    if not isinstance(request, dict):
        raise _unusable(f"{_REQUEST} is not a JSON object: let kubectl set this variable")
    return request


def _server(request: dict[str, Any]) -> str:
    for name in ("spec", "cluster"):
        found = request.get(name)
        request = found if isinstance(found, dict) else {}
    return str(request.get("server", ""))


def _unusable(condition: str) -> AuthenticationError:
    return AuthenticationError(f"{condition}.", error=ErrorCode.INVALID_CONFIGURATION)


def _id_token(user: StoredUser, buffer: float) -> tuple[str, float | None]:
    """Return the ID token and its expiry, after a refresh if it is due.

    Args:
        user: The user.
        buffer: Seconds before its expiry at which it is due, at most half of its lifetime.
    """
    tokens = _stored(user)
    lifetime = _expiry(tokens) - _time(tokens, "iat")
    if _expires_within(tokens, min(buffer, max(lifetime, 0) / 2)):
        try:
            with asking_to_sign_in():
                tokens = user.session.refresh(tokens.access_token)
        except AuthenticationError:
            if _expires_within(tokens, 0) or user.session.tokens is None:
                raise
    if tokens.id_token is None or _expires_within(tokens, 0):
        raise sign_in_first(
            "The ID token has expired, and the provider sends no new one when tokens are refreshed."
        )
    return tokens.id_token, _expiry(tokens)


def _stored(user: StoredUser) -> OAuthTokenSet:
    tokens = user.session.tokens
    if tokens is None or tokens.id_token is None:
        raise sign_in_first("No ID token is stored: the scope openid brings one.")
    return tokens


def _expires_within(tokens: OAuthTokenSet, seconds: float) -> bool:
    return time.time() + seconds >= _expiry(tokens)


def _expiry(tokens: OAuthTokenSet) -> float:
    return _time(tokens, "exp")


def _time(tokens: OAuthTokenSet, claim: str) -> float:
    value = tokens.id_token_claims.get(claim)
    return float(value) if isinstance(value, int | float) else 0.0
