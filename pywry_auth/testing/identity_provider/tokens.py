"""The endpoints for programs: token, userinfo, revocation and introspection."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Any

from flask import Response, jsonify, request

from pywry_auth.testing.identity_provider.client_authentication import client_request, unknown_client
from pywry_auth.testing.identity_provider.keys import half_hash
from pywry_auth.testing.identity_provider.parties import Client, same_secret
from pywry_auth.testing.identity_provider.refusals import OAuthError, required
from pywry_auth.testing.identity_provider.vault import Grant, Kind, Realm, Record

ID_TOKEN_SECONDS = 3600
"""Lifetime of an ID token."""

_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}")


class TokenEndpoints:
    """``/token``, ``/userinfo``, ``/revoke`` and ``/introspect``.

    Args:
        realm: The provider.
    """

    def __init__(self, realm: Realm) -> None:
        self._realm = realm

    def token(self) -> Response:
        """Issue tokens for a code or a refresh token (RFC 6749 §4.1.3, §6)."""
        values, client = client_request(self._realm.clients)
        grant_type = required(values, "grant_type")
        if grant_type == "authorization_code":
            return self._exchange(values, client)
        if grant_type == "refresh_token":
            return self._refresh(values, client)
        raise OAuthError("unsupported_grant_type", "grant_type must be authorization_code or refresh_token")

    def userinfo(self) -> Response:
        """Return the claims for an access token (OIDC Core §5.3)."""
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
        return jsonify(record.grant.user.claims_for(record.scope))

    def revoke(self) -> Response:
        """Revoke a token, or a refresh token's whole grant (RFC 7009 §2.1)."""
        values, client = client_request(self._realm.clients)
        token = required(values, "token")
        kind, record = self._look_up(token)
        if record and record.grant.client_id == client.client_id:
            if kind == "refresh":
                record.grant.ended.set()
            self._realm.vault.drop(kind, token)
        return Response(status=200)

    def introspect(self) -> Response:
        """Describe a token to a client with a secret (RFC 7662 §2)."""
        values, client = client_request(self._realm.clients)
        if not client.client_secret:
            raise unknown_client("introspection is only for clients with a secret")
        kind, record = self._look_up(required(values, "token"))
        if record is None:
            return jsonify(active=False)
        return jsonify(
            active=True,
            iss=self._realm.issuer,
            sub=record.grant.user.subject,
            aud=record.grant.client_id,
            client_id=record.grant.client_id,
            username=record.grant.user.username,
            scope=record.scope,
            iat=int(record.issued_at),
            exp=int(record.expires_at),
            **({"token_type": "Bearer"} if kind == "access" else {}),
        )

    def _exchange(self, values: dict[str, str], client: Client) -> Response:
        code, redirect_uri = required(values, "code"), required(values, "redirect_uri")
        verifier = required(values, "code_verifier")
        record = self._realm.vault.redeem("code", code, client.client_id)
        if record is None:
            raise OAuthError(
                "invalid_grant", "the code is unknown, used, expired, or issued to another client"
            )
        if redirect_uri != record.redirect_uri:
            raise OAuthError(
                "invalid_grant", "redirect_uri differs from the one in the authorization request"
            )
        fits = same_secret(_challenge_of(verifier), record.code_challenge)
        if not _VERIFIER.fullmatch(verifier) or not fits:
            raise OAuthError("invalid_grant", "code_verifier does not fit the code_challenge")
        return self._issue(record.grant, record.scope, nonce=record.grant.nonce)

    def _refresh(self, values: dict[str, str], client: Client) -> Response:
        token = required(values, "refresh_token")
        wanted = values.get("scope", "").split()
        good = self._realm.vault.find("refresh", token)
        # Check the scope before the token is spent, so that a wrong scope does not end the grant.
        if good and not set(wanted).issubset(good.scope.split()):
            raise OAuthError("invalid_scope", "scope has more than was granted")
        record = self._realm.vault.redeem("refresh", token, client.client_id)
        if record is None:
            raise OAuthError(
                "invalid_grant",
                "the refresh token is unknown, used, expired, or issued to another client",
            )
        return self._issue(record.grant, " ".join(dict.fromkeys(wanted)) or record.scope)

    def _issue(self, grant: Grant, scope: str, nonce: str = "") -> Response:
        realm = self._realm
        access = realm.vault.issue("access", grant, realm.access_token_lifetime, scope=scope)
        refresh = realm.vault.issue("refresh", grant, realm.refresh_token_lifetime)
        answer = {
            "access_token": access,
            "token_type": "Bearer",
            "expires_in": int(realm.access_token_lifetime),
            "refresh_token": refresh,
            "scope": scope,
        }
        if "openid" in scope.split():
            answer["id_token"] = realm.keys.sign(self._id_claims(grant, scope, access, nonce))
        return jsonify(answer)

    def _id_claims(self, grant: Grant, scope: str, access_token: str, nonce: str) -> dict[str, Any]:
        """Return the ID token's claims (OIDC Core §2).

        After a refresh they have no nonce (§12.2).
        """
        now = int(self._realm.clock())
        claims = grant.user.claims_for(scope) | {
            "iss": self._realm.issuer,
            "aud": grant.client_id,
            "iat": now,
            "exp": now + ID_TOKEN_SECONDS,
            "auth_time": grant.auth_time,
            "at_hash": half_hash(access_token),
        }
        return claims | {"nonce": nonce} if nonce else claims

    def _look_up(self, token: str) -> tuple[Kind, Record | None]:
        access = self._realm.vault.find("access", token)
        return ("access", access) if access else ("refresh", self._realm.vault.find("refresh", token))


def _challenge_of(verifier: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def _bearer_error(error: str, description: str, status: int) -> OAuthError:
    challenge = f'Bearer realm="userinfo", error="{error}", error_description="{description}"'
    return OAuthError(error, description, status=status, challenge=challenge)
