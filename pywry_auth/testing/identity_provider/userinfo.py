"""The UserInfo endpoint (OIDC Core §5.3)."""

from __future__ import annotations

from flask import Response, jsonify, request

from pywry_auth.testing.identity_provider.answers import profile, with_retry_after
from pywry_auth.testing.identity_provider.refusals import OAuthError
from pywry_auth.testing.identity_provider.vault import Realm


class UserInfoEndpoint:
    """Returns the claims for an access token.

    Args:
        realm: The provider.
    """

    def __init__(self, realm: Realm) -> None:
        self._realm = realm

    def view(self) -> Response:
        """Return the claims as JSON, or as a signed JWT."""
        quirks = self._realm.quirks
        if quirks.userinfo_status:
            return with_retry_after(Response(status=quirks.userinfo_status, mimetype="text/plain"))
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            # A request without a token gets a challenge without an error code (RFC 6750 §3.1).
            bare = 'Bearer realm="userinfo"'
            raise OAuthError("invalid_request", "no bearer token", status=401, challenge=bare)
        record = self._realm.vault.find("access", token.strip())
        if record is None:
            raise _bearer_error("invalid_token", "the access token is unknown, expired or revoked", 401)
        if "openid" not in record.scope.split():
            raise _bearer_error("insufficient_scope", "the scope openid was not granted", 403)
        claims = profile(self._realm, record.grant.user, record.scope)
        if quirks.userinfo_sub:
            claims["sub"] = quirks.userinfo_sub
        if not quirks.userinfo_jwt:
            return jsonify(claims)
        about = {"iss": self._realm.issuer, "aud": record.grant.client_id}  # §5.3.2
        return Response(self._realm.keys.sign(claims | about), mimetype="application/jwt")


def _bearer_error(error: str, description: str, status: int) -> OAuthError:
    challenge = f'Bearer realm="userinfo", error="{error}", error_description="{description}"'
    return OAuthError(error, description, status=status, challenge=challenge)
