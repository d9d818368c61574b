"""An imitation of Microsoft's identity platform.

https://learn.microsoft.com/entra/identity-platform/v2-oauth2-auth-code-flow
https://learn.microsoft.com/entra/identity-platform/v2-oauth2-device-code
https://learn.microsoft.com/entra/identity-platform/id-token-claims-reference
https://learn.microsoft.com/entra/identity-platform/userinfo
https://learn.microsoft.com/entra/identity-platform/v2-protocols-oidc
https://learn.microsoft.com/entra/identity-platform/reply-url
https://learn.microsoft.com/entra/identity-platform/optional-claims-reference
https://learn.microsoft.com/entra/identity-platform/reference-error-codes
"""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import urlsplit

from pywry_auth.providers.microsoft import MicrosoftProvider
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

TENANT = "aaaabbbb-0000-cccc-1111-dddd2222eeee"
OTHER_TENANT = "11112222-bbbb-3333-cccc-4444dddd5555"
CONSUMERS = "9188040d-6c67-4c5b-b112-36a304b66dad"
SUBJECT = "mW0yA7hkYxq3fL9sTzVbn2cR8dKe4uJp6gXoQ1iHw5E"
OID = "00aa00aa-bb11-cc22-dd33-44ee44ee44ee"


class Microsoft(Imitation):
    """The endpoints of one path segment, and UserInfo.

    Args:
        segment: The part of the path: a word such as ``common``, a tenant, or a domain of ``TENANT``.
    """

    def __init__(self, segment: str = "common") -> None:
        super().__init__()
        self.segment = segment
        self.profile: dict[str, Any] = {
            "sub": SUBJECT,
            "name": "Alice Example",
            "family_name": "Example",
            "given_name": "Alice",
            "picture": "https://graph.microsoft.com/v1.0/me/photo/$value",
            "email": "alice@example.com",
        }
        self.claims: dict[str, Any] = {"tid": TENANT, "oid": OID}
        self.registered = ("http://127.0.0.1/callback", "http://127.0.0.1/auth/callback")
        self.routes = {
            f"/{segment}/v2.0/.well-known/openid-configuration": self.discovery,
            "/oidc/userinfo": self.userinfo,
        }
        for name in (segment, TENANT) if "." in segment else (segment,):
            self.routes |= {
                f"/{name}/oauth2/v2.0/authorize": self.authorize,
                f"/{name}/oauth2/v2.0/token": self.token,
                f"/{name}/oauth2/v2.0/devicecode": self.device_code,
                f"/{name}/discovery/v2.0/keys": self.keys,
            }

    def provider(self, secret: str = CLIENT_SECRET, **options: Any) -> MicrosoftProvider:
        """Return a client of this imitation."""
        usual = {
            "tenant_id": self.segment,
            "authority": self.url,
            "userinfo_url": f"{self.url}/oidc/userinfo",
        }
        return MicrosoftProvider(CLIENT_ID, secret, **(usual | options))

    def discovery(self, request: Received) -> Answer:
        """Return a tenant's issuer with its GUID, or a template for several tenants."""
        many = {"common": "{tenantid}", "organizations": "{tenantid}", "consumers": CONSUMERS}
        issuer = many.get(self.segment, TENANT)
        home = f"{self.url}/{self.segment}"
        return Answer(
            {
                "token_endpoint": f"{home}/oauth2/v2.0/token",
                "token_endpoint_auth_methods_supported": ["client_secret_post", "client_secret_basic"],
                "jwks_uri": f"{home}/discovery/v2.0/keys",
                "issuer": f"{self.url}/{issuer}/v2.0",
                "authorization_endpoint": f"{home}/oauth2/v2.0/authorize",
                "tenant_region_scope": "EU",
            }
        )

    def authorize(self, request: Received) -> Answer:
        """Consent; the response has additional parameters."""
        asked = query_of(request)
        if not any(_fits(asked["redirect_uri"], known) for known in self.registered):
            text = b"AADSTS50011: The redirect URI specified in the request does not match"
            return Answer(text, 400, "text/html")
        if self.refuses:
            answer = "the user canceled the authentication"
            return refusal(asked, error="access_denied", error_subcode="cancel", error_description=answer)
        return self.consent(request, session_state="7a5b8f3c-0000-aaaa-1111-bbbb2222cccc")

    def token(self, request: Received) -> Answer:
        """Exchange a code, or refresh."""
        form = request.form
        if credentials(request, form) != (CLIENT_ID, CLIENT_SECRET):
            return _error("invalid_client", 7000215, "Invalid client secret provided.", 401)
        if form["grant_type"] == "refresh_token":
            grant = self.holder(form["refresh_token"])
            if grant is None:
                return _error("invalid_grant", 700082, "The refresh token has expired due to inactivity.")
            return self._issue(grant)
        if form["grant_type"] == "urn:ietf:params:oauth:grant-type:device_code":
            if self.device_errors:
                return _error(*self.device_errors.pop(0))
            grant = self.redeem_device(form)
            if grant is None:
                return _error("bad_verification_code", 70019, "Verification code expired.")
            return self._issue(grant)
        grant = self.redeem(form)
        if grant is None:
            return _error("invalid_grant", 54005, "OAuth2 Authorization code was already redeemed.")
        return self._issue(grant)

    def device_code(self, request: Received) -> Answer:
        """Begin a sign-in on another device; ``message`` is a text for the user."""
        page = "https://microsoft.com/devicelogin"
        text = f"To sign in, use a web browser to open the page {page} and enter the code WDJB-MJHT."
        return Answer(self.device(request, verification_uri=page, message=text))

    def userinfo(self, request: Received) -> Answer:
        """Return the profile for a valid token, without groups and tenants."""
        if self.holder(bearer(request)) is None:
            answer = {"code": "InvalidAuthenticationToken", "message": "Access token has expired."}
            return Answer({"error": answer}, 401)
        return Answer(self.profile)

    def _issue(self, grant: Grant) -> Answer:
        asked = grant.request["scope"].split()
        token = self.secret("EwB4")
        grant.tokens.add(token)
        members: dict[str, Any] = {
            "token_type": "Bearer",
            # offline_access is never listed, and User.Read may be granted without request.
            "scope": " ".join([*(name for name in asked if name != "offline_access"), "User.Read"]),
            "expires_in": 3599,
            "ext_expires_in": 3599,
            "access_token": token,
        }
        if "offline_access" in asked:
            members["refresh_token"] = self.secret("M.C5_")
            grant.tokens.add(members["refresh_token"])
        if "openid" in asked:
            members["id_token"] = self.id_token(**self._claims(grant))
        return Answer(members)

    def _claims(self, grant: Grant) -> dict[str, Any]:
        nonce = {"nonce": grant.request["nonce"]} if "nonce" in grant.request else {}
        usual = {
            "ver": "2.0",
            "iss": f"{self.url}/{self.claims.get('tid', TENANT)}/v2.0",
            "sub": SUBJECT,
            "nbf": int(time.time()),
            "name": self.profile["name"],
            "preferred_username": "alice@example.com",
            "email": self.profile["email"],
            "rh": "0.AAAA",
            "uti": "bXlPd24",
        }
        return {name: value for name, value in {**usual, **nonce, **self.claims}.items() if value is not ...}


def _fits(asked: str, known: str) -> bool:
    """Return whether an address is registered, apart from a loopback port.

    https://learn.microsoft.com/entra/identity-platform/reply-url
    """
    own, other = urlsplit(known), urlsplit(asked)
    if own.hostname == "127.0.0.1":
        own, other = own._replace(netloc="127.0.0.1"), other._replace(netloc=other.hostname or "")
    return own == other


def _error(error: str, code: int, text: str, status: int = 400) -> Answer:
    trace, correlation = "0000aaaa-11bb-cccc-dd22-eeeeee333333", "aaaa0000-bb11-2222-33cc-444444dddddd"
    stamp = "2026-01-09 02:02:12Z"
    answer = (
        f"AADSTS{code}: {text}\r\nTrace ID: {trace}\r\nCorrelation ID: {correlation}\r\nTimestamp: {stamp}"
    )
    return Answer(
        {
            "error": error,
            "error_description": answer,
            "error_codes": [code],
            "timestamp": stamp,
            "trace_id": trace,
            "correlation_id": correlation,
            "error_uri": f"https://login.microsoftonline.com/error?code={code}",
        },
        status,
        "application/json; charset=utf-8",
    )
