"""The answers with tokens and claims, and their quirks."""

from __future__ import annotations

import math
import secrets
from typing import Any

from flask import Response, jsonify

from pywry_auth.testing.identity_provider.keys import half_hash
from pywry_auth.testing.identity_provider.levels import METHODS
from pywry_auth.testing.identity_provider.parties import User
from pywry_auth.testing.identity_provider.quirks import RETRY_AFTER, Quirks
from pywry_auth.testing.identity_provider.vault import Grant, Realm

ID_TOKEN_SECONDS = 3600
"""Lifetime of an ID token."""

_MEMBERS = ("access_token", "token_type", "expires_in", "refresh_token", "scope", "id_token", "error")


def token_answer(
    realm: Realm, grant: Grant, scope: str, *, refreshed: bool = False, resource: str = ""
) -> Response:
    """Return a token answer, with new tokens (RFC 6749 §5.1, OIDC Core §3.1.3.3, §12.2).

    Args:
        realm: The provider.
        grant: The grant of the tokens.
        scope: The scope of the tokens, space separated.
        refreshed: Whether this answers a refresh.
        resource: The API that the access token is for; empty for none.
    """
    quirks, words = realm.quirks, scope.split()
    access = _access_token(realm, grant, scope, resource)
    lifetime = int(realm.access_token_lifetime)
    answer: dict[str, Any] = {
        **({"access_token": access} if access else {}),
        "token_type": "Bearer",
        "expires_in": str(lifetime) if quirks.expires_in_string else lifetime,
        "scope": words if quirks.scope_list else scope,
    }
    if not refreshed or not quirks.no_refresh_rotation:
        answer["refresh_token"] = realm.vault.issue("refresh", grant, realm.refresh_token_lifetime)
    if "openid" in words and not quirks.no_id_token:
        nonce = _refreshed_nonce(grant, quirks) if refreshed else grant.nonce
        answer["id_token"] = realm.keys.sign(_id_claims(realm, grant, scope, access, nonce))
    if quirks.no_expires_in:
        del answer["expires_in"]
    return jsonify(dict.fromkeys(_MEMBERS) | answer if quirks.null_members else answer)


def refresh_refusal(quirks: Quirks) -> Response | None:
    """Return the answer to a refresh that a quirk refuses, or None."""
    if not (quirks.refresh_error or quirks.refresh_status or quirks.refresh_body):
        return None
    status = quirks.refresh_status or (200 if quirks.refresh_body == "slack" else 400)
    error = quirks.refresh_error or _usual_error(status)
    if quirks.refresh_body == "html":
        response = Response("<!doctype html><title>Bad request</title>", mimetype="text/html")
    else:
        body: dict[str, object] = {"error": error, "error_description": "the refresh token is not accepted"}
        forms: dict[str, dict[str, object]] = {
            # https://api.slack.com/methods/tooling.tokens.rotate; the others as their clients report them
            "slack": {"ok": False, "error": quirks.refresh_error or "invalid_refresh_token"},
            "twitch": {"status": status, "message": "Invalid refresh token"},
            "zoom": {"reason": "Invalid Token!", "error": quirks.refresh_error or "invalid_request"},
        }
        response = jsonify(forms.get(quirks.refresh_body, body))
    response.status_code = status
    return with_retry_after(response)


def _usual_error(status: int) -> str:
    if status in (429, 503):
        return "temporarily_unavailable"
    return "server_error" if status >= 500 else "invalid_grant"


def with_retry_after(response: Response) -> Response:
    """Return the response, with ``Retry-After`` if its status is 429 or 503."""
    if response.status_code in (429, 503):
        response.headers["Retry-After"] = str(RETRY_AFTER)
    return response


def profile(realm: Realm, user: User, scope: str) -> dict[str, Any]:
    """Return the claims of the scopes."""
    claims, quirks = user.claims_for(scope), realm.quirks
    if str(claims.get("picture", "")).startswith("/"):
        claims["picture"] = f"{realm.url}{claims['picture']}"
    if quirks.email_verified and "email_verified" in claims:
        verified = claims.pop("email_verified")
        if quirks.email_verified == "string":
            claims["email_verified"] = str(verified).lower()
    return claims


def _access_token(realm: Realm, grant: Grant, scope: str, resource: str) -> str:
    """Return an access token, or an empty text if a quirk leaves it out."""
    quirks = realm.quirks
    if quirks.no_access_token or not {quirks.access_token_scope} <= {"", *scope.split()}:
        return ""
    return realm.vault.issue(
        "access", grant, realm.access_token_lifetime, scope=scope, audience=(resource,) if resource else ()
    )


def _id_claims(realm: Realm, grant: Grant, scope: str, access_token: str, nonce: str) -> dict[str, Any]:
    """Return the ID token's claims (OIDC Core §2)."""
    quirks = realm.quirks
    now, offset = int(realm.clock()), math.trunc(quirks.clock_offset)
    claims = profile(realm, grant.user, scope) | {
        "iss": realm.issuer,
        "aud": [grant.client_id] if quirks.audience_list else grant.client_id,
        "iat": now + offset,
        "exp": now + offset + ID_TOKEN_SECONDS,
    }
    claims |= _authentication(grant, quirks, offset)
    if access_token:
        claims["at_hash"] = half_hash(access_token)
    if quirks.large_id_token:
        claims["padding"] = "x" * quirks.large_id_token
    return claims | {"nonce": nonce} if nonce and not quirks.no_nonce else claims


def _authentication(grant: Grant, quirks: Quirks, offset: int) -> dict[str, Any]:
    """Return the claims about the sign-in and its session."""
    claims: dict[str, Any] = {} if quirks.no_auth_time else {"auth_time": grant.auth_time + offset}
    if grant.session and not quirks.no_sid:
        claims["sid"] = grant.session.sid
    if grant.acr and not quirks.no_acr:
        claims |= {"acr": grant.acr, "amr": list(METHODS[grant.acr])}
    return claims


def _refreshed_nonce(grant: Grant, quirks: Quirks) -> str:
    """Return the nonce after a refresh, which usually has none (OIDC Core §12.2)."""
    return {"same": grant.nonce, "other": secrets.token_urlsafe(8)}.get(quirks.refresh_nonce, "")
