"""An imitation of Google.

https://developers.google.com/identity/openid-connect/openid-connect
https://developers.google.com/identity/openid-connect/reference
https://developers.google.com/identity/protocols/oauth2/web-server
https://developers.google.com/identity/protocols/oauth2/native-app
https://developers.google.com/identity/protocols/oauth2/limited-input-device
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Mapping
from hashlib import sha256
from typing import Any
from urllib.parse import urlsplit

from pywry_auth.providers.google import GoogleProvider
from tests.protocol.servers import Answer, Received
from tests.providers.imitations.imitation import (
    CLIENT_ID,
    CLIENT_SECRET,
    Grant,
    Imitation,
    bearer,
    credentials,
    query_of,
    refusal,
)

ISSUER = "https://accounts.google.com"
SUBJECT = "110169484474386276334"


class Google(Imitation):
    """Google's endpoints below one address, at their own paths.

    With ``registered`` redirect URIs, the client is a web application, otherwise a desktop app.
    """

    def __init__(self) -> None:
        super().__init__()
        self.claims: dict[str, Any] = {"iss": ISSUER}
        self.profile: dict[str, Any] = {
            "sub": SUBJECT,
            "name": "Alice Example",
            "given_name": "Alice",
            "family_name": "Example",
            "picture": "https://lh3.googleusercontent.com/a/photo=s96-c",
            "email": "alice@example.com",
            "email_verified": True,
            "hd": "example.com",
        }
        self.routes = {
            "/o/oauth2/v2/auth": self.authorize,
            "/token": self.token,
            "/device/code": self.device_code,
            "/revoke": self.revoke,
            "/v1/userinfo": self.userinfo,
            "/oauth2/v3/certs": self.keys,
        }

    def provider(self, secret: str = CLIENT_SECRET, **options: Any) -> GoogleProvider:
        """Return a client of this imitation."""
        usual = {
            "authorize_url": f"{self.url}/o/oauth2/v2/auth",
            "token_url": f"{self.url}/token",
            "userinfo_url": f"{self.url}/v1/userinfo",
            "revocation_url": f"{self.url}/revoke",
            "device_authorization_url": f"{self.url}/device/code",
            "jwks_url": f"{self.url}/oauth2/v3/certs",
        }
        return GoogleProvider(CLIENT_ID, secret, **(usual | options))

    def authorize(self, request: Received) -> Answer:
        """Consent; show a page for the faults for which Google shows one."""
        asked = query_of(request)
        if asked.get("client_id") != CLIENT_ID:
            return Answer(b"Error 401: invalid_client", 401, "text/html")
        if not self._may_return_to(asked["redirect_uri"]):
            return Answer(b"Error 400: redirect_uri_mismatch", 400, "text/html")
        if self.refuses:
            return refusal(asked, iss=ISSUER, error="access_denied")
        more = {"scope": asked["scope"], "authuser": "0", "prompt": "consent", "hd": "example.com"}
        return self.consent(request, iss=ISSUER, **more)

    def token(self, request: Received) -> Answer:
        """Exchange a code, or refresh."""
        form = request.form
        if credentials(request, form) == (CLIENT_ID, ""):
            answer = "client_secret is missing."
            return Answer({"error": "invalid_request", "error_description": answer}, 400)
        if credentials(request, form) != (CLIENT_ID, CLIENT_SECRET):
            return Answer({"error": "invalid_client", "error_description": "Unauthorized"}, 401)
        if form["grant_type"] == "refresh_token":
            grant = self.holder(form["refresh_token"])
            if grant is None:
                answer = "Token has been expired or revoked."
                return Answer({"error": "invalid_grant", "error_description": answer}, 400)
            return self._issue(grant)
        if form["grant_type"] == "urn:ietf:params:oauth:grant-type:device_code":
            return self._of_device(form)
        grant = self.redeem(form)
        if grant is None:
            return Answer({"error": "invalid_grant", "error_description": "Bad Request"}, 400)
        offline = grant.request.get("access_type") == "offline" and "consent" in grant.request["prompt"]
        # Google sends a refresh token once, and only on request. A refresh returns no new one.
        return self._issue(grant, **({"refresh_token": self.secret("1//")} if offline else {}))

    def device_code(self, request: Received) -> Answer:
        """Begin a sign-in on another device; the answer has the old name of the address."""
        if self.refuses:
            return Answer({"error_code": "rate_limit_exceeded"}, 403)
        return Answer(self.device(request, verification_url="https://www.google.com/device"))

    def _of_device(self, form: Mapping[str, str]) -> Answer:
        if self.device_errors:
            status, error, text = self.device_errors.pop(0)
            return Answer({"error": error, "error_description": text}, status)
        grant = self.redeem_device(form)
        if grant is None:
            return Answer({"error": "invalid_grant", "error_description": "Bad Request"}, 400)
        return self._issue(grant, refresh_token=self.secret("1//"))

    def userinfo(self, request: Received) -> Answer:
        """Return the profile for a valid token."""
        if self.holder(bearer(request)) is None:
            answer = "Invalid Credentials"
            return Answer({"error": "invalid_request", "error_description": answer}, 401)
        return Answer(self.profile)

    def revoke(self, request: Received) -> Answer:
        """End the grant of any token; a second attempt is an error."""
        grant = self.holder(request.form["token"])
        if grant is None:
            return Answer({"error": "invalid_token", "error_description": "Token expired or revoked"}, 400)
        grant.tokens.clear()
        return Answer({})

    def _may_return_to(self, redirect_uri: str) -> bool:
        if self.registered:
            return redirect_uri in self.registered
        parts = urlsplit(redirect_uri)
        return (parts.scheme, parts.hostname) == ("http", "127.0.0.1")

    def _issue(self, grant: Grant, **more: str) -> Answer:
        token = self.secret("ya29.")
        grant.tokens |= {token, *more.values()}
        half = sha256(token.encode()).digest()[:16]
        at_hash = urlsafe_b64encode(half).rstrip(b"=").decode("ascii")
        claims = {"azp": CLIENT_ID, "at_hash": at_hash, **self.profile, **self.claims}
        if "nonce" in grant.request:
            claims["nonce"] = grant.request["nonce"]
        scope = (
            "openid https://www.googleapis.com/auth/userinfo.profile"
            " https://www.googleapis.com/auth/userinfo.email"
        )
        members = {"access_token": token, "expires_in": 3599, "scope": scope, "token_type": "Bearer"}
        return Answer({**members, **more, "id_token": self.id_token(**claims)})
