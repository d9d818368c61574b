"""The grants for services: client credentials and token exchange."""

from __future__ import annotations

from flask import Response, jsonify, request

from pywry_auth.testing.identity_provider.parties import Client, User
from pywry_auth.testing.identity_provider.refusals import OAuthError, required
from pywry_auth.testing.identity_provider.resources import require_known
from pywry_auth.testing.identity_provider.vault import Grant, Realm

CLIENT_CREDENTIALS = "client_credentials"
"""The grant type of RFC 6749 §4.4."""

TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
"""The grant type of RFC 8693 §2.1."""

_ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"


class ServiceGrants:
    """Issues tokens to confidential clients, without a user at a browser.

    Args:
        realm: The provider.
    """

    def __init__(self, realm: Realm) -> None:
        self._realm = realm

    def client_credentials(self, values: dict[str, str], client: Client) -> Response:
        """Issue an access token for the client itself (RFC 6749 §4.4)."""
        _require_confidential(client)
        words = values.get("scope", "").split()
        if "openid" in words or not set(words) <= set(self._realm.scopes):
            raise OAuthError("invalid_scope", "a client may request every known scope except openid")
        user = User(client.client_id, "", {"sub": client.client_id})
        grant = Grant(client.client_id, user, " ".join(words), int(self._realm.clock()))
        return self._answer(grant, grant.scope)

    def exchange(self, values: dict[str, str], client: Client) -> Response:
        """Issue an access token in exchange for another one (RFC 8693 §2)."""
        _require_confidential(client)
        if required(values, "subject_token_type") != _ACCESS_TOKEN:
            raise OAuthError("invalid_request", f"subject_token_type must be {_ACCESS_TOKEN}")
        if values.get("requested_token_type", _ACCESS_TOKEN) != _ACCESS_TOKEN or "actor_token" in values:
            raise OAuthError("invalid_request", "only an access token without an actor can be issued")
        record = self._realm.vault.find("access", required(values, "subject_token"))
        if record is None or client.client_id not in (record.grant.client_id, *record.audience):
            raise OAuthError(
                "invalid_request", "the subject_token is unknown, expired, or for another client"
            )
        words = values.get("scope", record.scope).split()
        if not set(words) <= set(record.scope.split()):
            raise OAuthError("invalid_scope", "scope has more than the subject_token")
        return self._answer(record.grant, " ".join(words), issued_token_type=_ACCESS_TOKEN)

    def _answer(self, grant: Grant, scope: str, **members: str) -> Response:
        lifetime = self._realm.access_token_lifetime
        token = self._realm.vault.issue("access", grant, lifetime, scope=scope, audience=self._audience())
        return jsonify(
            access_token=token, token_type="Bearer", expires_in=int(lifetime), scope=scope, **members
        )

    def _audience(self) -> tuple[str, ...]:
        """Return the audience and the resources of the request (RFC 8693 §2.1, RFC 8707 §2)."""
        resources = [resource for resource in request.form.getlist("resource") if resource]
        for resource in resources:
            require_known(resource, self._realm.resources)
        return (*filter(None, request.form.getlist("audience")), *resources)


def _require_confidential(client: Client) -> None:
    if not client.is_confidential:
        raise OAuthError("unauthorized_client", "this grant is only for clients with a secret or a key")
