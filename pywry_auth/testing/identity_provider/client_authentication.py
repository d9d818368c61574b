"""Authentication of clients (RFC 6749 §2.3)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from urllib.parse import unquote_plus

from flask import request

from pywry_auth.testing.identity_provider.parties import Client, same_secret
from pywry_auth.testing.identity_provider.refusals import OAuthError, single_values


def client_request(clients: Mapping[str, Client]) -> tuple[dict[str, str], Client]:
    """Return the form of a request and its authenticated client.

    Raises:
        OAuthError: ``invalid_client``, or ``invalid_request`` for an ambiguous form.
    """
    values = single_values(request.form)
    client_id, secret = values.get("client_id", ""), values.get("client_secret", "")
    if header := request.headers.get("Authorization"):
        basic_id, basic_secret = _basic_credentials(header)
        if secret or client_id not in ("", basic_id):
            raise OAuthError("invalid_request", "the client identifies itself in two ways")
        client_id, secret = basic_id, basic_secret
    client = clients.get(client_id)
    if client is None or not same_secret(secret, client.client_secret):
        raise unknown_client("the client is unknown, or its secret is wrong or missing")
    return values, client


def unknown_client(description: str) -> OAuthError:
    """Return the error for a client that is not known (RFC 6749 §5.2)."""
    return OAuthError("invalid_client", description, status=401, challenge='Basic realm="clients"')


def _basic_credentials(header: str) -> tuple[str, str]:
    scheme, _, credentials = header.partition(" ")
    try:
        text = base64.b64decode(credentials.strip(), validate=True).decode()
    except (binascii.Error, ValueError):
        text = ""
    client_id, colon, secret = text.partition(":")
    if scheme.lower() != "basic" or not colon:
        raise unknown_client("the Authorization header is not HTTP Basic")
    return unquote_plus(client_id), unquote_plus(secret)  # both parts are encoded as in a form (§2.3.1)
