"""The endpoints for programs: token, revocation and introspection."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable

from flask import Response, jsonify

from pywry_auth.testing.identity_provider.answers import refresh_refusal, token_answer, with_retry_after
from pywry_auth.testing.identity_provider.client_authentication import ClientAuthentication, unknown_client
from pywry_auth.testing.identity_provider.device_grant import DEVICE_CODE, DeviceGrant
from pywry_auth.testing.identity_provider.device_requests import DeviceRequests
from pywry_auth.testing.identity_provider.parties import Client, same_secret
from pywry_auth.testing.identity_provider.refusals import OAuthError, required
from pywry_auth.testing.identity_provider.resources import requested_resource
from pywry_auth.testing.identity_provider.service_grants import (
    CLIENT_CREDENTIALS,
    TOKEN_EXCHANGE,
    ServiceGrants,
)
from pywry_auth.testing.identity_provider.vault import Kind, Realm, Record

_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}")


class TokenEndpoints:
    """``/token``, ``/device_authorization``, ``/revoke`` and ``/introspect``.

    Args:
        realm: The provider.
        requests: The requests of devices.
    """

    def __init__(self, realm: Realm, requests: DeviceRequests) -> None:
        self._realm = realm
        self._authentication = ClientAuthentication(realm)
        self._devices = DeviceGrant(realm, requests)
        services = ServiceGrants(realm)
        self._grants: dict[str, Callable[[dict[str, str], Client], Response]] = {
            "authorization_code": self._exchange,
            "refresh_token": self._refresh,
            CLIENT_CREDENTIALS: services.client_credentials,
            TOKEN_EXCHANGE: services.exchange,
        }
        if not realm.quirks.no_device:
            self._grants[DEVICE_CODE] = self._devices.redeem

    def token(self) -> Response:
        """Issue tokens for a grant (RFC 6749 §4.1.3, §4.4, §6, RFC 8628 §3.4, RFC 8693 §2)."""
        values, client = self._authentication.request()
        grant_type = required(values, "grant_type")
        if grant_type not in self._grants:
            raise OAuthError("unsupported_grant_type", f"grant_type must be {' or '.join(self._grants)}")
        return self._grants[grant_type](values, client)

    def authorize_device(self) -> Response:
        """Issue a device code and a user code (RFC 8628 §3.1)."""
        return self._devices.authorize(*self._authentication.request())

    def revoke(self) -> Response:
        """Revoke a token, or a refresh token's whole grant (RFC 7009 §2.1)."""
        values, client = self._authentication.request()
        token, status = required(values, "token"), self._realm.quirks.revocation_status or 200
        kind, record = self._look_up(token)
        if status < 300 and record and record.grant.client_id == client.client_id:
            if kind == "refresh":
                record.grant.ended.set()
            self._realm.vault.drop(kind, token)
        return with_retry_after(Response(status=status))

    def introspect(self) -> Response:
        """Describe a token to a confidential client (RFC 7662 §2)."""
        values, client = self._authentication.request()
        if not client.is_confidential:
            raise unknown_client("introspection is only for clients with a secret or a key")
        kind, record = self._look_up(required(values, "token"))
        if record is None:
            return jsonify(active=False)
        return jsonify(
            active=True,
            iss=self._realm.issuer,
            sub=record.grant.user.subject,
            aud=list(record.audience) or record.grant.client_id,
            client_id=record.grant.client_id,
            username=record.grant.user.username,
            scope=record.scope,
            iat=int(record.issued_at),
            exp=int(record.expires_at),
            **({"token_type": "Bearer"} if kind == "access" else {}),
        )

    def _exchange(self, values: dict[str, str], client: Client) -> Response:
        code, redirect_uri = required(values, "code"), required(values, "redirect_uri")
        quirks = self._realm.quirks
        if not quirks.no_pkce and not quirks.refuse_pkce:
            required(values, "code_verifier")
        verifier = "" if quirks.no_pkce else values.get("code_verifier", "")
        if quirks.refuse_pkce and client.client_secret and "code_verifier" in values:
            raise OAuthError(quirks.refuse_pkce, "a client with a secret may not send a code verifier")
        record = self._realm.vault.redeem("code", code, client.client_id)
        if record is None:
            raise OAuthError(
                "invalid_grant", "the code is unknown, used, expired, or issued to another client"
            )
        if redirect_uri != record.redirect_uri:
            raise OAuthError(
                "invalid_grant", "redirect_uri differs from the one in the authorization request"
            )
        if verifier and not _fits(verifier, record.code_challenge):
            raise OAuthError("invalid_grant", "code_verifier does not fit the code_challenge")
        resource = requested_resource(values, [record.grant.resource])
        session = record.grant.session
        if session and not self._realm.sessions.join(session, client.client_id):
            raise OAuthError("invalid_grant", "the user has signed out at the provider")
        return token_answer(self._realm, record.grant, record.scope, resource=resource)

    def _refresh(self, values: dict[str, str], client: Client) -> Response:
        token = required(values, "refresh_token")
        wanted = values.get("scope", "").split()
        good = self._realm.vault.find("refresh", token)
        # Check both before the token is spent, so that a wrong scope or resource does not end the grant.
        if good and not set(wanted).issubset(good.scope.split()):
            raise OAuthError("invalid_scope", "scope has more than was granted")
        resource = requested_resource(values, [good.grant.resource]) if good else ""
        if refusal := refresh_refusal(self._realm.quirks):
            return refusal
        record = good if self._realm.quirks.no_refresh_rotation else None
        if record is None or record.grant.client_id != client.client_id:
            record = self._realm.vault.redeem("refresh", token, client.client_id)
        if record is None:
            raise OAuthError(
                "invalid_grant",
                "the refresh token is unknown, used, expired, or issued to another client",
            )
        scope = " ".join(dict.fromkeys(wanted)) or record.scope
        return token_answer(self._realm, record.grant, scope, refreshed=True, resource=resource)

    def _look_up(self, token: str) -> tuple[Kind, Record | None]:
        access = self._realm.vault.find("access", token)
        return ("access", access) if access else ("refresh", self._realm.vault.find("refresh", token))


def _fits(verifier: str, challenge: str) -> bool:
    """Return whether the verifier is valid and belongs to the challenge (RFC 7636 §4.6)."""
    digest = hashlib.sha256(verifier.encode()).digest()
    expected = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    return _VERIFIER.fullmatch(verifier) is not None and same_secret(expected, challenge)
