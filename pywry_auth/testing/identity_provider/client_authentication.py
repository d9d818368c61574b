"""Authentication of clients (RFC 6749 §2.3)."""

from __future__ import annotations

import base64
import binascii
from urllib.parse import unquote_plus

from flask import request

from pywry_auth.testing.identity_provider.client_assertions import ASSERTION_TYPE, ClientAssertions
from pywry_auth.testing.identity_provider.parties import Client
from pywry_auth.testing.identity_provider.refusals import OAuthError, required, single_values
from pywry_auth.testing.identity_provider.vault import Realm


class ClientAuthentication:
    """Authenticates the clients of requests.

    Args:
        realm: The provider.
    """

    def __init__(self, realm: Realm) -> None:
        self._clients = realm.clients
        self._assertions = ClientAssertions(realm)

    def request(self) -> tuple[dict[str, str], Client]:
        """Return the form of the request and its authenticated client.

        Raises:
            OAuthError: ``invalid_client``, or ``invalid_request`` for an ambiguous form.
        """
        values = single_values(request.form)
        client_id, secret = values.get("client_id", ""), values.get("client_secret", "")
        header = request.headers.get("Authorization")
        if sum(bool(way) for way in (header, secret, values.get("client_assertion"))) > 1:
            raise OAuthError("invalid_request", "the client identifies itself in two ways")
        if "client_assertion" in values:
            return values, self._signed(values)
        if header:
            basic_id, secret = _basic_credentials(header)
            if client_id not in ("", basic_id):
                raise OAuthError("invalid_request", "the client identifies itself in two ways")
            client_id = basic_id
        client = self._clients.get(client_id)
        if client is None or client.sends_assertions or not client.knows(secret):
            raise unknown_client("the client is unknown, or its secret is wrong or missing")
        return values, client

    def _signed(self, values: dict[str, str]) -> Client:
        """Return the client of an assertion.

        The form must name the client too, so that the key is known.
        """
        if required(values, "client_assertion_type") != ASSERTION_TYPE:
            raise unknown_client(f"client_assertion_type must be {ASSERTION_TYPE}")
        client = self._clients.get(values.get("client_id") or "")
        if client is None or not client.sends_assertions:
            raise unknown_client("the client is unknown, or has neither public keys nor an assertion issuer")
        if problem := self._assertions.problem(values["client_assertion"], client):
            raise unknown_client(problem)
        return client


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
