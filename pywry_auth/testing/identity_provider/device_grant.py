"""The device authorization grant for programs (RFC 8628)."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from flask import Response, jsonify, request

from pywry_auth.testing.identity_provider.answers import token_answer
from pywry_auth.testing.identity_provider.authorization_request import known_scope
from pywry_auth.testing.identity_provider.device_requests import DeviceRequests
from pywry_auth.testing.identity_provider.endpoints import PATHS
from pywry_auth.testing.identity_provider.parties import Client
from pywry_auth.testing.identity_provider.refusals import OAuthError, required
from pywry_auth.testing.identity_provider.resources import requested_resource
from pywry_auth.testing.identity_provider.vault import Realm

DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"
"""The grant type of RFC 8628 §3.4."""


class DeviceGrant:
    """Issues device codes, and tokens once the user has allowed it.

    Args:
        realm: The provider.
        requests: The requests of devices.
    """

    def __init__(self, realm: Realm, requests: DeviceRequests) -> None:
        self._realm = realm
        self._requests = requests

    def authorize(self, values: dict[str, str], client: Client) -> Response:
        """Issue a device code and a user code (RFC 8628 §3.2)."""
        quirks = self._realm.quirks
        if quirks.device_client_refused or not client.may_use_devices:
            raise OAuthError("unauthorized_client", "the client may not use the device grant")
        code, asked = self._requests.issue(
            client.client_id,
            known_scope(values, self._realm.scopes),
            requested_resource(values, self._realm.resources),
            request.remote_addr or "",
            quirks.device_lifetime or self._realm.device_lifetime,
            quirks.device_interval or self._realm.device_interval,
        )
        page = self._realm.url + PATHS["device"]
        answer: dict[str, Any] = {
            "device_code": code,
            "user_code": asked.user_code,
            "verification_url" if quirks.device_old_name else "verification_uri": page,
            "verification_uri_complete": f"{page}?{urlencode({'user_code': asked.user_code})}",
            "expires_in": _number(asked.expires_at - asked.requested_at),
            "interval": _number(asked.interval),
        }
        absent = {
            "verification_uri_complete": quirks.device_no_complete,
            "interval": quirks.device_no_interval,
        }
        return jsonify({name: value for name, value in answer.items() if not absent.get(name)})

    def redeem(self, values: dict[str, str], client: Client) -> Response:
        """Issue tokens for a device code, or tell how to go on (RFC 8628 §3.5)."""
        if not client.may_use_devices:
            raise OAuthError("unauthorized_client", "the client may not use the device grant")
        device_code = required(values, "device_code")
        if asked := self._requests.of_client(device_code, client.client_id):
            requested_resource(values, [asked.resource])  # before the code is spent
        verdict, asked = self._requests.poll(device_code, client.client_id)
        if verdict == "allowed" and asked and asked.grant:
            return token_answer(self._realm, asked.grant, asked.scope, resource=asked.resource)
        if verdict == "waiting":
            status = self._realm.quirks.device_status or 400
            raise OAuthError("authorization_pending", "the user has not answered yet", status=status)
        if verdict == "slow_down":
            raise OAuthError("slow_down", "the client polls faster than the interval allows")
        if verdict == "denied":
            raise OAuthError("access_denied", "the user denied the request")
        if verdict == "expired":
            raise OAuthError("expired_token", "the device code has expired")
        raise OAuthError("invalid_grant", "the device code is unknown, used, or issued to another client")


def _number(seconds: float) -> float | int:
    """Return whole seconds as a whole number."""
    return int(seconds) if seconds == int(seconds) else round(seconds, 3)
