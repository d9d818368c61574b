"""Validation of authorization requests."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field

from werkzeug.datastructures import MultiDict

from pywry_auth.exceptions import printable
from pywry_auth.testing.identity_provider.parties import Client
from pywry_auth.testing.identity_provider.refusals import OAuthError, PageError, required, single_values
from pywry_auth.testing.identity_provider.resources import requested_resource
from pywry_auth.testing.identity_provider.vault import Realm

PROMPTS = ("none", "login", "consent", "select_account")
"""The known prompt values (OIDC Core §3.1.2.1)."""

_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")


@dataclass(frozen=True)
class ValidatedRequest:
    """A valid authorization request.

    Args:
        client: The application that sent it.
        redirect_uri: The address for the authorization response.
        scope: The requested scopes that exist, space separated.
        code_challenge: For PKCE, always S256; empty if the provider ignores PKCE.
        prompts: The values of ``prompt``.
        resource: The API that access tokens will be for (RFC 8707 §2.1); empty for none.
        max_age: The longest time since the user authenticated, in seconds; None for any.
        acr_values: The preferred levels of authentication, space separated.
        values: All parameters of the request.
    """

    client: Client
    redirect_uri: str
    scope: str
    code_challenge: str = field(repr=False)
    prompts: frozenset[str]
    resource: str
    max_age: int | None
    acr_values: str
    values: dict[str, str] = field(repr=False)


def trusted_redirect(parameters: MultiDict[str, str], realm: Realm) -> tuple[Client, str]:
    """Return the client and its redirect URI.

    Raises:
        PageError: The client is unknown or has not registered the URI (RFC 6749 §4.1.2.1).
    """
    names = parameters.getlist("client_id")
    client = realm.clients.get(names[0]) if len(names) == 1 else None
    if client is None:
        raise PageError("The application that sent you here is not known to this provider (client_id).")
    addresses = parameters.getlist("redirect_uri")
    if len(addresses) != 1 or not client.may_redirect_to(addresses[0]):
        asked = printable(" and ".join(addresses)) or "no address"
        raise PageError(
            f"The application {client.client_id} asked to send you to {asked}, which it did not register"
            " (redirect_uri)."
        )
    return client, addresses[0]


def validate(
    parameters: MultiDict[str, str], client: Client, redirect_uri: str, realm: Realm
) -> ValidatedRequest:
    """Return the validated request.

    Raises:
        OAuthError: The request is not valid (RFC 6749 §4.1.2.1, OIDC Core §3.1.2.6).
    """
    values = single_values(parameters)
    for name in ("request", "request_uri", "registration"):
        if name in values:
            raise OAuthError(f"{name}_not_supported", f"{name} is not supported")
    if required(values, "response_type") != "code":
        raise OAuthError("unsupported_response_type", "response_type must be code")
    if values.get("response_mode", "query") != "query":
        raise OAuthError("invalid_request", "response_mode must be query")
    scope = known_scope(values, realm.scopes)
    challenge = "" if realm.quirks.no_pkce else _challenge(values)
    resource, prompts = requested_resource(values, realm.resources), _prompts(values)
    max_age = None if realm.quirks.ignore_max_age else _max_age(values)
    acr_values = "" if realm.quirks.ignore_acr else values.get("acr_values", "")
    return ValidatedRequest(
        client, redirect_uri, scope, challenge, prompts, resource, max_age, acr_values, values
    )


def known_scope(values: dict[str, str], scopes: Collection[str]) -> str:
    """Return the requested scopes that exist, space separated.

    Raises:
        OAuthError: ``invalid_scope``: the request has no scope that exists.
    """
    known = [word for word in dict.fromkeys(values.get("scope", "").split()) if word in scopes]
    if not known:
        raise OAuthError("invalid_scope", f"scope must have one or more of: {' '.join(scopes)}")
    return " ".join(known)


def _challenge(values: dict[str, str]) -> str:
    """Return the code challenge (RFC 9700 §2.1.1).

    Every client must use PKCE with S256.
    """
    challenge = required(values, "code_challenge")
    if values.get("code_challenge_method") != "S256":  # a missing one means plain (RFC 7636 §4.3)
        raise OAuthError("invalid_request", "code_challenge_method must be S256")
    if not _CHALLENGE.fullmatch(challenge):
        raise OAuthError("invalid_request", "code_challenge must be 43 base64url characters")
    return challenge


def _prompts(values: dict[str, str]) -> frozenset[str]:
    prompts = frozenset(values.get("prompt", "").split())
    if not prompts.issubset(PROMPTS) or ("none" in prompts and len(prompts) > 1):
        raise OAuthError("invalid_request", "prompt must be none, or any of: login consent select_account")
    return prompts


def _max_age(values: dict[str, str]) -> int | None:
    text = values.get("max_age")
    if text is not None and not re.fullmatch("[0-9]{1,9}", text):
        raise OAuthError("invalid_request", "max_age must be a number of seconds")
    return None if text is None else int(text)
